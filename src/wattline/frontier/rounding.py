"""Plans that a device can run, from the exact frontier: one setting per node, or two with one switch inside.

Every plan carries its certificate: its energy, the exact bound at its deadline, and the gap between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wattline.errors import InputError
from wattline.frontier.graph import Dag, GraphFrontier, Hull

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class DiscretePlan:
    """One option per node. Energies are joules above waiting.

    Attributes
    ----------
    option : (n,) integers
        Row of the option table of the node's class.
    start, duration : (n,) arrays
        Seconds.
    time : float
        Completion time in seconds, at most the deadline.
    energy, bound : float
        Of this plan, and the least that any plan by the deadline could need.
    gap : float
        (energy - bound) / (bound + waiting power * deadline): the excess relative to the total.
    """

    option: Ints
    start: Floats
    duration: Floats
    time: float
    energy: float
    bound: float
    gap: float


class _Tables:
    """Option tables without dominated rows, laid end to end; `row` leads back to the caller's rows."""

    def __init__(self, options: Sequence[Hull]) -> None:
        times, energies, rows = [], [], []
        for c, table in enumerate(options):
            t, e = (np.atleast_1d(np.asarray(x, dtype=float)) for x in table)
            if t.ndim != 1 or t.shape != e.shape or len(t) == 0 or not (np.isfinite(t).all() and np.isfinite(e).all()):
                raise InputError(f"options must be two equally long rows of finite numbers, but class {c} has others")
            order = np.lexsort((e, t))
            least = np.minimum.accumulate(e[order])
            order = order[np.r_[True, least[1:] < least[:-1]]]
            times.append(t[order])
            energies.append(e[order])
            rows.append(order)
        self.first = np.r_[0, np.cumsum([len(x) for x in times])].astype(np.int64)
        self.time, self.energy, self.row = np.concatenate(times), np.concatenate(energies), np.concatenate(rows)


def round_discrete(dag: Dag, frontier: GraphFrontier, options: Sequence[Hull], deadline: float) -> DiscretePlan:
    """Pick one option per node so that the longest path meets `deadline` (seconds), at as little energy as found.

    `options` is (time, energy) per class, all measured settings, of which the frontier's hulls are the lower convex
    hulls; rows beaten in both are never picked. The exact optimum at the deadline is rounded in several ways, what time
    is left is spent where it saves most, and the best plan is kept.
    """
    from wattline.frontier import _rounding

    tables = _Tables(options)
    exact = frontier.schedule(deadline)
    limit = deadline * (1 + 1e-12)
    first, time, energy = tables.first, tables.time, tables.energy
    n = len(dag.nodes)
    forward = dag.order, *_rounding.neighbours(n, dag.edges[:, ::-1].copy()), dag.nodes
    backward = dag.order[::-1].copy(), *_rounding.neighbours(n, dag.edges), dag.nodes
    best: Ints | None = None
    least = np.inf
    for there, back, end in ((forward, backward, exact.end), (backward, forward, frontier_end(exact, deadline))):
        for share in SHARES:
            pick = _rounding.diffuse(*there, end * (1 + 1e-12), exact.price * share, first, time, energy)
            for step, rate in enumerate(RATES):
                one, other = (there, back) if step % 2 else (back, there)
                after = _rounding.longest(*other, pick, time)
                _rounding.reclaim(*one, after, limit, rate, pick, first, time, energy)
            total = energy[pick].sum()
            if total < least:
                best, least = pick, total
    return best, least
