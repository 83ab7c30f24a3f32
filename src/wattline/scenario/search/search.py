"""The search: every variant analysed, the best candidates simulated, what simulation teaches followed, one chosen."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Final

import numpy as np

from ...core.errors import CapacityError, GoalError, ScenarioError, WattlineError
from ...core.units import show
from ...serving import candidates as plan
from ...serving.candidates import Candidate, Part, Promise, Question, Role, Rows
from ...serving.fluid import Traffic
from ...serving.search_answer import SearchAnswer
from ...workload.memory import sequence_bytes
from .. import stated as scenarios
from ..stated import Scenario
from ..sweep import Progress, crew
from ..whatif import Changes, Row
from .confirm import confirm, link_between
from .space import Variant, key_of, placed, promise_of, same, traffic_of, variants
from .telling import Confirmed, answer, chips_of, configuration

Work = Callable[[Sequence[Changes]], list[Row]]

# Simulations after the first ten, by which corrected expectations are followed; and what a better one must save.
_ROUNDS, _AGAIN, _WORTH = 4, 4, 0.002
# Steps by which the baseline's replicas are moved until simulation agrees that they are the fewest.
_FEWEST: Final = 8


def analyse(scenario: Scenario, point: Changes) -> Row:
    """Return what one variant does in every role and slice asked for; an `error` where it cannot be."""
    scenario = same(scenario)
    try:
        variant = Variant(**point["variant"])
        cluster, replica = placed(scenario, variant)
        source, out, tops = scenarios.source_of(scenario), {}, {}
        for role, name, traffic in _roles(scenario):
            question = Question(
                scenario["serve.percentile"], role, scenario["serve.max_batch"], key_of(scenario, "replicas") or (),
                key_of(scenario, "batches") or (), scenario.get("serve.tpot"), key_of(scenario, "chips_limit"),
            )  # fmt: skip
            rows, top = plan.rows(replica, cluster, traffic, source, question)
            out[f"{role}/{name}"] = rows.to_dict()
            if (role, name) == ("both", "all"):
                tops = top.to_dict()
    except WattlineError as error:
        return {"error": str(error)}
    return {"rows": out, "top": tops}


def _roles(scenario: Scenario) -> list[tuple[Role, str, Traffic]]:
    traffic, pools = traffic_of(scenario), key_of(scenario, "pools")
    out: list[tuple[Role, str, Traffic]] = [("both", "all", traffic["all"])]  # the baseline is of one pool
    if "disaggregated" in pools:
        out += [("prefill", "all", traffic["all"]), ("decode", "all", traffic["all"])]
    return out + [("both", name, traffic[name]) for name in ("short", "long") if name in traffic]


# ---- the search ----------------------------------------------------------------------------------


def points(scenario: Scenario) -> int:
    """Return how many steps of progress a search tells."""
    return len(variants(scenario)) + int(key_of(scenario, "confirm")) + 1


def search(
    scenario: Scenario, *, engine: str = "local", jobs: int | None = None, progress: Progress | None = None
) -> SearchAnswer:
    """Return the configuration of least energy within the promise, confirmed by simulation.

    Raises
    ------
    GoalError : no configuration keeps the promise; the message says which bound fails and what comes nearest.
    """
    _check(scenario)
    with crew(scenario, _answered, engine=engine, jobs=jobs) as work:
        return _searched(scenario, lambda points: work(points, progress or (lambda _: None)))


def _answered(scenario: Scenario, points: Sequence[Changes]) -> list[Row]:
    """Answer points of either kind: a variant to be analysed, or the parts of a candidate to be confirmed."""
    return [(analyse if "variant" in point else confirm)(scenario, point) for point in points]


def _searched(scenario: Scenario, run: Work) -> SearchAnswer:
    every, traffic = variants(scenario), traffic_of(scenario)["all"]
    answers = run([{"variant": asdict(v)} for v in every])
    refused = {v.label: row["error"] for v, row in zip(every, answers, strict=True) if "error" in row}
    if len(refused) == len(every):
        label, why = next(iter(refused.items()))
        raise CapacityError(f"no variant can serve the trace; the first, {label}: {why}")
    found = {
        (i, *name.split("/")): Rows.read(rows)
        for i, row in enumerate(answers) if "rows" in row
        for name, rows in row["rows"].items()
    }  # fmt: skip
    limit = key_of(scenario, "chips_limit")
    unbeaten = [
        c for c in plan.candidates(found, _transfers(scenario, every, found, traffic))
        if ("one" in key_of(scenario, "pools") or len(c.parts) > 1) and (limit is None or chips_of(c, every) <= limit)
    ]  # fmt: skip
    if not unbeaten:
        raise CapacityError("no fleet of the pools asked for is left; allow more chips or more kinds of pools")
    confirmed = _confirmed(scenario, every, unbeaten, run)
    chosen = _chosen(scenario, every, confirmed)
    tops = {i: Rows.read(row["top"]) for i, row in enumerate(answers) if "top" in row}
    base = _baseline(scenario, every, tops, run)
    settings = sum(rows.searched for rows in found.values())
    return answer(scenario, every, unbeaten, confirmed, chosen, base, refused, settings)


def _check(scenario: Scenario) -> None:
    goal = scenarios.goal_of(scenario).kind
    if goal not in ("latency", "least_energy"):
        raise ScenarioError(
            f"goal.{goal} is not a goal of a search: it looks for the least energy per token within serve.ttft, "
            "serve.tpot and site.power_limit; leave [goal] out"
        )
    mine = ("replicas", "prefill_replicas", "policy", "clock", "prefill_clock", "draft_tokens", "route", "context")
    stated = [f"serve.{name}" for name in mine if f"serve.{name}" in scenario.values]
    if stated:
        raise ScenarioError(
            f"{stated[0]} is what a search finds or leaves alone; take it out, or use wattline simulate"
        )


def _transfers(
    scenario: Scenario, every: list[Variant], found: plan.Found, traffic: Traffic
) -> dict[tuple[int, int], float]:
    """Return seconds to move the cache of a mean prompt, for pools whose caches are alike."""
    out = {}
    first, second = ({i for i, role, _ in found if role == r} for r in ("prefill", "decode"))
    for i in first:
        replica = placed(scenario, every[i])[1]
        p = replica.parallel
        size = p.devices / p.data * sequence_bytes(replica.model, p, traffic.prompt_mean, replica.precision.kv)
        for j in second:
            if every[i].kv_precision == every[j].kv_precision:
                link = link_between(scenario, every[i], every[j])
                out[i, j] = link.latency + size / link.bandwidth
    return out


def _point(candidate: Candidate, every: list[Variant]) -> dict[str, Any]:
    return {"parts": [(asdict(every[p.variant]), asdict(p)) for p in candidate.parts]}


def _confirmed(scenario: Scenario, every: list[Variant], unbeaten: list[Candidate], run: Work) -> list[Confirmed]:
    """Simulate the best, then those that look better still in the light of it, until none does."""
    promise, most = promise_of(scenario), int(key_of(scenario, "confirm"))
    queue = _queue(unbeaten, promise)[:most]
    out: list[Confirmed] = []
    for _ in range(_ROUNDS):
        rows = run([_point(c, every) for c in queue])
        out += [Confirmed(c, row) for c, row in zip(queue, rows, strict=True)]
        done = {c.candidate.parts for c in out}
        corrected = {c: _corrected(c, out) for c in unbeaten if c.parts not in done}
        kept = [c.row["energy_j"] for c in out if c.row["kept"]]
        best = min(kept) * (1.0 - _WORTH) if kept else math.inf
        fit = [c for c, (e, t, p) in corrected.items() if promise.meets(t, p, e / c.duration) and e < best]
        if kept or fit:
            queue = sorted(fit, key=lambda c: corrected[c][0])[: min(_AGAIN, most)]
        else:
            over = {
                c: max(promise.broken(t, p, e / c.duration).values(), default=0.0) for c, (e, t, p) in corrected.items()
            }
            queue = sorted(over, key=lambda c: (over[c], c.energy))[: min(_AGAIN, most)]
        if not queue:
            break
    return sorted(out, key=lambda c: (not c.row["kept"], c.row["energy_j"]))


def _queue(unbeaten: list[Candidate], promise: Promise) -> list[Candidate]:
    """Return those that keep the promise, cheapest first, then those that miss it by the least."""

    def order(c: Candidate) -> tuple[float, float]:
        return max(promise.broken(c.ttft, c.tpot, c.power).values(), default=0.0), c.energy

    # Of candidates that differ in the batch alone, one: a batch that rarely fills moves latencies a little.
    seen: dict[tuple[Any, ...], Candidate] = {}
    for c in sorted(unbeaten, key=order):
        seen.setdefault(tuple((p.variant, p.role, p.slice, p.replicas, p.clock) for p in c.parts), c)
    return list(seen.values())


def _corrected(candidate: Candidate, seen: Sequence[Confirmed]) -> tuple[float, float, float]:
    """Return joules, TTFT and TPOT as expected from how simulation moved candidates of the same variants, or all."""
    mine = _signature(candidate)
    alike = [c for c in seen if _signature(c.candidate) == mine] or list(seen)
    near = sorted(alike, key=lambda c: abs(math.log(c.candidate.energy / candidate.energy)))[:3]

    def ratio(name: str, told: str) -> float:
        pairs = [(getattr(c.candidate, name), c.row[told]) for c in near]
        return float(np.exp(np.mean([math.log(b / a) for a, b in pairs if a > 0 and b > 0] or [0.0])))

    return (
        candidate.energy * ratio("energy", "energy_j"), candidate.ttft * ratio("ttft", "ttft"),
        candidate.tpot * ratio("tpot", "tpot"),
    )  # fmt: skip


def _signature(candidate: Candidate) -> tuple[tuple[int, str, str], ...]:
    return tuple((p.variant, p.role, p.slice) for p in candidate.parts)


def _chosen(scenario: Scenario, every: list[Variant], confirmed: list[Confirmed]) -> Confirmed:
    if confirmed[0].row["kept"]:
        return confirmed[0]
    promise = promise_of(scenario)
    broken = {
        i: promise.broken(c.row["ttft"], c.row["tpot"], c.row["power_w"]) for i, c in enumerate(confirmed)
    }  # fmt: skip
    nearest = min(broken, key=lambda i: max(broken[i].values(), default=1.0))
    c, over = confirmed[nearest], broken[nearest]
    units = {
        "ttft": ("serve.ttft", promise.ttft, c.row["ttft"], "s"),
        "tpot": ("serve.tpot", promise.tpot, c.row["tpot"], "s"),
        "power": ("site.power_limit", promise.power, c.row["power_w"], "W"),
    }
    missed = [
        f"{units[n][0]} = {show(units[n][1] or 0.0, units[n][3])} is missed by {100 * (factor - 1):.3g} % "
        f"({show(units[n][2], units[n][3])})"
        for n, factor in over.items()
    ]
    raise GoalError(
        f"no configuration keeps the promise at the {promise.percentile:g}th percentile; the nearest, "
        f"{configuration(scenario, every, c.candidate, None).label}, fails: {' and '.join(missed)}; allow more, or "
        "search more chips, layouts or precisions ([serve.search])"
    )


def _baseline(scenario: Scenario, every: list[Variant], tops: Mapping[int, Rows], run: Work) -> Confirmed:
    """Return maximum clocks and the fewest chips that keep the promise, on the first chip, as the model is stored.

    Where none there keeps it, any variant will do; the number of replicas is that of simulation.
    """
    promise = promise_of(scenario)
    first = scenario.get("hardware.chip") or every[0].chip
    stored = (scenario.get("serve.precision"), scenario.get("serve.kv_precision"))
    usual = [i for i in tops if every[i].chip == first and (every[i].precision, every[i].kv_precision) == stored]

    def made(i: int, k: int) -> Candidate:
        r = tops[i]
        part = Part(i, "both", int(r.replicas[k]), int(r.batch[k]), float(r.clock[k]))
        return Candidate((part,), *(float(getattr(r, n)[k]) for n in (*plan.FIGURES, "duration")))

    pool = [made(i, k) for i in usual or tops for k in range(len(tops[i].energy))]
    pool = [c for c in pool if math.isfinite(c.energy)]
    fit = [c for c in pool if promise.meets(c.ttft, c.tpot, 0.0)]
    if not fit:
        every_one = [made(i, k) for i in tops for k in range(len(tops[i].energy))]
        fit = [c for c in every_one if promise.meets(c.ttft, c.tpot, 0.0)] or _queue(pool or every_one, promise)[:1]
    start = min(fit, key=lambda c: (chips_of(c, every), c.energy))
    now = Confirmed(start, run([_point(start, every)])[0])
    step = -1 if now.row["kept"] else 1
    for _ in range(_FEWEST):
        part = now.candidate.parts[0]
        if part.replicas + step < 1:
            break
        moved = replace(now.candidate, parts=(replace(part, replicas=part.replicas + step),))
        then = Confirmed(moved, run([_point(moved, every)])[0])
        if step < 0 and not then.row["kept"]:
            break
        now = then
        if step > 0 and now.row["kept"]:
            break
    return now
