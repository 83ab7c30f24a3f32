"""Policies beside the best fixed clock and beside what no policy could beat, on one trace and fleet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...workload.traffic import Requests
from .bound import Bound, clairvoyant
from .outcome import Limits, Run
from .parking import Parking
from .play import simulate
from .policies import BatchSteering, FixedClock, Governor, Policy
from .pool import Fleet


@dataclass(frozen=True)
class Study:
    """Runs of each fixed clock (`static`, slowest first) and of each policy, and the bound below them."""

    static: tuple[Run, ...]
    policies: tuple[Run, ...]
    bound: Bound

    @property
    def best(self) -> Run:
        """The fixed clock of least energy that keeps the promise; the highest clock where none does."""
        kept = [run for run in self.static if run.kept]
        return min(kept, key=lambda run: run.energy_j) if kept else self.static[-1]

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per run: latency, energy, what it saves against the best fixed clock, and its gap."""
        best = self.best
        return [_row(run, best, self.bound) for run in (*self.static, *self.policies)]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values under stable JSON keys."""
        tokens = self.best.tokens
        return {
            "rows": self.rows(),
            "best_fixed": self.best.policy,
            "bound": {
                "energy_per_token_j": self.bound.awake_j / tokens,
                "parked_energy_per_token_j": self.bound.parked_j / tokens,
            },
        }


def _row(run: Run, best: Run, bound: Bound) -> dict[str, Any]:
    told = run.to_dict()
    # Parked replicas leave waiting out; the bound that lets them be parked for free is the one that holds.
    least = bound.awake_j if run.awake_s >= run.replicas * run.duration * (1 - 1e-9) else bound.parked_j
    return {
        "policy": run.policy,
        "promise_kept": run.kept if run.promised else None,
        "energy_per_token_j": run.energy_j / run.tokens,
        "ttft_s": told["ttft_s"]["p99"],
        "tpot_s": told["tpot_s"].get("p99", 0.0),
        "latency_s": told["latency_s"]["p99"],
        "violations": run.violations["any"],
        "mean_replicas_awake": told["mean_replicas_awake"],
        "saving_vs_best_fixed": 1.0 - run.energy_j / best.energy_j,
        "gap_to_bound": run.energy_j / least - 1.0,
    }


def compare(
    requests: Requests, fleet: Fleet, limits: Limits, policies: Sequence[Policy] | None = None, *, seed: int = 0
) -> Study:
    """Serve a trace under each fixed clock of the table and under each policy.

    `policies`: governor, batch steering, a clock per phase and parking where None, as far as a promise is given.
    """
    clocks = fleet.pools[0].table.clocks
    static = [simulate(requests, fleet, FixedClock(float(c)), limits=limits, seed=seed) for c in clocks]
    found = Study(tuple(static), (), clairvoyant(requests, fleet, limits))
    if policies is None:
        policies = _usual(found, limits)
    runs = [simulate(requests, fleet, policy, limits=limits, seed=seed) for policy in policies]
    return Study(found.static, tuple(runs), found.bound)


def _usual(found: Study, limits: Limits) -> list[Policy]:
    """Return the policies that need no further parameter."""
    best, clocks = found.best, found.best.clocks
    clock = float(clocks[found.static.index(best)])
    out: list[Policy] = [FixedClock(clock, prefill=float(clocks[-1]))]
    if limits.tpot is not None:
        out += [Governor(), BatchSteering(clock=clock), Parking(Governor())]
    else:
        out.append(Parking(FixedClock(clock)))
    return out
