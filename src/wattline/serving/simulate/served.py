"""What a simulated pool would say of itself in its metrics: what a governor sees, here as on a live server."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...source.base import Array
from ._state import Out, Rules, Work
from .outcome import GAPS, PER_DECADE, SMALLEST, Limits
from .pool import Pool

Flags = NDArray[np.bool_]

# The middle of each bin of the time between tokens, s.
_GAPS = 10.0 ** ((np.arange(GAPS) + 0.5) / PER_DECADE + SMALLEST)


class Served:
    """Counts first tokens, ends and times between tokens of a stage's pools from look to look.

    Only requests from the first that has not ended on are read, so that a look of a long trace costs as much as one
    of a short one.
    """

    def __init__(self, work: Work, out: Out, rules: Rules, pools: Sequence[Pool], limits: Limits) -> None:
        self.work, self.out, self.rules, self.pools, self.limits = work, out, rules, pools, limits
        n = len(work.arrival)
        self._low = 0
        self._first = out.first >= 0.0  # a stage of decoding takes over requests whose first token is out
        self._ended = np.zeros(n, bool)
        self._gaps: Array = out.gaps.copy()

    def since(self, cursor: int, seconds: float) -> list[dict[str, float]]:
        """Return, by pool, what happened since the last call, among the requests up to `cursor`; the rest of `Seen`."""
        out = self.out
        span = slice(self._low, cursor)
        first, end = out.first[span], out.end[span]
        new_first = (first >= 0.0) & ~self._first[span]
        new_end = (end >= 0.0) & ~self._ended[span]
        pool = self.rules.pool[out.replica[span]]
        found = [self._counted(span, pool == k, new_first, new_end) for k in range(len(self.pools))]
        self._first[span] |= new_first
        self._ended[span] |= new_end
        rest = np.flatnonzero(~self._ended[span])
        self._low = self._low + int(rest[0]) if len(rest) else cursor
        moved = out.gaps - self._gaps
        self._gaps = out.gaps.copy()
        count = float(moved.sum())
        if count > 0:
            for one in found:
                one |= {"gaps": count, "gap_mean": float(moved @ _GAPS) / count}
        return [{"seconds": seconds, **one} for one in found]

    def _counted(self, span: slice, mine: Flags, new_first: Flags, new_end: Flags) -> dict[str, float]:
        out, work, limits = self.out, self.work, self.limits
        begun, ended = np.flatnonzero(mine & new_first) + span.start, np.flatnonzero(mine & new_end) + span.start
        waited = out.first[begun] - work.arrival[begun]
        each = (out.end[ended] - out.first[ended]) / np.maximum(work.output[ended] - 1, 1)
        told = {"firsts": float(len(begun)), "done": float(len(ended))}
        if len(begun):
            told["first_mean"] = float(waited.mean())
            told["first_late"] = 0.0 if limits.ttft is None else float((waited > limits.ttft).sum())
        if len(ended) and limits.tpot is not None:
            told["done_late"] = float((each > limits.tpot).sum())
        return told
