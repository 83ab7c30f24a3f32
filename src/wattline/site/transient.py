"""What a grid sees of synchronous jobs: edges in milliseconds, swings in the band of its machines, and what calms them.

A synchronous training run computes, exchanges gradients, and computes again, all chips at once; now and then it stops
to write a checkpoint. Seen from the feed that is a periodic wave with steep edges. Here the wave is made at a step of
a millisecond, measured as grids measure it (largest ramp over a window, power in a band of frequencies), and put
through levers in the order in which they stand between chip and grid:

    stagger     jobs start their iterations at offsets that spread over one period
    smoothing   chips hold at least a floor (by work of no use) and change by no more than a ramp, as the power
                smoothing of GB200 does; a ramp up that is held back costs work, a floor costs energy
    battery     follows the slow part and gives or takes the rest, as far as its power and charge reach

After "Power Stabilization for AI Training Datacenters" (arXiv 2508.14318), which asks for ramps, a dynamic range and
little power between 0.1 and 20 Hz. Its limits are those of a place and are stated by whoever asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from ..core.errors import InputError
from ..core.units import show
from .tasks import Array

STEP: Final = 1e-3
# Windows over which a ramp is measured, s; the band in which swings disturb machines, Hz.
WINDOWS: Final = (0.01, 1.0, 60.0)
BAND: Final = (0.1, 20.0)


@dataclass(frozen=True)
class Wave:
    """One synchronous job's power: W while it computes, while it exchanges, and while it writes a checkpoint.

    `compute`, `exchange` : s of the two phases of an iteration. `edge` : s that a change takes. `every`, `writes` : s
    between checkpoints and s of each; none where `every` is infinite.
    """

    peak: float
    trough: float
    compute: float
    exchange: float
    edge: float = 0.005
    every: float = np.inf
    writes: float = 0.0
    written: float = 0.0

    def __post_init__(self) -> None:
        if not (self.peak >= self.trough >= 0 and self.compute > 0 and self.exchange >= 0 and self.edge >= 0):
            raise InputError(
                "a wave needs peak >= trough >= 0, a compute phase > 0 and an exchange >= 0, got "
                f"{show(self.peak, 'W')}, {show(self.trough, 'W')}, {self.compute:g} s and {self.exchange:g} s"
            )

    @property
    def period(self) -> float:
        """Seconds of an iteration."""
        return self.compute + self.exchange

    def power(self, time: Array, offset: float = 0.0) -> Array:
        """Return the W at times, `offset` s later than a job that begins at 0."""
        at = time - offset
        wave = np.where(np.mod(at, self.period) < self.compute, self.peak, self.trough)
        if np.isfinite(self.every):
            wave = np.where((np.mod(at, self.every) < self.writes) & (at >= self.every), self.written, wave)
        count = max(1, round(self.edge / STEP))
        if count == 1:
            return wave
        padded = np.concatenate([np.full(count - 1, wave[0]), wave])
        sums = np.concatenate([[0.0], np.cumsum(padded)])
        return np.asarray((sums[count:] - sums[:-count]) / count)


@dataclass(frozen=True)
class Seen:
    """What the grid sees: W; largest change over each of `WINDOWS` in W/s; W of swings in `BAND` (root mean square)."""

    mean: float
    peak: float
    trough: float
    ramps: tuple[float, ...]
    band: float
    loudest: float

    @property
    def swing(self) -> float:
        """Share of the peak between peak and trough: the dynamic range."""
        return (self.peak - self.trough) / self.peak if self.peak > 0 else 0.0


def seen(power: Array) -> Seen:
    """Measure a wave sampled every `STEP` seconds. `loudest` : Hz of its largest line in the band."""
    ramps = []
    for window in WINDOWS:
        k = min(max(1, round(window / STEP)), len(power) - 1)
        ramps.append(float(np.abs(power[k:] - power[:-k]).max() / (k * STEP)))
    # A taper that falls to zero at both ends (Hann): else what differs from start to end would look like swings.
    taper = np.hanning(len(power) + 2)[1:-1]
    lines = np.fft.rfft((power - float(power @ taper) / float(taper.sum())) * taper)
    hertz = np.fft.rfftfreq(len(power), STEP)
    inside = (hertz >= BAND[0]) & (hertz <= BAND[1])
    band = float(np.sqrt(2 * np.sum(np.abs(lines[inside]) ** 2) / (len(power) * float(taper @ taper))))
    loudest = float(hertz[inside][np.argmax(np.abs(lines[inside]))]) if inside.any() else 0.0
    return Seen(float(power.mean()), float(power.max()), float(power.min()), tuple(ramps), band, loudest)


@dataclass(frozen=True, eq=False)
class Calmed:
    """A wave after a lever: (n,) W, the share of work lost, the share of energy added, and J held by a battery."""

    power: Array
    lost: float = 0.0
    added: float = 0.0
    held: Array | None = None


def staggered(wave: Wave, jobs: int, lasts: float, *, spread: bool) -> Array:
    """Return the W of equal jobs that share the wave's power, all at once or spread over a period."""
    time = np.asarray(np.arange(round(lasts / STEP)) * STEP, float)
    offsets = np.arange(jobs) * wave.period / jobs if spread else np.zeros(jobs)
    out = np.zeros(len(time))
    for offset in offsets:
        out += wave.power(time, float(offset))
    return out / jobs


def smoothed(power: Array, *, floor: float = 0.0, up: float = np.inf, down: float = np.inf) -> Calmed:
    """Return a wave that holds `floor` W and changes by `up` and `down` W/s at the most.

    Below what is wanted work is lost in proportion; above it energy is spent on nothing.
    """
    wanted = np.maximum(power, floor)
    out = np.empty_like(wanted)
    last = float(wanted[0])
    rise, fall = up * STEP, down * STEP
    for k, want in enumerate(wanted.tolist()):
        last = min(max(want, last - fall), last + rise)
        out[k] = last
    total = float(power.sum())
    short, more = np.maximum(power - out, 0.0), np.maximum(out - power, 0.0)
    return Calmed(out, float(short.sum()) / total, float(more.sum()) / total)


def buffered(power: Array, *, energy: float, most: float, slow: float = 30.0) -> Calmed:
    """Return what is bought beside a battery of `energy` J and `most` W that leaves changes slower than `slow` s to it.

    It begins half full, and is led back to half by the slow part; where its power or charge ends, the grid sees what
    is left.
    """
    if not (energy > 0 and most > 0 and slow > STEP):
        raise InputError(f"a battery needs energy and power > 0, got {show(energy, 'J')} and {show(most, 'W')}")
    held, half, mean = energy / 2, energy / 2, float(power[: round(slow / STEP)].mean())
    out, level = np.empty_like(power), np.empty_like(power)
    share = STEP / slow
    for k, want in enumerate(power.tolist()):
        mean += share * (want - mean)
        target = mean + (half - held) / (4 * slow)
        give = min(max(want - target, -most), most)
        give = min(max(give, (held - energy) / STEP), held / STEP)
        held -= give * STEP
        out[k], level[k] = want - give, held
    return Calmed(out, held=level)


def ride_through(load: float, energy: float, most: float) -> float:
    """Return the seconds for which a battery carries a load alone; 0 where its power is too small."""
    return energy / load if 0 < load <= most else (np.inf if load <= 0 else 0.0)
