"""A [serve] scenario planned by simulation: settings chosen on few requests, confirmed on many fresh ones.

    mean step (serving/steady.py) --where to start--> search --> confirmed --> Answer
                                                       every setting is played against the scenario's own requests

What is printed was played: `wattline simulate` with the printed clock, cap and chunk gives the same figures for the
same seed. Elasticities and the time a sweep takes rest on the mean step.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any, Final

import numpy as np

from ..core.errors import GoalError
from ..core.units import show
from ..frontier.answer import Answer, Goal, Outcome
from ..frontier.pruning import prune
from ..hardware import chip as chips
from ..hardware.cluster import Cluster
from ..serving.simulate.choose import (
    TRUST,
    Choice,
    Setting,
    Trial,
    Wanted,
    capped,
    confirm,
    fair_count,
    lowest,
    measured,
    search,
)
from ..serving.simulate.outcome import Limits, Run
from ..serving.simulate.play import simulate
from ..serving.simulate.policies import FixedClock
from ..serving.simulate.pool import Fleet
from ..serving.steady import ServingJob, elasticities
from ..source.base import Source
from ..source.overhead import Overhead
from ..workload.traffic import Requests
from . import launch
from . import simulate_serving as simulation
from . import stated as scenarios
from .stated import Scenario

# Tokens of a step that are tried where none are stated: engines' defaults lie among them.
CHUNKS: Final = (1024, 2048, 4096, 8192)
# Runs of the search and of the confirmation, engine steps of a run, and the fewest and most requests of one.
SEARCHED: Final = (3, 16_000, 300, 1000)
CONFIRMED: Final = (8, 80_000, 1000, 4000)
# Runs that the baseline is told from.
_BASELINE: Final = 4
# Seeds of made-up requests start far from those that users count up from; the second set is never searched on.
_FIRST, _FRESH, _APART = 104_729, 1_299_709, 7919
# Share of the requests seen running at most, as caps beside an open one: below them queues would form all the time.
_CAPS: Final = (0.5, 0.6, 0.7, 0.8, 0.9)
# So many times over the promise in the search, no clock will keep it.
_HOPELESS: Final = 1.3
# Where nothing is promised, the most that a first token may wait, times what it waits at maximum clocks.
_WAITS: Final = 10.0
# A rate that keeps the promise is looked for down to this share of the stated one, in so many halvings (to 6 %).
_LEAST, _HALVINGS = 0.02, 6
# Caps of a closed loop go up by this.
_FINER: Final = 1.08
_ALONG: Final = (1.0, 0.8, 0.65, 0.5)
# Replicas that are played where requests come by themselves; in a closed loop one is like another.
_PLAYED: Final = 8
# Clocks of the frontier that are played where the search did not.
_POINTS: Final = 8


def plan(scenario: Scenario, job: ServingJob, cluster: Cluster, source: Source, start: Answer | None) -> Answer:
    """Return the plan of a serving scenario; `start` is that of its mean step, None where that found none.

    Raises
    ------
    GoalError : no setting keeps the promise or the goal; it names the nearest in reach.
    """
    return _Plan(scenario, job, cluster, source, start).answer()


def too_much(scenario: Scenario, job: ServingJob, cluster: Cluster, source: Source) -> GoalError:
    """Return what to say of a rate that nothing carries: the highest rate that keeps the promise, simulated."""
    return _Plan(scenario, job, cluster, source, None).too_much()


@dataclass(frozen=True, eq=False)
class _Plan:
    scenario: Scenario
    job: ServingJob
    cluster: Cluster
    source: Source
    start: Answer | None

    # ---- what is played
    @cached_property
    def whole(self) -> Fleet:
        """The scenario's fleet, with its steps tabulated."""
        return simulation.fleet_of(self.scenario, self.cluster, self.source)

    @cached_property
    def fleet(self) -> Fleet:
        """What is played: of many replicas a few, with their share of the requests."""
        paged = self.scenario.get("serve.requests") is not None and simulation.requests_of(self.scenario).page > 0
        return self.whole if paged else simulation.few(self.whole, 1 if self.is_closed else _PLAYED)

    @cached_property
    def share(self) -> float:
        """Replicas played over all."""
        return self.replicas / sum(pool.replicas for pool in self.whole.pools)

    @cached_property
    def limits(self) -> Limits:
        return simulation.limits_of(self.scenario)

    @property
    def promised(self) -> bool:
        """Whether there is a latency promise."""
        return self.limits.ttft is not None or self.limits.tpot is not None

    @property
    def is_closed(self) -> bool:
        return self.job.rate is None

    @cached_property
    def replicas(self) -> int:
        return sum(pool.replicas for pool in self.fleet.pools)

    @property
    def _all(self) -> int:
        return sum(pool.replicas for pool in self.whole.pools)

    @cached_property
    def clients(self) -> int | None:
        """Requests that a replica always has, where stated."""
        return simulation.clients_of(self.scenario, self.whole)

    def requests(self, seed: int, count: int) -> Requests:
        """Return fresh requests of the scenario."""
        rate = (self.scenario.get("serve.rate") or 1.0) * self.share
        return simulation.fitting(self.scenario, simulation.made_up(self.scenario, rate, count, seed), self.fleet)

    def samples(self, first: int, how: tuple[int, int, int, int], running: float) -> list[Requests]:
        """Return the requests of some runs: made up, or of the trace, which the search sees pieces of."""
        runs, steps, least, most = how
        load = self.job.load
        count = fair_count(load.output, running * self.replicas, steps, least, most)
        if self.is_closed:
            count = max(count, 6 * int(running) * self.replicas)
        if self.scenario.get("serve.requests") is None:
            stated = self.scenario.get("serve.count") if how is CONFIRMED else None
            return [self.requests(first + _APART * k, stated or count) for k in range(runs)]
        whole = simulation.requests_of(self.scenario)
        if self.share < 1.0:
            whole = whole.every(round(1.0 / self.share))
        if how is CONFIRMED or len(whole) <= runs * count:
            return [whole]
        middles = [len(whole) * (2 * k + 1) // (2 * runs) for k in range(runs)]
        return [whole.between(float(whole.arrival[m - count // 2])).head(count) for m in middles]

    def one(self, setting: Setting, requests: Requests) -> Run:
        """Play one run."""
        fleet, policy = simulation.capped(self.fleet, setting.cap, setting.chunk), FixedClock(setting.clock)
        if self.is_closed:
            return simulation.play_closed(requests, fleet, policy, self.limits, setting.cap)
        return simulate(requests, fleet, policy, limits=self.limits, seed=0)

    def player(self, samples: Sequence[Requests]) -> Callable[[Setting], Trial]:
        """Return what plays a setting on these requests, runs beside one another."""

        def play(setting: Setting) -> Trial:
            with ThreadPoolExecutor(max(1, min(len(samples), os.cpu_count() or 1))) as crew:
                runs = list(crew.map(lambda some: self.one(setting, some), samples))
            edge = setting.cap * self.replicas if self.is_closed else 0
            return measured(setting, runs, self.limits, self.replicas, edge)

        return cache(play)

    # ---- what is wanted
    @cached_property
    def over(self) -> Overhead:
        return Overhead.of(self.cluster)

    def energy(self, trial: Trial) -> float:
        """Facility joules per output token."""
        return float(self.over.total(trial.chip_j, trial.seconds))

    def power(self, trial: Trial) -> float:
        """Facility watts."""
        return self.energy(trial) * trial.tokens_per_s / self.share

    def wanted(self, goal: Goal, base: Trial) -> Wanted:
        """Return the goal as what orders trials."""
        most = [(self.power, limit) for limit in [self.scenario.get("site.power_limit")] if limit is not None]
        if goal.kind == "max_slowdown":
            most.append((_tpot, (1.0 + goal.value) * _tpot(base)))
        elif goal.kind == "power":
            most.append((self.power, goal.value))
        if not (self.promised or self.is_closed):  # a queue that only grows would be cheapest of all
            most.append((_ttft, _WAITS * _ttft(base)))
        return Wanted(
            self.limits,
            _tpot if goal.kind == "power" else self.energy,
            lambda trial: max((value(trial) / limit for value, limit in most), default=0.0) - 1e-9,
        )

    # ---- the choice
    def choice(self, open_cap: int, peak: int) -> Choice:
        """Return the settings that may be chosen."""
        stated = simulation.clock_of(self.scenario, "serve.clock", self.cluster)
        clocks = chips.clocks(self.cluster.chip) if stated is None else np.array([stated])
        chunk = self.scenario.values.get("serve.chunk")
        verified = max(pool.table.verified for pool in self.fleet.pools)
        chunks = (chunk,) if chunk is not None else tuple(c for c in CHUNKS if c >= open_cap * verified) or CHUNKS[-1:]
        if self.clients is not None:
            caps: Sequence[int] = (self.clients,)
        elif self.is_closed:
            caps = sorted(
                {round(_FINER**k) for k in range(1 + math.ceil(math.log(open_cap, _FINER)))} - {0} | {open_cap}
            )
            caps = [cap for cap in caps if cap <= open_cap]
        else:
            caps = sorted({max(1, round(share * peak)) for share in _CAPS if share * peak < open_cap} | {open_cap})
        return Choice(clocks, caps, chunks)

    def answer(self) -> Answer:
        """Search, confirm, and tell."""
        scenario, goal = self.scenario, scenarios.goal_of(self.scenario)
        known = None if self.start is None else self.start.chosen
        # The same requests whatever the promise is: as many run at once as at the highest clock.
        running = 32.0 if self.start is None else self.start.baseline.figures["batch"]
        limit = self.job.max_batch if self.clients is None else self.clients
        if self.is_closed and self.clients is None:
            limit = max(1, min(limit, self._fits()))
        top = (
            float(chips.clocks(self.cluster.chip)[-1])
            if scenario.get("serve.clock") is None
            else scenario["serve.clock"]
        )
        default = Setting(top, limit, int(scenario["serve.chunk"]))
        if self.is_closed and self.clients is None:
            default = replace(default, cap=max(1, round(running)))
        play = self.player(self.samples(_FIRST, SEARCHED, running))
        base = play(default)
        choice, wanted = self.choice(limit, base.peak), self.wanted(goal, base)
        starts = [default]
        if known is not None:
            starts.append(replace(default, clock=float(known.knobs[0]["clock_hz"])))
        if self._trades(choice) and self.promised:  # a valley between fewer requests and slower clocks: begin along it
            starts += [
                Setting(c * top, max(1, round(b * default.cap)), default.chunk) for c in (0.9, 0.75) for b in _ALONG
            ]
        best, seen = self._searched(goal, choice, starts, play, wanted)
        if self.is_closed and self.clients is None:  # at maximum clocks, as many requests as keep the promise
            default = min((t for t in seen.values() if t.setting.clock == top), key=wanted.rank).setting
        if wanted.rank(best, room=0.0)[0] > _HOPELESS:
            self._check(best, seen, wanted, default)
        unseen = self.samples(_FRESH, CONFIRMED, best.running if self._trades(choice) else base.running)
        fresh, final_base = self.player(unseen), self.player(unseen[:_BASELINE])(default)
        wanted = self.wanted(goal, final_base)
        final = confirm(choice, best, fresh, wanted)
        if not (self.promised or self.is_closed):
            final = self._steadied(choice, final, fresh, wanted)
        if self.energy(final) >= self.energy(final_base):
            plain = fresh(default)
            against = self.wanted(goal, plain)
            if self._merit(plain, against) <= self._merit(final, against):
                final, final_base, wanted = plain, plain, against
        self._check(final, seen, wanted, default)
        shown = [t for t in self._frontier(choice, final, seen, play) if t.setting != final.setting]
        return self._told(goal, final, final_base, shown)

    def _trades(self, choice: Choice) -> bool:
        """Whether requests at once are traded against the clock: in a closed loop of no stated size."""
        return len(choice.caps) > len(_CAPS) + 1

    def _searched(
        self, goal: Goal, choice: Choice, starts: Sequence[Setting], play: Callable[[Setting], Trial], wanted: Wanted
    ) -> tuple[Trial, dict[Setting, Trial]]:
        """Return the best trial and all trials: by halving the clock where a promise alone binds, else by pattern."""
        capped = goal.kind == "power" or self.scenario.get("site.power_limit") is not None
        if self._trades(choice) or not self.promised or capped:
            return search(choice, starts, play, wanted)
        found, seen = lowest(choice, play, wanted)
        if found is not None:
            return found, seen
        best, more = search(choice, starts, play, wanted)
        return best, seen | more

    def _steadied(self, choice: Choice, found: Trial, play: Callable[[Setting], Trial], wanted: Wanted) -> Trial:
        """Return the setting with its clock raised until its queue ends on these longer runs, too."""
        step, top = 1, len(choice.clocks) - 1
        place = int(np.argmin(np.abs(choice.clocks - found.setting.clock)))
        while wanted.allowed(found) > 1.0 and place < top:
            place, step = min(place + step, top), 2 * step
            found = play(replace(found.setting, clock=float(choice.clocks[place])))
        return found

    def _merit(self, trial: Trial, wanted: Wanted) -> tuple[bool, float, float]:
        """Return what orders confirmed trials: within the goal's conditions, then surer, then cheaper."""
        return wanted.allowed(trial) > 1.0, -min(trial.odds(self.limits), TRUST), wanted.score(trial)

    def _fits(self) -> int:
        """Return the most requests of usual length that the cache of a replica holds."""
        load = self.job.load
        return min(
            int((blocks - held) * size // (load.entering + load.output + held * size)) if size < 1 << 40 else blocks
            for blocks, held, size in (pool.cache(load.seen) for pool in self.fleet.pools)
        )

    def _check(self, final: Trial, seen: Mapping[Setting, Trial], wanted: Wanted, default: Setting) -> None:
        if wanted.rank(final, room=0.0)[0] <= 1.0:
            return
        trials = [final, *seen.values()]
        least = min(self.power(t) for t in trials)
        most = self._most_power(goal := scenarios.goal_of(self.scenario))
        if least > most:
            raise GoalError(f"{self._goal_text(goal)} cannot be met; the least power is {show(least, 'W')}")
        bound = []
        for name, limit in (("ttft", self.limits.ttft), ("tpot", self.limits.tpot)):
            if limit is not None and float(np.mean(getattr(final, name))) > limit:
                best = min(float(np.mean(getattr(t, name))) for t in trials)
                bound.append(
                    f"serve.{name} = {show(limit, 's')} cannot be met: the best is {show(best, 's')}"
                    if best > limit
                    else f"serve.{name} = {show(limit, 's')} cannot be met with the other limits; "
                    f"with them it is {show(float(np.mean(getattr(final, name))), 's')}"
                )
        if bound:
            where = f" at the {self.limits.percentile:g}th percentile, simulated"
            rate = self._carried((default, final.setting), wanted.allowed)
            raise GoalError("; ".join(bound) + where + f"; allow more, {_slower(rate)}, or add chips (serve.tensor)")
        raise GoalError(f"{self._goal_text(goal)} cannot be met; the least power is {show(least, 'W')}")

    def _most_power(self, goal: Goal) -> float:
        """Return the most facility watts that the goal and the site allow."""
        site = self.scenario.get("site.power_limit")
        return min(math.inf if site is None else site, goal.value if goal.kind == "power" else math.inf)

    def too_much(self) -> GoalError:
        """Return the refusal of a rate that no setting carries, with the highest rate that keeps the promise."""
        top = float(chips.clocks(self.cluster.chip)[-1])
        setting = Setting(top, self.job.max_batch, int(self.scenario["serve.chunk"]))
        stated = self.scenario.get("serve.rate") or (self.job.rate or 0.0) * self._all
        said = f"serve.rate = {stated:.4g} req/s is more than {self._all} replica{'s' * (self._all > 1)} can carry"
        rate = self._carried((setting,), lambda _: 0.0)
        if rate is None:
            slow = [replace(some, arrival=some.arrival / _LEAST) for some in self.samples(_FIRST, SEARCHED, 8.0)]
            trial = self.player(slow)(setting)
            found = f"TTFT {show(float(np.mean(trial.ttft)), 's')} and TPOT {show(float(np.mean(trial.tpot)), 's')}"
            return GoalError(
                f"{said}, and at {100 * _LEAST:.0f} % of it the promise is missed too, with {found} at the "
                f"{self.limits.percentile:g}th percentile; allow more, or add chips (serve.tensor)",
                beyond=True,
            )
        need = math.ceil(self._all * stated / rate)
        return GoalError(f"{said}; {_slower(rate)}, or set serve.replicas = {need}", beyond=True)

    def _carried(self, settings: Sequence[Setting], allowed: Callable[[Trial], float]) -> float | None:
        """Return about the highest rate (requests/s) at which one of these keeps promise and goal, if any does."""
        rate = self.scenario.get("serve.rate")
        if self.is_closed or rate is None:
            return None
        samples = self.samples(_FIRST, SEARCHED, 8.0)

        def kept(share: float) -> bool:
            play = self.player([replace(some, arrival=some.arrival / share) for some in samples])
            trials = (play(setting) for setting in dict.fromkeys(settings))
            return any(
                t.ratio(self.limits).max() <= 1.0 and t.few(self.limits) and allowed(t) <= 1.0 and self._flows(t, share)
                for t in trials
            )

        low, high = _LEAST, 1.0
        if not kept(low):
            return None
        for _ in range(_HALVINGS):
            middle = math.sqrt(low * high)
            low, high = (middle, high) if kept(middle) else (low, middle)
        return float(low * rate)

    def _flows(self, trial: Trial, share: float) -> bool:
        """Whether requests leave about as fast as they come, where no promise says how long they may take."""
        return self.promised or trial.rate >= 0.9 * share * (self.job.rate or 0.0) * self.replicas

    def _frontier(
        self, choice: Choice, final: Trial, seen: Mapping[Setting, Trial], play: Callable[[Setting], Trial]
    ) -> list[Trial]:
        """Return trials of the chosen cap and chunk at clocks over the whole range, those that carry the load."""
        mine = {s.clock: t for s, t in seen.items() if s.chunk == final.setting.chunk}
        wide = choice.clocks[np.linspace(0, len(choice.clocks) - 1, _POINTS).round().astype(int)]
        slowest = min((c for c in mine), default=float(choice.clocks[0]))
        for clock in wide:
            setting = replace(final.setting, clock=float(clock))
            if setting.clock not in mine and setting.clock >= slowest:
                mine[setting.clock] = play(setting)
        rate = self.job.rate
        return [t for t in mine.values() if rate is None or t.rate >= 0.9 * rate * self.replicas]

    # ---- telling
    def _goal_text(self, goal: Goal) -> str:
        limits = [
            f"{n} {show(v, 's')}" for n, v in (("TTFT", self.limits.ttft), ("TPOT", self.limits.tpot)) if v is not None
        ]
        within = f" within {' and '.join(limits)} at the {self.limits.percentile:g}th percentile" if limits else ""
        most = self.scenario.get("site.power_limit")
        power = f", within site.power_limit = {show(most, 'W')}" if most is not None else ""
        words = {
            "max_slowdown": f"least energy per token at no more than {100 * goal.value:.3g} % slower tokens",
            "power": f"fastest tokens within {show(goal.value, 'W')}",
        }
        return words.get(goal.kind, "least energy per token") + within + power

    def outcome(self, trial: Trial, setting: Setting) -> Outcome:
        """Return one confirmed trial as the outcome of a plan."""
        parts = {name.removeprefix("chip."): joules for name, joules in trial.breakdown.items()}
        parts["waiting"] = parts.get("waiting", 0.0) + parts.pop("idle", 0.0)
        whole = self.over.breakdown(parts, trial.seconds)
        energy = self.energy(trial)
        mean = float(np.mean(trial.tpot))
        figures: dict[str, float] = {
            "tpot_s": mean, "ttft_s": float(np.mean(trial.ttft)), "latency_s": float(np.mean(trial.latency)),
            "batch": trial.running, "tokens_per_s": trial.tokens_per_s / self.share,
            "requests_per_s": trial.rate / self.share,
            "energy_per_token_j": energy, "energy_per_request_j": energy * trial.tokens_per_s / trial.rate,
            "chip_energy_per_token_j": trial.chip_j,
            "chip_power_w": trial.chip_j / trial.seconds / self.cluster.devices,
        }  # fmt: skip
        if self.promised:
            figures |= {
                "promise_probability": trial.odds(self.limits),
                "goodput_requests_per_s": trial.goodput / self.share,
            }
            for name, limit in (("ttft", self.limits.ttft), ("tpot", self.limits.tpot)):
                if limit is not None:
                    figures[f"{name}_margin"] = 1.0 - float(np.mean(getattr(trial, name))) / limit
        rates = scenarios.rates_of(self.scenario)
        figures |= rates.per_million(energy, trial.seconds * self.cluster.devices)
        knobs = ({
            "scope": "replica", "clock_hz": setting.clock, "max_batch": setting.cap, "max_step_tokens": setting.chunk,
        },)  # fmt: skip
        return Outcome(mean, energy, self.power(trial), whole, knobs, figures)

    def _told(self, goal: Goal, final: Trial, base: Trial, others: Sequence[Trial]) -> Answer:
        limit = self.job.max_batch
        printed = capped(final, limit) if not self.is_closed else final.setting
        chosen, baseline = self.outcome(final, printed), self.outcome(base, base.setting)
        points = [(float(np.mean(t.tpot)), self.energy(t), t) for t in others]
        points = [p for p in points if not (p[0] <= chosen.time_s and p[1] <= chosen.energy_j)]
        points = [p for p in points if not (p[0] >= baseline.time_s and p[1] >= baseline.energy_j)]
        points.append((chosen.time_s, chosen.energy_j, final))
        time, energy = np.array([p[0] for p in points]), np.array([p[1] for p in points])
        keep = prune(time, energy)
        trials = [points[i][2] for i in keep]
        table = self.fleet.pools[-1].table
        elastic = elasticities(
            self.job, self.cluster, self.source, final.setting.clock, final.running, _price(chosen, points, self.limits)
        )
        return Answer(
            kind="serving",
            title=scenarios.title_of(scenarios.model_of(self.scenario), self.cluster, self._all),
            work="one output token",
            time_s=time[keep],
            energy_j=energy[keep],
            power_w=np.array([self.power(t) for t in trials]),
            chosen=chosen,
            baseline=baseline,
            goal=self._goal_text(goal),
            elasticity=elastic,
            provenance=table.provenance,
            sources=(table.source,) if table.source else (),
            uncertainty=self.over.uncertainty(table.uncertainty, final.chip_j, final.seconds),
            time_uncertainty=table.time_uncertainty,
            assumptions=self._assumptions(),
            facts=self._facts(final, printed.cap),
            apply=launch.typed(self.scenario, launch.pools(self.scenario, chosen)),
            timeline=tuple(
                {"tpot_s": float(np.mean(t.tpot)), "clock_hz": t.setting.clock, "batch": t.running} for t in trials
            ),
        )

    def _facts(self, final: Trial, cap: int) -> dict[str, str]:
        p, load = self.job.replica.parallel, self.job.load
        scenario = self.scenario
        if not self.is_closed:
            asked = f"{(self.job.rate or 0.0) * self._all:,.4g} requests a second"
        elif self.clients is not None:
            asked = f"{scenario['serve.concurrency']} clients"
        else:
            asked = "as many as the replica can carry"
        out = {
            "model": self.job.replica.model.name,
            "chips": f"{self._all * self.cluster.devices} x {self.cluster.chip.title}",
            "node": self.cluster.node.title,
            "parallelism": f"tensor {p.tensor}, data {p.data}, expert {p.expert}",
            "requests": f"{load.prompt:,.0f} tokens in, {load.output:,.0f} out on average, {asked}",
            "most requests at once": f"{final.peak} seen on a replica; {cap} allowed",
        }
        if not self.promised:
            return out
        kept = int(np.sum(final.ratio(self.limits) <= 1.0 + 1e-12))
        runs = len(final.ttft)
        sure = final.odds(self.limits)
        each = final.requests // runs
        odds = f"with a probability {f'above {100 * TRUST:.0f} %' if sure >= TRUST else f'of {100 * sure:.1f} %'}"
        if runs == 1:
            met = "kept" if kept else "missed"
            out["promise"] = f"{met} on the trace of {each:,} requests; a similar one keeps it {odds}"
        else:
            seen = f"kept in {kept} of {runs} runs of {each:,} requests that the search never saw"
            out["promise"] = f"{seen}; a further run keeps it {odds}"
        return out

    def _assumptions(self) -> tuple[str, ...]:
        told = list(scenarios.assumptions_of(self.scenario, self.cluster))
        if self.scenario.values.get("serve.chunk") is None:
            told = [text for text in told if not text.startswith("serve.chunk")]
        if self.scenario.get("serve.requests") is None:
            told += simulation.lengths_told(self.scenario)
            if not self.is_closed:
                told.append(f"serve.arrivals = {simulation.value_of(self.scenario, 'arrivals')}")
        else:
            told += simulation.requests_of(self.scenario).notes
        told += simulation.clocks_told(self.scenario, self.cluster)
        if not (self.promised or self.is_closed):
            told.append(
                f"no latency is promised: the first token waits at most {_WAITS:g} times as long as at maximum clocks "
                "(state serve.ttft, serve.tpot)"
            )
        if self.share < 1.0:
            told.append(
                f"{self._all:,} replicas are played as {self.replicas} with their share of the requests; requests that "
                "more replicas share wait no longer"
            )
        return (
            *told,
            "latencies, energy and the promise are simulated; what hardware would give is that of the mean step",
        )


def _slower(rate: float | None) -> str:
    """Say which rate would do."""
    return "lower serve.rate" if rate is None else f"lower serve.rate to {rate:.3g} req/s, which keeps it"


def _tpot(trial: Trial) -> float:
    return float(np.mean(trial.tpot))


def _ttft(trial: Trial) -> float:
    return float(np.mean(trial.ttft))


def _price(chosen: Outcome, points: Sequence[tuple[float, float, Any]], limits: Limits) -> float:
    """Return joules per token that a second more per token would save, where the limit on it binds; else 0."""
    slower = [p for p in points if p[0] > chosen.time_s and p[1] < chosen.energy_j]
    if limits.tpot is None or chosen.time_s < 0.9 * limits.tpot or not slower:
        return 0.0
    return max((chosen.energy_j - e) / (t - chosen.time_s) for t, e, _ in slower)
