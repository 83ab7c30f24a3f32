"""What a site has and owes beside its jobs: tariffs, storage, sources of its own, ramps, and services it sells.

All of it meets at the feed, behind the meter:

    bought - sold + generated + discharged - charged = what the site uses

Energy is priced by `Conditions.price`; a `Tariff` adds the price of a peak. Money is in one currency throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError
from ..core.units import show

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Tariff:
    """The price of the highest power bought in some periods: a demand charge.

    Attributes
    ----------
    demand : money per W of the highest period mean of a month. within : (n,) True in the periods that count.
    month : (n,) number of the billing month of each period; each has a peak of its own.
    so_far : W, the first month's peak before the plan begins; it is owed already. ratchet : share of the highest peak
        of earlier months that is billed at the least; `past` is that of months before the plan.
    share : of each month's charge that is counted, 1 for all of it.
    """

    name: str
    demand: float
    within: NDArray[np.bool_]
    month: NDArray[np.int64]
    so_far: float = 0.0
    ratchet: float = 0.0
    past: float = 0.0
    share: float = 1.0

    def floors(self) -> tuple[NDArray[np.int64], Array]:
        """Return the months in which something counts, and the W billed in each at the least."""
        months = np.unique(self.month[self.within])
        least = np.full(len(months), self.ratchet * self.past)
        if len(months):
            least[0] = max(least[0], self.so_far)
        return months, least

    def billed(self, peaks: Array) -> Array:
        """Return the W billed in each month for its own peak, floors and the ratchet on earlier months included."""
        own = np.maximum(peaks, self.floors()[1])
        before = np.maximum.accumulate(np.append(0.0, own[:-1])) if len(own) else own
        return np.maximum(own, self.ratchet * before)


@dataclass(frozen=True)
class Storage:
    """A battery or UPS at the feed.

    Attributes
    ----------
    energy : J it holds. power : W in and out at the most. round_trip : share of what goes in that comes out.
    wear : money per J discharged. start : share of `energy` held at the beginning and, at the least, at the end.
    reserve : share that stays in it for ride-through.
    """

    name: str
    energy: float
    power: float
    round_trip: float = 0.88
    wear: float = 0.0
    start: float = 0.5
    reserve: float = 0.0

    def __post_init__(self) -> None:
        if not (self.energy > 0 and self.power > 0 and 0 < self.round_trip <= 1 and self.wear >= 0):
            raise InputError(
                f"storage {self.name}: energy and power must be > 0, round_trip in (0, 1] and wear >= 0, got "
                f"{show(self.energy, 'J')}, {show(self.power, 'W')}, {self.round_trip:g} and {self.wear:g}"
            )
        if not 0 <= self.reserve <= self.start <= 1:
            raise InputError(
                f"storage {self.name}: 0 <= reserve <= start <= 1 must hold, got {self.reserve:g} and {self.start:g}"
            )


@dataclass(frozen=True, eq=False)
class Source:
    """Power of the site's own: solar, wind, a contract, a generator.

    Attributes
    ----------
    most : (n,) W there is in each period. cost, carbon : money and g per J. takes : True where all of it must be taken.
    """

    name: str
    most: Array
    cost: float = 0.0
    carbon: float = 0.0
    takes: bool = False


@dataclass(frozen=True, eq=False)
class Service:
    """Power that the site holds ready to give up, and is paid for.

    Attributes
    ----------
    pays : money per J held ready (W of reserve times s). most : W that may be sold. offered : (n,) True where it is.
    calls, lasts : how many calls are expected within the plan, and s of each: that much work and charge is kept spare.
    """

    name: str
    pays: float
    most: float
    offered: NDArray[np.bool_]
    calls: int = 0
    lasts: float = 3600.0


@dataclass(frozen=True, eq=False)
class Equipment:
    """All of it. sell : W that may be sold, and money per J got for it in each period. ramp : W/s at the grid."""

    tariffs: Sequence[Tariff] = ()
    storages: Sequence[Storage] = ()
    sources: Sequence[Source] = ()
    services: Sequence[Service] = ()
    sell: float = 0.0
    sell_price: Array | None = None
    ramp: float = np.inf

    def __bool__(self) -> bool:
        held = (self.tariffs, self.storages, self.sources, self.services)
        return any(map(bool, held)) or self.sell > 0 or bool(np.isfinite(self.ramp))
