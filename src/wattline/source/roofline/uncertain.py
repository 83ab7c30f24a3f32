"""How far to trust a prediction: the spread of errors on rows held out of the fit.

Spreads come from ``data/calibration.toml``: for each kind of operator the 68 % quantile of the
absolute relative error on held-out shapes, which for a Gaussian is one standard deviation. They are
widened for shapes outside the fitted range, for chips without measurements, and for those fitted to a
handful of rows, by factors measured on rows held out likewise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base import Array
from .factors import applied, engine_of, kind_of
from .silicon import Silicon, calibration
from .work import Work, joined


def describe(chip: Silicon) -> tuple[bool, str]:
    """Return whether the chip itself was measured, and where predictions for it come from."""
    table = calibration()["spread"]
    known = chip.name in table["measured"]
    source = table["source"] if known else "the chip's facts; efficiency as measured on other chips"
    whose = engine_of(chip)
    kernels = f"; kernels as tables of {whose[0]} {whose[1]} have them, same origin" if whose else ""
    return known, f"analytic roofline: {source}{kernels}"


def spread_per_operator(chip: Silicon, works: Sequence[Work]) -> tuple[Array, NDArray[np.bool_]]:
    """Return relative standard deviations of time and energy (..., operators, 2), and which lie outside the range.

    Errors of one source are common to its operators, so those of a sum average rather than cancel.
    """
    table = calibration()["spread"]
    rows, flags = [], []
    known = chip.name in table["measured"]
    for w in works:
        outside = w.column(w.outside)[..., 0] > 0
        inner, outer = _widen(table, "kind", w.net, False, chip.name), _widen(table, "kind", w.net, True, chip.name)
        least = _of_kernels(chip, w)
        inner, outer = _no_less(inner, least, known), _no_less(outer, least, False)
        rows.append(np.where(outside[..., None], outer, inner))
        flags.append(outside)
    if not rows:
        return np.zeros((0, 2)), np.zeros(0, bool)
    return joined(rows, -2), joined(flags, -1)


def _of_kernels(chip: Silicon, work: Work) -> float:
    """Return what a table of kernels left of the error of time; below zero where it is the chip's very own."""
    kind = kind_of(work)
    factor = applied(chip.name, kind, work.stored) if kind else None
    if factor is None or not factor.rows or factor.plain:
        return 0.0
    return factor.spread if factor.nearest else -factor.spread


def _no_less(spread: tuple[float, float], least: float, measured: bool) -> tuple[float, float]:
    """Return spreads with that of time as the table's own rows left out have it, else no less than a stand-in's."""
    time, energy = spread
    return (-least if least < 0.0 and measured else max(time, abs(least))), energy


def spread_of(chip: Silicon, net: str, outside: bool) -> tuple[float, float, float, float]:
    """Return relative standard deviations of time and energy for one kind of operator, then the
    half-widths of the 90 % intervals of their logarithms (split conformal)."""
    table = calibration()["spread"]
    return *_widen(table, "kind", net, outside, chip.name), *_widen(table, "ninety", net, outside, chip.name)


def _widen(table: dict[str, Any], which: str, net: str, outside: bool, chip: str) -> tuple[float, float]:
    kinds: dict[str, list[float]] = table[which]
    time, energy = kinds.get(net, kinds["other"])
    few: dict[str, list[float]] = table["chip"].get(chip, {})
    if chip not in table["measured"]:
        few = {"other": table["unmeasured"]}
    on_time, on_energy = few.get(net, few.get("other", [1.0, 1.0]))
    far_time, far_energy = table["outside"] if outside else (1.0, 1.0)
    return time * far_time * on_time, energy * far_energy * on_energy
