"""When each computation of a graph starts once every duration is fixed: the longest path."""

from __future__ import annotations

import numpy as np

from ..core.kernels import Source
from .graph import Dag, Floats, Ints

kernel = Source("path.c")


@kernel
def _starts(order: Ints, pointer: Ints, head: Ints, duration: Floats, start: Floats) -> None:
    at, ends, taken, found = pointer.tolist(), head.tolist(), duration.tolist(), start.tolist()
    for v in order.tolist():
        end = found[v] + taken[v]
        for w in ends[at[v] : at[v + 1]]:
            if end > found[w]:
                found[w] = end
    start[:] = found


def _leaving(dag: Dag) -> tuple[Ints, Ints]:
    # A Dag keeps its edges sorted by their tail, so the edges that leave a node are one slice.
    return np.searchsorted(dag.edges[:, 0], np.arange(len(dag.nodes) + 1)), np.ascontiguousarray(dag.edges[:, 1])


def start_times(dag: Dag, duration: Floats) -> Floats:
    """Return the earliest start of every node, (n,) seconds, for (n,) durations in seconds."""
    start = np.zeros(len(dag.nodes))
    _starts(dag.order, *_leaving(dag), np.ascontiguousarray(duration), start)
    return start


def longest_path(dag: Dag, duration: Floats) -> float:
    """Return when the last node ends, in seconds."""
    return float((start_times(dag, duration) + duration).max())
