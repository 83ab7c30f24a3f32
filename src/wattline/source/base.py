"""The one protocol of the waist: a source turns work and a device into time and energy.

Below the waist hardware (what a device is) and workload (what is to be done) do not know each
other; they meet here for the first time. Everything above asks a `Source` and nothing else, so
replacing the silicon, or a model of it by a measurement of it, is one argument.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from ..core.provenance import Provenance
from ..frontier.algebra import Frontier
from ..hardware.facts import Sheet
from ..workload.operator import Operator

Array = NDArray[np.float64]


# Components that a chip draws for as long as it runs, whatever it computes.
STANDING: Final = ("leakage", "clock_tree", "waiting")


@dataclass(frozen=True)
class Device:
    """One accelerator in its place: the chip, the node around it and how many share its links."""

    chip: Sheet
    node: Sheet


@dataclass(frozen=True)
class Setting:
    """One setting of the device's knobs: core clock (Hz) and power limit (W)."""

    clock: float
    power_limit: float


@dataclass(frozen=True)
class Points:
    """One piece of work at each of n settings, before any pruning.

    Attributes
    ----------
    clock : (n,) core clock asked for, Hz.
    time : (n,) seconds.
    parts : component name -> (n,) joules, "waiting" included: `waiting_power * time`.
    waiting_power : watts the device draws while it waits for others.
    provenance : "measured", "calibrated" or "modelled".
    source : where the numbers come from, in words.
    uncertainty : relative standard deviation of the energy.
    extrapolated : True if any operator lies outside the range the source was fitted on.
    """

    clock: Array
    time: Array
    parts: Mapping[str, Array]
    waiting_power: float
    provenance: str = "modelled"
    source: str = ""
    uncertainty: float = 0.0
    time_uncertainty: float = 0.0
    extrapolated: bool = False

    @property
    def energy(self) -> Array:
        """(n,) total joules of the device, waiting power included."""
        return np.asarray(np.sum([*self.parts.values()], axis=0))

    @property
    def power(self) -> Array:
        """(n,) average watts."""
        return self.energy / self.time

    def times(self, factor: float) -> Points:
        """The same work `factor` times over."""
        parts = {name: factor * joules for name, joules in self.parts.items()}
        return replace(self, time=factor * self.time, parts=parts)

    def stretched(self, factor: float) -> Points:
        """The same work taking `factor` times as long with the clocks running: only standing energy grows."""
        parts = {name: factor * joules if name in STANDING else joules for name, joules in self.parts.items()}
        return replace(self, time=factor * self.time, parts=parts)

    def frontier(self, label: str = "", *, bare: bool = False) -> Frontier:
        """Return the time-energy frontier over the settings, each point knowing its clock.

        `bare`: times and energies alone, for searches that need no more.
        """
        if bare:
            return Frontier.of(
                self.time, self.energy - self.waiting_power * self.time, waiting_power=self.waiting_power
            )
        knobs = [{"label": label, "clock_hz": float(c)} for c in self.clock]
        return Frontier.of(
            self.time,
            self.energy - self.waiting_power * self.time,
            knobs=knobs,
            waiting_power=self.waiting_power,
            parts=self.parts,
            provenance=self.provenance,
            source=self.source,
            uncertainty=self.uncertainty,
        )


@dataclass(frozen=True)
class PointsTable(Sequence[Points]):
    """`Points` of m pieces of work as arrays; item i is the points of piece i.

    Attributes
    ----------
    clock : (n,) Hz. time : (m, n) seconds. parts : component name -> (m, n) joules.
    uncertainty, time_uncertainty, extrapolated : (m,), the others as in `Points`.
    """

    clock: Array
    time: Array
    parts: Mapping[str, Array]
    waiting_power: float
    provenance: str
    source: str
    uncertainty: Array
    time_uncertainty: Array
    extrapolated: NDArray[np.bool_]

    @staticmethod
    def of(points: Sequence[Points]) -> PointsTable:
        """Join points of one device at the same settings; of their origins the weakest holds for all."""
        first, zero = points[0], np.zeros_like(points[0].time)
        names = list(dict.fromkeys(name for p in points for name in p.parts))
        return PointsTable(
            first.clock,
            np.array([p.time for p in points]),
            {name: np.array([p.parts.get(name, zero) for p in points]) for name in names},
            first.waiting_power,
            Provenance.weakest(p.provenance for p in points),
            "; ".join(dict.fromkeys(p.source for p in points if p.source)),
            np.array([p.uncertainty for p in points]),
            np.array([p.time_uncertainty for p in points]),
            np.array([p.extrapolated for p in points]),
        )

    def __len__(self) -> int:
        return len(self.time)

    def __getitem__(self, index: Any) -> Any:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        parts = {name: joules[index] for name, joules in self.parts.items()}
        return Points(
            self.clock,
            self.time[index],
            {name: joules for name, joules in parts.items() if joules.any() or name in STANDING},
            self.waiting_power,
            self.provenance,
            self.source,
            float(self.uncertainty[index]),
            float(self.time_uncertainty[index]),
            bool(self.extrapolated[index]),
        )


class Source(Protocol):
    """**Required to implement**: `points`. Planning and simulation see only this.

    **Worth adding** where work recurs: ``tables(pieces, device, clocks) -> Sequence[Points]``, best a
    `PointsTable`, see `tables`; and where many devices are looked at:
    ``stacks(pieces, devices, clocks) -> list[PointsTable] | None``, see `stacks`. ``slow = True`` where one answer
    takes a search of its own: serving is then planned by the mean step, since a simulation prices thousands of steps.
    """

    def points(self, operators: Sequence[Operator], device: Device, clocks: Array | None = None) -> Points:
        """Return time and energy of `operators` run in order on `device` at each of its clocks.

        `clocks`: (n,) core clocks in Hz; all lockable ones of the chip where None. A clock at which
        the work would draw more than the chip's power limit runs slower: the device throttles.
        """
        ...


def slow(source: Source) -> bool:
    """Return whether an answer of `source`, or of the one it stands for, takes a search of its own."""
    return bool(getattr(getattr(source, "source", source), "slow", False))


def tables(
    source: Source, pieces: Sequence[Sequence[Operator]], device: Device, clocks: Array | None = None
) -> PointsTable:
    """Return the points of many pieces of work: the source's own `tables` where it has one, else one by one."""
    many = getattr(source, "tables", None)
    if many is None:
        return PointsTable.of([source.points(piece, device, clocks) for piece in pieces])
    found: Sequence[Points] = many(pieces, device, clocks)
    return found if isinstance(found, PointsTable) else PointsTable.of(found)


def stacks(
    source: Source, pieces: Sequence[Sequence[Operator]], devices: Sequence[Device], clocks: Array | None = None
) -> list[PointsTable] | None:
    """Return `tables` of many devices worked out at once; None where the source cannot, or not for these."""
    many = getattr(source, "stacks", None)
    return None if many is None else cast("list[PointsTable] | None", many(pieces, devices, clocks))
