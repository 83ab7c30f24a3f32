"""A frontier is the set of (time, energy) choices for a piece of work, none of which beats another
in both, each remembering how to realise it.

Energy is stored **above waiting**: ``e = E - w t`` with `w` the watts a device draws while it waits
for others. Stored so, composition is exact; total energy is recovered once, at the top, as
``E(T) = e + w T``. The operations and the laws they keep:

    a + b   a, then b, on the same device(s)            law 1: + is associative and commutative
    a & b   a beside b, wait for both                   law 2: & is associative and commutative
    a | b   either, on the same device                  law 3: | is associative, commutative, idempotent
    n * a   the same choice n times                     law 4: n * a never beats a + ... + a
    ZERO    no work: neutral for + and &                law 5: identities
    NEVER   impossible work: neutral for |, absorbing for + and &
                                                        law 6: + and & distribute over |
                                                        law 7: prune(compose(x)) = prune(compose(prune(x)))
                                                        law 8: a plan reproduces its point
Two readings, never mixed silently (law 9): ``discrete`` picks one point of each leaf; ``hull`` may mix
two adjacent points in time. In the hull reading `&` does not distribute over `|` (a mixture of two
kinds of work is not a convex combination of their barriers), so law 6 holds there for + alone.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..core.arrays import Array, Index
from ..core.errors import GoalError, InputError
from ..core.provenance import Provenance
from ..core.units import show
from . import sums
from .origin import Choice, Compose, Either, HullSum, Knobs, Leaf, Nothing, Origin, Reading, Repeat, Subset
from .point import Point as Point
from .pruning import hull_index, prune, spaced


@dataclass(frozen=True, eq=False)
class Frontier:
    """Time-energy choices of a piece of work. Build one with `Frontier.of`.

    Attributes
    ----------
    time : (n,) seconds, strictly increasing.
    energy : (n,) joules above waiting, strictly decreasing.
    waiting_power : watts drawn while waiting, summed over the devices.
    reading : "discrete" or "hull".
    slack : joules by which, at any deadline, `energy` may lie above the exact frontier (thinning).
    """

    time: Array
    energy: Array
    waiting_power: float
    reading: Reading = "discrete"
    slack: float = 0.0
    totals: bool = False
    _origin: Origin = field(default_factory=Nothing, repr=False)

    # numpy numbers leave ``n * frontier`` to us.
    __array_ufunc__ = None

    def __post_init__(self) -> None:
        self.time.setflags(write=False)
        self.energy.setflags(write=False)

    # ---- making one -------------------------------------------------------------------------

    @staticmethod
    def of(
        time: ArrayLike,
        energy: ArrayLike,
        *,
        waiting_power: float = 0.0,
        knobs: Sequence[Knobs] = (),
        parts: Mapping[str, Array] | None = None,
        provenance: str = "modelled",
        source: str = "",
        uncertainty: float = 0.0,
    ) -> Frontier:
        """Make a frontier from raw points, dropping those that another beats in both.

        Parameters
        ----------
        time, energy : (n,) seconds and joules **above waiting** (subtract ``waiting_power * time``).
        knobs : n mappings, how each point is realised.
        parts : component -> (n,) joules, for breakdowns.
        uncertainty : relative standard deviation of the energy; NaN if unknown.

        >>> Frontier.of([1, 2, 3], [9, 5, 6]).time
        array([1., 2.])
        """
        t, e = np.atleast_1d(np.array(time, float)), np.atleast_1d(np.array(energy, float))
        if t.shape != e.shape or t.ndim != 1:
            raise InputError(f"time and energy must be two lists of one length, got shapes {t.shape}, {e.shape}")
        for name, values in (("time", t), ("energy", e)):
            if not np.isfinite(values).all():
                row = int(np.flatnonzero(~np.isfinite(values))[0])
                raise InputError(f"every {name} must be finite, but point {row} is {values[row]}")
        if t.size and t.min() < 0:
            raise InputError(f"every time must be >= 0 s, but point {int(t.argmin())} is {t.min()} s")
        if not (math.isfinite(waiting_power) and waiting_power >= 0):
            raise InputError(f"waiting_power must be a finite number of watts >= 0, got {waiting_power}")
        if len(knobs) not in (0, t.size):
            raise InputError(f"knobs must name each of the {t.size} points, got {len(knobs)}")
        if uncertainty < 0:
            raise InputError(
                f"uncertainty must be a relative standard deviation >= 0 (NaN if unknown), got {uncertainty}"
            )
        held = {name: np.array(joules, float) for name, joules in (parts or {}).items()}
        for name, joules in held.items():
            if joules.shape != t.shape or not np.isfinite(joules).all():
                raise InputError(f"parts[{name!r}] must be {t.size} finite joules, one per point, got {joules}")
        keep = prune(t, e)
        for values in (t, e, *held.values()):
            values.setflags(write=False)
        leaf = Leaf(
            t, e, keep, tuple(knobs), float(waiting_power), held, Provenance.of(provenance), source, uncertainty
        )
        return Frontier(t[keep], e[keep], float(waiting_power), _origin=leaf)

    def __len__(self) -> int:
        return int(self.time.size)

    def __iter__(self) -> Iterator[Point]:
        return (self.at(index) for index in range(len(self)))

    def __eq__(self, other: object) -> bool:
        """Equal times, energies, waiting power and reading; where the points come from does not count."""
        if not isinstance(other, Frontier):
            return NotImplemented
        return self._content == other._content

    def __hash__(self) -> int:
        return hash(self._content)

    @cached_property
    def _content(self) -> tuple[Any, ...]:
        return (
            self.time.tobytes(), self.energy.tobytes(), self.waiting_power, self.reading, self.slack, self.totals
        )  # fmt: skip

    def _repr_html_(self) -> str:
        from . import display

        return display.frontier(self.time, self.energy, self.waiting_power)

    def __repr__(self) -> str:
        if not len(self):
            return "Frontier(never)"
        span = f"{show(self.time[0], 's')} to {show(self.time[-1], 's')}"
        return f"Frontier({len(self)} points, {self.reading}, {span}, waiting {show(self.waiting_power, 'W')})"

    @property
    def _is_zero(self) -> bool:
        return len(self) == 1 and self.time[0] == 0 and self.energy[0] == 0 and self.waiting_power == 0

    # ---- the algebra ------------------------------------------------------------------------

    def __add__(self, other: object) -> Frontier:
        return total([self, other]) if isinstance(other, Frontier) else NotImplemented

    def __radd__(self, other: object) -> Frontier:
        # sum() starts at 0; ZERO is that start here.
        return self if isinstance(other, int) and other == 0 else NotImplemented

    def __and__(self, other: object) -> Frontier:
        return _beside(self, other) if isinstance(other, Frontier) else NotImplemented

    def __or__(self, other: object) -> Frontier:
        return _either(self, other) if isinstance(other, Frontier) else NotImplemented

    def __mul__(self, count: object) -> Frontier:
        return self.__rmul__(count)

    def __rmul__(self, count: object) -> Frontier:
        if not isinstance(count, (int, float, np.number)):
            return NotImplemented
        if not isinstance(count, (int, np.integer)) or count < 0:
            raise InputError(f"n * frontier needs a whole number n >= 0, got {count!r}")
        self._may_compose()
        if count == 0:
            return ZERO
        if not len(self):
            return NEVER
        origin = Repeat(self, int(count))
        return Frontier(
            count * self.time, count * self.energy, self.waiting_power, self.reading, count * self.slack, _origin=origin
        )

    def copies(self, count: int) -> Frontier:
        """Return this work on `count` devices side by side, all making the same choice.

        On hulls this equals ``a & ... & a`` (law 10): with convex frontiers no device gains by
        choosing differently from its equals.
        """
        repeated = count * self
        return replace(repeated, time=self.time, waiting_power=count * self.waiting_power) if count else ZERO

    @property
    def indices(self) -> Index:
        """(n,) for a frontier made by `of`: where each point stood among the points it was made from."""
        if not isinstance(self._origin, Leaf):
            raise InputError("only a frontier made from raw points knows their indices; unroll with plan() instead")
        return self._origin.keep

    def _may_compose(self) -> None:
        if self.totals:
            raise InputError(
                "totals from best() do not compose; compose frontiers above waiting first, then call best()"
            )

    # ---- readings and thinning --------------------------------------------------------------

    def hull(self) -> Frontier:
        """Return the lower convex hull: what mixing two adjacent points in time realises."""
        keep = hull_index(self.time, self.energy)
        return Frontier(
            self.time[keep], self.energy[keep], self.waiting_power, "hull", self.slack, self.totals, Subset(self, keep)
        )

    def thin(self, points: int) -> Frontier:
        """Return at most `points` of the points; `slack` grows by the joules this may cost.

        At every deadline that the full frontier meets, the thinned one meets it too, at no more
        than ``slack`` joules above (the fastest point is always kept). In the hull reading this is
        the loss of one kept vertex against the next; mixtures lie closer.
        """
        if points < 2:
            raise InputError(f"thin(points) needs points >= 2, got {points}")
        if len(self) <= points:
            return self
        keep = spaced(-self.energy, points)
        # Dropped points j in (i, next kept) fall back to point i: the loss is at most e_i - e_(next - 1).
        last = np.append(keep[1:] - 1, len(self) - 1)
        loss = float(np.max(self.energy[keep] - self.energy[last]))
        return Frontier(
            self.time[keep],
            self.energy[keep],
            self.waiting_power,
            self.reading,
            self.slack + loss,
            self.totals,
            Subset(self, keep),
        )

    # ---- queries ----------------------------------------------------------------------------

    def at(self, index: int) -> Point:
        """Return point `index`."""
        if not -len(self) <= index < len(self):
            raise InputError(f"point {index} is not among the {len(self)} points of this frontier")
        index %= len(self)
        return Point(self, float(index), float(self.time[index]), float(self.energy[index]))

    def plan(self, index: int) -> tuple[Choice, ...]:
        """Unroll point `index` into the knobs of every leaf, in order."""
        return self.at(index).plan

    @property
    def fastest(self) -> Point:
        """The choice that takes the least time."""
        self._must_exist()
        return self.at(0)

    @property
    def least_energy(self) -> Point:
        """The choice of least total energy (waiting included) when nothing else makes it wait."""
        self._must_exist()
        return self.at(int(np.argmin(self.energy + self.waiting_power * self.time)))

    @property
    def knee(self) -> Point:
        """The point farthest below the chord from fastest to least energy, both axes scaled to 1."""
        self._must_exist()
        end = int(self.least_energy.position)
        if end < 2:
            return self.at(0)
        t = self.time[: end + 1]
        e = (self.energy + self.waiting_power * self.time)[: end + 1]
        x, y = (t - t[0]) / (t[-1] - t[0]), (e - e[-1]) / (e[0] - e[-1])
        return self.at(int(np.argmax(1.0 - x - y)))

    def by(self, deadline: float) -> Point:
        """Return the choice of least energy above waiting that ends by `deadline` seconds.

        Whoever must wait for the deadline anyway spends ``total(deadline)``.
        """
        self._must_exist()
        if not deadline >= self.time[0]:
            raise GoalError(
                f"no choice ends by {show(deadline, 's', 6)}; the fastest needs {show(float(self.time[0]), 's', 6)}"
            )
        low = int(np.searchsorted(self.time, deadline, side="right")) - 1
        if self.reading == "discrete" or low == len(self) - 1 or self.time[low] == deadline:
            return self.at(low)
        share = (deadline - self.time[low]) / (self.time[low + 1] - self.time[low])
        energy = self.energy[low] + share * (self.energy[low + 1] - self.energy[low])
        return Point(self, low + float(share), float(deadline), float(energy))

    def within(self, *, power: float | None = None, energy: float | None = None) -> Point:
        """Return the fastest choice whose average power (W) or total energy (J) is within the limit."""
        self._must_exist()
        if (power is None) == (energy is None):
            raise InputError("within() takes one limit: power= in watts or energy= in joules")
        spent = self.energy + self.waiting_power * self.time
        if power is not None:
            # Work that takes no time and no energy draws no power.
            with np.errstate(divide="ignore", invalid="ignore"):
                values = np.where(spent == 0, 0.0, spent / self.time)
            what, limit, unit, excess = "average power", power, "W", spent - power * self.time
        else:
            assert energy is not None
            what, limit, unit, values, excess = "total energy", energy, "J", spent, spent - energy
        ok = np.flatnonzero(values <= limit)
        if not ok.size:
            raise GoalError(
                f"no choice keeps {what} within {show(limit, unit)}; the least is {show(float(values.min()), unit)}"
            )
        first = int(ok[0])
        if self.reading == "discrete" or first == 0:
            return self.at(first)
        # Both limits are straight lines in (time, energy): the segment into `first` crosses it once.
        before = first - 1
        if not excess[before] > 0 >= excess[first]:
            return self.at(first)  # met or missed by no more than rounding
        share = float(excess[before] / (excess[before] - excess[first]))
        if share in (0.0, 1.0):
            return self.at(first)
        time_, energy_ = (float(v[before] + share * (v[first] - v[before])) for v in (self.time, self.energy))
        return Point(self, before + share, time_, energy_)

    def total(self, time: float) -> float:
        """Return total joules when everything ends at `time` seconds and whoever is done waits."""
        if not math.isfinite(time):
            raise InputError(f"total(time) needs a finite number of seconds, got {time}")
        return self.by(time).energy + self.waiting_power * time

    @property
    def average_power(self) -> Array:
        """(n,) average watts of each point, waiting included."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((self.energy + self.waiting_power * self.time) / self.time)

    def _must_exist(self) -> None:
        if not len(self):
            raise GoalError("this work has no choice at all (NEVER); one of its parts is impossible")


ZERO = Frontier(np.zeros(1), np.zeros(1), 0.0)
NEVER = Frontier(np.zeros(0), np.zeros(0), 0.0)


# ---- operations ----------------------------------------------------------------------------------


def _one_device(parts: Sequence[Frontier]) -> bool:
    """Return whether waiting powers are equal, but for the last bits of sums taken in another order."""
    powers = [f.waiting_power for f in parts]
    return max(powers) - min(powers) <= 1e-9 * max(powers)


def total(frontiers: Iterable[Frontier]) -> Frontier:
    """Return one piece of work after the other on the same device(s): ``a + b + ...``.

    Hulls are merged by slope in one go; discrete frontiers two at a time, exactly.
    """
    parts = [f for f in frontiers if not f._is_zero]
    if not parts:
        return ZERO
    if any(not len(f) for f in parts):
        return NEVER
    if len(parts) == 1:
        return parts[0]
    reading = _same_reading(parts)
    if not _one_device(parts):
        listed = ", ".join(show(p, "W", 6) for p in sorted({f.waiting_power for f in parts}))
        raise InputError(
            f"a + b runs on the same device, so waiting powers must be equal, got {listed}; use & or best()"
        )
    if reading == "hull":
        return _hull_total(parts)
    return functools.reduce(_pair_total, parts)


def _same_reading(parts: Sequence[Frontier]) -> Reading:
    for f in parts:
        f._may_compose()
    readings = {f.reading for f in parts}
    if len(readings) > 1:
        raise InputError("law 9: discrete and hull readings do not mix; call .hull() on the discrete frontier first")
    return readings.pop()


def _hull_total(parts: Sequence[Frontier]) -> Frontier:
    time, energy, owner, steps = sums.hull_sum([f.time for f in parts], [f.energy for f in parts])
    slack = sum(f.slack for f in parts)
    origin = HullSum(tuple(parts), owner, steps)
    return Frontier(time, energy, parts[0].waiting_power, "hull", slack, _origin=origin)


def _pair_total(a: Frontier, b: Frontier) -> Frontier:
    """Return the exact Minkowski sum of two discrete frontiers."""
    i, j = sums.pairs(a, b)
    t, e = a.time[i] + b.time[j], a.energy[i] + b.energy[j]
    keep = prune(t, e)
    picks = np.stack([i[keep], j[keep]], axis=1).astype(float)
    origin = Compose((a, b), picks)
    return Frontier(t[keep], e[keep], a.waiting_power, "discrete", a.slack + b.slack, _origin=origin)


def _beside(a: Frontier, b: Frontier) -> Frontier:
    """Return both at once on different devices: max of times, sum of energies and waiting powers."""
    if a._is_zero:
        return b
    if b._is_zero:
        return a
    if not len(a) or not len(b):
        return NEVER
    reading = _same_reading([a, b])
    start = max(a.time[0], b.time[0])
    times = np.union1d(a.time, b.time)
    times = times[times >= start]
    pick = np.stack([sums.positions(a, times), sums.positions(b, times)], axis=1)
    energy = sums.energies(a, pick[:, 0]) + sums.energies(b, pick[:, 1])
    # A later barrier that saves nothing is beaten by the one before.
    keep = prune(times, energy)
    if reading == "hull":
        keep = keep[hull_index(times[keep], energy[keep])]
    origin = Compose((a, b), pick[keep])
    power = a.waiting_power + b.waiting_power
    return Frontier(times[keep], energy[keep], power, reading, a.slack + b.slack, _origin=origin)


def _either(a: Frontier, b: Frontier) -> Frontier:
    """Return the lower envelope of two ways to do the same work on the same device."""
    if not len(a):
        return b
    if not len(b):
        return a
    reading = _same_reading([a, b])
    if not _one_device([a, b]):
        raise InputError(
            "a | b chooses on the same device, so waiting powers must be equal, got "
            f"{show(a.waiting_power, 'W', 6)} and {show(b.waiting_power, 'W', 6)}; "
            "best() compares totals across devices"
        )
    return _merge([a, b], reading, a.waiting_power, totals=False)


def _merge(parts: Sequence[Frontier], reading: Reading, waiting_power: float, *, totals: bool) -> Frontier:
    time = np.concatenate([f.time for f in parts])
    energy = np.concatenate([f.energy for f in parts])
    which = np.repeat(np.arange(len(parts)), [len(f) for f in parts])
    inner = np.concatenate([np.arange(len(f)) for f in parts]).astype(float)
    keep = prune(time, energy)
    if reading == "hull":
        keep = keep[hull_index(time[keep], energy[keep])]
    origin = Either(tuple(parts), which[keep], inner[keep])
    slack = max(f.slack for f in parts)
    return Frontier(time[keep], energy[keep], waiting_power, reading, slack, totals, origin)


def best(*frontiers: Frontier) -> Frontier:
    """Compare the same work on different devices by **total** energy; the result does not compose further.

    Each point's `energy` is total joules with its own waiting power; use it at the top only.
    """
    parts = [_as_totals(f) for f in frontiers if len(f)]
    if not parts:
        return NEVER
    readings = {f.reading for f in parts}
    if len(readings) > 1:
        raise InputError("law 9: discrete and hull readings do not mix; call .hull() on the discrete frontier first")
    return _merge(parts, parts[0].reading, 0.0, totals=True)


def _as_totals(f: Frontier) -> Frontier:
    spent = f.energy + f.waiting_power * f.time
    keep = prune(f.time, spent)
    return Frontier(f.time[keep], spent[keep], 0.0, f.reading, f.slack, True, Subset(f, keep))
