"""How far to trust a prediction: the spread of errors on rows held out of the fit.

Spreads come from ``data/calibration.toml``: for each kind of operator the 68 % quantile of the
absolute relative error on held-out shapes, which for a Gaussian is one standard deviation. They are
widened for shapes outside the fitted range and for chips without measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .silicon import Silicon, calibration
from .work import Stack, Work


@dataclass(frozen=True)
class Spread:
    """Relative standard deviations of time and energy, and whether the chip itself was measured."""

    time: float
    energy: float
    known: bool
    source: str


def uncertainty(chip: Silicon, works: Sequence[Work]) -> Spread:
    """Return the spread of the sum of `works`: errors of one source are common, so they average."""
    table = calibration()["spread"]
    known = chip.name in table["measured"]
    stack = [Stack.of([w]) for w in works]
    weight = np.array([float(s.time(np.asarray(chip.clock_max), chip)[0].sum()) for s in stack])
    weight = weight / max(float(weight.sum()), 1e-30)
    pairs = np.array([_pair(table, w, known) for w in works])
    time, energy = (weight[:, None] * pairs).sum(axis=0)
    source = table["source"] if known else "the chip's facts; efficiency as measured on other chips"
    return Spread(float(time), float(energy), known, f"analytic roofline: {source}")


def spread_of(chip: Silicon, net: str, outside: bool) -> tuple[float, float, float, float]:
    """Return relative standard deviations of time and energy for one kind of operator, then the
    half-widths of the 90 % intervals of their logarithms (split conformal)."""
    table = calibration()["spread"]
    known = chip.name in table["measured"]
    return *_widen(table, "kind", net, outside, known), *_widen(table, "ninety", net, outside, known)


def _pair(table: dict[str, object], work: Work, known: bool) -> tuple[float, float]:
    return _widen(table, "kind", work.net, work.outside, known)


def _widen(table: dict[str, object], which: str, net: str, outside: bool, known: bool) -> tuple[float, float]:
    kinds: dict[str, list[float]] = table[which]  # type: ignore[assignment]
    time, energy = kinds.get(net, kinds["other"])
    factor = (float(table["outside"]) if outside else 1.0) * (1.0 if known else float(table["unmeasured"]))  # type: ignore[arg-type]
    return time * factor, energy * factor
