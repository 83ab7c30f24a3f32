"""Many devices looked at at once: a constant in which they differ becomes an array, one they share stays a number.

The shape models and `table` are array arithmetic throughout, so a chip whose bandwidth is an array
(devices, 1, 1) gives times (devices, operators, clocks): one evaluation for a whole sweep of what-ifs.
What decides the form of the work rather than its numbers must be the same on all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Final

import numpy as np

from ...hardware.facts import Sheet
from .silicon import Silicon

# The clocks that can be asked for, and which constants and learned corrections apply.
_ALIKE: Final = ("name", "architecture", "clock_min", "clock_max", "clock_step", "clock_ref")
# Facts of a node that choose the link in use.
_FORM: Final = ("nvlink.domain",)


def silicon(chips: Sequence[Silicon]) -> Silicon | None:
    """Return chips as one whose numbers may be arrays (chips, 1, 1); None where their form differs."""
    first = chips[0]
    changes: dict[str, Any] = {}
    for name in (f.name for f in fields(Silicon)):
        values = [getattr(chip, name) for chip in chips]
        if all(value is values[0] for value in values):
            continue
        if name == "origin":  # a chip without one is as its origin is
            known = [value for value in values if value is not None]
            if any(value != known[0] for value in known):
                return None
            changes[name] = known[0]
            continue
        if isinstance(values[0], Mapping):
            joined = _mapping(values)
            if joined is None:
                return None
            changes[name] = joined
        elif any(value != values[0] for value in values):
            if name in _ALIKE:
                return None
            changes[name] = _array(values)
    return replace(first, **changes)


def node(sheets: Sequence[Sheet]) -> Sheet | None:
    """Return nodes as one sheet, likewise."""
    first = sheets[0]
    if all(sheet is first for sheet in sheets):
        return first
    values = _mapping([{key: fact.value for key, fact in sheet.facts.items()} for sheet in sheets])
    if values is None or any(sheet.get(key, 0.0) != first.get(key, 0.0) for sheet in sheets for key in _FORM):
        return None
    return replace(first, facts={key: replace(fact, value=values[key]) for key, fact in first.facts.items()})


def _mapping(tables: Sequence[Mapping[str, float]]) -> dict[str, Any] | None:
    """Return name -> number or array; None where the names, or which of the numbers are zero, differ."""
    first = tables[0]
    out: dict[str, Any] = dict(first)
    if any(table.keys() != first.keys() for table in tables):
        return None
    for name, value in first.items():
        values = [table[name] for table in tables]
        if any(other != value for other in values):
            if any((other > 0) != (value > 0) for other in values):
                return None
            out[name] = _array(values)
    return out


def _array(values: Sequence[float]) -> Any:
    return np.array(values, dtype=np.float64)[:, None, None]
