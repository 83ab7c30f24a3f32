"""Noisy samples become a frontier by convex regression of energy on time, so that luck is not taken for efficiency.

The lower hull of noisy points is made of those that were lucky: it lies below the truth at every
vertex (the winner's curse). Regression uses all settings at once: along a sweep of a knob energy is
a convex function of time, which falls while slowing down saves energy and rises once it only waits.

    energy  |  o                     o  samples' mean, one per setting
            |   \\ x  above            \\  convex regression: its falling part is the frontier
            |    \\_o                  x  a setting significantly above the curve keeps its own mean
            |    o  \\__o___o__/
            +--------------------- time

Convexity in energy above waiting and in total energy is the same, for they differ by a straight
line, so the regression is done on totals, where noise is relative. It is exact weighted least squares
(hinges with coefficients >= 0, by active sets). References: Hildreth (1954) for convex least squares;
Lawson and Hanson, "Solving Least Squares Problems" (1974), ch. 23, for the active sets; Meyer and
Woodroofe, Ann. Statist. 28 (2000) 1083, for degrees of freedom under shape constraints.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core.arrays import Array, Index
from ..core.errors import InputError
from .algebra import Frontier
from .origin import Knobs

Flags = NDArray[np.bool_]

# A sample or a setting this many standard deviations off is set aside: 1 in 2,000 by chance.
_FAR = 3.5
_FAR_LEVEL = math.erf(_FAR / math.sqrt(2))
# The median absolute deviation of a normal variable, inverted: 1 / (2**0.5 * erfinv(1/2)).
_MAD = 1.4826
# Residual sums of squares lose between 1 and 2 per dimension of the face; Meyer and Woodroofe advise 1.5.
_DIMENSION_COST = 1.5
# With fewer degrees of freedom than this, repeats say too little about the noise.
_ENOUGH = 4


@dataclass(frozen=True, eq=False)
class Fitted:
    """What samples say about n settings, in order of first appearance, and the frontier they make.

    Attributes
    ----------
    frontier : the discrete frontier of the settings at their fitted energies.
    raw : the discrete frontier of the plain means; its hull is biased low.
    knobs : n mappings.
    repeats : (n,) samples used of each setting.
    time : (n,) seconds, mean of each setting's samples.
    measured : (n,) joules above waiting, mean of each setting's samples.
    fitted : (n,) joules above waiting, on the regression curve; where `above`, `measured`.
    standard_error : (n,) joules, of `fitted`; NaN where nothing tells the noise.
    above : (n,) settings significantly above the curve (dominated, or in a dent of the frontier).
    outlier : (m,) samples set aside.
    noise : relative standard deviation of one sample's total energy around the curve; NaN if unknown.
    degrees : degrees of freedom behind `noise`; infinite if it was given.
    """

    frontier: Frontier
    raw: Frontier
    knobs: tuple[Knobs, ...]
    repeats: Index
    time: Array
    measured: Array
    fitted: Array
    standard_error: Array
    above: Flags
    outlier: Flags
    noise: float
    degrees: float

    @functools.cached_property
    def hull(self) -> Frontier:
        """The frontier in the hull reading: the falling part of the regression curve."""
        return self.frontier.hull()

    @property
    def residual(self) -> Array:
        """(n,) joules, measured minus fitted."""
        return self.measured - self.fitted

    @property
    def uncertainty(self) -> float:
        """Relative standard deviation of the frontier's total energy, root mean square over its points."""
        return self.frontier.fastest.uncertainty

    def interval(self, level: float = 0.95) -> tuple[Array, Array]:
        """Return (n,) lower and (n,) upper joules between which the truth lies with probability `level`."""
        if not 0 < level < 1:
            raise InputError(f"an interval's level lies between 0 and 1, got {level}")
        half = _student(level, self.degrees) * self.standard_error
        return self.fitted - half, self.fitted + half


def fit(
    time: ArrayLike,
    energy: ArrayLike,
    *,
    knobs: Sequence[Knobs] = (),
    waiting_power: float = 0.0,
    sigma: float | None = None,
    provenance: str = "measured",
    source: str = "",
) -> Fitted:
    """Make a frontier from noisy samples; rows of equal `knobs` are repeats of one setting.

    Parameters
    ----------
    time : (m,) seconds, > 0.
    energy : (m,) joules **above waiting** (subtract ``waiting_power * time``), as in `Frontier.of`.
    knobs : m mappings, the setting of each sample; without them every sample is its own setting.
    waiting_power : watts drawn while waiting.
    sigma : relative standard deviation of one sample's total energy at a given time, where known.
        Otherwise it comes from repeats, or, without them, from the scatter around the curve.

    A sample far from the other repeats of its setting is set aside, whatever its sign. A setting far
    above the curve is believed and keeps its mean. One far *below* it pulls the curve down where
    repeats vouch for it; a single lucky sample is set aside, and the curve answers for its setting.

    >>> f = fit([1, 2, 2, 3], [9.0, 5.2, 4.8, 4.0], knobs=[{"mhz": 3}, {"mhz": 2}, {"mhz": 2}, {"mhz": 1}])
    >>> f.frontier.energy, f.repeats
    (array([9., 5., 4.]), array([1, 2, 1]))
    """
    t, e = np.atleast_1d(np.array(time, float)), np.atleast_1d(np.array(energy, float))
    if t.shape != e.shape or t.ndim != 1 or not t.size:
        raise InputError(f"time and energy must be two lists of one length >= 1, got shapes {t.shape}, {e.shape}")
    for name, values, ok in (("time", t, np.isfinite(t) & (t > 0)), ("energy", e, np.isfinite(e))):
        if not ok.all():
            row = int(np.flatnonzero(~ok)[0])
            rule = "finite and > 0 s" if name == "time" else "finite"
            raise InputError(f"every {name} must be {rule}, but sample {row} is {values[row]}")
    if len(knobs) not in (0, t.size):
        raise InputError(f"knobs must name the setting of each of the {t.size} samples, got {len(knobs)}")
    if sigma is not None and not (math.isfinite(sigma) and sigma >= 0):
        raise InputError(f"sigma must be a relative standard deviation >= 0, got {sigma}")
    if not (math.isfinite(waiting_power) and waiting_power >= 0):
        raise InputError(f"waiting_power must be a finite number of watts >= 0, got {waiting_power}")
    spent = e + waiting_power * t
    if spent.min() <= 0:
        row = int(spent.argmin())
        raise InputError(f"every total energy must be > 0 J, but sample {row} is {spent[row]} J with waiting")

    group, settings = _settings(knobs, t.size)
    outlier = _far_from_repeats(t, group) | _far_from_repeats(spent, group)
    used = ~outlier
    repeats = np.bincount(group[used], minlength=len(settings))
    mean_t = np.bincount(group[used], t[used], len(settings)) / repeats
    mean_e = np.bincount(group[used], spent[used], len(settings)) / repeats
    within = (t - mean_t[group])[used], (spent - mean_e[group])[used], group[used]

    curve = _Curve.of(mean_t, mean_e, repeats, within, sigma)
    if curve.lucky.any():
        outlier |= curve.lucky[group]
    measured = mean_e - waiting_power * mean_t
    fitted = np.where(curve.above, measured, curve.value - waiting_power * mean_t)
    # Exact where the curve passes through the mean, whatever the waiting power rounds to.
    fitted = np.where(curve.value == mean_e, measured, fitted)

    def build(joules: Array, uncertainty: float) -> Frontier:
        return Frontier.of(
            mean_t,
            joules,
            waiting_power=waiting_power,
            knobs=settings,
            provenance=provenance,
            source=source,
            uncertainty=uncertainty,
        )

    raw = build(measured, curve.noise)
    kept = np.isin(mean_t, build(fitted, 0.0).time)
    relative = curve.error[kept] / (fitted + waiting_power * mean_t)[kept]
    frontier = build(fitted, float(np.sqrt(np.mean(relative**2))))
    return Fitted(
        frontier=frontier,
        raw=raw,
        knobs=settings,
        repeats=repeats,
        time=mean_t,
        measured=measured,
        fitted=fitted,
        standard_error=curve.error,
        above=curve.above,
        outlier=outlier,
        noise=curve.noise,
        degrees=curve.degrees,
    )


# ---- repeats -------------------------------------------------------------------------------------


def _settings(knobs: Sequence[Knobs], size: int) -> tuple[Index, tuple[Knobs, ...]]:
    """Return (m,) the setting of each sample, and the settings."""
    if not len(knobs):
        return np.arange(size), tuple({"point": k} for k in range(size))
    seen: dict[tuple[tuple[str, str], ...], int] = {}
    group = [seen.setdefault(tuple(sorted((k, repr(v)) for k, v in row.items())), len(seen)) for row in knobs]
    first = np.unique(group, return_index=True)[1]
    return np.asarray(group, dtype=np.int64), tuple(knobs[int(k)] for k in first)


def _far_from_repeats(values: Array, group: Index) -> Flags:
    """Return (m,) samples far from the median of their setting, by a scale pooled over all settings.

    The scale comes from differences between repeats, which, unlike distances from a median of few,
    have no bias. Of two repeats that disagree neither is the outlier.
    """
    far = np.zeros(values.size, bool)
    rows = [np.flatnonzero(group == k) for k in range(int(group.max()) + 1)]
    rows = [r for r in rows if r.size >= 3]
    if not rows:
        return far
    gaps = [
        np.abs(values[r[lag:]] - values[r[:-lag]]) / abs(np.median(values[r]))
        for r in rows
        for lag in range(1, min(5, r.size))
    ]
    scale = _MAD * float(np.median(np.concatenate(gaps))) / math.sqrt(2)
    for r in rows:
        middle = float(np.median(values[r]))
        off = np.abs(values[r] - middle) > max(_FAR * scale, 1e-9) * abs(middle)
        # More than a third is no longer an outlier but a setting that is itself unsteady.
        if 3 * off.sum() <= r.size:
            far[r[off]] = True
    return far


# ---- the curve -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Curve:
    """The regression at each setting: `value` and `error` in total joules, and who was set aside."""

    value: Array
    error: Array
    above: Flags
    lucky: Flags
    noise: float
    degrees: float

    @staticmethod
    def of(t: Array, e: Array, repeats: Index, within: tuple[Array, Array, Index], sigma: float | None) -> _Curve:
        """Fit, with weights and slopes refined twice.

        Noise in time counts too: seen at a fixed time, a sample that took longer by dt on a curve of
        slope s lies s dt below, so the residual of one sample is de - s dt.
        """
        dt, de, group = within
        size = t.size
        repeated = int((repeats - 1).sum())
        known = sigma is not None or repeated >= _ENOUGH
        on, lucky = np.ones(size, bool), np.zeros(size, bool)
        scale, slope = e, np.zeros(size)
        noise, degrees = math.nan, math.inf
        for turn in range(3):
            if sigma is not None:
                noise = sigma
            elif known:
                rest = (de - slope[group] * dt) / scale[group]
                noise, degrees = math.sqrt(float(rest @ rest) / repeated), float(repeated)
            if known or turn == 0:
                on, lucky = _select(t, e, scale / np.sqrt(repeats), noise)
            line = _convex(t[on], e[on], scale[on] / np.sqrt(repeats[on]))
            value = line.at(t)
            value[on] = np.where(line.exact, e[on], value[on])
            scale, slope = np.maximum(value, 0.1 * e), line.slope(t)
        above = ~on & ~lucky
        off = (e[on] - value[on]) / scale[on] * np.sqrt(repeats[on])
        free = float(on.sum()) - _DIMENSION_COST * line.dimension
        scatter = math.sqrt(float(off @ off) / max(free, 1.0))
        if not known:
            noise, degrees = (scatter, max(free, 1.0)) if scatter > 0 else (math.nan, math.inf)
        inflate = 1.0
        if known and sigma is None and noise > 0 and free >= 1:
            # Settings scatter beyond what their repeats explain (drift, or a curve not quite convex): say so.
            excess = (scatter / noise) ** 2
            inflate = math.sqrt(excess) if excess > 1 + 2 * math.sqrt(2 / free) else 1.0
        # Weights were relative to one sample of unit noise.
        error = noise * inflate * line.spread(t)
        own = noise * e / np.sqrt(repeats)
        return _Curve(value, np.where(above, own, error), above, lucky, noise, degrees)


def _select(t: Array, e: Array, unit: Array, noise: float) -> tuple[Flags, Flags]:
    """Return (n,) settings on the curve, and (n,) single lucky samples below it. `unit` joules per unit of noise.

    With known noise only settings far above are set aside, the farthest first. Without, each is held
    against what the others say, scatter included, and no more than a quarter can be set aside.
    """
    on, lucky = np.ones(t.size, bool), np.zeros(t.size, bool)
    least = 3 if not math.isnan(noise) else max(4, t.size - t.size // 4)
    while on.sum() > least:
        rows = np.flatnonzero(on)
        if math.isnan(noise):
            off = _left_out(t[rows], e[rows], unit[rows])
            far = np.abs(off)
        else:
            line = _convex(t[rows], e[rows], unit[rows])
            off = (e[rows] - line.at(t[rows])) / unit[rows] / max(noise, 1e-9)
            far = off
        worst = int(np.argmax(far))
        if not far[worst] > _FAR:
            break
        on[rows[worst]] = False
        lucky[rows[worst]] = off[worst] < 0
    return on, lucky


def _left_out(t: Array, e: Array, unit: Array) -> Array:
    """Return how far each setting lies from what convexity allows it beside the others, in standard deviations.

    Between its neighbours a convex curve lies below their chord and above the extensions of the
    segments beyond; within that, and at the ends, a setting is not off at all.
    """
    off = np.zeros(t.size)
    x = np.unique(t)
    for k in range(t.size):
        here = int(np.searchsorted(x, t[k]))
        if not 0 < here < x.size - 1 or np.count_nonzero(t == t[k]) > 1:
            continue
        rest = np.arange(t.size) != k
        line = _convex(t[rest], e[rest], unit[rest])
        left = (e[rest] - line.at(t[rest])) / unit[rest]
        free = float(rest.sum()) - _DIMENSION_COST * line.dimension
        if free < 3 or line.exact.any():
            continue  # too few to tell noise from shape
        high = float(line.at(t[k : k + 1])[0])
        low = -math.inf
        for side in (x[max(here - 2, 0) : here], x[here + 1 : here + 3][::-1]):
            if side.size == 2:
                far, near = line.at(side)
                low = max(low, float(near + (near - far) / (side[1] - side[0]) * (t[k] - side[1])))
        away = float(e[k]) - (high if e[k] > high else min(low, high) if e[k] < low else float(e[k]))
        scatter = math.sqrt(float(left @ left) / free + 1e-18)
        wide = math.hypot(float(unit[k]), float(line.spread(t[k : k + 1])[0]))
        # In normal standard deviations: with few degrees of freedom the same distance says less.
        off[k] = away / (wide * scatter) * _FAR / _student(_FAR_LEVEL, free)
    return off


@dataclass(frozen=True, eq=False)
class _Line:
    """A convex piecewise linear curve: ``a + b x + sum c_k (x - x_k)+`` with x = (t - start) / span."""

    start: float
    span: float
    knots: Array
    coefficients: Array
    covariance: Array
    exact: Flags

    def _basis(self, t: Array) -> Array:
        x = (t - self.start) / self.span
        return np.column_stack([np.ones_like(x), x, np.maximum(x[:, None] - self.knots, 0.0)])[:, : self.dimension]

    @property
    def dimension(self) -> int:
        return int(self.coefficients.size)

    def at(self, t: Array) -> Array:
        """(k,) joules at (k,) seconds."""
        return np.asarray(self._basis(t) @ self.coefficients)

    def slope(self, t: Array) -> Array:
        """(k,) watts at (k,) seconds; at a knot, the mean of both sides."""
        if self.dimension < 2:
            return np.zeros_like(t)
        x = (t - self.start) / self.span
        turned = 0.5 * (np.sign(x[:, None] - self.knots) + 1)
        return np.asarray((self.coefficients[1] + turned @ self.coefficients[2:]) / self.span)

    def spread(self, t: Array) -> Array:
        """(k,) standard deviation of `at` in joules for samples of unit noise, given which knots bend."""
        basis = self._basis(t)
        variance = ((basis @ self.covariance) * basis).sum(axis=1)
        return np.asarray(np.sqrt(np.maximum(variance, 0.0)))


def _convex(t: Array, e: Array, unit: Array) -> _Line:
    """Return the convex curve of least ``sum ((e - curve(t)) / unit)**2``, exactly."""
    x_all, inverse = np.unique(t, return_inverse=True)
    weight = np.bincount(inverse, unit**-2.0)
    y = np.bincount(inverse, e * unit**-2.0) / weight
    start, span = float(x_all[0]), float(x_all[-1] - x_all[0]) or 1.0
    x, root = (x_all - start) / span, np.sqrt(weight)
    full = np.column_stack([np.ones_like(x), x, np.maximum(x[:, None] - x[1:-1], 0.0)])[:, : x.size]
    rows, target = full * root[:, None], y * root
    free = min(2, x.size)
    slopes = np.diff(y) / np.diff(x_all)
    if (np.diff(slopes) >= 0).all():
        # Convex already: the curve passes through every point, and bends at each but those on a straight line.
        bends = np.flatnonzero(np.diff(slopes) > 1e-12 * (np.abs(slopes).max(initial=0.0) + 1e-300))
        active, exact = [*range(free), *(bends + 2).tolist()], (e == y[inverse])
    else:
        active, exact = _active_set(rows, target, free), np.zeros(t.size, bool)
    used = rows[:, active]
    coefficients = np.linalg.lstsq(used, target, rcond=None)[0]
    half = np.linalg.pinv(used)
    knots = x[1:-1][np.asarray(active[free:], dtype=np.int64) - 2]
    return _Line(start, span, knots, coefficients, half @ half.T, exact)


def _active_set(rows: Array, target: Array, free: int) -> list[int]:
    """Return the columns used by least squares with all coefficients but the first `free` >= 0."""
    size = np.linalg.norm(rows, axis=0)
    scaled = rows / size
    active, at = list(range(free)), np.zeros(scaled.shape[1])
    at[:free] = np.linalg.lstsq(scaled[:, :free], target, rcond=None)[0]
    limit = 1e-10 * float(np.linalg.norm(target - scaled @ at) + 1e-300)
    for _ in range(10 * scaled.shape[1]):
        gain = scaled.T @ (target - scaled @ at)
        gain[active] = -np.inf
        enter = int(np.argmax(gain))
        if gain[enter] <= limit:
            break
        active.append(enter)
        while True:
            to = np.zeros_like(at)
            to[active] = np.linalg.lstsq(scaled[:, active], target, rcond=None)[0]
            bound = [k for k in active[free:] if to[k] <= 0]
            if not bound:
                break
            step = min(at[k] / (at[k] - to[k]) if at[k] > to[k] else 0.0 for k in bound)
            at += step * (to - at)
            leaving = {k for k in bound if at[k] <= 1e-14 * (1 + abs(to[k]))} or {min(bound, key=lambda k: at[k])}
            active = [k for k in active if k not in leaving]
            at[list(leaving)] = 0.0
            if enter in leaving and step == 0.0:
                break
        if enter not in active:
            at = np.zeros_like(at)
            at[active] = np.linalg.lstsq(scaled[:, active], target, rcond=None)[0]
            break  # nothing more is gained but rounding
        at = to
    return [*range(free), *sorted(active[free:])]


def _student(level: float, degrees: float) -> float:
    """Return the two-sided quantile of Student's t (Cornish-Fisher expansion; within 2 % from 4 degrees on).

    Abramowitz and Stegun, 26.7.5.
    """
    z = statistics.NormalDist().inv_cdf(0.5 + level / 2)
    g1 = (z**3 + z) / 4
    g2 = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    g3 = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + g1 / degrees + g2 / degrees**2 + g3 / degrees**3
