"""What a search found, put into the answer that is shown."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ...core.units import show
from ...serving import candidates as plan
from ...serving.candidates import Candidate
from ...serving.fluid import Traffic
from ...serving.search_answer import LATENCIES, Configuration, Figures, SearchAnswer
from .. import stated as scenarios
from ..launch import searched as launched
from ..launch import typed
from ..stated import Scenario
from ..whatif import Row
from .confirm import table_for
from .space import DEFAULTS, Variant, key_of, promise_of, slices, split, traffic_of


@dataclass(frozen=True)
class Confirmed:
    """A candidate and what simulation says of it."""

    candidate: Candidate
    row: Row


def chips_of(candidate: Candidate, every: list[Variant]) -> int:
    return sum(p.replicas * every[p.variant].devices for p in candidate.parts)


def configuration(
    scenario: Scenario, every: list[Variant], candidate: Candidate, row: Row | None
) -> Configuration:  # fmt: skip
    expected, tokens = traffic_of(scenario)["all"].tokens, 1.0 if row is None else row["tokens"]
    pools = tuple(
        {
            "role": p.role, "requests": p.slice, **asdict(every[p.variant]), "replicas": p.replicas,
            "max_batch": p.batch, "clock_hz": p.clock, "prefill_clock_hz": p.prefill_clock or p.clock,
            "max_step_tokens": p.chunk or int(scenario["serve.chunk"]), "chunk": p.chunk, "parked": p.parked,
        }
        for p in candidate.parts
    )  # fmt: skip
    c = candidate
    analytic = Figures(c.energy / expected, c.ttft, c.tpot, c.latency, c.power)
    if row is None:
        return Configuration(pools, chips_of(c, every), analytic)
    simulated = Figures(row["energy_j"] / tokens, row["ttft"], row["tpot"], row["latency"], row["power_w"])
    return Configuration(
        pools, chips_of(c, every), analytic, simulated, row["kept"] if _promised(scenario) else None,
        {n: j / tokens for n, j in row["breakdown_j"].items()}, {n: j / tokens for n, j in row["phases_j"].items()},
        moved=c.moved, probability=row.get("probability"),
    )  # fmt: skip


def _promised(scenario: Scenario) -> bool:
    """Return whether there is anything that may be kept or missed."""
    promise = promise_of(scenario)
    return any(limit is not None for limit in (promise.ttft, promise.tpot, promise.power))


def answer(
    scenario: Scenario, every: list[Variant], unbeaten: list[Candidate], confirmed: list[Confirmed],
    chosen: Confirmed, base: Confirmed, refused: Mapping[str, str], settings: int,
) -> SearchAnswer:  # fmt: skip
    traffic, promise = traffic_of(scenario)["all"], promise_of(scenario)
    told = functools.partial(configuration, scenario, every)
    variant = every[chosen.candidate.parts[0].variant]
    table = table_for(scenario, variant)
    limits = [f"{n} {show(v, 's')}" for n, v in (("TTFT", promise.ttft), ("TPOT", promise.tpot)) if v is not None]
    within = f" within {' and '.join(limits)} at the {promise.percentile:g}th percentile" if limits else ""
    power = f", within site.power_limit = {show(promise.power, 'W')}" if promise.power else ""
    return SearchAnswer(
        title=f"{scenarios.model_of(scenario).name} for {traffic.requests:,} requests",
        goal=f"least energy per token{within}{power}",
        percentile=promise.percentile,
        frontier={
            name: [told(c, None) for _, c in plan.frontier(unbeaten, name, promise, traffic.tokens)]
            for name in LATENCIES
        },
        chosen=told(chosen.candidate, chosen.row),
        baseline=told(base.candidate, base.row),
        confirmed=[told(c.candidate, c.row) for c in confirmed],
        settings=settings,
        variants=len(every),
        candidates=len(unbeaten),
        refused=refused,
        requests={
            "count": traffic.requests, "duration_s": traffic.span, "rate_per_s": traffic.rate,
            "prompt_tokens": traffic.prompt_mean, "output_tokens": traffic.output_mean,
        },
        tokens=traffic.tokens,
        rates=scenarios.rates_of(scenario),
        facts=_facts(scenario, traffic, settings, every),
        assumptions=_assumptions(scenario),
        provenance=table.provenance,
        source=table.source,
        uncertainty=table.uncertainty,
        time_uncertainty=table.time_uncertainty,
        apply=typed(scenario, launched(scenario, told(chosen.candidate, chosen.row).pools)),
    )  # fmt: skip


def _facts(scenario: Scenario, traffic: Traffic, settings: int, every: list[Variant]) -> dict[str, str]:
    return {
        "model": scenarios.model_of(scenario).name,
        "requests": f"{traffic.requests:,} in {show(traffic.span, 's')}, {traffic.prompt_mean:,.0f} tokens in and "
        f"{traffic.output_mean:,.0f} out on average",
        "searched": f"{settings:,} settings of pools of {len(every)} variants",
    }


def _assumptions(scenario: Scenario) -> tuple[str, ...]:
    notes = [
        "hosts, adapters and switches are charged by the share of their node's chips; other chips are somebody else's",
        "every replica is awake from the first arrival to the last token; requests go to the least loaded replica",
        "frontiers are analytic; the chosen configuration, the baseline and the confirmed ones are simulated",
    ]
    if "by-length" in key_of(scenario, "pools") and "short" in slices(scenario):
        cut = split(scenario, slices(scenario)["all"])
        notes.append(f"pools by length: prompts of up to {cut:,} tokens count as short")
    notes += slices(scenario)["all"].notes
    stated = {name: value for name, value in DEFAULTS.items() if scenario.get(f"serve.search.{name}") is None}
    notes += [f"serve.search.{name} = {_words(value)} (default)" for name, value in stated.items()]
    return tuple(notes)


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
