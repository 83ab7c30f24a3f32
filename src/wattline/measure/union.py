"""Several processes, one device: their measurements are joined by key, never summed over the same time.

Eight ranks that each watch eight GPUs report every joule eight times. Merged by (host, UUID, scope)
they report it once: over the union of their windows, exactly where one window covers the union, and
with an interval that holds every possibility where windows only partly overlap.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from ..core.errors import InputError
from .result import Factor, Measurement, Part


def merge(measurements: Iterable[Measurement], name: str = "merged") -> Measurement:
    """One measurement for the union of many windows; counts are added, since each process did its own work.

    The `start` of the inputs must come from synchronised clocks (they are seconds since 1970).
    """
    every = sorted(measurements, key=lambda m: (m.start, m.process))
    if not every:
        return Measurement(name=name, notes=("nothing to merge",))
    start = every[0].start
    stop = max(m.start + m.seconds for m in every)
    seen: dict[str, list[tuple[float, Part]]] = {}
    counts: dict[str, float] = {}
    for m in every:
        for part in m.parts:
            seen.setdefault(part.key, []).append((m.start, part))
        for what, number in m.counts.items():
            counts[what] = counts.get(what, 0.0) + number
    hosts = {m.host for m in every}
    return Measurement(
        name=name,
        start=start,
        seconds=stop - start,
        host=hosts.pop() if len(hosts) == 1 else "",
        process=0,
        parts=tuple(_union(seen[key]) for key in sorted(seen)),
        counts=counts,
        notes=tuple(dict.fromkeys(note for m in every for note in m.notes)),
        factors=_common([m.factors for m in every]),
    )


def _common(factors: list[tuple[Factor, ...]]) -> tuple[Factor, ...]:
    """The factors, if every input has the same ones."""
    first = factors[0]
    if any(other != first for other in factors):
        raise InputError("measurements to merge must have the same factors; merge first, then apply times(...)")
    return first


def _union(found: list[tuple[float, Part]]) -> Part:
    """Join the parts of one key: clusters of overlapping windows, then a sum over disjoint clusters."""
    real = sorted((f for f in found if f[1].joules is not None), key=lambda f: (f[0], -f[1].seconds))
    if not real:
        return found[0][1]
    clusters: list[list[tuple[float, Part]]] = []
    reach = -math.inf
    for begun, part in real:
        if begun >= reach:
            clusters.append([])
        clusters[-1].append((begun, part))
        reach = max(reach, begun + part.seconds)
    pieces = [_cluster(c) for c in clusters]
    best = max(real, key=lambda f: f[1].seconds)[1]
    joules = math.fsum(p[0] for p in pieces)
    return msgspec.structs.replace(
        best,
        joules=joules,
        low=max(0.0, joules - math.hypot(*(p[0] - p[1] for p in pieces))),
        high=joules + math.hypot(*(p[2] - p[0] for p in pieces)),
        seconds=math.fsum(p[3] for p in pieces),
        flags=tuple(sorted({flag for _, part in real for flag in part.flags})),
        throttle=tuple(sorted({why for _, part in real for why in part.throttle})),
    )


def _cluster(found: list[tuple[float, Part]]) -> tuple[float, float, float, float]:
    """(joules, low, high, seconds) of the union of windows that overlap in one chain.

    Windows are taken greedily, longest first. What a later window adds is the share of its time not
    yet covered, at its own mean power; that share alone is uncertain between nothing and all of it.
    """
    covered: list[tuple[float, float]] = []
    joules = low = high = 0.0
    for begun, part in sorted(found, key=lambda f: (-f[1].seconds, _width(f[1]), f[0])):
        assert part.joules is not None
        fresh = _uncovered(begun, begun + part.seconds, covered)
        share = fresh / part.seconds if part.seconds > 0 else 0.0
        # 1 % of a window is below what start times of different processes can tell apart.
        if share < 0.01:
            continue
        if share > 0.99:
            share = 1.0
        bottom = part.joules if part.low is None else part.low
        top = part.joules if part.high is None else part.high
        joules += share * part.joules
        low += bottom if share == 1.0 else 0.0
        high += top
        covered.append((begun, begun + part.seconds))
    seconds = _uncovered(min(f[0] for f in found), max(f[0] + f[1].seconds for f in found), [])
    return joules, low, high, seconds


def _width(part: Part) -> float:
    return (part.high or 0.0) - (part.low or 0.0)


def _uncovered(start: float, stop: float, covered: list[tuple[float, float]]) -> float:
    """Length in s of [start, stop] outside every interval of `covered`."""
    free, at = 0.0, start
    for begin, end in sorted(covered):
        if end <= at:
            continue
        if begin >= stop:
            break
        free += max(0.0, begin - at)
        at = max(at, end)
    return free + max(0.0, stop - at)
