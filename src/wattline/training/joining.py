"""A device's row of settings without changes that it has no time for: short runs take a faster neighbour's clock."""

from __future__ import annotations

import math
from collections.abc import Sequence


def joined(clocks: Sequence[float], seconds: Sequence[float], latency: float) -> list[float]:
    """Return a clock (Hz) for each computation of a row, none lower than in `clocks`.

    A run of computations at one clock that is shorter than `latency` (s) takes the clock of the faster neighbour, or
    the neighbour takes its, so no computation becomes slower than planned. `seconds`: how long each takes.
    """
    sizes, lengths, values = [1] * len(clocks), list(seconds), list(clocks)
    while True:
        k = 0
        while k < len(values) - 1:  # runs of one clock are one
            if values[k] == values[k + 1]:
                sizes[k] += sizes.pop(k + 1)
                lengths[k] = math.fsum((lengths[k], lengths.pop(k + 1)))
                values.pop(k + 1)
            else:
                k += 1
        if len(values) <= 1:
            break
        short = min(range(len(values)), key=lambda i: (lengths[i], i))
        if lengths[short] >= latency:
            break
        beside = [i for i in (short - 1, short + 1) if 0 <= i < len(values)]
        faster = [i for i in beside if values[i] > values[short]]
        if faster:  # the least of what is faster
            values[short] = min(values[i] for i in faster)
        else:  # it is faster than both: the nearer in clock runs as fast
            values[max(beside, key=lambda i: values[i])] = values[short]
    return [value for value, size in zip(values, sizes, strict=True) for _ in range(size)]
