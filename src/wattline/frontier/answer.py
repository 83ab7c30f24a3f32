"""What a plan answers: the frontier, the chosen point and its knobs, the baseline, and where the joules go.

Scope of every energy here: the facility's share for the work, i.e. chips, hosts, network, fans and
cooling. Each component keeps its own name, so any narrower scope can be read off the breakdown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.units import show

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """One way to do the work.

    Attributes
    ----------
    time_s, energy_j : of one unit of work (see `Answer.work`), facility scope.
    average_power_w : facility watts while the work runs.
    breakdown_j : component -> J; sums to energy_j.
    knobs : what to set, one mapping per device group or instruction.
    figures : further quantities by name with the unit as suffix (iteration_s, tokens_per_s, mfu, ...).
    """

    time_s: float
    energy_j: float
    average_power_w: float
    breakdown_j: Mapping[str, float]
    knobs: tuple[Mapping[str, Any], ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """The answer to one scenario.

    Attributes
    ----------
    kind : "training", "serving" or "profiled".
    work : what one unit of time_s and energy_j is for: "the whole job" or "one output token".
    time_s, energy_j, power_w : (n,) the frontier, fastest first.
    goal : the goal in words.
    elasticity : parameter -> d ln E / d ln parameter at the chosen point.
    provenance : "measured", "calibrated" or "modelled", of the weakest part.
    sources : where the numbers come from, one sentence each.
    uncertainty : relative standard deviation of the chosen energy; `time_uncertainty` of its time.
    assumptions : every default and estimate used, one sentence each.
    apply : what to type, in order; comments start with "#".
    levers : changes the owner can make, tried: `change` (key -> value), `words`, `energy`, `time` (relative).
    """

    kind: str
    title: str
    work: str
    time_s: Array
    energy_j: Array
    power_w: Array
    chosen: Outcome
    baseline: Outcome
    goal: str
    elasticity: Mapping[str, float]
    provenance: str
    sources: tuple[str, ...]
    uncertainty: float
    time_uncertainty: float
    assumptions: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    certificate: Mapping[str, float] = field(default_factory=dict)
    timeline: tuple[Mapping[str, Any], ...] = ()
    apply: tuple[str, ...] = ()
    levers: tuple[Mapping[str, Any], ...] = ()

    @property
    def savings(self) -> dict[str, float]:
        """Relative savings of the chosen point against the baseline (negative time: slower)."""
        return {
            "energy": 1.0 - self.chosen.energy_j / self.baseline.energy_j,
            "time": 1.0 - self.chosen.time_s / self.baseline.time_s,
        }

    def _repr_html_(self) -> str:
        """Show the frontier, the chosen point and what it saves in a notebook."""
        from . import display

        base, chosen = self.baseline, self.chosen
        marks = [("maximum clocks", base.time_s, base.energy_j), ("chosen", chosen.time_s, chosen.energy_j)]
        rows = [
            [name, show(o.time_s, "s"), show(o.energy_j, "J"), show(o.average_power_w, "W")]
            for name, o in (("Maximum clocks", base), ("Chosen", chosen))
        ]
        rows.append(["Saved", f"{100 * self.savings['time']:.3g} %", f"{100 * self.savings['energy']:.3g} %", ""])
        parts = sorted(chosen.breakdown_j.items(), key=lambda part: -part[1])[:8]
        shares = [
            [name, show(joules, "J"), f"{100 * joules / chosen.energy_j:.3g} %"] for name, joules in parts if joules > 0
        ]
        return (
            f"<p><b>{escape(self.title)}</b>: {escape(self.goal)}</p>"
            + display.chart(self.time_s, self.energy_j, marks, of=f" for {self.work}")
            + display.table(
                ["", "Time", "Energy", "Power"], rows, f"energy ± {100 * self.uncertainty:.2g} %, {self.provenance}"
            )
            + display.table(["Component", "Energy", "Share"], shares)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values under the stable JSON keys."""
        points = zip(self.time_s, self.energy_j, self.power_w, strict=True)
        return {
            "kind": self.kind,
            "title": self.title,
            "work": self.work,
            "goal": self.goal,
            "frontier": [{"time_s": float(t), "energy_j": float(e), "average_power_w": float(p)} for t, e, p in points],
            "chosen": _outcome(self.chosen),
            "baseline": _outcome(self.baseline),
            "savings": self.savings,
            "breakdown_j": dict(self.chosen.breakdown_j),
            "elasticity": dict(self.elasticity),
            "provenance": {"kind": self.provenance, "sources": list(self.sources)},
            "uncertainty": {"energy": self.uncertainty, "time": self.time_uncertainty},
            "certificate": dict(self.certificate),
            "assumptions": list(self.assumptions),
            "facts": dict(self.facts),
            **({"apply": list(self.apply)} if self.apply else {}),
            **({"levers": [dict(lever) for lever in self.levers]} if self.levers else {}),
        }


def _outcome(o: Outcome) -> dict[str, Any]:
    return {
        "time_s": o.time_s,
        "energy_j": o.energy_j,
        "average_power_w": o.average_power_w,
        **o.figures,
        "breakdown_j": dict(o.breakdown_j),
        "knobs": [dict(k) for k in o.knobs],
    }


@dataclass(frozen=True)
class Goal:
    """What to optimise. `kind` is one of the [goal] keys or "latency"; `value` in SI."""

    kind: str
    value: float = 0.0
    text: str = ""


@dataclass(frozen=True)
class Rates:
    """What a joule costs: price (USD/J) and carbon (g/J), each None where the scenario gives none.

    `chip`: USD per second of a chip, rented or written off, electricity apart.
    """

    price: float | None = None
    carbon: float | None = None
    chip: float | None = None

    def figures(self, energy_j: float) -> dict[str, float]:
        """Return cost and carbon of `energy_j`, only those that were given."""
        out = {}
        if self.price is not None:
            out["cost_usd"] = self.price * energy_j
        if self.carbon is not None:
            out["carbon_g"] = self.carbon * energy_j
        return out

    def per_million(self, energy_j: float, chip_seconds: float) -> dict[str, float]:
        """Return what a million tokens cost, from the joules and chip-seconds of one: in parts, and whole.

        Cost is told only where both parts of it are known; electricity alone goes under its own name.
        """
        out: dict[str, float] = {}
        if self.price is not None:
            out["electricity_usd_per_million_tokens"] = 1e6 * self.price * energy_j
        if self.chip is not None:
            out["chips_usd_per_million_tokens"] = 1e6 * self.chip * chip_seconds
        if len(out) == 2:
            out["cost_usd_per_million_tokens"] = sum(out.values())
        if self.carbon is not None:
            out["carbon_g_per_million_tokens"] = 1e6 * self.carbon * energy_j
        return out


NO_RATES = Rates()
