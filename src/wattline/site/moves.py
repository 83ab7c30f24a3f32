"""Who gives what, when: a plan over time told per job, for each event and against doing all as soon as possible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .horizon_plan import HorizonPlan
from .tasks import Array

# A change below this share of a job's largest power is none.
_SAME = 1e-3


@dataclass(frozen=True)
class Event:
    """A curtailment: from `start` to `end` (s on the plan's clock) a part of the tree may take `limit` W."""

    part: str
    start: float
    end: float
    limit: float


@dataclass(frozen=True)
class Given:
    """What one job gives in an event: W before and while it lasts, and how ("pauses", "slows down", "is off")."""

    job: str
    before: float
    during: float
    how: str


@dataclass(frozen=True)
class Moved:
    """When a job does its work instead: seconds at full speed moved, the spans (s) it runs more in, and its pauses."""

    job: str
    work: float
    later: float
    spans: tuple[tuple[float, float], ...]
    pauses: int


def given(plan: HorizonPlan, event: Event) -> list[Given]:
    """Return what each job gives in an event against the period before it, most first."""
    edges = plan.edges
    during = np.flatnonzero((edges[:-1] < event.end - 1e-6) & (edges[1:] > event.start + 1e-6))
    if not during.size:
        return []
    rest = np.delete(np.arange(len(edges) - 1), during)
    before = int(during[0]) - 1 if during[0] > 0 else (int(rest[0]) if rest.size else int(during[0]))
    out = []
    for j, name in enumerate(plan.names):
        usual, low = float(plan.power[j, before]), float(plan.power[j, during].mean())
        if usual - low <= _SAME * max(float(plan.power[j].max()), 1e-300):
            continue
        works = plan.work[j, during] > 0
        dark = plan.off is not None and plan.off[j, during].any()
        how = "is off" if dark else "pauses" if not works.any() else "slows down" if works.all() else "pauses in part"
        out.append(Given(name, usual, low, how))
    return sorted(out, key=lambda one: one.during - one.before)


def moved(plan: HorizonPlan, soonest: HorizonPlan) -> list[Moved]:
    """Return for each job the work that a plan puts into other periods than doing it as soon as possible does."""
    out = []
    middle = (plan.edges[1:] + plan.edges[:-1]) / 2
    for j, name in enumerate(plan.names):
        change = plan.work[j] - soonest.work[j]
        amount = float(np.abs(change).sum() / 2)
        if amount <= _SAME * max(float(plan.work[j].sum()), 1e-300):
            continue
        more, less = np.maximum(change, 0.0), np.maximum(-change, 0.0)
        later = _mean(middle, more) - _mean(middle, less)
        spans = _spans(plan.edges, more > _SAME * float(plan.work[j].max()))
        on = plan.on[j].astype(int)
        out.append(Moved(name, amount, later, spans, int((np.diff(on) < 0).sum())))
    return sorted(out, key=lambda one: -one.work)


def _mean(at: Array, weight: Array) -> float:
    return float(at @ weight / weight.sum()) if weight.sum() > 0 else 0.0


def _spans(edges: Array, flag: Sequence[bool] | np.ndarray) -> tuple[tuple[float, float], ...]:
    """Return the spans in which a flag holds."""
    change = np.diff(np.concatenate([[0], np.asarray(flag, int), [0]]))
    return tuple(
        (float(edges[a]), float(edges[b]))
        for a, b in zip(np.flatnonzero(change > 0), np.flatnonzero(change < 0), strict=True)
    )
