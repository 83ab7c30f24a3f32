"""What everything in a report is called, and in which colour it is drawn.

Components, elasticity parameters and figures carry dotted or suffixed names inside (`chip.memory.hbm`,
`tokens_per_s`); here each becomes a phrase for a person. Unknown names stay readable as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np

from ...core.units import parse, show
from ...frontier.answer import Answer
from ...hardware.facts import keys
from ...scenario.schema import KEYS

# Layer -> colour. Each has a contrast of 3:1 or more against both page backgrounds (WCAG 2.2, 1.4.11).
COLOURS: Final[Mapping[str, str]] = {
    "arithmetic": "#d2522d",
    "memory": "#2f7fc1",
    "links": "#8a63c9",
    "clocks": "#b07a10",
    "leakage": "#9c6b4a",
    "standing": "#7a828e",
    "host": "#2c8f6b",
    "network": "#c2548f",
    "fan": "#5d8a2f",
    "cooling": "#1f8f9c",
}

_COMPONENTS: Final[Mapping[str, tuple[str, str]]] = {
    "chip.memory.hbm": ("Main memory (HBM)", "memory"),
    "chip.memory.l2": ("On-chip cache (L2)", "memory"),
    "chip.link.nvlink": ("Links inside a node (NVLink)", "links"),
    "chip.link.pcie": ("Host link (PCIe)", "links"),
    "chip.link.fabric": ("Traffic between nodes", "network"),
    "chip.leakage": ("Leakage", "leakage"),
    "chip.clock_tree": ("Clock distribution", "clocks"),
    "chip.waiting": ("Chips awake (standing power)", "standing"),
    "host": ("Hosts (CPU, memory, disks)", "host"),
    "network": ("Network adapters and switches", "network"),
    "fan": ("Fans and conversion", "fan"),
    "fans": ("Fans and conversion", "fan"),
    "cooling": ("Cooling and power delivery", "cooling"),
}

_FIGURES: Final[Mapping[str, str]] = {
    "iteration_s": "Time of one iteration",
    "host_s": "Waiting for the host, per iteration",
    "checkpoint_s": "Writing checkpoints, per iteration",
    "iteration_energy_j": "Energy of one iteration",
    "chip_energy_j": "Energy of the chips alone",
    "chip_power_w": "Power of one chip",
    "tokens_per_s": "Tokens per second",
    "energy_per_token_j": "Energy per token",
    "mfu": "Model FLOP utilisation",
    "each_s": "Time of one execution",
    "each_j": "Energy of one execution",
    "cost_usd": "Electricity cost",
    "carbon_g": "Carbon",
    "ttft_s": "Time to first token",
    "tpot_s": "Time per output token",
    "latency_s": "Time to the last token",
    "promise_probability": "Probability that the limits hold",
    "ttft_margin": "Margin to the TTFT limit",
    "tpot_margin": "Margin to the TPOT limit",
    "goodput_requests_per_s": "Requests per second within limits",
    "batch": "Requests in a batch",
}

# Shorter than the sentence of the key, for those that often stand at the top.
_PARAMETERS: Final[Mapping[str, str]] = {
    "chip.voltage.min": "Lowest core voltage",
    "chip.voltage.max": "Core voltage at the highest clock",
    "chip.voltage.knee": "Highest clock at the lowest voltage",
    "chip.power.waiting": "Chip power while awake and waiting",
    "chip.power.leakage": "Leakage power",
    "chip.power.clock_tree": "Clock distribution power",
    "chip.memory.hbm.energy": "Main memory energy per byte",
    "chip.memory.hbm.bandwidth": "Main memory bandwidth",
    "chip.memory.l2.energy": "On-chip cache energy per byte",
    "chip.memory.l2.bandwidth": "On-chip cache bandwidth",
    "chip.link.nvlink.bandwidth": "Bandwidth inside a node",
    "chip.link.nvlink.energy": "Energy per byte inside a node",
    "chip.overhead.launch": "Time between kernels",
    "node.host.power": "Host power",
    "node.fan.fraction": "Fan and conversion share",
    "node.nic.power": "Network adapter power",
    "node.nic.switch": "Network switch power",
    "node.nic.bandwidth": "Bandwidth between nodes",
    "train.mfu": "Assumed model FLOP utilisation",
    "train.tokens": "Tokens",
    "train.goodput": "Goodput",
    "site.pue": "PUE",
}

_ORDER: Final = ("forward", "backward", "backward_input", "backward_weight", "step")

PROPORTIONAL: Final = ("site.pue", "train.tokens", "train.goodput")

_ACRONYMS: Final = {"mfu": "MFU", "ttft": "TTFT", "tpot": "TPOT", "kv": "KV", "usd": "USD"}
_SUFFIXES: Final = (
    ("_per_s", "/s"), ("_usd", "USD"), ("_hz", "Hz"), ("_s", "s"), ("_j", "J"), ("_w", "W"), ("_g", "g"), ("_b", "B"),
)  # fmt: skip
_FRACTIONS: Final = ("probability", "margin", "mfu", "utilisation", "share", "fraction", "slack", "gap", "saving")


def component(name: str) -> str:
    """Return what a part of the energy is called.

    >>> component("chip.compute.bf16"), component("host")
    ('Arithmetic (bf16)', 'Hosts (CPU, memory, disks)')
    """
    if name in _COMPONENTS:
        return _COMPONENTS[name][0]
    if name.startswith("chip.compute."):
        return f"Arithmetic ({name.rpartition('.')[2]})"
    return _plain(name)


def layer(name: str) -> str:
    """Return the layer a part of the energy belongs to, a key of `COLOURS`."""
    if name in _COMPONENTS:
        return _COMPONENTS[name][1]
    parts = (("chip.compute", "arithmetic"), ("chip.memory", "memory"), ("chip.link", "links"))
    return next((to for start, to in parts if name.startswith(start)), "standing")


@cache
def parameter(name: str) -> str:
    """Return what a parameter of the elasticity is called.

    >>> parameter("chip.memory.hbm.energy")
    'Main memory energy per byte'
    """
    if name in _PARAMETERS:
        return _PARAMETERS[name]
    if name in KEYS:
        return _first(KEYS[name].text)
    section, _, key = name.partition(".")
    if section not in ("chip", "node") or key not in keys(section):
        return _plain(name)
    text = _first(keys(section)[key].description)
    if key.startswith("compute."):
        what = "Arithmetic rate" if ".rate." in key else "Energy per operation"
        return f"{what}, {key.rpartition('.')[2]}"
    return text if section == "chip" or "node" in text else f"{text} (node)"


def _first(text: str) -> str:
    """Return a description without its asides."""
    return re.split(r";|, where|, e\.g\.", re.sub(r"\s*\([^)]*\)", "", text))[0].strip()


def _plain(name: str) -> str:
    words = [_ACRONYMS.get(w, w) for w in re.split(r"[._]", name) if w]
    text = " ".join(words)
    return text[:1].upper() + text[1:]


def saving(elasticity: float) -> str:
    """Say which way one percent of a parameter helps, e.g. "1 % less saves 0.32 %"."""
    return f"1 % {'less' if elasticity > 0 else 'more'} saves {percent(abs(elasticity) / 100)}"


def figure(name: str) -> str:
    """Return what a figure is called: its known name, or its key without the unit.

    >>> figure("requests_per_s"), figure("cost_usd_per_million_tokens"), figure("energy_per_request_j")
    ('Requests per second', 'Cost per million tokens', 'Energy per request')
    """
    if name in _FIGURES:
        return _FIGURES[name]
    if name.endswith("_per_s"):
        return _plain(f"{name}econd")
    _, stem = _unit(name)
    return _plain(stem)


def _unit(name: str) -> tuple[str, str]:
    """Return the unit a key ends in, or carries before a "per", and the key without it."""
    for suffix, unit in _SUFFIXES:
        if name.endswith(suffix):
            return unit, name.removesuffix(suffix)
        if f"{suffix}_per_" in name:
            return unit, name.replace(f"{suffix}_per_", "_per_")
    return "", name


def value(name: str, number: Any) -> str:
    """Write a figure with the unit its name carries.

    >>> value("iteration_s", 12.5), value("mfu", 0.412), value("clock_hz", 1.98e9)
    ('12.5 s', '41.2 %', '1,980 MHz')
    """
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        return compact(number) if isinstance(number, Sequence) and not isinstance(number, str) else str(number)
    if name == "clock" or name.endswith("clock_hz"):
        return f"{number / 1e6:,.0f} MHz"
    unit, _ = _unit(name)
    if unit == "/s":
        return f"{show(float(number), '', 4)} /s"
    if not unit and any(word in name for word in _FRACTIONS) and abs(number) <= 1:
        return percent(float(number))
    return show(float(number), unit)


def percent(share: float, digits: int = 3) -> str:
    """Write a share as percent with `digits` significant digits, and no more than two decimals."""
    points = 100.0 * share
    if abs(points) < 0.005:
        return "0 %" if points == 0 else "< 0.01 %"
    whole = len(str(int(abs(points))))
    text = f"{points:,.{max(0, min(2, digits - whole))}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %"


def defaults(count: int) -> str:
    """Say how many keys are at their defaults."""
    return (
        f"Assumed: {count} keys at their defaults; --json lists them"
        if count > 1
        else ("Assumed: 1 key at its default; --json names it")
    )


def above(number: float, whole: float) -> float:
    """Return `number`, or 0 where it is rounding beside `whole`: less than a millionth of it."""
    return 0.0 if abs(number) < 1e-6 * abs(whole) else number


def compact(numbers: Iterable[Any]) -> str:
    """Write whole numbers as ranges.

    >>> compact([0, 1, 2, 5, 7, 8])
    '0-2, 5, 7-8'
    """
    items = list(numbers)
    if not items or not all(isinstance(n, int) for n in items):
        return ", ".join(map(str, items))
    runs: list[list[int]] = []
    for n in items:
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def scale(peak: float, unit: str) -> tuple[str, float]:
    """Return the unit that writes `peak` best and the factor from SI to it, for an axis.

    >>> scale(4.3e13, "J")[0], scale(120.0, "s")
    ('GWh', ('min', 0.016666666666666666))
    """
    shown = show(peak, unit).rpartition(" ")[2]
    return shown, 1.0 / parse(f"1 {shown}", unit)


@dataclass(frozen=True)
class Sentence:
    """The answer in a sentence or two: what it takes, and what was won."""

    cost: str
    gain: str

    def __str__(self) -> str:
        return f"{self.cost} {self.gain}"


def headline(answer: Answer) -> Sentence:
    """Return the answer in plain words."""
    chosen, won = answer.chosen, answer.savings
    if answer.kind == "training":
        cost = f"Training {answer.title} takes {show(chosen.energy_j, 'J')} and {show(chosen.time_s, 's')}."
    elif answer.kind == "profiled":
        cost = f"{answer.title}: {show(chosen.energy_j, 'J')} and {show(chosen.time_s, 's')}, as measured."
    else:
        rate = chosen.figures.get("tokens_per_s")
        pace = f" at {show(rate, '', 4)} tokens per second" if rate else ""
        cost = f"Serving {answer.title} takes {show(chosen.energy_j, 'J')} per {_one(answer)}{pace}."
    if abs(won["energy"]) < 5e-4:
        return Sentence(cost, f"At this goal, maximum clocks are already the least energy.{knee(answer)}")
    pace = "at the same speed" if abs(won["time"]) < 5e-4 else _pace(answer)
    start = f"{pace[:1].upper()}{pace[1:]}"
    if won["energy"] < 0:
        return Sentence(cost, f"{start} costs {percent(-won['energy'])} more than maximum clocks.")
    more = knee(answer) if abs(won["time"]) < 5e-4 else free(answer)
    return Sentence(cost, f"{start} saves {percent(won['energy'])} against maximum clocks.{more}")


def free(answer: Answer) -> str:
    """Say how much of what a slower plan saves costs no time at all, where that is worth a sentence."""
    base, saved = answer.baseline, answer.savings["energy"]
    if answer.kind != "training" or answer.savings["time"] >= 0 or not answer.time_s[0] <= base.time_s * (1 + 1e-9):
        return ""
    here = 1.0 - float(np.interp(base.time_s, answer.time_s, answer.energy_j)) / base.energy_j
    return f" Running no slower still saves {percent(here)}." if 0.005 <= here < saved else ""


# Slowdowns at which the knee is told, shares of the time at maximum clocks.
_KNEES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)


def knee(answer: Answer) -> str:
    """Say what a little more time would save, where that is worth a sentence."""
    time, energy, base = answer.time_s, answer.energy_j, answer.baseline
    if len(time) < 2 or answer.kind != "training":
        return ""
    here = max(answer.chosen.time_s, base.time_s)
    told = []
    for slow in _KNEES:
        at = here * (1 + slow)
        saved = (answer.chosen.energy_j - float(np.interp(at, time, energy))) / base.energy_j
        if at >= time[0] and saved > 0:
            told.append((slow, saved))
    steep = [t for t in told if t[1] >= 0.005 and t[1] >= t[0]]
    if not steep:
        return ""
    slow, saved = steep[0] if steep[0][1] >= 0.5 * steep[-1][1] else max(steep, key=lambda t: t[1] - 2 * t[0])
    return f" {percent(slow)} slower would save {percent(saved)}."


def _pace(answer: Answer) -> str:
    after, before = answer.chosen.time_s, answer.baseline.time_s
    if answer.kind == "serving":
        return f"at {show(after, 's')} per {_one(answer)} instead of {show(before, 's')}, this"
    return f"running {percent(abs(after / before - 1.0))} {'slower' if after > before else 'faster'}"


def _one(answer: Answer) -> str:
    """Return what an answer counts per, as "output token"."""
    return answer.work.removeprefix("one ")


def change(before: float, after: float) -> str:
    """Say how much a figure changed: "+2 %", "-11.6 %", "x 4.2", or "=".

    >>> change(100, 102), change(11.7, 49.1), change(1, 1)
    ('+2 %', 'x 4.2', '=')
    """
    if before == after or (before and abs(after / before - 1) < 5e-5):
        return "="
    if not before or after / before < 0:
        return ""
    if after > 2 * before:
        return f"x {after / before:.2g}"
    return f"{'+' if after > before else '-'}{percent(abs(after / before - 1))}"


def trust(answer: Answer) -> str:
    """Say how far to trust the numbers."""
    spread = f"energy ± {percent(answer.uncertainty, 2)}"
    if answer.time_uncertainty:
        spread += f", time ± {percent(answer.time_uncertainty, 2)}"
    return f"{answer.provenance}; {spread} (one standard deviation)"


def certificate(answer: Answer) -> str:
    """Say how far the plan is from the exact bound; empty where there is no certificate."""
    if "gap" not in answer.certificate:
        return ""
    gap, bound = answer.certificate["gap"], answer.certificate.get("bound_j")
    least = f", which is {show(bound, 'J', 4)}" if bound else ""
    close = "less than 0.01 %" if 0 <= gap < 1e-4 else percent(gap)
    return f"No plan for this goal and model can use less than the exact bound{least}; this one is {close} above it."


def share_out(breakdown: Mapping[str, float]) -> list[tuple[str, float, float]]:
    """Return (component, joules, share) of a breakdown, the largest first, without the empty ones."""
    whole = sum(breakdown.values())
    rows = [(name, joules, joules / whole) for name, joules in breakdown.items() if joules > 0] if whole > 0 else []
    return sorted(rows, key=lambda row: -row[1])


def largest(elasticity: Mapping[str, float], count: int) -> list[tuple[str, float]]:
    """Return the `count` parameters that move the energy most, the largest first, none below 0.0005.

    Those that scale all energy alike (`PROPORTIONAL`) are left out: they say nothing about the plan. So are the sizes
    of the work itself: to write longer answers, or fewer, is no advice.
    """
    rows = [
        (name, e)
        for name, e in elasticity.items()
        if abs(e) >= 5e-4 and name not in PROPORTIONAL and not name.startswith(("serve.", "train."))
    ]
    return sorted(rows, key=lambda row: -abs(row[1]))[:count]


LEVERS: Final = ("Change", "Energy", "Time", "Set")
LEVERS_NOTE: Final = (
    "Quick estimates beside a quick estimate of this plan. Plan a change with --set KEY=VALUE before you act on it."
)


def lever_rows(answer: Answer) -> list[list[str]]:
    """Return what the owner can change, a row a lever: in words, energy, time, and what to set."""

    def signed(share: float) -> str:
        return "=" if abs(share) < 5e-4 else f"{'+' if share > 0 else '-'}{percent(abs(share), 3)}"

    return [
        [
            str(lever["words"]), signed(lever["energy"]), signed(lever["time"]),
            ", ".join(f"{k}={_set(k, v)}" for k, v in lever["change"].items()),
        ]
        for lever in answer.levers
    ]  # fmt: skip


def _set(key: str, value: Any) -> str:
    kind = KEYS[key].kind if key in KEYS else ""
    return show(value, kind).replace(" ", "") if isinstance(value, float) and kind else str(value)


def proportional(elasticity: Mapping[str, float]) -> str:
    """Say which parameters scale all energy alike; empty where there are none."""
    names = [parameter(name) for name in PROPORTIONAL if name in elasticity]
    return f"Proportional to the energy in every plan: {', '.join(names)}." if names else ""


# ---- knobs ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clocks:
    """The clocks of one stage and instruction: least, mean over microbatches and most, Hz."""

    stage: int
    instruction: str
    low: float
    mean: float
    high: float

    def __str__(self) -> str:
        if self.high - self.low < 1e6:
            return f"{self.mean / 1e6:,.0f}"
        return f"{self.mean / 1e6:,.0f} ({self.low / 1e6:,.0f}-{self.high / 1e6:,.0f})"


def staged(knobs: Sequence[Mapping[str, Any]]) -> list[Clocks]:
    """Return the knobs summed up per stage and instruction, in order; empty where they are no pipeline's."""
    groups: dict[tuple[int, str], list[tuple[float, int]]] = {}
    for knob in knobs:
        if not {"stage", "instruction", "clock_hz"} <= knob.keys():
            return []
        weight = len(knob["microbatches"]) if "microbatches" in knob else 1
        groups.setdefault((knob["stage"], knob["instruction"]), []).append((knob["clock_hz"], weight))
    out = []
    for (stage, instruction), pairs in sorted(groups.items(), key=lambda item: item[0][0]):
        clocks = [c for c, _ in pairs]
        mean = sum(c * w for c, w in pairs) / sum(w for _, w in pairs)
        out.append(Clocks(stage, instruction, min(clocks), mean, max(clocks)))
    return out


def knob_table(knobs: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows that sum the knobs up: one row per stage, or one per knob."""
    clocks = staged(knobs)
    if clocks:
        names = sorted({c.instruction for c in clocks}, key=lambda n: (_ORDER.index(n) if n in _ORDER else 9, n))
        names.sort(key=lambda n: _ORDER.index(n) if n in _ORDER else len(_ORDER))
        cells = {(c.stage, c.instruction): str(c) for c in clocks}
        rows = [[str(s), *(cells.get((s, n), "") for n in names)] for s in sorted({c.stage for c in clocks})]
        return ["Stage", *(f"{_plain(n)}, MHz" for n in names)], rows
    names = list(dict.fromkeys(key for knob in knobs for key in knob))
    return [figure(n) for n in names], [[value(n, k[n]) if n in k else "" for n in names] for k in knobs]
