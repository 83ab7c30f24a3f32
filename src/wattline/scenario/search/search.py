"""The search: every variant analysed, the best candidates simulated, what simulation teaches followed, one chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Final

from ...core.errors import CapacityError, GoalError, ScenarioError, WattlineError
from ...core.units import show
from ...serving import candidates as plan
from ...serving.candidates import Candidate, Part, Promise, Question, Role, Rows
from ...serving.fluid import Traffic
from ...serving.search_answer import SearchAnswer
from ...serving.simulate.choose import TRUST
from ...workload.memory import sequence_bytes
from .. import stated as scenarios
from ..stated import Scenario
from ..sweep import Progress, crew
from ..whatif import Changes, Row
from .confirm import confirm, link_between
from .space import Variant, key_of, placed, promise_of, same, traffic_of, variants
from .sure import Work, explored, point_of
from .telling import Confirmed, answer, chips_of, configuration

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
    ways = [
        c for c in plan.candidates(found, _transfers(scenario, every, found, traffic))
        if ("one" in key_of(scenario, "pools") or len(c.parts) > 1) and (limit is None or chips_of(c, every) <= limit)
    ]  # fmt: skip
    if not ways:
        raise CapacityError("no fleet of the pools asked for is left; allow more chips or more kinds of pools")
    confirmed = explored(scenario, every, ways, run)
    chosen = _chosen(scenario, every, confirmed)
    tops = {i: Rows.read(row["top"]) for i, row in enumerate(answers) if "top" in row}
    base = _baseline(scenario, every, tops, run)
    settings = sum(rows.searched for rows in found.values())
    return answer(scenario, every, plan.pruned(ways), confirmed, chosen, base, refused, settings)


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


def _chosen(scenario: Scenario, every: list[Variant], confirmed: list[Confirmed]) -> Confirmed:
    kept = [c for c in confirmed if c.row["kept"]]
    if kept:  # cheapest first
        sure = [c for c in kept if c.row.get("probability", 0.0) >= TRUST]
        return sure[0] if sure else max(kept, key=lambda c: c.row.get("probability", 0.0))
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


def _queue(some: list[Candidate], promise: Promise) -> list[Candidate]:
    """Return those that keep the promise, cheapest first, then those that miss it by the least."""

    def order(c: Candidate) -> tuple[float, float]:
        return max(promise.broken(c.ttft, c.tpot, c.power).values(), default=0.0), c.energy

    return sorted(some, key=order)


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
        energy, ttft, tpot, latency, duration = (float(getattr(r, n)[k]) for n in (*plan.FIGURES, "duration"))
        return Candidate((part,), energy, ttft, tpot, latency, duration)

    pool = [made(i, k) for i in usual or tops for k in range(len(tops[i].energy))]
    pool = [c for c in pool if math.isfinite(c.energy)]
    fit = [c for c in pool if promise.meets(c.ttft, c.tpot, 0.0)]
    if not fit:
        every_one = [made(i, k) for i in tops for k in range(len(tops[i].energy))]
        fit = [c for c in every_one if promise.meets(c.ttft, c.tpot, 0.0)] or _queue(pool or every_one, promise)[:1]
    start = min(fit, key=lambda c: (chips_of(c, every), c.energy))
    now = Confirmed(start, run([point_of(start, every)])[0])
    step = -1 if now.row["kept"] else 1
    for _ in range(_FEWEST):
        part = now.candidate.parts[0]
        if part.replicas + step < 1:
            break
        moved = replace(now.candidate, parts=(replace(part, replicas=part.replicas + step),))
        then = Confirmed(moved, run([point_of(moved, every)])[0])
        if step < 0 and not then.row["kept"]:
            break
        now = then
        if step > 0 and now.row["kept"]:
            break
    return now
