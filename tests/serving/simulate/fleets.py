"""Small replicas and traces for the tests of the simulator; tables are made once per run."""

from __future__ import annotations

import functools

import numpy as np

from wattline.hardware import catalog as hardware
from wattline.serving.simulate.table import StepTable, step_table
from wattline.serving.step import Replica
from wattline.source.base import Device
from wattline.source.roofline.source import Roofline
from wattline.workload import catalog as models
from wattline.workload.parallel import Parallel
from wattline.workload.traffic import Requests


def device(name: str = "h100-sxm") -> Device:
    chip = hardware.chip(name)
    return Device(chip, hardware.default_node(chip))


def replica(model: str = "llama-3.1-8b", chunk: float = 8192.0, **parallel: int) -> Replica:
    return Replica(model=models.model(model), parallel=Parallel(section="serve", **parallel), chunk=chunk)


@functools.cache
def table(
    model: str = "llama-3.1-8b", chunk: float = 8192.0, max_batch: int = 256, draft: int = 0, **parallel: int
) -> StepTable:
    made = replica(model, chunk, **parallel)
    return step_table(made, device(), Roofline(), max_batch=max_batch, draft=(made, draft) if draft else None)


@functools.cache
def tiny(draft: int = 0) -> StepTable:
    """Up to 8 running requests and 64 tokens in a step."""
    return table(chunk=64.0, max_batch=8, draft=draft)


def trace(rows: list[tuple[float, int, int]], prefix: int = 0) -> Requests:
    """Requests as (gap, prompt, output); with `prefix`, all share pages of that many tokens."""
    gaps, prompts, outputs = (np.array(column) for column in zip(*rows, strict=True))
    arrival = np.cumsum(gaps) - gaps[0]
    if not prefix:
        return Requests(arrival, prompts, outputs)
    counts = prompts // prefix
    first = np.concatenate([[0], np.cumsum(counts)])
    return Requests(arrival, prompts, outputs, prefix, first, np.arange(first[-1]) - np.repeat(first[:-1], counts))
