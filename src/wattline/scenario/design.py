"""A study of designs: every design, or those an optimiser asks for, run through the whole mix of works.

    choices -> chip, budgets checked -> each work planned on it (whatif) -> energy, time, area -> frontier -> chosen
                                                                       the chosen one planned again, exactly

A design over a budget costs a thousandth of a second; designs that share their structure share what was asked of
the source, and a mapping search is done once per structure and asked again with other constants.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..core.errors import GoalError, ScenarioError, WattlineError
from ..core.units import show
from ..frontier.answer import Array
from ..hardware.facts import INSIDE, Sheet
from ..hardware.manufacture import Made
from ..source.base import Source
from . import design_owning as owning
from .design_file import Study, Work, applied
from .design_space import DesignAnswer, Designs, Step, WorkAnswer, choose, mixed, undominated
from .scenario import cluster_of, rates_of, solve
from .sweep import EXACT, Progress, crew
from .whatif import sketches, summaries

Choice = tuple[int, ...]
Row = Mapping[str, Any]
Ask = Callable[[Sequence[Choice]], list[Row]]

# Most designs that are all evaluated where `design.search` is auto.
ALL: Final = 20_000
# Options of an axis up to which all are shown as one change of the chosen design; of more, the next ones.
_SHOWN: Final = 4


def answer(
    study: Study, *, engine: str = "local", jobs: int | None = None, progress: Progress | None = None
) -> DesignAnswer:
    """Return the answer to a study. `engine`, `jobs` and `progress` are those of `sweep.sweep`."""
    start = time.monotonic()
    base = {work.name: _unchanged(work) for work in study.works}
    known: dict[Choice, Row] = {}
    owning.check(study)
    with crew(study, _exact if study.possible <= EXACT else _fast, engine=engine, jobs=jobs) as work:

        def ask(choices: Sequence[Choice]) -> list[Row]:
            new = [c for c in dict.fromkeys(choices) if c not in known]
            known.update(zip(new, work([{"choice": c} for c in new], progress or (lambda _: None)), strict=True))
            return [known[c] for c in choices]

        ask([_nothing(study)])
        method = _search(study, base, ask)
        designs, order = _designs(study, base, known)
        _refuse_none(study, known, designs)
        chosen = choose(designs, study.get("least"), study.get("max_slowdown"))
        steps = _steps(study, base, ask, order[chosen], designs, chosen)
    works = tuple(_planned(study, work, base[work.name], order[chosen]) for work in study.works)
    weights = _weights(study)
    exact = tuple(
        mixed(weights, np.array([f(w.chosen) for w in works]), np.array([f(w.unchanged) for w in works]))
        for f in (lambda a: a.chosen.energy_j, lambda a: _machine_time(a.kind, a.chosen.time_s, a.chosen.figures))
    )
    return DesignAnswer(
        title=_title(study),
        goal=_goal(study),
        axes={axis.name: [o.name for o in axis.options] for axis in study.axes},
        designs=designs,
        frontier=_frontier(designs),
        chosen=chosen,
        counted=_counted(study, known),
        unchanged=(1.0, 1.0, float(_chip(study, _nothing(study)).get("area.die", 0.0))),
        making=_making(study, order[chosen]),
        steps=steps,
        elasticity=_elasticity(works),
        works=works,
        site=_site(study, works),
        exact=(exact[0], exact[1]),
        method=method,
        seconds=time.monotonic() - start,
        assumptions=_assumptions(study, works),
    )


def expected(study: Study) -> int:
    """Return how many designs a study will look at, at most: for a progress bar."""
    return study.possible + 1 if _every(study) else int(study.get("evaluations"))


def _every(study: Study) -> bool:
    return bool(study.get("search") == "grid" or (study.get("search") == "auto" and study.possible <= ALL))


def _unchanged(work: Work) -> Any:
    try:
        return solve(work.scenario, detail=False)
    except WattlineError as error:
        raise type(error)(
            f"work {work.name} has no answer on the unchanged chip, so nothing can be compared with it: {error}"
        ) from None


def _search(study: Study, base: Mapping[str, Any], ask: Ask) -> str:
    """Evaluate designs through `ask`; return how, in words."""
    if _every(study):
        ask(list(itertools.product(*(range(len(axis.options)) for axis in study.axes))))
        return "every design"
    from .design_search import optimise

    def costs(choices: Sequence[Choice]) -> list[tuple[Array | None, float]]:
        return [_costs(study, base, row) for row in ask(choices)]

    sizes = [len(axis.options) for axis in study.axes]
    optimise(sizes, costs, study.get("evaluations"), study.get("seed"))
    return f"NSGA-II and a search of the frontier's neighbours, seed {study.get('seed')}"


def _nothing(study: Study) -> Choice:
    return (-1,) * len(study.axes)


# ---- one design -----------------------------------------------------------------------------------


def _fast(study: Study, points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return evaluate(study, [p["choice"] for p in points], sketches)


def _exact(study: Study, points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    # By the mean step, as the unchanged chip and the chosen design are: one of them simulated would stand apart.
    return evaluate(study, [p["choice"] for p in points], functools.partial(summaries, simulated=False))


def evaluate(study: Study, choices: Sequence[Choice], how: Callable[..., list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return a row per design: its `area`, and `works` (name -> figures), or what it is `over`, or an `error`."""
    rows: list[dict[str, Any]] = []
    asked: list[tuple[int, dict[str, Any]]] = []
    for place, choice in enumerate(choices):
        changes = study.changes(choice)
        try:
            chip = _built(study, changes)
        except WattlineError as error:
            rows.append({"error": str(error)})
            continue
        row, limit = _budgeted(study, chip)
        rows.append(row)
        if "over" not in row:
            row["works"] = {}
            asked.append((place, changes | limit))
    for work in study.works:
        source = _source(work)
        found = how(work.scenario, [applied(work, changes) for _, changes in asked], source)
        for (place, changes), figures in zip(asked, found, strict=True):
            if "error" in figures:
                rows[place].setdefault("error", f"{work.name}: {figures['error']}")
            else:
                rows[place]["works"][work.name] = _figures(work, figures, changes)
    return rows


def _chip(study: Study, choice: Choice) -> Sheet:
    return _built(study, study.changes(choice))


def _built(study: Study, changes: Mapping[str, Any]) -> Sheet:
    """Return the chip of a design. Keys of the work alone do not concern it."""
    work = study.works[0]
    mine = {k: v for k, v in changes.items() if k.startswith(("chip.", "hardware.chip"))}
    return cluster_of(work.scenario.with_(mine) if mine else work.scenario).chip


def _budgeted(study: Study, chip: Sheet) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the row of a design so far, and what the power budget changes of it."""
    area, most, watts = chip.get("area.die", 0.0), study.get("budget.area"), study.get("budget.power")
    row: dict[str, Any] = {"area": area, **owning.made_of(chip)}
    if most is not None and not area:
        raise ScenarioError(
            f"design.budget.area needs a chip whose area is stated, and {chip.name} states no area.die; name a chip "
            "description (wattline catalog architectures), or take the budget out"
        )
    if most is not None and area > most * (1 + 1e-9):
        row["over"] = {"area": area - most}
    if watts is not None and chip["power.waiting"] >= watts:
        row["over"] = row.get("over", {}) | {"power": chip["power.waiting"] - watts}
    if watts is None or chip["power.limit"] <= watts:
        return row, {}
    inside = INSIDE if chip.parts is not None else ""
    keys = ["power.limit"] + (["power.limit_min"] if chip.get("power.limit_min", 0.0) > watts else [])
    return row, {f"chip.{inside}{key}": float(watts) for key in keys}


def _source(work: Work) -> Source | None:
    """Return a mapping search that keeps what other constants may make best; None for the scenario's own source."""
    if work.scenario["hardware.source"] != "dataflow":
        return None
    from ..source.dataflow import Dataflow, Space

    return Dataflow(space=Space(imperfect=False, step=2.0, wide=True))


def _figures(work: Work, row: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a work's row that are kept."""
    kind = "serving" if work.scenario.has("serve") else "training"
    skip = {*changes, "method"}
    numbers = {k: float(v) for k, v in row.items() if k not in skip and isinstance(v, int | float)}
    return {**numbers, "machine_time_s": _machine_time(kind, row["time_s"], row)}


def _machine_time(kind: str, seconds: float, figures: Mapping[str, Any]) -> float:
    """Return how long the machine is taken: by the run, or by one token among those served at once."""
    return 1.0 / figures["tokens_per_s"] if kind == "serving" else seconds


# ---- all designs ----------------------------------------------------------------------------------


def _weights(study: Study) -> Array:
    return np.array([work.weight for work in study.works])


def _costs(study: Study, base: Mapping[str, Any], row: Row) -> tuple[Array | None, float]:
    """Return energy, time, area (and cost or carbon) of a design, and 0; or None, and how far it misses the budgets."""
    if "over" in row:
        limits = {"area": study.get("budget.area"), "power": study.get("budget.power")}
        return None, sum(v / limits[k] for k, v in row["over"].items())
    if "error" in row:
        return None, 1.0
    weights, rows = _weights(study), [(row["works"][w.name], base[w.name]) for w in study.works]
    energy = mixed(weights, np.array([r["energy_j"] for r, _ in rows]), np.array([b.chosen.energy_j for _, b in rows]))
    before = [_machine_time(b.kind, b.chosen.time_s, b.chosen.figures) for _, b in rows]
    seconds = mixed(weights, np.array([r["machine_time_s"] for r, _ in rows]), np.array(before))
    least = study.get("least")
    own = [owning.ratios(study, base, row)[least]] if least in owning.GOALS else []
    return np.array([energy, seconds, row["area"], *own]), 0.0


def _designs(study: Study, base: Mapping[str, Any], known: Mapping[Choice, Row]) -> tuple[Designs, list[Choice]]:
    order, costs = [], []
    for choice in sorted(known):
        cost, _ = _costs(study, base, known[choice])
        if cost is not None:
            order.append(choice)
            costs.append(cost)
    table = np.array(costs).reshape(len(order), -1 if order else 3)
    rows = tuple(known[c]["works"] for c in order)
    choices = np.array(order, dtype=np.int64).reshape(-1, len(study.axes))
    owned = owning.table(study, base, [known[c] for c in order])
    return Designs(choices, table[:, 0], table[:, 1], table[:, 2], rows, owned, study.get("least")), order


def _frontier(designs: Designs) -> NDArray[np.intp]:
    """Return the designs that none beats, those of least energy first."""
    keep = undominated(np.round(designs.costs, 12))
    return keep[np.argsort(designs.energy[keep], kind="stable")]


def _refuse_none(study: Study, known: Mapping[Choice, Row], designs: Designs) -> None:
    """Where no design keeps the budgets, say which comes nearest and what it would need."""
    if len(designs):
        return
    over = {c: row["over"] for c, row in known.items() if "over" in row}
    if not over:
        _, first = next(iter(known.items()))
        raise GoalError(f"no design has an answer; the first: {first['error']}")
    limits = {"area": study.get("budget.area"), "power": study.get("budget.power")}
    near = min(over, key=lambda c: (sum(v / limits[k] for k, v in over[c].items()), c))
    needs = " and ".join(f"{show(limits[k] + v, _UNITS[k])} of {_WORDS[k]}" for k, v in over[near].items())
    said = " and ".join(f"{_WORDS[k]} {show(limits[k], _UNITS[k])}" for k in over[near])
    raise GoalError(
        f"no design of {len(known):,} keeps design.budget ({said}): the nearest needs {needs}, with "
        f"{_said(study, near) or 'nothing changed'}; allow more, or vary something that makes it smaller"
    )


_UNITS: Final = {"area": "m2", "power": "W"}
_WORDS: Final = {"area": "area", "power": "standing power"}


def _said(study: Study, choice: Choice) -> str:
    return ", ".join(f"{a.name} = {a.options[c].name}" for a, c in zip(study.axes, choice, strict=True) if c >= 0)


def _counted(study: Study, known: Mapping[Choice, Row]) -> dict[str, int]:
    rows = known.values()
    return {
        "possible": study.possible,
        "evaluated": len(known),
        "over the area budget": sum("area" in row.get("over", {}) for row in rows),
        "over the power budget": sum("power" in row.get("over", {}) for row in rows),
        "without an answer": sum("error" in row for row in rows),
    }


# ---- the chosen design ----------------------------------------------------------------------------


def _steps(
    study: Study, base: Mapping[str, Any], ask: Ask, choice: Choice, designs: Designs, chosen: int
) -> tuple[Step, ...]:
    """Return what each single change of the chosen design would do, and why it was not taken."""
    tried = [
        (axis, c, (*choice[:i], c, *choice[i + 1 :]))
        for i, axis in enumerate(study.axes)
        for c in _others(len(axis.options), choice[i])
    ]
    energy, seconds, area = designs.costs[chosen, :3]
    out = []
    for (axis, c, _), row in zip(tried, ask([t[2] for t in tried]), strict=True):
        cost, _ = _costs(study, base, row)
        name = axis.options[c].name
        if cost is None:
            out.append(Step(axis.name, name, None, None, None, _why_not(study, row)))
            continue
        here = owning.table(study, base, [row])
        owned = {k: float(v[0] / designs.owned[k][chosen] - 1) for k, v in here.items() if k in designs.owned}
        changed = Step(axis.name, name, cost[0] / energy - 1, cost[1] / seconds - 1, cost[2] - area, "", owned)
        slow = cost[1] > (1 + study.get("max_slowdown")) * (1 + 1e-9)
        out.append(replace(changed, verdict=_verdict(study, changed, slow)))
    return tuple(out)


def _others(count: int, mine: int) -> list[int]:
    if count <= _SHOWN or mine < 0:
        return [c for c in range(count) if c != mine]
    return [c for c in (mine - 1, mine + 1) if 0 <= c < count]


def _why_not(study: Study, row: Row) -> str:
    if "over" not in row:
        return str(row["error"])
    limits = {"area": study.get("budget.area"), "power": study.get("budget.power")}
    return " and ".join(
        f"over the {k} budget by {show(v, _UNITS[k])} ({100 * v / limits[k]:.3g} %)" for k, v in row["over"].items()
    )


def _verdict(study: Study, step: Step, slow: bool) -> str:
    assert step.energy is not None
    assert step.time is not None
    assert step.area is not None
    value = {
        "energy": step.energy,
        "time": step.time,
        "edp": (1 + step.energy) * (1 + step.time) - 1,
        "area": step.area,
        **step.owned,
    }[study.get("least")]
    if slow:
        return "too slow"
    if abs(value) < 1e-9:
        return "makes no difference"
    return f"more {study.get('least')}" if value > 0 else f"less {study.get('least')}, seen after the search"


def _planned(study: Study, work: Work, unchanged: Any, choice: Choice) -> WorkAnswer:
    changes = study.changes(choice)
    _, limit = _budgeted(study, _built(study, changes))
    changed = work.scenario.with_(applied(work, changes | limit))
    weight = work.weight / float(_weights(study).sum())
    return WorkAnswer(work.name, weight, unchanged, solve(changed, source=_source(work), simulated=False))


def _making(study: Study, chosen: Choice) -> dict[str, Made]:
    """Return what the unchanged and the chosen chip cost to make, where both descriptions say enough."""
    found = {"unchanged": _chip(study, _nothing(study)), "chosen": _chip(study, chosen)}
    rows = {name: owning.making(chip) for name, chip in found.items()}
    return {name: made for name, made in rows.items() if made is not None} if all(rows.values()) else {}


def _elasticity(works: Iterable[WorkAnswer]) -> dict[str, float]:
    """Return that of the mix's energy: every work's, by its share of the energy on the chosen design."""
    shares = {w.name: w.weight * w.energy for w in works}
    total = sum(shares.values())
    out: dict[str, float] = {}
    for w in works:
        for key, value in w.chosen.elasticity.items():
            out[key] = out.get(key, 0.0) + shares[w.name] / total * value
    return dict(sorted(out.items(), key=lambda item: -abs(item[1])))


def _site(study: Study, works: Sequence[WorkAnswer]) -> dict[str, tuple[float, float]]:
    """Return figures of a year of the site, today and with the chosen design."""
    energy = study.get("energy")
    if energy is None:
        return {}
    today = {w.name: energy * w.weight for w in works}
    then = {w.name: energy * w.weight * w.energy for w in works}
    out = {"energy_j": (sum(today.values()), sum(then.values()))}
    rates = {work.name: rates_of(work.scenario) for work in study.works}
    for name, rate in (("cost_usd", "price"), ("carbon_g", "carbon")):
        each = {n: getattr(r, rate) for n, r in rates.items()}
        if all(v is not None for v in each.values()):
            out[name] = (sum(each[n] * today[n] for n in today), sum(each[n] * then[n] for n in then))
    year = 365.25 * 86400.0
    return out | {"average_power_w": (out["energy_j"][0] / year, out["energy_j"][1] / year)}


def _title(study: Study) -> str:
    chip = cluster_of(study.works[0].scenario).chip
    return f"{study.name}: {chip.title} for {', '.join(w.name for w in study.works)}"


def _goal(study: Study) -> str:
    words = {"edp": "energy times time"}.get(study.get("least"), study.get("least"))
    said = f"least {words} of the mix at no more than {100 * study.get('max_slowdown'):.4g} % more machine time"
    limits = [
        f"{show(study.get(f'budget.{k}'), _UNITS[k])}"
        for k in ("area", "power")
        if study.get(f"budget.{k}") is not None
    ]
    return said + (f", within {' and '.join(limits)} a chip" if limits else "")


def _assumptions(study: Study, works: Sequence[WorkAnswer]) -> tuple[str, ...]:
    out = [
        "time is machine time: the duration of a run, or a replica's seconds per token",
        "weights are shares of the mix's energy on the unchanged chip",
        *owning.assumed(study),
    ]
    if study.get("budget.power") is not None:
        out.append("the power budget is kept by the chip's power limit: clocks fall until it holds")
    if study.possible > EXACT and any(w.chosen.kind == "training" for w in works):
        out.append("training is sketched by its steady state while searching; the chosen design is planned exactly")
    return tuple(dict.fromkeys([*out, *(f"{w.name}: {a}" for w in works for a in w.chosen.assumptions)]))
