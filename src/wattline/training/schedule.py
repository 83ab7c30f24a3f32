"""Pipeline schedules as data: for each device, the computations it runs, in order.

One small generator per schedule; what must wait for what follows from the rows and is the same for
all of them. A computation is named by (chunk, instruction, microbatch): `chunk` is a part of the model in
forward order, held by one device; instructions are "forward", "backward" and, where a schedule splits
the backward pass, "backward_input" (what the previous chunk waits for) and "backward_weight".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError, ScenarioError
from .instructions import BACKWARD, BACKWARD_INPUT, BACKWARD_WEIGHT, FORWARD, Row, Task
from .zero_bubble import dual_phases, dualpipe_v_rows, zb_2p_rows, zb_v_rows


@dataclass(frozen=True)
class Schedule:
    """Rows of tasks per device, and the chunks each device holds.

    Attributes
    ----------
    rows : per device its tasks in order.
    chunks : number of model chunks; the device of each follows from the rows.
    """

    name: str
    rows: tuple[tuple[Task, ...], ...]
    chunks: int

    @property
    def devices(self) -> int:
        return len(self.rows)

    def part(self, chunk: int) -> tuple[int, float]:
        """Return whose of as many equal stages as devices a chunk is a part of, and how large a part.

        In the interleaved schedule a device's own stage is spread over its chunks; elsewhere chunks follow the model.
        """
        if self.name == "dualpipe":
            return chunk % self.devices, 1.0
        if self.name == "interleaved":
            return chunk % self.devices, self.devices / self.chunks
        return chunk * self.devices // self.chunks, self.devices / self.chunks

    @property
    def microbatches(self) -> int:
        """Microbatches of an iteration."""
        return len({m for row in self.rows for _, _, m in row})

    @property
    def instructions(self) -> tuple[tuple[int, str], ...]:
        """Distinct (chunk, instruction), in order: the classes whose frontiers a plan needs."""
        return tuple(sorted({(chunk, what) for row in self.rows for chunk, what, _ in row}))


def gpipe(stages: int, microbatches: int) -> Schedule:
    """All forwards, then all backwards in reverse (Huang et al., NeurIPS 2019)."""
    rows = []
    for s in range(stages):
        row: Row = [(s, FORWARD, m) for m in range(microbatches)]
        row += [(s, BACKWARD, m) for m in reversed(range(microbatches))]
        rows.append(tuple(row))
    return Schedule("gpipe", tuple(rows), stages)


def one_f_one_b(stages: int, microbatches: int) -> Schedule:
    """Warm up with forwards, then alternate (PipeDream-Flush; Narayanan et al., ICML 2021)."""
    rows = []
    for s in range(stages):
        warm = min(stages - s - 1, microbatches)
        row: Row = [(s, FORWARD, m) for m in range(warm)]
        for m in range(microbatches - warm):
            row += [(s, FORWARD, warm + m), (s, BACKWARD, m)]
        row += [(s, BACKWARD, m) for m in range(microbatches - warm, microbatches)]
        rows.append(tuple(row))
    return Schedule("1f1b", tuple(rows), stages)


def interleaved(stages: int, microbatches: int, virtual: int) -> Schedule:
    """1F1B over `virtual` chunks per device (Narayanan et al., SC 2021, section 2.2.2)."""
    if microbatches % stages:
        near = max(1, round(microbatches / stages)) * stages
        raise ScenarioError(
            f"the interleaved schedule needs microbatches that pipeline stages divide, got {microbatches} "
            f"microbatches and {stages} stages; try {near}"
        )
    group, count = stages * virtual, microbatches * virtual

    def task(device: int, k: int, what: str) -> Task:
        part = k % group // stages
        part = part if what == FORWARD else virtual - 1 - part
        return part * stages + device, what, k // group * stages + k % stages

    rows = []
    for d in range(stages):
        warm = min(2 * (stages - d - 1) + (virtual - 1) * stages, count)
        row: Row = [task(d, k, FORWARD) for k in range(warm)]
        for k in range(count - warm):
            row += [task(d, warm + k, FORWARD), task(d, k, BACKWARD)]
        row += [task(d, k, BACKWARD) for k in range(count - warm, count)]
        rows.append(tuple(row))
    return Schedule("interleaved", tuple(rows), stages * virtual)


def zb_h1(stages: int, microbatches: int) -> Schedule:
    """1F1B with a split backward; weight gradients fill bubbles at 1F1B's memory (Qi et al., ICLR 2024)."""
    rows = []
    for s in range(stages):
        warm = min(stages - s - 1, microbatches)
        row: Row = [(s, FORWARD, m) for m in range(warm)]
        weights = 0  # weight gradients done so far
        for m in range(microbatches):
            if warm + m < microbatches:
                row.append((s, FORWARD, warm + m))
            row.append((s, BACKWARD_INPUT, m))
            # Stage s may lag s weight gradients behind without holding more than 1F1B does.
            if m >= s:
                row.append((s, BACKWARD_WEIGHT, weights))
                weights += 1
        row += [(s, BACKWARD_WEIGHT, m) for m in range(weights, microbatches)]
        rows.append(tuple(row))
    return Schedule("zb-h1", tuple(rows), stages)


def dualpipe(stages: int, microbatches: int) -> Schedule:
    """Two pipelines in opposite directions over the same devices (DeepSeek-V3 report, section 3.2.1).

    Device d holds chunk d of the first direction and chunk `stages - 1 - d` of the second, so the
    chunks are 2 x stages: 0 .. stages-1 and stages .. 2 stages - 1, each direction with half of the
    microbatches. Overlapped pairs are listed one after the other.
    """
    if stages % 2 or microbatches % 2 or microbatches < 2 * stages:
        raise ScenarioError(
            "dualpipe needs an even number of stages and an even number of microbatches, at least twice the stages, "
            f"got {stages} stages and {microbatches} microbatches; try {stages + stages % 2} and "
            f"{max(2 * (stages + stages % 2), microbatches + microbatches % 2)}"
        )
    return Schedule("dualpipe", tuple(_DualRow(d, stages, microbatches).build() for d in range(stages)), 2 * stages)


class _DualRow:
    """Builds one device's row of DualPipe, phase by phase, as the published schedule lists them."""

    def __init__(self, device: int, stages: int, microbatches: int) -> None:
        self.half = microbatches // 2
        half_stages = stages // 2
        self.rank = min(device, stages - 1 - device)
        self.lead = half_stages - self.rank - 1
        self.main = self.half - stages + self.rank + 1
        # A device of the second half sees the two directions exchanged.
        second = device >= half_stages
        chunk = (device, stages + (stages - 1 - device))
        self.chunk = chunk[::-1] if second else chunk
        self.offset = (self.half, 0) if second else (0, self.half)
        self.row: Row = []
        self.done = {(what, p): 0 for what in (FORWARD, BACKWARD) for p in (0, 1)}
        self.owed: Row = []

    def forward(self, phase: int) -> None:
        self.row.append(self._task(FORWARD, phase))

    def backward(self, phase: int, *, split: bool = False) -> None:
        chunk, _, m = self._task(BACKWARD, phase)
        if split:
            self.row.append((chunk, BACKWARD_INPUT, m))
            self.owed.append((chunk, BACKWARD_WEIGHT, m))
        else:
            self.row += [(chunk, BACKWARD_INPUT, m), (chunk, BACKWARD_WEIGHT, m)]

    def weight(self) -> None:
        self.row.append(self.owed.pop(0))

    def _task(self, what: str, phase: int) -> Task:
        m = self.done[what, phase]
        self.done[what, phase] += 1
        return self.chunk[phase], what, m + self.offset[phase]

    def build(self) -> tuple[Task, ...]:
        dual_phases(self, self.rank, self.lead, self.main)
        return tuple(self.row)


def zb_2p(stages: int, microbatches: int) -> Schedule:
    """Weight gradients fill every bubble but the first, at twice 1F1B's activations (`zero_bubble`)."""
    return Schedule("zb-2p", tuple(map(tuple, zb_2p_rows(stages, microbatches))), stages)


def zb_v(stages: int, microbatches: int) -> Schedule:
    """The same at 1F1B's activations, with two chunks a device in a V (`zero_bubble`)."""
    return Schedule("zb-v", tuple(map(tuple, zb_v_rows(stages, microbatches))), 2 * stages)


def dualpipe_v(stages: int, microbatches: int) -> Schedule:
    """DualPipe's forward beside backward with one copy of the weights, in a V (`zero_bubble`)."""
    return Schedule("dualpipe-v", tuple(map(tuple, dualpipe_v_rows(stages, microbatches))), 2 * stages)


GENERATORS: Final[Mapping[str, Callable[[int, int], Schedule]]] = {
    "gpipe": gpipe,
    "1f1b": one_f_one_b,
    "zb-h1": zb_h1,
    "zb-2p": zb_2p,
    "zb-v": zb_v,
    "dualpipe": dualpipe,
    "dualpipe-v": dualpipe_v,
}


def schedule(name: str, stages: int, microbatches: int, virtual: int = 1) -> Schedule:
    """Return the named schedule for `stages` devices, `microbatches` and `virtual` chunks per device."""
    if stages < 1 or microbatches < 1:
        raise InputError(f"a schedule needs at least 1 stage and 1 microbatch, got {stages} and {microbatches}")
    if name == "interleaved":
        return interleaved(stages, microbatches, virtual)
    if virtual != 1:
        raise ScenarioError(f"virtual = {virtual} needs schedule = 'interleaved', got {name!r}")
    if name not in GENERATORS:
        raise InputError(f"schedule {name!r} is not known; known: {', '.join([*GENERATORS, 'interleaved'])}")
    return GENERATORS[name](stages, microbatches)


@dataclass(frozen=True)
class Graph:
    """A schedule as a graph of n computations.

    Attributes
    ----------
    device, kind, microbatch : (n,) int: which device runs it, index into `kinds`, which microbatch.
    kinds : distinct (chunk, instruction); chunk -1 is a transfer between devices.
    edges : (m, 2) int: the first must end before the second starts.
    """

    device: NDArray[np.int64]
    kind: NDArray[np.int64]
    microbatch: NDArray[np.int64]
    kinds: tuple[tuple[int, str], ...]
    edges: NDArray[np.int64]
    devices: int


TRANSFER: Final = (-1, "transfer")


def graph(plan: Schedule, *, transfers: bool = False) -> Graph:
    """Return what must wait for what; with `transfers`, a node for each message between devices.

    >>> graph(one_f_one_b(2, 2)).edges.shape
    (11, 2)
    """
    kinds = plan.instructions + ((TRANSFER,) if transfers else ())
    index = {kind: i for i, kind in enumerate(kinds)}
    number: dict[Task, int] = {}
    device: list[int] = []
    kind: list[int] = []
    microbatch: list[int] = []
    edges: list[tuple[int, int]] = []
    for d, row in enumerate(plan.rows):
        for position, task in enumerate(row):
            number[task] = len(device)
            if position:
                edges.append((len(device) - 1, len(device)))
            device.append(d)
            kind.append(index[task[0], task[1]])
            microbatch.append(task[2])
    for task, i in list(number.items()):
        for before in _needs(plan, task):
            j = number.get(before)
            if j is None:
                continue
            if transfers and device[j] != device[i]:
                edges += [(j, len(device)), (len(device), i)]
                device.append(device[j])
                kind.append(index[TRANSFER])
                microbatch.append(task[2])
            else:
                edges.append((j, i))
    columns = [np.array(column, np.int64) for column in (device, kind, microbatch)]
    return Graph(columns[0], columns[1], columns[2], kinds, np.array(edges, np.int64).reshape(-1, 2), plan.devices)


def _needs(plan: Schedule, task: Task) -> tuple[Task, ...]:
    """Return the tasks whose result `task` uses (those not in the schedule do not exist)."""
    chunk, what, m = task
    # DualPipe holds two independent pipelines; elsewhere there is one.
    pipe = plan.chunks // 2 if plan.name == "dualpipe" else plan.chunks
    first, last = chunk % pipe == 0, chunk % pipe == pipe - 1
    if what == FORWARD:
        return () if first else ((chunk - 1, FORWARD, m),)
    if what == BACKWARD_WEIGHT:
        return ((chunk, BACKWARD_INPUT, m),)
    if last:
        return ((chunk, FORWARD, m),)
    return (chunk + 1, BACKWARD, m), (chunk + 1, BACKWARD_INPUT, m), (chunk, FORWARD, m)
