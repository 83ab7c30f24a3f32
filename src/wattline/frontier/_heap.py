"""A binary heap of keys with values, least key first: the plain twin of `heap.h`, so that ties leave in its order."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

Slots = list[int] | NDArray[Any]


def push(keys: Slots, values: Slots, size: int, key: int, value: int) -> None:
    """Add a key to the first `size`; there is room for it."""
    i = size
    while i > 0:
        above = (i - 1) // 2
        if keys[above] <= key:
            break
        keys[i] = keys[above]
        values[i] = values[above]
        i = above
    keys[i] = key
    values[i] = value


def pop(keys: Slots, values: Slots, size: int) -> None:
    """Remove the least key of a heap of `size`; read it before the call."""
    key = keys[size - 1]
    value = values[size - 1]
    size -= 1
    i = 0
    while True:
        below = 2 * i + 1
        if below >= size:
            break
        if below + 1 < size and keys[below + 1] < keys[below]:
            below += 1
        if keys[below] >= key:
            break
        keys[i] = keys[below]
        values[i] = values[below]
        i = below
    keys[i] = key
    values[i] = value
