"""The runs of a recurring job, one row each, and the tuner that has learnt from them.

A row says with which batch size a run trained, whether it reached the target, and what that cost (J, weighed as in
`jobs`): columns `COLUMNS`. What is to be run next follows from the rows alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from ..core.errors import InputError
from .recurring import Outcome, Trial, ValueTuner

COLUMNS: Final = ("batch_size", "reached", "cost_j", "time_s", "energy_j")
_YES, _NO = ("true", "yes", "1"), ("false", "no", "0")


def learnt(
    rows: Iterable[Mapping[str, Any]], batches: Sequence[int], start: int, recurrences: int | None = None,
    *, source: str = "the history",
) -> tuple[ValueTuner, Trial]:  # fmt: skip
    """Return the tuner after all rows, and what to run next.

    Parameters
    ----------
    rows : `batch_size`, `reached` and `cost_j` each; oldest first.
    batches, start : batch sizes to choose from, and the owner's own.
    recurrences : how often the job will run in all; None where nobody knows.
    """
    sizes = tuple(sorted(set(batches)))
    if start not in sizes:
        raise InputError(f"the owner's batch size {start} is not among {', '.join(map(str, sizes))}; add it")
    tuner = ValueTuner(sizes, sizes.index(start), recurrences)
    last = True
    for number, row in enumerate(rows, 2):
        outcome = _outcome(row, sizes, f"{source} line {number}")
        if not tuner._seen and not outcome.reached and sizes[outcome.row] == start:
            raise InputError(
                f"{source} line {number}: the owner's batch size did not reach the target; raise the bound"
            )
        tuner.tell(outcome)
        last = outcome.reached
    return tuner, tuner.ask(retry=not last)


def _outcome(row: Mapping[str, Any], sizes: Sequence[int], where: str) -> Outcome:
    missing = [c for c in COLUMNS[:3] if row.get(c) in (None, "")]
    if missing:
        raise InputError(f"{where}: {missing[0]} is missing; a run needs {', '.join(COLUMNS[:3])}")
    try:
        batch, cost = int(str(row["batch_size"])), float(row["cost_j"])
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None
    said = str(row["reached"]).strip().lower()
    if said not in (*_YES, *_NO):
        raise InputError(f"{where}: reached must be true or false, got {row['reached']!r}")
    if batch not in sizes:
        raise InputError(f"{where}: batch size {batch} is not among {', '.join(map(str, sizes))}; add it to --batches")
    if not (cost > 0 and math.isfinite(cost)):
        raise InputError(f"{where}: cost_j must be positive and finite, got {cost}")
    return Outcome(list(sizes).index(batch), said in _YES, cost)


def cost(energy: float, time: float, eta: float, most: float) -> float:
    """Return the cost (J) of a run of `energy` J and `time` s; `most`: the highest power limit of all devices, W."""
    if not 0 <= eta <= 1:
        raise InputError(f"eta must lie between 0 (time alone) and 1 (energy alone), got {eta:g}")
    return eta * energy + (1 - eta) * most * time
