"""What a replica is asked: requests with an arrival time, a prompt and an output. Files of them: `trace_files`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def _none() -> Ints:
    return np.zeros(0, np.int64)


@dataclass(frozen=True)
class Requests:
    """A trace of n requests.

    Attributes
    ----------
    arrival : (n,) s from the first, ascending. prompt, output : (n,) tokens.
    page : tokens of a prefix page; 0 where nothing is known of shared prefixes.
    first, pages : request i starts with the pages `pages[first[i] : first[i + 1]]`, numbered from 0; equal numbers
        are equal text after equal text.
    urgency : (n,) class, 0 is let in first. patience : seconds after which a request that was not begun leaves.
    timed : whether arrivals are known; where not, they are all 0 and `arrivals.timed` makes them up.
    notes : what was done to a file's rows to get here, for whoever reads the answer.
    """

    arrival: Floats
    prompt: Ints
    output: Ints
    page: int = 0
    first: Ints = field(default_factory=_none)
    pages: Ints = field(default_factory=_none)
    timed: bool = True
    notes: tuple[str, ...] = ()

    urgency: Ints = field(default_factory=_none)
    patience: float = math.inf

    def __post_init__(self) -> None:
        n = len(self.arrival)
        if not n:
            raise InputError("a trace holds at least one request")
        if len(self.prompt) != n or len(self.output) != n:
            raise InputError(f"a trace has as many prompts and outputs as arrivals ({n})")
        if not np.isfinite(self.arrival).all() or self.arrival[0] < 0 or (np.diff(self.arrival) < 0).any():
            raise InputError("arrivals must be finite seconds from 0 on, ascending")
        if (self.prompt < 1).any() or (self.output < 1).any():
            raise InputError("a request has at least 1 prompt token and 1 output token")
        if len(self.first) != n + 1:
            object.__setattr__(self, "first", np.zeros(n + 1, np.int64))
        if len(self.urgency) != n:
            object.__setattr__(self, "urgency", np.zeros(n, np.int64))

    def __len__(self) -> int:
        return len(self.arrival)

    @property
    def rate(self) -> float:
        """Mean requests per second over the span of the trace."""
        span = float(self.arrival[-1] - self.arrival[0])
        if span <= 0:
            raise InputError("a trace must span more than 0 s to have a rate; state serve.rate")
        return (len(self) - 1) / span

    def at_rate(self, rate: float) -> Requests:
        """Return the same requests, squeezed or stretched in time to a mean rate (requests/s)."""
        if not rate > 0 or not math.isfinite(rate):
            raise InputError(f"a rate must be above 0 requests/s, got {rate:g}")
        return replace(self, arrival=self.arrival * (self.rate / rate))

    def between(self, start: float = 0.0, stop: float = math.inf) -> Requests:
        """Return the requests that arrive in [start, stop) seconds, counted from the first of them."""
        return self._picked(
            np.flatnonzero((self.arrival >= start) & (self.arrival < stop)), f"in {start:g} to {stop:g} s"
        )

    def head(self, count: int) -> Requests:
        """Return the first `count` requests."""
        return self._picked(np.arange(min(max(count, 0), len(self))), f"among the first {count}")

    def every(self, step: int) -> Requests:
        """Return every `step`-th request, without what is known of prefixes: a fair share of the load."""
        some = slice(None, None, max(step, 1))
        arrival = self.arrival[some]
        return Requests(
            arrival - arrival[0],
            self.prompt[some],
            self.output[some],
            urgency=self.urgency[some],
            patience=self.patience,
        )

    def _picked(self, pick: Ints, where: str) -> Requests:
        if not len(pick):
            raise InputError(f"the trace holds no request {where}; it spans 0 to {self.arrival[-1]:g} s")
        a, z = self.first[pick[0]], self.first[pick[-1] + 1]  # picks are contiguous
        return replace(
            self, arrival=self.arrival[pick] - self.arrival[pick[0]], prompt=self.prompt[pick],
            output=self.output[pick], first=self.first[pick[0] : pick[-1] + 2] - a, pages=self.pages[a:z],
            urgency=self.urgency[pick],
        )  # fmt: skip
