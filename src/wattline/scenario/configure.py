"""Which layout to train with: every one that fits is sketched, with all clocks; the best are planned exactly.

    tensor x pipeline x context x expert x data, microbatch, ZeRO, chunks, precision --least recomputation that fits-->
      frontier of each (steady state, `training.sketch`) --> one front of time and energy --goal--> a time
        --> the best few there, each planned exactly (a zero-bubble schedule beside) --> the winner, and why it wins

Points go through `sweep`, so a search outgrows a machine on Ray.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Final

import numpy as np

from ..core.errors import CapacityError, GoalError, InputError, LayoutError, ScenarioError, WattlineError, nearest
from ..core.units import show
from ..frontier.answer import Answer
from ..frontier.goal import choose
from ..frontier.pruning import prune
from ..training.sketch import ledger, outline
from ..workload.fits import training_memory
from ..workload.memory import LOGIT
from . import schema
from .advice import fitting
from .stated import Scenario, cluster_of, goal_of, model_of, parallel_of, rates_of, source_of
from .sweep import Progress, sweep
from .training_job import training
from .whatif import Changes, Row

MOST: Final = 2000  # layouts that are looked at
CONFIRMED: Final = 3  # of the best at the chosen time, planned exactly
SHOWN: Final = 12  # points of the front that are kept
DEGREES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
MICROBATCHES: Final = (1, 2, 4, 8)
CHUNKS: Final = (1, 2, 4)
# Context parallelism is looked at from this many tokens of a sequence on, and for no fewer tokens on a device.
CONTEXT_FROM, CONTEXT_EACH = 16384, 4096
RECOMPUTE: Final = ("none", "selective", "operator", "full")  # the least that fits is taken: more only costs
FULL: Final = "does not fit in memory"
SHAPE: Final = ("tensor", "pipeline", "context", "expert", "data")
CAUSES: Final = ("computation", "recomputation", "communication", "bubble", "step")


@dataclass(frozen=True)
class Configured:
    """What a search found.

    Attributes
    ----------
    answer : the plan of the winner, exact.
    layout : its keys under train., as in a scenario.
    front : points no layout beats: time_s, energy_j and the layout's keys.
    why : one sentence per rival: what the winner does better.
    looked, fitting : how many layouts were looked at, and how many fit.
    """

    answer: Answer
    layout: Changes
    front: tuple[Row, ...]
    why: tuple[str, ...]
    looked: int
    fitting: int

    def to_dict(self) -> dict[str, Any]:
        """Return the search's part of an answer as plain values."""
        return {
            "layout": dict(self.layout), "front": [dict(row) for row in self.front], "why": list(self.why),
            "looked": self.looked, "fitting": self.fitting,
        }  # fmt: skip


def layouts(scenario: Scenario, precisions: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return every layout of the job on its devices, keys as in a scenario; what is stated of `train.` stays."""
    cluster, model = cluster_of(scenario), model_of(scenario)
    n, near = cluster.devices, cluster.domain if cluster.domain > 1 else cluster.chips_per_node
    batch, sequence = scenario["train.global_batch"], scenario["train.sequence"]

    def of(key: str, values: Sequence[Any]) -> Sequence[Any]:
        return (scenario[f"train.{key}"],) if f"train.{key}" in scenario.values else values

    tensors = of("tensor", [d for d in DEGREES if d <= near])
    pipelines = of("pipeline", [d for d in range(1, min(n, model.layers) + 1) if n % d == 0])
    long = sequence >= CONTEXT_FROM
    contexts = of("context", [d for d in DEGREES if d == 1 or (long and sequence // d >= CONTEXT_EACH)])
    experts = of("expert", [d for d in DEGREES if model.experts % d == 0] if model.moe else [1])
    out = []
    for t, p, c, e in product(tensors, pipelines, contexts, experts):
        d = n // (t * p * c)
        if d < 1 or d * t * p * c != n or batch % d or scenario.get("train.data") not in (None, d):
            continue
        for m in of("microbatch", [m for m in MICROBATCHES if batch // d % m == 0]):
            turns = batch // d // m
            chunks = [v for v in CHUNKS if v == 1 or (p > 1 and turns % p == 0 and p * v <= model.layers)]
            for v, zero in product(of("virtual", chunks), of("zero", (1, 3) if p == 1 and d * c > 1 else (1,))):
                layout = {"tensor": t, "pipeline": p, "context": c, "expert": e, "data": d, "microbatch": m,
                          "virtual": v, "zero": zero}  # fmt: skip
                out += [
                    {f"train.{k}": x for k, x in layout.items()} | ({"train.precision": name} if name else {})
                    for name in precisions or ("",)
                ]
    return out


def evaluate(scenario: Scenario, changes: Changes) -> Row:
    """Return a layout's frontier with the least recomputation that fits: `time_s`, `energy_j`, both lists."""
    stated = "train.recompute" in scenario.values
    ways = [scenario["train.recompute"]] if stated else RECOMPUTE
    for way in ways:
        layout = {**changes, "train.recompute": way}
        try:
            job, cluster = training(scenario.with_(layout))
            memory = training_memory(
                job.model, job.parallel, job.sequence, job.microbatch, job.microbatches,
                cluster.chip["memory.hbm.capacity"], recompute=job.recompute, flash=job.flash, schedule=job.schedule,
                dropout=job.dropout, optimizer=job.updates, precision=job.precision, adapter=job.adapter,
                frozen=job.frozen, logit=LOGIT, chunks=job.loss_chunks,
            )  # fmt: skip
            if memory.likely > memory.capacity * job.memory:
                continue
            found = outline(job, cluster, source_of(scenario))
        except WattlineError as error:
            return {**layout, "error": str(error)}
        if found is None:
            return {**layout, "error": "the schedule has no steady state"}
        return {
            **layout, "time_s": found.time.tolist(), "energy_j": found.energy.tolist(), "base_time_s": found.base_time,
            "base_energy_j": found.base_energy, "memory": memory.text,
        }  # fmt: skip
    return {**changes, "error": FULL}


def configure(
    scenario: Scenario,
    *,
    precisions: Sequence[str] = (),
    engine: str = "local",
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Configured:
    """Return the layout, schedule, microbatch, recomputation and clocks that meet the goal at least energy.

    A slowdown in the goal is against the fastest layout at maximum clocks. `precisions`: of the products, to be looked
    at too; as stated where empty.

    Raises
    ------
    CapacityError : nothing fits. GoalError : no layout meets the goal.
    """
    _check(scenario)
    if unknown := [name for name in precisions if name not in schema.PRECISIONS]:
        raise InputError(f"precision {unknown[0]!r} is not known; {nearest(unknown[0], schema.PRECISIONS)}")
    points = layouts(scenario, precisions)
    if len(points) > MOST:
        points = [points[i] for i in np.linspace(0, len(points) - 1, MOST).round().astype(int)]
    answers = sweep(scenario, points, engine=engine, jobs=jobs, progress=progress, evaluate=evaluate)
    rows = [r for r in answers if "error" not in r]
    if not rows:
        refused = [r["error"] for r in answers if r["error"] != FULL]
        if refused and len(refused) == len(answers):
            raise ScenarioError(f"no layout can be planned; of the first: {refused[0]}")
        raise CapacityError(
            f"none of {len(points)} layouts fits on {cluster_of(scenario).devices} chips; add chips, or a smaller "
            "train.sequence"
        )
    time, energy, which = _front(rows)
    base = min(row["base_time_s"] for row in rows)
    choice = choose(time, energy, base, goal_of(scenario), rates_of(scenario), scenario.get("site.power_limit"))
    by = max(choice.time, float(time[0]))
    ranked = sorted((r for r in rows if r["time_s"][0] <= by * (1 + 1e-9)), key=lambda r: _at(r, by))
    answer, winner = _confirmed(scenario, _candidates(ranked), by)
    first = _first(scenario)
    return Configured(
        replace(answer, goal=f"{choice.text}, of all layouts"),
        winner,
        _shown(time, energy, which, rows),
        tuple(_why(scenario, winner, rows, first, by)),
        len(points),
        len(rows),
    )


def _check(scenario: Scenario) -> None:
    if not scenario.has("train"):
        raise ScenarioError("a search for a layout is one of training: the scenario has no [train]")
    if scenario["train.method"] == "grpo":
        raise ScenarioError('a search for a layout knows train.method = "sft" and "dpo"; state the layout of grpo')
    if scenario.get("train.stages") is not None:
        raise ScenarioError("train.stages states a layout; take it out to search for one")


def _first(scenario: Scenario) -> Row | None:
    """Return the layout that is taken without a search: the first that fits, as stated otherwise."""
    found = fitting(scenario)
    if found is None or any(key.startswith("hardware.") for key in found):
        return None
    changed = scenario.with_(found)
    cluster = cluster_of(changed)
    keys = ("tensor", "pipeline", "context", "expert", "microbatch", "virtual", "zero", "recompute")
    layout: dict[str, Any] = {f"train.{key}": changed[f"train.{key}"] for key in keys}
    layout["train.data"] = parallel_of(changed, cluster).data
    row = evaluate(scenario.with_({"train.recompute": layout["train.recompute"]}), layout)
    return None if "error" in row else row


def _front(rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return times, energies and rows of the points that no layout beats."""
    time = np.concatenate([r["time_s"] for r in rows])
    energy = np.concatenate([r["energy_j"] for r in rows])
    which = np.concatenate([np.full(len(r["time_s"]), i) for i, r in enumerate(rows)])
    keep = prune(time, energy)
    return time[keep], energy[keep], which[keep]


def _at(row: Row, time: float) -> float:
    """Return joules of a layout by a time."""
    return float(np.interp(time, row["time_s"], row["energy_j"]))


def _layout(row: Row) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key.startswith("train.")}


def _shape(row: Row) -> tuple[Any, ...]:
    return tuple(row[f"train.{key}"] for key in SHAPE)


def _candidates(ranked: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """The best, each beside its zero-bubble schedule where it is a plain pipeline."""
    for row in ranked[:CONFIRMED]:
        layout = _layout(row)
        yield layout
        if row["train.pipeline"] > 1 and row["train.virtual"] == 1:
            yield {**layout, "train.schedule": "zb-h1"}


def _confirmed(scenario: Scenario, candidates: Iterator[dict[str, Any]], by: float) -> tuple[Answer, dict[str, Any]]:
    """Return the exact plan of the best candidate, and its layout."""
    from .scenario import solve

    goals = [key for key in scenario.values if key.startswith("goal.")]
    bare = replace(
        scenario, values={k: v for k, v in scenario.values.items() if k not in goals},
        text={k: v for k, v in scenario.text.items() if k not in goals},
    )  # fmt: skip
    best: tuple[float, dict[str, Any]] | None = None
    last: WattlineError | None = None
    for layout in candidates:
        # What the graph finds may be a little slower than the steady state: the goal is met where both agree.
        for limit in (by, 1.02 * by):
            try:
                found = solve(bare.with_({**layout, "goal.deadline": f"{limit!r} s"}), detail=False)
            except GoalError as error:
                last = error
                continue
            except (LayoutError, ScenarioError) as error:
                last = error
                break
            cost = found.chosen.energy_j * (1.0 if limit == by else 1.02)
            if best is None or cost < best[0]:
                best = cost, {**layout, "goal.deadline": f"{limit!r} s"}
            break
    if best is None:
        assert last is not None
        raise last
    answer = solve(bare.with_(best[1]))
    return answer, {key: value for key, value in best[1].items() if key != "goal.deadline"}


# ---- telling -------------------------------------------------------------------------------------


def _shown(time: np.ndarray, energy: np.ndarray, which: np.ndarray, rows: Sequence[Row]) -> tuple[Row, ...]:
    """Return the front, thinned: its ends, and where the layout changes before where only clocks do."""
    turns = np.r_[True, which[1:] != which[:-1]]
    keep = set(np.flatnonzero(turns).tolist()) | {len(time) - 1}
    if len(keep) > SHOWN:
        ordered = sorted(keep)
        keep = {ordered[i] for i in np.linspace(0, len(ordered) - 1, SHOWN).round().astype(int)}
    shown = [(float(time[i]), float(energy[i]), rows[which[i]]) for i in sorted(keep)]
    return tuple({"time_s": t, "energy_j": e, **_layout(row), "memory": row["memory"]} for t, e, row in shown)


def words(layout: Mapping[str, Any]) -> str:
    """Write a layout as one says it, leaving out what is 1."""
    parts = [f"{k} {layout[f'train.{k}']}" for k in SHAPE if layout[f"train.{k}"] > 1] or ["one device"]
    text = " x ".join(parts) + f", microbatch {layout['train.microbatch']}"
    if layout.get("train.virtual", 1) > 1:
        text += f", {layout['train.virtual']} chunks a stage"
    if layout.get("train.schedule"):
        text += f", {layout['train.schedule']}"
    if layout.get("train.zero", 1) == 3:
        text += ", ZeRO 3"
    if layout.get("train.precision"):
        text += f", {layout['train.precision']}"
    return text + f", recompute {layout['train.recompute']}"


def _why(
    scenario: Scenario, winner: Changes, rows: Sequence[Row], first: Row | None, by: float
) -> Iterator[str]:  # fmt: skip
    """Say, against the next of another shape and against the first that fits, where the winner's step is shorter."""
    own = next(r for r in rows if _same(r, winner))
    others = sorted((r for r in rows if _shape(r) != _shape(own)), key=lambda r: (r["time_s"][0] > by, _at(r, by)))
    rivals = others[:1]
    if first is not None and _layout(first) not in (_layout(own), *map(_layout, rivals)):
        rivals.append(first)
    mine = _ledger(scenario, winner)
    for rival in rivals:
        theirs = _ledger(scenario, _layout(rival))
        apart = {cause: theirs[cause] - mine[cause] for cause in CAUSES}
        total, step = sum(apart.values()), sum(theirs.values())
        order = sorted(CAUSES, key=lambda cause: -abs(apart[cause]))[:3]
        said = ", ".join(
            f"{cause} {show(mine[cause], 's', 3)} against {show(theirs[cause], 's', 3)}"
            for cause in order if abs(apart[cause]) > 0.002 * step
        )  # fmt: skip
        late = "" if rival["time_s"][0] <= by * (1 + 1e-9) else ", which cannot be as fast"
        saved = 1.0 - _at(own, by) / _at(rival, by)
        yield (
            f"{words(winner)} takes {100 * abs(saved):.1f} % {'less' if saved >= 0 else 'more'} energy than "
            f"{words(_layout(rival))}{late}; at maximum clocks its step is {100 * abs(total) / step:.1f} % "
            f"{'shorter' if total >= 0 else 'longer'}: {said or 'no cause stands out'}"
        )


def _same(row: Row, winner: Changes) -> bool:
    return all(row[key] == value for key, value in winner.items() if key != "train.schedule")


def _ledger(scenario: Scenario, layout: Changes) -> Mapping[str, float]:
    job, cluster = training(scenario.with_(layout))
    return ledger(job, cluster, source_of(scenario))
