"""Schedules that fill bubbles with weight gradients: ZB-2p, ZB-V and DualPipe in a V, as rows of tasks.

In a V device d holds chunks d and 2p - 1 - d of 2p, so the last chunk sits beside the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..core.errors import ScenarioError
from .instructions import BACKWARD_INPUT, BACKWARD_WEIGHT, FORWARD, Row


def zb_2p_rows(stages: int, microbatches: int) -> list[Row]:
    """Return ZB-2p: no bubble but the fill, at twice 1F1B's activations (Qi et al., ICLR 2024, section 3).

    Made as their heuristic makes it, in steps of one computation: a backward pass of inputs as soon as it can run, else
    a forward pass while fewer than 2p microbatches are held, else a weight gradient that is owed.
    """
    done = [{FORWARD: 0, BACKWARD_INPUT: 0, BACKWARD_WEIGHT: 0} for _ in range(stages)]
    rows: list[Row] = [[] for _ in range(stages)]
    while any(d[BACKWARD_WEIGHT] < microbatches for d in done):
        before = [dict(d) for d in done]  # what neighbours had done when this step began
        for s, (mine, row) in enumerate(zip(done, rows, strict=True)):
            ready = before[s + 1][BACKWARD_INPUT] if s < stages - 1 else before[s][FORWARD]
            fed = before[s - 1][FORWARD] if s else microbatches
            held = mine[FORWARD] - mine[BACKWARD_WEIGHT]
            if mine[BACKWARD_INPUT] < ready:
                what = BACKWARD_INPUT
            elif mine[FORWARD] < fed and held < 2 * stages - 1:
                what = FORWARD
            elif mine[BACKWARD_WEIGHT] < mine[BACKWARD_INPUT]:
                what = BACKWARD_WEIGHT
            else:
                continue
            row.append((s, what, mine[what]))
            mine[what] += 1
    return rows


class _Vee:
    """One device's row in a V: counts microbatches per chunk and instruction, and weight gradients that are owed."""

    def __init__(self, device: int, stages: int) -> None:
        self.chunk = (device, 2 * stages - 1 - device)
        self.row: Row = []
        self.done = {(what, k): 0 for what in (FORWARD, BACKWARD_INPUT, BACKWARD_WEIGHT) for k in (0, 1)}
        self.owed: list[int] = []  # which half, oldest first

    def run(self, what: str, half: int) -> None:
        self.row.append((self.chunk[half], what, self.done[what, half]))
        self.done[what, half] += 1

    def forward(self, half: int) -> None:
        self.run(FORWARD, half)

    def backward(self, half: int, *, split: bool = False) -> None:
        self.run(BACKWARD_INPUT, half)
        if split:
            self.owed.append(half)
        else:
            self.run(BACKWARD_WEIGHT, half)

    def weight(self) -> None:
        if self.owed:
            self.run(BACKWARD_WEIGHT, self.owed.pop(0))


def zb_v_rows(stages: int, microbatches: int) -> list[Row]:
    """Return ZB-V: no bubble but the fill, at 1F1B's activations (Qi et al., "Pipeline parallelism with controllable
    memory", NeurIPS 2024), in the order of PyTorch's `ScheduleZBVZeroBubble`.
    """
    rows = []
    count = max(2 * stages - 1, microbatches)  # as many as fill the pipeline; those too many are left out again
    for d in range(stages):
        v = _Vee(d, stages)
        for _ in range(2 * (stages - d) - 1):
            v.forward(0)
        for _ in range(d):
            v.forward(1)
            v.forward(0)
        for _ in range(stages - d):
            v.forward(1)
            v.backward(1)
        while v.done[FORWARD, 1] < v.done[FORWARD, 0] or v.done[FORWARD, 0] < count:
            if v.done[FORWARD, 0] < count:
                v.forward(0)
            v.backward(0)
            v.forward(1)
            v.backward(1)
        for _ in range(d):
            v.run(BACKWARD_INPUT, 0)
            v.run(BACKWARD_INPUT, 1)
        for _ in range(stages - d):
            v.run(BACKWARD_INPUT, 0)
            v.run(BACKWARD_WEIGHT, 0)
        for half in (1, 0):
            while v.done[BACKWARD_WEIGHT, half] < v.done[BACKWARD_INPUT, half]:
                v.run(BACKWARD_WEIGHT, half)
        rows.append([task for task in v.row if task[2] < microbatches])
    return rows


class _Row(Protocol):
    """A device's row being built: what runs next of a half, and weight gradients put off until `weight`."""

    @property
    def owed(self) -> Sequence[object]: ...
    def forward(self, half: int, /) -> None: ...
    def backward(self, half: int, /, *, split: bool = False) -> None: ...
    def weight(self) -> None: ...


def dual_phases(row: _Row, rank: int, lead: int, main: int) -> None:
    """Add the phases of DualPipe as published: `rank` from the end that begins, `lead` devices before the middle, and
    `main` rounds of both halves one beside the other.
    """
    for _ in range(2 * lead):
        row.forward(0)
    for _ in range(rank + 1):
        row.forward(0)
        row.forward(1)
    for _ in range(lead):
        row.backward(1, split=True)
        row.weight()
        row.forward(1)
    for _ in range(main):
        row.forward(0)
        row.backward(1)
        row.forward(1)
        row.backward(0)
    for _ in range(lead):
        row.backward(1)
        row.forward(1)
        row.backward(0)
    split = False
    for i in range(rank + 1):
        split = split or (i == (rank + 1) // 2 and rank % 2 == 1)
        row.backward(1, split=split)
        split = split or (i == (rank + 1) // 2 and rank % 2 == 0)
        row.backward(0, split=split)
    for _ in range(lead):
        row.weight()
        row.backward(0, split=True)
    while row.owed:
        row.weight()


def dualpipe_v_rows(stages: int, microbatches: int) -> list[Row]:
    """Return DualPipeV, DualPipe's V-shaped half (DeepSeek, DualPipe repository), as PyTorch's `ScheduleDualPipeV`.

    Overlapped pairs are listed one after the other.
    """
    if microbatches < 2 * stages:
        raise ScenarioError(
            f"dualpipe-v needs at least twice as many microbatches as stages, got {microbatches} microbatches and "
            f"{stages} stages; try {2 * stages}"
        )
    rows = []
    for d in range(stages):
        v, lead = _Vee(d, stages), stages - d - 1
        dual_phases(v, d, lead, microbatches - 2 * stages + d + 1)
        rows.append(v.row)
    return rows
