"""What a scenario comes to with other values: a flat row for each point, one by one or many at once.

    points that share their work --the first is planned, what it asks the source is noted-->
      the source answers for all their devices at once, as arrays --> each point planned from its answers

The rows are those of planning one by one: a point that asks something else is answered by itself.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ..core.errors import WattlineError
from ..frontier.answer import Answer, Array, Goal
from ..source.base import Device, Source, slow
from ..source.foreseen import Listener, Question, foresee
from .scenario import Scenario, cluster_of, goal_of, rates_of, solve, source_of, training

if TYPE_CHECKING:
    from ..hardware.cluster import Cluster
    from ..training.job import TrainingJob
    from ..training.sketch import Sketch

Changes = Mapping[str, Any]
Row = dict[str, Any]

# Changes to these leave the schedule as it is, so one exact solve corrects all their sketches.
_SAME_SCHEDULE: Final = ("chip.", "node.", "site.", "goal.", "train.tokens", "train.goodput", "train.mfu")
# Changes to these leave what the source is asked as it is, but for the facts of the device.
_SAME_WORK: Final = (*_SAME_SCHEDULE, "serve.rate", "serve.ttft", "serve.tpot", "serve.percentile")
# Most points whose arrays are held at once.
_TOGETHER: Final = 64


def summary(scenario: Scenario, changes: Changes) -> Row:
    """Return the chosen point of one changed scenario as a flat row; an `error` column where it has none."""
    return summaries(scenario, [changes])[0]


def sketch(scenario: Scenario, changes: Changes) -> Row:
    """Return `summary` without an exact solve where there is a cheaper way: for large sweeps.

    Training is sketched by its steady state and corrected by the exact answer of the same schedule with
    the scenario's own hardware; the column `method` says which way a row was made.
    """
    return sketches(scenario, [changes])[0]


def summaries(
    scenario: Scenario, points: Sequence[Changes], source: Source | None = None, *, simulated: bool = True
) -> list[Row]:
    """Return `summary` of many points, in order; faster where they share their work.

    `simulated` : serving plans are simulated (seconds each); by the mean step where not, as designs are compared.
    """
    return _rows(scenario, points, source, exact=True, simulated=simulated)


def sketches(scenario: Scenario, points: Sequence[Changes], source: Source | None = None) -> list[Row]:
    """Return `sketch` of many points, likewise. `source`: asked instead of the one the scenario names."""
    return _rows(scenario, points, source, exact=False, simulated=False)


@dataclass(frozen=True)
class _Point:
    """A changed scenario, on its device; `place` is that of its row."""

    place: int
    changes: Changes
    scenario: Scenario
    device: Device


def _rows(
    scenario: Scenario, points: Sequence[Changes], asked: Source | None, *, exact: bool, simulated: bool
) -> list[Row]:
    rows: list[Row] = [{} for _ in points]
    alike: dict[str, list[_Point]] = {}
    for place, changes in enumerate(points):
        try:
            changed = scenario.with_(changes)
            if changed.has("measured"):  # nothing is asked of a source
                rows[place] = {**changes, **_figures(solve(changed))}
                continue
            cluster = cluster_of(changed)
        except WattlineError as error:
            rows[place] = {**changes, "error": str(error)}
            continue
        work = repr(_others(changes, _SAME_WORK))
        alike.setdefault(work, []).append(_Point(place, changes, changed, Device(cluster.chip, cluster.node)))

    def answer(point: _Point, source: Source) -> None:
        rows[point.place] = _row(scenario, point, source, exact, simulated)

    for group in alike.values():
        source = asked or source_of(group[0].scenario)
        rest = list(group)
        questions: list[Question] = []
        while len(rest) > 1 and not questions:  # a point without an answer may have asked nothing
            first = rest.pop(0)
            listener = Listener(source, first.device)
            answer(first, listener)
            questions = listener.questions
        for start in range(0, len(rest), _TOGETHER):
            some = rest[start : start + _TOGETHER]
            sources = foresee(source, questions, [point.device for point in some])
            for point, mine in zip(some, sources, strict=True):
                answer(point, mine)
    return rows


def _others(changes: Changes, light: tuple[str, ...]) -> tuple[tuple[str, Any], ...]:
    """Return the changes to keys that are not among the `light` ones, in a fixed order."""
    return tuple(sorted((k, v) for k, v in changes.items() if not k.startswith(light)))


def _row(base: Scenario, point: _Point, source: Source, exact: bool, simulated: bool) -> Row:
    row, changed = dict(point.changes), point.scenario
    try:
        if not exact and row and changed.has("train") and not changed.has("serve"):
            sketched = _sketch(base, point, source)
            if sketched is not None:
                return row | sketched
        answer = solve(changed, source=source, detail=False, simulated=simulated)
    except WattlineError as error:
        return {**row, "error": str(error)}
    return row | _figures(answer, simulated and not slow(source))


def _figures(answer: Answer, exact: bool = True) -> Row:
    chosen, base = answer.chosen, answer.baseline
    return {
        "time_s": chosen.time_s,
        "energy_j": chosen.energy_j,
        "average_power_w": chosen.average_power_w,
        **chosen.figures,
        "saving_energy": answer.savings["energy"],
        "saving_time": answer.savings["time"],
        "baseline_time_s": base.time_s,
        "baseline_energy_j": base.energy_j,
        "method": {"training": "exact", "profiled": "measured"}.get(answer.kind, "simulated" if exact else "analytic"),
    }


# ---- sketches ------------------------------------------------------------------------------------


def _sketch(base: Scenario, point: _Point, source: Source) -> Row | None:
    from ..training.telling import training_figures

    ratio = _correction(base, _others(point.changes, _SAME_SCHEDULE))
    job, cluster = training(point.scenario)
    found = _sketched(point.scenario, job, cluster, source)
    if ratio is None or found is None:
        return None
    at = found.time / found.base_time
    energy = found.energy * float(np.interp(at, ratio[0], ratio[1]))
    return {
        "time_s": found.time,
        "energy_j": energy,
        "average_power_w": energy / found.time,
        **training_figures(job, cluster, found.time, energy),
        **rates_of(point.scenario).figures(energy),
        "saving_energy": 1.0 - energy / found.base_energy,
        "saving_time": 1.0 - found.time / found.base_time,
        "baseline_time_s": found.base_time,
        "baseline_energy_j": found.base_energy,
        "method": "steady state, corrected",
    }


def _sketched(
    scenario: Scenario, job: TrainingJob, cluster: Cluster, source: Source, goal: Goal | None = None
) -> Sketch | None:
    from ..training.sketch import sketch_training

    limit = scenario.get("site.power_limit")
    return sketch_training(job, cluster, source, goal or goal_of(scenario), rates_of(scenario), limit)


def steady(scenario: Scenario) -> Row | None:
    """Return time and energy of a training run by its steady state alone: fit to compare with another one's."""
    job, cluster = training(scenario)
    found = _sketched(scenario, job, cluster, source_of(scenario))
    return None if found is None else {"time_s": found.time, "energy_j": found.energy}


@functools.lru_cache(maxsize=64)
def _correction(scenario: Scenario, structure: tuple[tuple[str, Any], ...]) -> tuple[Array, Array] | None:
    """Return exact over sketched energy against relative time, for the scenario's hardware and one schedule."""
    based = scenario.with_(dict(structure))
    based = replace(based, values={k: v for k, v in based.values.items() if k != "site.power_limit"})
    exact = solve(based.with_({"goal.max_slowdown": 0.0}), detail=False)
    slow = np.linspace(0.0, exact.time_s[-1] / exact.baseline.time_s - 1.0, 9)
    job, cluster = training(based)
    ratios = []
    for slowdown in slow:
        goal = Goal("max_slowdown", max(0.0, float(slowdown)))
        found = _sketched(based, job, cluster, source_of(based), goal)
        if found is None:
            return None
        bound = float(np.interp(found.time, exact.time_s, exact.energy_j))
        ratios.append(bound / found.energy)
    return 1.0 + np.maximum(slow, 0.0), np.array(ratios)
