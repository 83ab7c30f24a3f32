"""What contains what, as a graph of supplies: a meter sits at an element, and elements are fed by elements.

    wall --> node --> module:0 --> grace:0 --> cpu:0         a meter inside another's reach is not added to it
                          |                +-> sysio:0
                          +------> gpu:GPU-...

A source says which element each of its meters sits at and what feeds that element; nothing is read from names here.
Two meters at one element measure the same thing: the one that knows it best stands for the others. Counters that move
in step for two seconds are one counter, whatever they are called.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from .meter import Meter

# Of meters at one element the first by this order stands for them: what counts joules itself, then what is quick.
_WORTH: Final = {"counter": 0, "power-integral": 1, "estimated": 2, "none": 3}
# How long counters are watched for mirrors, s, how many looks that takes, and the share of them that must agree.
MIRROR_SECONDS: Final = 2.0
MIRROR_LOOKS: Final = 15
MIRROR_SHARE: Final = 0.8
# Of two readings taken one after the other the second may be an update further on; joules that agree up to this share
# of what was counted meanwhile are the same, and so are those within a quantum of a register (61 uJ, Intel SDM).
MIRROR_CLOSE: Final = 1e-4
MIRROR_QUANTUM: Final = 1.3e-4


def link(meters: Sequence[Meter]) -> None:
    """Fill in `within` of every meter from the elements, for each host apart."""
    hosts: dict[str, list[Meter]] = defaultdict(list)
    for meter in meters:
        hosts[meter.host].append(meter)
    for own in hosts.values():
        _link(own)


def _link(meters: Sequence[Meter]) -> None:
    feeds: dict[str, set[str]] = defaultdict(set)
    at: dict[str, list[Meter]] = defaultdict(list)
    for meter in meters:
        at[meter.element].append(meter)
        feeds[meter.element].update(meter.fed_by)
    walls = {m.element for m in meters if m.scope == "wall"}
    nodes = {m.element for m in meters if m.scope == "node"}
    for meter in meters:
        if meter.scope == "wall" or feeds[meter.element]:
            continue
        # What nothing is said of hangs on the node, and the node on the wall.
        feeds[meter.element] |= walls if meter.scope == "node" else (nodes or walls)
    for element in list(feeds):
        for feeder in list(feeds[element]):
            # A feeder that nobody measures, such as a module whose sensor is missing, hangs on the node itself.
            if feeder not in feeds and feeder not in at:
                feeds[feeder] = nodes or walls
    for element in nodes & set(feeds):
        feeds[element] |= walls - {element}
    for meter in meters:
        outside = [other.key for feeder in _above(meter.element, feeds) for other in at.get(feeder, ())]
        same = sorted(at[meter.element], key=_worth)
        outside += [other.key for other in same[: same.index(meter)]]
        meter.within = tuple(dict.fromkeys([*meter.within, *(key for key in outside if key != meter.key)]))


def _above(element: str, feeds: dict[str, set[str]]) -> list[str]:
    """Every element that feeds this one, near ones first."""
    found: list[str] = []
    stack = sorted(feeds.get(element, ()))
    while stack:
        feeder = stack.pop(0)
        if feeder != element and feeder not in found:
            found.append(feeder)
            stack += sorted(feeds.get(feeder, ()))
    return found


def _worth(meter: Meter) -> tuple[bool, int, str]:
    return meter.slow, _WORTH[meter.method], meter.key


class Mirrors:
    """Finds counters that are one: `look` with every counter's joules a few times, until `done`."""

    def __init__(self) -> None:
        self._looks: list[dict[str, float]] = []
        self._since: float | None = None
        self.done = False

    def look(self, now: float, joules: dict[str, float]) -> list[tuple[str, str]]:
        """Take every counter's raw joules by key; at the end, pairs of (key, the key that it mirrors)."""
        if self.done:
            return []
        self._since = now if self._since is None else self._since
        self._looks.append(joules)
        if now - self._since < MIRROR_SECONDS or len(self._looks) < MIRROR_LOOKS:
            return []
        self.done = True
        found, looks = _pairs(self._looks), self._looks
        self._looks = looks[:0]
        return found


def _pairs(looks: Iterable[dict[str, float]]) -> list[tuple[str, str]]:
    every = list(looks)
    keys = [key for key in sorted(every[0]) if all(key in look for look in every)]
    # Only what moved can be told apart.
    moving = [key for key in keys if every[-1][key] > every[0][key]]
    found: list[tuple[str, str]] = []
    for k, key in enumerate(moving):
        for other in moving[:k]:
            if any(other == mirror for mirror, _ in found):
                continue
            same = sum(_agree(every[0], look, key, other) for look in every[1:])
            if same >= MIRROR_SHARE * (len(every) - 1):
                found.append((key, other))
                break
    return found


def _agree(first: dict[str, float], look: dict[str, float], key: str, other: str) -> bool:
    a, b = look[key] - first[key], look[other] - first[other]
    return abs(a - b) <= MIRROR_QUANTUM + MIRROR_CLOSE * max(abs(a), abs(b))
