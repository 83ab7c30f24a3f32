"""What a fleet scenario answers: what every job gets, what power is worth where, the way down, and the hours.

Work is counted in chips at full speed, times the weight of the job. Every watt at a part of the tree is what
flows into it; the feed's includes losses, cooling and all else of the site.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np

from ..core.units import show
from ..frontier.answer import Rates
from ..hardware.power_tree import PowerTree
from .fleet_plan import FleetPlan
from .footprint import Line
from .horizon import HorizonPlan
from .layers import PriceCurve, shares
from .moves import Event, given, moved


@dataclass(frozen=True)
class JobOutcome:
    """One job of the plan. `speed`: share of full speed (of the traffic, for serving); `settings`: shares of time."""

    name: str
    at: str
    power_w: float
    speed: float
    work: float
    settings: tuple[tuple[float, Mapping[str, Any]], ...]


@dataclass(frozen=True, eq=False)
class FleetAnswer:
    """The answer to one fleet scenario.

    Attributes
    ----------
    plan : at one instant, under the tree's own limits, time shared between settings; `whole`: one setting a job, None
        where whole settings do not reach the work asked for.
    full : work of all jobs at full speed, and the W at the feed that would draw.
    ladder, alone : the cheapest way down from `plan`, by all layers and by each alone. give_up : W shown of it.
    uncertainty : relative standard deviation of the jobs' power. currency : ISO 4217 code of all money.
    more : how many more copies of a job are carried (`fleet_more.More`), None where not asked. events : curtailments.
    footprint : carbon and water, line by line. zone : time zone in which the hours are told.
    horizon : over time, None where the scenario has no [grid] lasts; `soonest` without looking ahead, `followed` with a
        forecast that errs, None where not asked for.
    """

    title: str
    goal: str
    plan: FleetPlan
    whole: FleetPlan | None
    jobs: tuple[JobOutcome, ...]
    full_work: float
    full_power: float
    rates: Rates
    ladder: PriceCurve
    alone: Mapping[str, PriceCurve]
    give_up: float
    horizon: HorizonPlan | None = None
    soonest: HorizonPlan | None = None
    followed: HorizonPlan | None = None
    series: Mapping[str, Any] = field(default_factory=dict)
    uncertainty: float = 0.0
    sources: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()
    currency: str = "USD"
    more: Mapping[str, Any] | None = None
    events: tuple[Event, ...] = ()
    footprint: tuple[Line, ...] = ()
    zone: str = "UTC"

    kind = "fleet"

    @property
    def tree(self) -> PowerTree:
        """The power tree."""
        return self.plan.tree

    def _repr_html_(self) -> str:
        """Show what every job gets in a notebook."""
        from ..frontier import display

        share = self.plan.value / self.full_work if self.full_work else 0.0
        rows = [[j.name, j.at, show(j.power_w, "W"), f"{100 * j.speed:.3g} %", show(j.work, "")] for j in self.jobs]
        title = f"{self.title}: {100 * share:.3g} % of full work at {show(self.plan.feed, 'W')} of site power"
        return f"<p><b>{escape(title)}</b></p>" + display.table(["Job", "At", "Power", "Speed", "Work"], rows)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values under the stable JSON keys."""
        plan = self.plan
        out: dict[str, Any] = {
            "kind": self.kind,
            "title": self.title,
            "goal": self.goal,
            "feed_w": plan.feed,
            "limit_w": _finite(float(plan.tree.row_limit[plan.tree.root])),
            "pue": _finite(float(plan.tree.pue(plan.load))),
            "work": plan.value,
            "work_share": plan.value / self.full_work if self.full_work else 0.0,
            "full_speed": {"work": self.full_work, "feed_w": self.full_power},
            "bound": plan.bound,
            "gap": plan.gap,
            "whole_settings": None
            if self.whole is None
            else {"feed_w": self.whole.feed, "work": self.whole.value, "gap": self.whole.gap},
            **{f"{name}_per_h": value for name, value in self.rates.figures(plan.feed * 3600.0).items()},
            "jobs": [
                {
                    "name": j.name, "at": j.at, "power_w": j.power_w, "speed": j.speed, "work": j.work,
                    "settings": [{"share": share, **dict(setting)} for share, setting in j.settings],
                }
                for j in self.jobs
            ],
            "parts": parts(plan),
            "ladder": {
                "steps": _steps(self.ladder.steps),
                "alone": {name: curve(c) for name, c in self.alone.items()},
                "give_up_w": self.give_up,
                "by_layer": self.by_layer(),
            },
            "currency": self.currency,
            "more": None if self.more is None else dict(self.more),
            "horizon": None if self.horizon is None else self._horizon(),
            "footprint": [
                {"key": x.key, "name": x.name, "value": x.value, "unit": x.unit, "how": x.how} for x in self.footprint
            ],
            "provenance": {"sources": list(self.sources)},
            "uncertainty": {"power": self.uncertainty},
            "assumptions": list(self.assumptions),
        }  # fmt: skip
        return out

    def by_layer(self) -> list[dict[str, Any]]:
        """Return what each layer gives and loses on the cheapest way to give up `give_up`, in order."""
        steps = self.ladder.give(min(self.give_up, float(self.ladder.power[-1])))
        return [{"layer": name, "power_w": p, "lost": lost} for name, (p, lost) in shares(steps).items()]

    def _horizon(self) -> dict[str, Any]:
        assert self.horizon is not None
        h = self.horizon
        return {
            "time_s": h.edges.tolist(),
            "feed_w": h.feed.tolist(),
            "grid_w": h.grid.tolist(),
            "pue": [_finite(x) for x in h.pue],
            "equipment": {name: values.tolist() for name, values in h.equipment.items()},
            "limit_w": [_finite(x) for x in h.limits[:, h.tree.root]],
            **{name: list(values) for name, values in self.series.items()},
            "jobs": [
                {
                    "name": name, "power_w": h.power[j].tolist(), "work": h.work[j].tolist(), "on": h.on[j].tolist(),
                    "starts": int(h.starts[j]),
                }
                for j, name in enumerate(h.names)
            ],
            "events": [
                {
                    "part": e.part, "start_s": e.start, "end_s": e.end, "limit_w": e.limit,
                    "jobs": [
                        {"job": g.job, "before_w": g.before, "during_w": g.during, "how": g.how} for g in given(h, e)
                    ],
                }
                for e in self.events
            ],
            "moved": [
                {"job": m.job, "work_s": m.work, "later_s": m.later, "spans_s": [list(s) for s in m.spans],
                 "pauses": m.pauses}
                for m in (moved(h, self.soonest) if self.soonest is not None else [])
            ],
            "plan": totals(h),
            "soonest": None if self.soonest is None else totals(self.soonest),
            "followed": None if self.followed is None else totals(self.followed),
        }  # fmt: skip


def totals(h: HorizonPlan) -> dict[str, Any]:
    """Return the totals of a plan over time."""
    return {
        "energy_j": h.energy_j, "carbon_g": h.carbon_g, "cost_usd": h.cost_usd, "peak_w": float(h.feed.max()),
        "gap": h.gap, "short": h.short, "work": dict(h.done), "nodes": h.nodes,
        "search_gap": h.search_gap, "bill": dict(h.bill), "peak_bought_w": float(h.grid.max()),
    }  # fmt: skip


def parts(plan: FleetPlan) -> list[dict[str, Any]]:
    """Return one row per constraint of the tree: inflow, limit, headroom and the price of a watt."""
    tree = plan.tree
    parent = tree.row_parent
    return [
        {
            "name": name,
            "on": tree.row_names[parent[r]] if parent[r] >= 0 else None,
            "inflow_w": float(plan.flows[r]),
            "limit_w": _finite(float(tree.row_limit[r])),
            "headroom_w": _left(float(plan.headroom[r]), float(tree.row_limit[r])),
            "price_per_w": float(plan.price[r]),
        }
        for r, name in enumerate(tree.row_names)
    ]


def _left(headroom: float, limit: float) -> float | None:
    """Return what is left of a limit; less than a millionth of it is rounding, and none."""
    return 0.0 if abs(headroom) < 1e-6 * limit < np.inf else _finite(headroom)


def curve(c: PriceCurve) -> list[dict[str, float]]:
    """Return a price curve's corners."""
    return [{"power_w": float(p), "lost": float(lost)} for p, lost in zip(c.power, c.lost, strict=True)]


def expected(answer: FleetAnswer) -> dict[str, Any]:
    """Return the figures of a shipped example that its file and the tests hold."""
    told = answer.to_dict()
    out = {key: told[key] for key in ("goal", "feed_w", "work", "work_share", "full_speed", "whole_settings")}
    out["jobs"] = [{"name": j.name, "power_w": j.power_w, "speed": j.speed} for j in answer.jobs]
    out["prices"] = dict(answer.plan.binding())
    out["ladder"] = told["ladder"]["by_layer"]
    if answer.horizon is not None:
        out["horizon"] = {name: told["horizon"][name] for name in ("plan", "soonest", "followed")}
        for plan in out["horizon"].values():  # how far from the bound the solver stops is its own affair
            if plan is not None:
                plan.pop("gap")
                plan.pop("nodes")
                plan.pop("search_gap")
    return out


def _steps(steps: Sequence[Any]) -> list[dict[str, Any]]:
    return [
        {
            "job": s.job, "layer": s.layer, "measure": s.name, "power_w": s.power, "lost": s.lost,
            "lost_per_mw": s.price * 1e6,
        }
        for s in steps
    ]  # fmt: skip


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
