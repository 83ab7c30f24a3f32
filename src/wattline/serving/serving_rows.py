"""Measured serving configurations, row by row: what each states, what is predicted, how wrong it is.

Columns are those of the ML.ENERGY leaderboard as cleaned for reference: the parallelism really
launched, mean running requests, mean output length. Rows are only read here, never fitted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from ..core.errors import InputError, nearest
from ..hardware import catalog as hardware
from ..source.base import Array, Device, Source
from ..workload import catalog as models
from ..workload.model import Model
from ..workload.parallel import Parallel
from .beside import Columns, Measured, compare, each, number, whole
from .conformal import group_of
from .engine import Constants, Parts, Table, assemble, settings
from .profile import Engine
from .step import Job, Load, Replica, clock_grid, work_of

TARGETS: Final = ("energy_per_token_j", "throughput_tok_s", "power_per_gpu_w", "median_itl_ms")

NEEDED: Final = ("model_id", "gpu", "task", "attn_tp", "avg_batch_size", "avg_output_len")

# Columns read where they are there: name -> what stands for a missing one.
OPTIONAL: Final[Mapping[str, str]] = {
    "attn_dp": "1", "expert_ep": "1", "out_ctx_mean": "half of avg_output_len", "prompt_len": "the task's default",
    "visual_tokens": "the task's default", "n_requests_sampled": "no prompt seen before",
    "num_unique_requests": "no prompt seen before", "vllm_max_num_batched_tokens": "8192",
    "vllm_async_scheduling": "True",
    "vllm_other_args": "gpu-memory-utilization=0.9", "vllm_env": "no switches", "engine": "vllm 0.11",
    "family": "the model", "num_gpus": "attn_tp x attn_dp",
}  # fmt: skip

# Ranges of running requests that errors are grouped by.
BATCHES: Final = (0.0, 12.0, 48.0, 100.0, 300.0, np.inf)


@dataclass(frozen=True)
class Row(Measured):
    """One configuration. `groups`: by what its error is reported (family, batch, num_gpus, task)."""

    @property
    def traits(self) -> Mapping[str, float | str]:
        """What decides whether a row is like those the constants were fitted to."""
        model, parallel = self.replica.model, self.replica.parallel
        return {
            "chip": self.architecture,
            "devices": float(parallel.devices),
            "requests": self.batch / parallel.data,
            "context": self.load.seen,
            "attention": _attention(model),
            "dense": model.weights.of("dense") if "dense" in model.kinds else "none",
            "experts": model.weights.of("experts") if model.experts else "none",
            "groups": "data-parallel" if parallel.data > 1 else "one",
        }


def _attention(model: Model) -> str:
    if model.recurrent:
        return "with recurrent layers"
    if model.latent:
        return "latent"
    return "windowed" if model.window else "full"


# Columns of another leaderboard (ML.ENERGY v2) -> the names used here.
_OTHER: Final = {
    "Model": "model_id", "GPU": "gpu", "TP": "attn_tp", "PP": "pipeline", "Avg BS (reqs)": "avg_batch_size",
    "Avg Output Tokens": "avg_output_len", "Token tput (tok/s)": "throughput_tok_s", "path": "row_id",
}  # fmt: skip
# Its tasks, and its engine: vLLM 0.5.4.
_OTHER_TASKS: Final = {"chat": "lm-arena-chat", "code": "gpqa"}  # prompts of EvalPlus are as short


def renamed(table: Columns) -> Columns:
    """Return columns by the names used here: those of ML.ENERGY's second leaderboard are known too."""
    if "Avg BS (reqs)" not in table:
        return table
    out: dict[str, Any] = {_OTHER.get(name, name): column for name, column in table.items()}
    kinds = [str(kind).rpartition("/")[2] for kind in out.get("kind", ["chat"] * len(out["model_id"]))]
    out["task"] = [_OTHER_TASKS.get(kind, kind) for kind in kinds]
    out.setdefault("engine", ["vllm 0.5"] * len(kinds))
    if "Energy/req (J)" in out:
        pairs = zip(out["Energy/req (J)"], out["avg_output_len"], strict=True)
        out["energy_per_token_j"] = [float(joules) / float(tokens) for joules, tokens in pairs]
    return out


def read(table: Columns) -> tuple[list[Row | None], list[str]]:
    """Return each row, None where it cannot be read, and for each the reason, "" where there is none."""
    return each(table, _row, what="serving", needed=NEEDED, optional=OPTIONAL)


def rows_of(table: Columns) -> list[Row]:
    """Read configurations from columns; raise InputError naming what is missing and what is known."""
    table = renamed(table)
    missing = [name for name in NEEDED if name not in table]
    if missing:
        raise InputError(
            f"serving rows lack column {missing[0]!r}; needed: {', '.join(NEEDED)}; "
            f"read where given: {', '.join(OPTIONAL)}"
        )
    count = len(table["model_id"])
    return [_row({name: column[i] for name, column in table.items()}, i) for i in range(count)]


def _row(cells: Mapping[str, Any], index: int) -> Row:
    chip = hardware.device(str(cells["gpu"]))
    if whole(cells, "pipeline", 1) > 1:
        raise InputError("a replica cut into pipeline stages is not predicted; give rows of one stage")
    model = models.model(str(cells["model_id"]))
    tensor, data = whole(cells, "attn_tp"), whole(cells, "attn_dp", 1)
    parallel = Parallel(tensor=tensor, data=data, expert=whole(cells, "expert_ep", 1), section="serve").check(model)
    chunk = number(cells, "vllm_max_num_batched_tokens", 8192.0)
    ahead = str(cells.get("vllm_async_scheduling", "True")).lower() != "false"
    stated = re.search(r"gpu-memory-utilization=([\d.]+)", str(cells.get("vllm_other_args", "")))
    memory = float(stated[1]) if stated else 0.9
    replica = Replica(
        model=model, parallel=parallel, chunk=chunk, asynchronous=ahead, memory=memory, engine=engine_of(cells)
    )
    batch = number(cells, "avg_batch_size")
    groups = {
        "family": str(cells.get("family", model.name)),
        "batch": _range(batch),
        "num_gpus": str(parallel.devices),
        "task": str(cells["task"]),
    }
    device = Device(chip, hardware.default_node(chip))
    load = _settled(load_of(cells), replica, batch, device, *_sent(cells))
    row = Row(cells.get("row_id", index), replica, load, batch, device, groups)
    return replace(row, groups={**groups, "interval": group_of(row.traits)})


def engine_of(cells: Mapping[str, Any]) -> Engine:
    """Return the engine that columns state: `engine`, else vLLM 0.11 with its environment and launch arguments."""
    switches = [
        part.strip()
        for column in ("vllm_env", "vllm_other_args")
        for part in str(cells.get(column, "")).split(";")
        if "=" in part
    ]
    return Engine.parse(str(cells.get("engine") or "vllm 0.11"), switches)


def _sent(cells: Mapping[str, Any]) -> tuple[float, float]:
    """Return how many requests were sent, and how many of them differ (0: not stated)."""
    return number(cells, "n_requests_sampled", 0.0), number(cells, "num_unique_requests", 0.0)


def _settled(load: Load, replica: Replica, batch: float, device: Device, sent: float, unique: float) -> Load:
    """Return what the requests of a measured run can have been, given the memory that held them.

    Requests that run together fit, so their mean context is at most their share of the cache: runs of a
    few waves start with short contexts all at once, and longer ones are preempted. And a prompt sent
    before is found in the prefix cache only if it is still there.
    """
    fits = replica.capacity(load, device)
    if unique and sent > unique and fits:
        load = replace(load, cached=(1.0 - unique / sent) * min(1.0, max(fits, batch) / unique))
    if 0 < fits < batch and load.context is not None:
        seen = load.seen * fits / batch
        load = replace(load, context=max(seen - load.entering - 1.0, 0.0))
    return load


def load_of(cells: Mapping[str, Any]) -> Load:
    """Return what the requests of a row are like: stated lengths, or the task's default prompt."""
    known = settings()["task"]
    task = str(cells["task"])
    stated = "prompt_len" in cells
    if task not in known and not stated:
        raise InputError(f"task {task!r} has no default prompt; {nearest(task, known)}, or give a column prompt_len")
    prompt, visual, patches, frames = known[task][:4] if task in known else (0.0, 0.0, 0.0, 1.0)
    if visual and task.startswith("image") and (fixed := models.model(str(cells["model_id"])).picture):
        visual, patches = map(float, fixed)
    if "visual_tokens" in cells:
        tokens = number(cells, "visual_tokens")
        patches = tokens * (patches / visual if visual else 4.0)
        visual = tokens
    output = number(cells, "avg_output_len")
    return Load(
        prompt=number(cells, "prompt_len", prompt),
        output=output,
        context=number(cells, "out_ctx_mean", output / 2.0),
        visual=visual,
        patches=patches,
        frames=frames,
    )


def _range(batch: float) -> str:
    at = int(np.searchsorted(BATCHES, batch, side="left"))
    low, high = BATCHES[max(at - 1, 0)], BATCHES[min(at, len(BATCHES) - 1)]
    return f"over {low:g}" if np.isinf(high) else f"{low:g} to {high:g}"


# ------------------------------------------------------------------ predictions
def works(rows: Sequence[Row], source: Source) -> Parts:
    """Return rows of one chip as one piece of work for `assemble`."""
    device = rows[0].device
    return work_of([Job(r.replica, r.load, r.batch) for r in rows], device, source, clock_grid(device))


def table_of(rows: Sequence[Row], work: Parts, c: Constants) -> Table:
    """Return mean steps of rows of one chip at its highest clock."""
    device = rows[0].device
    chip, grid = device.chip, clock_grid(device)
    return assemble(work, c, chip["power.waiting"], chip["power.limit"], grid, grid[-1:], rows[0].replica.ahead(device))


def targets_of(rows: Sequence[Row], table: Table) -> dict[str, Array]:
    """Return (n,) predictions by target name, in the units of the columns."""
    batch = np.array([r.batch for r in rows])
    devices = np.array([float(r.replica.parallel.devices) for r in rows])
    time, energy = table.time[:, 0], table.energy[:, 0]
    return {
        "energy_per_token_j": devices * energy / batch,
        "throughput_tok_s": batch / time,
        "power_per_gpu_w": energy / time,
        "median_itl_ms": 1e3 * table.median[:, 0],
    }


def predict(rows: Sequence[Row], source: Source) -> dict[str, Array]:
    """Return (n,) predictions of every row by target name."""
    out = {name: np.empty(len(rows)) for name in TARGETS}

    def like(row: Row) -> tuple[str, str, bool]:
        return row.device.chip.name, row.replica.profile(row.device).factors, row.replica.ahead(row.device)

    for key in dict.fromkeys(map(like, rows)):
        mine = np.array([i for i, r in enumerate(rows) if like(r) == key])
        some = [rows[i] for i in mine]
        c = some[0].replica.constants(some[0].device)
        found = targets_of(some, table_of(some, works(some, source), c))
        for name, values in found.items():
            out[name][mine] = values
    return out


def validate(table: Columns, source: Source, measured: Columns | None = None) -> dict[str, Any]:
    """Predict every row and compare with what was measured, where it was.

    `measured`: columns of `TARGETS`, row by row as `table` (whose own columns count where None).
    Returns rows, metrics by target, groups (by family, batch, num_gpus, task and group of intervals) and
    predictions with a 90 % interval each. Rows that cannot be read come back under "refused" with their reasons;
    where none can be, the first reason is raised. "notes" says which columns a default stood for.
    """
    table = renamed(table)
    found, reasons = read(table)
    rows = [row for row in found if row is not None]
    if not rows:
        raise InputError(reasons[0])
    good = [i for i, row in enumerate(found) if row is not None]
    targets = table if measured is None else renamed(measured)
    picked = {name: [targets[name][i] for i in good] for name in TARGETS if name in targets}
    ids = table.get("row_id", list(range(len(found))))
    refused = [
        {"row_id": ids[i], "model": str(table["model_id"][i]), "metric": "", "reason": why}
        for i, why in enumerate(reasons)
        if why
    ]
    notes = [f"column {n} is not there and was taken as {OPTIONAL[n]}" for n in _TOLD if n not in table]
    told = compare(rows, predict(rows, source), picked)
    return {**told, "rows": len(found), "picked": good, "refused": refused, "notes": notes}


# Optional columns whose default is worth saying.
_TOLD: Final = ("engine", "prompt_len", "out_ctx_mean")
