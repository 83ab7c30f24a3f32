"""Intervals by split conformal prediction over families: factors that hold nine in ten rows of families never seen.

Rows are grouped by what decides how wrong a prediction is: chip, host (one device, or several and a process
for each) and format of the weights. A group's factors are quantiles of errors of families left out of a fit, moved
apart until they hold nine in ten rows when each family's own errors are left out of the quantiles too
(conformalized quantiles, Romano, Patterson and Candes, NeurIPS 2019, with families in place of rows).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..source.base import Array

# Share of rows that an interval is to hold, and rows from which a group has factors of its own.
HELD: Final = 0.9
ENOUGH: Final = 30

Traits = Mapping[str, float | str]
Factors = dict[str, list[float]]


@dataclass(frozen=True)
class Scores:
    """Errors left out of a group: (targets, rows) logarithms of predicted over measured, and the model of each row."""

    name: str
    errors: Array
    model: NDArray[np.str_]


def group_of(traits: Traits) -> str:
    """Return the narrowest group of a row, "chip/host/format"."""
    host = "one" if float(traits.get("devices", 1.0)) == 1.0 else "several"
    formats = {str(traits.get(part, "none")) for part in ("dense", "experts")} - {"none"}
    return f"{traits.get('chip', '')}/{host}/{'16 bits' if formats <= {'bf16', 'fp16'} else 'narrow'}"


def wider_groups(name: str) -> list[str]:
    """Return a group and those it lies in, narrowest first: "a/b/c", "a/b", "a"."""
    parts = name.split("/")
    return ["/".join(parts[:n]) for n in range(len(parts), 0, -1)]


def factors(table: Mapping[str, Any], traits: Traits, architecture: str, target: str) -> tuple[float, float]:
    """Return the factors of a row's target: of its narrowest group that has any, else of its chip, else the widest."""
    names = [*wider_groups(group_of(traits)), architecture] if "devices" in traits else [architecture]
    found = next((table[name] for name in names if name in table), table["other"])
    low, high = found[target]
    return float(low), float(high)


def stretched(groups: Sequence[Scores], targets: Sequence[str]) -> dict[str, Factors]:
    """Return factors by group and target, of every group, narrow or wide, that has `ENOUGH` rows, and "other"."""
    whole: dict[str, list[Scores]] = {}
    for group in groups:
        for name in [*wider_groups(group.name), "other"]:
            whole.setdefault(name, []).append(group)
    out = {}
    for name, some in whole.items():
        errors, model = np.concatenate([g.errors for g in some], axis=1), np.concatenate([g.model for g in some])
        if errors.shape[1] >= ENOUGH:
            out[name] = {t: _stretched(errors[i], model) for i, t in enumerate(targets)}
    out["other"] = {t: [min(f[t][0] for f in out.values()), max(f[t][1] for f in out.values())] for t in targets}
    return out


def _stretched(errors: Array, model: NDArray[np.str_]) -> list[float]:
    """Return [low, high]: a prediction times these holds what was measured in nine of ten rows of a new model."""
    scores, ends = np.zeros(errors.size), np.zeros((errors.size, 2))
    for label in np.unique(model):
        mine = model == label
        low, high = _ends(errors[~mine])
        scores[mine] = np.maximum(-errors[mine] - high, low + errors[mine])
        ends[mine] = low, high
    count = errors.size
    level = min(HELD * (count + 1) / count, 1.0)
    more = float(np.quantile(scores, level, method="higher"))  # negative where quantiles of others hold too many
    low, high = np.median(ends, axis=0)  # of quantiles without a model, as those the scores are about
    return [float(np.exp(min(low - more, -0.01))), float(np.exp(max(high + more, 0.01)))]


def _ends(errors: Array) -> tuple[float, float]:
    """Return the logarithms that measured over predicted lies between in nine of ten rows."""
    low, high = np.quantile(-errors, [(1.0 - HELD) / 2.0, (1.0 + HELD) / 2.0])
    return min(float(low), -0.01), max(float(high), 0.01)
