"""The best candidates explored on a sample of the trace, confirmed on all of it, and told with how surely they hold."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np

from ...core.errors import ScenarioError
from ...hardware.chip import lockable
from ...serving import candidates as plan
from ...serving.candidates import Candidate, Part
from ...serving.simulate.choose import TRUST
from ...serving.simulate.odds import kept_odds
from ...serving.step import clock_grid
from ...source.base import Device
from .. import simulate_serving as simulation
from ..serving_plan import CHUNKS
from ..stated import Scenario
from ..whatif import Changes, Row
from .explore import WORTH, Axes, Explorer, Worth, kind
from .space import Variant, key_of, placed, promise_of, sampled, slices, traffic_of
from .telling import Confirmed, chips_of

Work = Callable[[Sequence[Changes]], list[Row]]

# Batches of confirmations on the whole trace until one keeps the promise.
_BATCHES: Final = 4
# Fresh seeds that the odds come from, the first of them, and how far apart they are.
_SEEDS, _FRESH, _APART = 6, 1_299_709, 7919
# Confirmed ones that are asked for their odds, cheapest first, and the late requests beyond which none asks, over those
# allowed; leaders whose clocks are raised where none is sure, and by how many steps.
_ASKED, _HOPE, _LEADERS, _RAISED = 16, 0.9, 6, (1, 2, 3, 4, 6, 8)
# Starts of a replica that a trace must be longer than for parking to be looked at.
_LONG: Final = 10.0


def point_of(candidate: Candidate, every: list[Variant], **how: Any) -> dict[str, Any]:
    return {"parts": [(asdict(every[p.variant]), asdict(p)) for p in candidate.parts], **how}


def worths(scenario: Scenario) -> Sequence[Worth]:
    """Return what is to be least, one after the other: joules, money, or both.

    Raises
    ------
    ScenarioError : money is asked for and no price is stated.
    """
    goal, price, rent = key_of(scenario, "goal"), scenario.get("site.price"), scenario.get("site.chip_price")

    def energy(joules: float, _chips: float, _seconds: float) -> float:
        return joules

    def money(joules: float, chips: float, seconds: float) -> float:
        return float((price or 0.0) * joules + (rent or 0.0) * chips * seconds)

    if goal != "energy" and rent is None:
        raise ScenarioError(
            f'serve.search.goal = "{goal}" needs what a chip costs; state site.chip_price (e.g. "2.5 USD/h") '
            "and site.price"
        )
    goals: dict[str, Sequence[Worth]] = {"energy": (energy,), "cost": (money,), "both": (energy, money)}
    return goals[goal]


def explored(scenario: Scenario, every: list[Variant], ways: list[Candidate], run: Work) -> list[Confirmed]:
    """Explore by simulation on a sample of the trace, confirm the best on all of it; cheapest first."""
    most, whole = int(key_of(scenario, "confirm")), traffic_of(scenario)["all"].tokens

    def simulate(some: Sequence[Candidate]) -> list[Row]:
        rows = run([point_of(c, every, sample=True) for c in some])
        scales = [whole / row["tokens"] for row in rows]
        return [
            {**row, "energy_j": row["energy_j"] * x, "duration_s": row["duration_s"] * x, "tokens": float(whole)}
            for row, x in zip(rows, scales, strict=True)
        ]

    out: dict[Any, Confirmed] = {}
    tried: dict[Any, Confirmed] = {}
    explorer: Explorer | None = None
    for worth in worths(scenario):
        explorer = Explorer(
            promise_of(scenario), worth, simulate, _axes(scenario, every), lambda c: float(chips_of(c, every)), tried
        )
        explorer.explore(ways)
        explorer.polish()
        for c in _whole(scenario, every, explorer, most, run):
            out.setdefault(c.candidate.parts, c)
    assert explorer is not None
    first = replace(explorer, worth=worths(scenario)[0])
    _Sure(scenario, every, first, run, out).find()
    return sorted(out.values(), key=first.order)


def _whole(
    scenario: Scenario, every: list[Variant], explorer: Explorer, most: int, run: Work
) -> list[Confirmed]:  # fmt: skip
    """Return the best explored ones as the whole trace finds them."""
    ranked = sorted(explorer.tried.values(), key=explorer.order)
    if sampled(scenario) is slices(scenario):
        return ranked[:most]
    out: list[Confirmed] = []
    for start in range(0, most * _BATCHES, most):
        some = [c.candidate for c in ranked[start : start + most]]
        rows = run([point_of(c, every) for c in some])
        out += [Confirmed(c, row) for c, row in zip(some, rows, strict=True)]
        if any(c.row["kept"] for c in out):
            break
    return out


def _axes(scenario: Scenario, every: list[Variant]) -> Axes:
    @functools.cache
    def clocks(variant: int) -> Any:
        chip = placed(scenario, every[variant])[0]
        return np.unique(lockable(chip.chip, clock_grid(Device(chip.chip, chip.node))))

    stated, limit = key_of(scenario, "chunks"), key_of(scenario, "chips_limit")
    chunks = stated or (() if scenario.values.get("serve.chunk") is not None else CHUNKS)
    return Axes(
        clocks=clocks,
        batches=lambda _: key_of(scenario, "batches") or plan.BATCHES,
        chunks=[c for c in chunks if c <= scenario["serve.chunk"]],
        phases=bool(key_of(scenario, "phases")),
        replicas=key_of(scenario, "replicas") or (),
        most_chips=math.inf if limit is None else float(limit),
    )


def odds(scenario: Scenario, every: list[Variant], candidate: Candidate, row: Row, run: Work) -> float:
    """Return the chance that other requests like these are served within the promise: from fresh seeds, the same for
    every candidate, or from stretches of a trace that was given."""
    promise = promise_of(scenario)
    if promise.ttft is None and promise.tpot is None:
        return 1.0
    shares = np.array(row["late_shares"])
    if scenario.get("serve.requests") is None:
        rows = run([point_of(candidate, every, seed=_FRESH + _APART * k) for k in range(_SEEDS)])
        shares = np.concatenate([np.array(r["late_shares"]) for r in rows], axis=1)
    return kept_odds(shares, 1.0 - promise.percentile / 100.0)


@dataclass
class _Sure:
    """The cheapest configuration that other requests are served by within the promise, too, with the chance of `TRUST`.

    `out`: parts -> what the whole trace found, with the odds of those that were asked for them.
    """

    scenario: Scenario
    every: list[Variant]
    explorer: Explorer
    run: Work
    out: dict[tuple[Part, ...], Confirmed]

    def find(self) -> None:
        """Ask the cheapest for their odds; where none is sure, at higher clocks; then their neighbours that save."""
        if any(limit is not None for limit in (self.explorer.promise.ttft, self.explorer.promise.tpot)):
            best = self._first() or self._raise()
            while best is not None:
                last, best = best, self._cheaper(best)
                if best is None:
                    self._parked(last)

    def _first(self) -> Confirmed | None:
        ranked = sorted(self.explorer.tried.values(), key=self.explorer.order)
        hopeful = [c for c in ranked if c.row["kept"] and self._late(c) <= _HOPE]
        return next((c for c in map(self._asked, hopeful[:_ASKED]) if self._holds(c)), None)

    def _raise(self) -> Confirmed | None:
        """Return the cheapest of a few leaders at the lowest clocks that are sure."""
        leaders: dict[Any, Confirmed] = {}
        for c in sorted(self.explorer.tried.values(), key=self.explorer.order):
            leaders.setdefault(tuple((kind(p), p.replicas, p.batch) for p in c.candidate.parts), c)
        found: list[Confirmed] = []
        for c in list(leaders.values())[:_LEADERS]:
            for steps in _RAISED:
                parts = tuple(_raised(part, self.explorer.axes, steps) for part in c.candidate.parts)
                then = self._asked(Confirmed(replace(c.candidate, parts=parts, moved=True), {}))
                if self._holds(then):
                    found.append(then)
                    break
        return min(found, key=self.explorer.value, default=None)

    def _cheaper(self, best: Confirmed) -> Confirmed | None:
        """Return a neighbour that is sure and saves, None where there is none."""
        limit = self.explorer.value(best) * (1.0 - WORTH)
        around = self.explorer.around(best)
        self.explorer.run(around)
        some = sorted((self.explorer.tried[c.parts] for c in around), key=self.explorer.order)
        for c in some:
            if c.row["kept"] and self.explorer.value(c) < limit and self._late(c) <= _HOPE:
                then = self._asked(c)
                if self._holds(then) and self.explorer.value(then) < limit:
                    return then
        return None

    def _parked(self, best: Confirmed) -> None:
        """Ask whether replicas that start and stop with the load serve as surely; worth it on long traces alone."""
        parts = best.candidate.parts
        pause = _LONG * float(simulation.value_of(self.scenario, "start_time"))
        if best.row["duration_s"] > pause and any(part.replicas > 1 for part in parts):
            parked = tuple(replace(part, parked=part.replicas > 1) for part in parts)
            self._asked(Confirmed(replace(best.candidate, parts=parked, moved=True), {}))

    def _late(self, c: Confirmed) -> float:
        """Return the share of late requests over that allowed."""
        allowed = 1.0 - self.explorer.promise.percentile / 100.0
        return float(max(np.mean(some) for some in c.row["late_shares"])) / max(allowed, 1e-9)

    def _holds(self, c: Confirmed) -> bool:
        return bool(c.row["kept"]) and c.row.get("probability", 0.0) >= TRUST

    def _asked(self, c: Confirmed) -> Confirmed:
        """Return a candidate as the whole trace finds it, with its odds."""
        known = self.out.get(c.candidate.parts)
        if known is not None and "probability" in known.row:
            return known
        if known is None and c.row and sampled(self.scenario) is slices(self.scenario):
            known = c
        row = self.run([point_of(c.candidate, self.every)])[0] if known is None else known.row
        chance = odds(self.scenario, self.every, c.candidate, row, self.run) if row["kept"] else 0.0
        self.out[c.candidate.parts] = Confirmed(c.candidate, {**row, "probability": chance})
        return self.out[c.candidate.parts]


def _raised(part: Part, axes: Axes, steps: int) -> Part:
    """Return a part with its clocks so many steps higher."""
    clocks = axes.clocks(part.variant)

    def up(clock: float) -> float:
        return float(clocks[min(int(np.argmin(np.abs(clocks - clock))) + steps, len(clocks) - 1)])

    prefill = None if part.prefill_clock is None else up(part.prefill_clock)
    return replace(part, clock=up(part.clock), prefill_clock=prefill)
