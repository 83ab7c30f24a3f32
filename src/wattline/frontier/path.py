"""When each computation of a graph starts once every duration is fixed: the longest path."""

from __future__ import annotations

import numpy as np

from ..core.compiled import compiled
from .graph import Dag, Floats, Ints


@compiled
def _starts(order: Ints, pointer: Ints, head: Ints, duration: Floats) -> Floats:
    start = np.zeros(len(order))
    for v in order:
        end = start[v] + duration[v]
        for k in range(pointer[v], pointer[v + 1]):
            if end > start[head[k]]:
                start[head[k]] = end
    return start


def _leaving(dag: Dag) -> tuple[Ints, Ints]:
    # A Dag keeps its edges sorted by their tail, so the edges that leave a node are one slice.
    return np.searchsorted(dag.edges[:, 0], np.arange(len(dag.nodes) + 1)), np.ascontiguousarray(dag.edges[:, 1])


def start_times(dag: Dag, duration: Floats) -> Floats:
    """Return the earliest start of every node, (n,) seconds, for (n,) durations in seconds."""
    return _starts(dag.order, *_leaving(dag), np.ascontiguousarray(duration))


def longest_path(dag: Dag, duration: Floats) -> float:
    """Return when the last node ends, in seconds."""
    return float((start_times(dag, duration) + duration).max())
