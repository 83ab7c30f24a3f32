"""A pipelined iteration in the algebra alone: one microbatch through every stage, then the steady state.

1F1B and GPipe keep each stage busy with one forward and one backward per period once the pipeline is
full, and all stages share the period. So an iteration of M microbatches is

    (F_1 + B_1) + ... + (F_P + B_P)        one microbatch through all P stages
    + (M - 1) * ((F_1 + B_1) & ... & (F_P + B_P))

Interleaved stages take M V turns of one of their V model chunks each: the same with M V for M, and chunks
for stages' work. Every computation is counted once and a shared price of a second joins the terms. It leaves out
what stages could still save while the pipeline fills and drains; the exact graph finds that too. It
takes microseconds, so sweeps over thousands of scenarios use it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..frontier.algebra import Frontier, total


def steady_iteration(stages: Iterable[tuple[Frontier, Frontier, int]], microbatches: int) -> Frontier:
    """Return the frontier of one iteration.

    Parameters
    ----------
    stages : (forward, backward, how many stages are like this) on one device each, hull reading.
    microbatches : M of the iteration, at least 1.
    """
    cycles = [(forward + backward, count) for forward, backward, count in stages]
    period: Frontier = total([])
    for cycle, count in cycles:
        period = period & cycle.copies(count)
    # While one microbatch passes alone, one stage works and the others wait: energies above waiting
    # are the same, and the watts of waiting are those of all.
    fill = [count * replace(cycle, waiting_power=period.waiting_power) for cycle, count in cycles]
    return total([*fill, (microbatches - 1) * period])
