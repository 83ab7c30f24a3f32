"""Any schedule from a file: the order of computations as PyTorch writes it, one row of cells per rank.

`schedule._dump_csv("order.csv")` of torch.distributed.pipelining writes `1F0` (stage 1, forward of microbatch 0), `I`,
`W` and `B` (backward of inputs, of weights, of both), and `(0F1;3B0)OVERLAP_F_B` for two that run side by side; cells
of communication (SEND_F, RECV_B, UNSHARD, ...) and empty ones are passed over.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Final

from ..core.errors import InputError
from .instructions import BACKWARD, BACKWARD_INPUT, BACKWARD_WEIGHT, FORWARD, Row, Task
from .schedule import Schedule

WHAT: Final = {"F": FORWARD, "B": BACKWARD, "I": BACKWARD_INPUT, "W": BACKWARD_WEIGHT}
_CELL: Final = re.compile(r"(\d+)([FBIW])(\d+)")
_PASSED: Final = re.compile(r"\d*(UNSHARD|RESHARD|REDUCE_GRAD|SEND_F|RECV_F|SEND_B|RECV_B)\d*")


def read_order(path: Path) -> Schedule:
    """Return the schedule of a file; where some backward passes are split, whole ones are taken as both halves."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            lines = [line for line in csv.reader(stream) if any(cell.strip() for cell in line)]
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: is no CSV ({error})") from None
    rows = [_row(line, f"{path} rank {rank}") for rank, line in enumerate(lines)]
    if not any(rows):
        raise InputError(
            f"{path}: holds no computation; write it with schedule._dump_csv of torch.distributed.pipelining"
        )
    if any(what == BACKWARD_INPUT for row in rows for _, what, _ in row):
        rows = [[half for task in row for half in _halves(task)] for row in rows]
    return checked(
        Schedule(f"file {path.name}", tuple(map(tuple, rows)), 1 + max(c for r in rows for c, _, _ in r)), path
    )


def _row(cells: list[str], where: str) -> Row:
    out: Row = []
    for number, cell in enumerate(cells, 1):
        text = cell.strip()
        inside = text[1 : text.index(")")].split(";") if text.startswith("(") and ")" in text else [text]
        for part in (p.strip() for p in inside):
            if found := _CELL.fullmatch(part):
                out.append((int(found[1]), WHAT[found[2]], int(found[3])))
            elif part and not _PASSED.fullmatch(part):
                raise InputError(
                    f"{where}, cell {number}: {part!r} is no computation; it must be like 1F0, 1I0, 1W0, 1B0"
                )
    return out


def _halves(task: Task) -> list[Task]:
    chunk, what, m = task
    return [(chunk, BACKWARD_INPUT, m), (chunk, BACKWARD_WEIGHT, m)] if what == BACKWARD else [task]


def checked(plan: Schedule, path: Path) -> Schedule:
    """Return the schedule, or refuse one that runs a computation twice, on two ranks, or not at all."""
    seen: dict[Task, int] = {}
    for rank, row in enumerate(plan.rows):
        for task in row:
            if task in seen:
                raise InputError(f"{path}: {_said(task)} runs on rank {seen[task]} and again on rank {rank}")
            seen[task] = rank
    holder: dict[int, int] = {}
    for (chunk, _, _), rank in seen.items():
        if holder.setdefault(chunk, rank) != rank:
            raise InputError(f"{path}: stage {chunk} runs on ranks {holder[chunk]} and {rank}; a stage has one")
    batches, whats = {m for _, _, m in seen}, {what for _, what, _ in seen}
    for chunk in range(plan.chunks):
        for what in sorted(whats):
            for m in sorted(batches):
                if (chunk, what, m) not in seen:
                    raise InputError(f"{path}: {_said((chunk, what, m))} is missing")
    return plan


def _said(task: Task) -> str:
    return f"{task[1].replace('_', ' of ')} of microbatch {task[2]} at stage {task[0]}"
