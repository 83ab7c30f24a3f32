"""Which setting to run next, while a repeating step runs: look elsewhere only where that should pay for itself.

    ask -> run some steps at that setting -> tell(seconds, joules)        the first look is at the highest setting
                                                |
      looking pays:  expected gain per step x steps to come  >  steps of the look x what they cost more
      drifted:       the setting in use is no longer as fast or as frugal as it was (CUSUM): a new era begins

Steps to come are those left, or, where that is not known, as many as have been (a job that has run for long will
run for longer). Pure: it neither reads a clock nor sets a device; the same answers give the same questions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from ...core.errors import InputError
from .landscape import SLOPES, Array, Belief, Look, Slopes, believe

# Landscapes drawn from the belief.
_DRAWS: Final = 128
# What a slowdown beyond the stated one counts: one percent too slow is like so many percent more energy.
_STERN: Final = 20.0
# CUSUM of standardised deviations: slack, alarm, and the most one look may add. A false alarm comes once in some
# 10^5 looks (Siegmund's approximation, exp(2 * 0.5 * (10 + 1.17)) for each side); a shift of 3 takes four looks.
_SLACK, _ALARM, _CLIP = 0.5, 10.0, 4.0
# A change of less than this is not worth looking around for, relative.
_SMALL: Final = 0.01
# Eras whose shape is still remembered, and looks kept of each setting and era.
_ERAS, _KEPT = 2, 64
# Costs above the best's by more than this share count as this.
_WORSE: Final = 0.2
# How many looks in a row are weighed up, and the least that looking must promise, in looks' worth of joules.
_SPANS, _WORTH = (1, 2, 4, 8), 1e-3
# Between two thoughts about looking elsewhere, the looks at the setting in use grow by this factor.
_PATIENCE: Final = 1.3


class Objective(msgspec.Struct, frozen=True):
    """What is wanted: least energy at a stated slowdown, or least of eta * energy + (1 - eta) * power * time.

    max_slowdown : relative to the highest setting. eta : 1 counts energy only, 0 time only. power : W that a
    second counts, the power at the highest setting where None.
    """

    max_slowdown: float | None = None
    eta: float | None = None
    power: float | None = None

    def __post_init__(self) -> None:
        if (self.max_slowdown is None) == (self.eta is None):
            raise InputError("say what is wanted: either max_slowdown (0.02 is 2 %) or eta (1 counts energy only)")
        if self.max_slowdown is not None and not (math.isfinite(self.max_slowdown) and self.max_slowdown >= 0):
            raise InputError(f"max_slowdown must be a finite share >= 0, got {self.max_slowdown}")
        if self.eta is not None and not 0 <= self.eta <= 1:
            raise InputError(f"eta must lie between 0 (time only) and 1 (energy only), got {self.eta}")

    def cost(self, time: Array, power: Array) -> Array:
        """Of a step, J, at each setting (last axis, the highest setting last)."""
        if self.eta is not None:
            second = power[..., -1:] if self.power is None else self.power
            return np.asarray((self.eta * power + (1.0 - self.eta) * second) * time)
        late = time / time[..., -1:] / (1.0 + (self.max_slowdown or 0.0)) - 1.0
        return np.asarray(power * time * (1.0 + _STERN * np.maximum(late, 0.0)))


class Tuner:
    """Asks which setting to run, and learns from what it took.

    values : settings of the knob, W or Hz, the highest being how the job runs untuned. knob : which one they are of.
    steps : in all, None where not known. switch : s that changing the setting costs.

    >>> tuner = Tuner([100.0, 200.0, 300.0], Objective(eta=1.0), steps=10_000)
    >>> tuner.ask()
    300.0
    >>> tuner.tell(300.0, seconds=2.0, joules=560.0, steps=10)
    """

    def __init__(
        self,
        values: Sequence[float],
        objective: Objective,
        *,
        knob: str = "power_limit",
        steps: int | None = None,
        switch: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.values = tuple(sorted({float(v) for v in values}))
        if not self.values or not all(math.isfinite(v) and v > 0 for v in self.values):
            raise InputError(f"settings must be finite and > 0, at least one, got {list(values)}")
        if knob not in SLOPES:
            raise InputError(f"knob must be one of {', '.join(SLOPES)}, got {knob!r}")
        self.objective, self.steps, self.switch = objective, steps, switch
        self.looks: list[Look] = []
        self.done = 0  # steps told
        self.era = 0
        self._x = np.log(np.array(self.values) / self.values[-1])
        self._slopes: Slopes = SLOPES[knob]
        random = np.random.default_rng(seed)
        self._normal = tuple(random.standard_normal((_DRAWS, len(self.values))) for _ in range(2))
        self._belief: Belief | None = None
        self._best = self._next = len(self.values) - 1
        self._stayed, self._think_at = 0, 1
        self._sums = np.zeros(4)
        self._since = np.zeros(4, np.int64)  # looks since which each sum is above 0
        self._doubted: list[Look] = []

    # ---- ask, tell ----

    def ask(self) -> float:
        """The setting to run for the next look."""
        return self.values[self._next]

    @property
    def best(self) -> float:
        """The setting that is best for all that is known, among those tried."""
        return self.values[self._best]

    @property
    def looking(self) -> bool:
        """Whether the next look is elsewhere than at the best setting."""
        return self._next != self._best

    @property
    def tried(self) -> tuple[float, ...]:
        """The settings that were looked at since the last drift."""
        return tuple(self.values[k] for k in sorted({look.place for look in self.looks if look.era == self.era}))

    def tell(self, value: float, *, seconds: float, joules: float, steps: int = 1) -> None:
        """A look has ended: `steps` steps at `value` took so many seconds and joules."""
        if value not in self.values:
            raise InputError(f"tell a setting that was asked for, one of {list(self.values)}, got {value}")
        if not (steps >= 1 and 0 < seconds < math.inf and 0 < joules < math.inf):
            raise InputError(
                f"a look takes finite seconds and joules > 0 and at least 1 step, got {seconds} s, {joules} J, {steps}"
            )
        place = self.values.index(value)
        self.done += steps
        look = Look(place, math.log(seconds / steps), math.log(joules / seconds), self.era)
        odd, drifted = self._watch(look)
        if odd and not drifted:
            # A checkpoint within the look, or the first of a drift: the next looks here will tell, until then it
            # is not believed.
            self._doubted.append(look)
            self._next = self._best
            return
        # Where a drift begins: with the first odd look, or, if it came slowly, where its sum left 0.
        since = len(self.looks) if self._doubted or odd else int(self._since[self._sums.argmax()])
        self.looks += [*self._doubted, look] if drifted else [look]
        self._doubted.clear()
        if drifted:
            self._new_era(since)
        self._forget()
        if place == self._best and not drifted:
            self._stayed += 1
            if self._stayed < self._think_at:
                self._next = self._best
                return
            self._think_at = math.ceil(self._stayed * _PATIENCE)
        self._think(steps, seconds)
        if drifted:  # what a slowdown is counted from has changed too
            self._next = len(self.values) - 1

    def believed(self, value: float) -> tuple[float, float]:
        """(s, J) of a step at a setting, the mean of the belief."""
        place, belief = self.values.index(value), self._now()
        return float(belief.time[:, place].mean()), float((belief.time * belief.power)[:, place].mean())

    # ---- how ----

    def _now(self) -> Belief:
        if self._belief is None:
            if not self.looks:
                raise InputError("nothing is known before the first look; tell one")
            self._belief = believe(self._x, self.looks, self._slopes, self._normal)  # type: ignore[arg-type]
        return self._belief

    def _think(self, steps: int, seconds: float) -> None:
        """Find the best setting, and whether looking at another should pay."""
        self._belief = None
        belief = self._now()
        cost = self.objective.cost(belief.time, belief.power)
        mean = cost.mean(axis=0)
        tried = sorted({look.place for look in self.looks if look.era == self.era})
        best = min(tried, key=lambda k: (mean[k], -k))
        if best != self._best:
            self._best, self._stayed, self._think_at = best, 0, 1
            self._sums[:] = 0.0
        to_come = self.done if self.steps is None else max(0, self.steps - self.done)
        per_step = seconds / steps
        # What runs while a setting is being looked at is work all the same; what is lost is its higher cost, and
        # what the change there and back takes.
        dearer = steps * self._dearer(mean, best, belief)
        lost = 2.0 * self.switch / per_step * mean[best]
        net = np.full(len(mean), -math.inf)
        for looks in _SPANS:
            left = max(0, to_come - looks * steps)
            net = np.maximum(net, self._gain(cost, best, belief, looks) * left - looks * dearer - lost)
        net[best] = 0.0
        self._next = int(net.argmax()) if net.max() > _WORTH * steps * mean[best] else best

    def _dearer(self, mean: Array, best: int, belief: Belief) -> Array:
        """What a step at each setting takes more than at the best, J; a slow look loses time, but breaks no promise."""
        if self.objective.eta is not None:
            return np.asarray(np.maximum(mean - mean[best], 0.0))
        time, energy = belief.time.mean(axis=0), (belief.time * belief.power).mean(axis=0)
        power = energy[best] / time[best]
        return np.asarray(np.maximum(energy - energy[best] + power * np.maximum(time - time[best], 0.0), 0.0))

    def _gain(self, cost: Array, best: int, belief: Belief, looks: int) -> Array:
        """What so many looks at each setting should save per step, J: the knowledge gradient, from draws.

        Looks at one setting tell of all others too, as far as their times and powers go together; after the looks
        each mean difference to the best will have moved by that part of what is uncertain of it.
        """
        # How much worse than the best is all the same beyond some point, and a long tail would hide what a look tells.
        apart = np.minimum(cost - cost[:, [best]], _WORSE * cost[:, [best]])
        middle = apart.mean(axis=0)
        off = apart - middle
        told = np.zeros((len(middle), len(middle)))  # [looked at, compared with the best]
        for curves, noise in ((np.log(belief.time), belief.time_noise), (np.log(belief.power), belief.power_noise)):
            curves = curves - curves.mean(axis=0)
            told += (curves.T @ off / len(off)) ** 2 / (curves.var(axis=0) + noise**2 / looks)[:, None]
        moved = np.sqrt(np.minimum(told / np.maximum(apart.var(axis=0), 1e-300), 1.0))
        after = middle + off[:, None, :] * moved
        gain = np.maximum(-after, 0.0).mean(axis=0)
        # What seems better already is only taken once it has been looked at itself.
        return np.asarray(np.where(np.eye(len(middle), dtype=bool), gain, gain - np.maximum(-middle, 0.0)).max(axis=1))

    def _watch(self, look: Look) -> tuple[bool, bool]:
        """Whether a look at the setting in use is odd by itself, and whether with those before it there is a drift."""
        same = [seen for seen in self.looks if seen.place == look.place and seen.era == self.era]
        if look.place != self._best or len(same) < 2 or self._belief is None:
            return False, False
        belief = self._belief
        spread = math.sqrt(1.0 + 1.0 / len(same))
        z = []
        for now, before, noise in (
            (look.time, [s.time for s in same], belief.time_noise),
            (look.power, [s.power for s in same], belief.power_noise),
        ):
            off = (now - math.fsum(before) / len(before)) / (max(noise, _SMALL) * spread)
            z += [min(off, _CLIP), min(-off, _CLIP)]
        self._since[self._sums <= 0.0] = len(self.looks)
        self._sums = np.maximum(0.0, self._sums + np.array(z) - _SLACK)
        return max(z) >= _CLIP, bool(self._sums.max() > _ALARM)

    def _new_era(self, since: int) -> None:
        """What was seen since the drift began belongs to a new era; the shape before it is remembered in part."""
        self.era += 1
        self.looks = [
            look if k < since or look.place != self._best else msgspec.structs.replace(look, era=self.era)
            for k, look in enumerate(self.looks)
        ]
        self._sums[:] = 0.0
        self._stayed, self._think_at = 0, 1

    def _forget(self) -> None:
        """Keep the last looks of each setting, and the last eras."""
        latest = self.looks[-1]
        same = [k for k, s in enumerate(self.looks) if s.place == latest.place and s.era == latest.era]
        drop = {same[0]} if len(same) > _KEPT else set()
        kept = [s for k, s in enumerate(self.looks) if k not in drop and s.era > self.era - _ERAS]
        self._since = np.maximum(0, self._since - (len(self.looks) - len(kept)))
        self.looks = kept
