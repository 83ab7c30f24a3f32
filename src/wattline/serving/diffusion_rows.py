"""Measured image and video generation, row by row: denoising steps and what surrounds them.

    time = steps * (one pass of the transformer over all tokens) + text encoders + autoencoder

Columns are those of the ML.ENERGY leaderboard as cleaned for reference. Rows are only read here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from ..core.errors import InputError
from ..hardware import catalog as hardware
from ..source.base import Array, Device, Source
from ..workload.diffusion import Diffuser, Picture, denoise_operators, diffuser, frame_operators
from .beside import Columns, compare, number, whole
from .engine import (
    Beat,
    Constants,
    Inquiry,
    Parts,
    Piece,
    Sums,
    assemble,
    constants,
    rows_from,
    slowed,
    sums,
)
from .step import clock_grid

TARGETS: Final = ("energy_per_gen_j", "throughput_gen_s", "power_per_gpu_w", "batch_latency_s")

NEEDED: Final = ("model_id", "gpu", "batch_size", "inference_steps", "height", "width")

# Columns read where they are there: name -> what stands for a missing one.
OPTIONAL: Final[Mapping[str, str]] = {
    "ulysses_degree": "1", "ring_degree": "1", "num_frames": "1: an image", "task": "", "nickname": "the model",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One configuration: `steps` denoising steps of a model on `ulysses` x `ring` devices."""

    id: Any
    model: Diffuser
    picture: Picture
    steps: int
    ulysses: int
    ring: int
    device: Device
    groups: Mapping[str, str]

    @property
    def devices(self) -> int:
        """Devices that split the sequence."""
        return self.ulysses * self.ring

    @property
    def architecture(self) -> str:
        """Architecture of the chip, "" where its sheet does not say."""
        return self.device.chip.tags.get("architecture", "")

    @property
    def traits(self) -> Mapping[str, float | str]:
        """What decides whether a row is like those the constants were fitted to."""
        m, p = self.model, self.picture
        return {
            "chip": self.architecture,
            "devices": float(self.devices),
            "batch": float(p.batch),
            "tokens": m.tokens(p.height, p.width, p.frames),
            "hidden": float(m.hidden),
            "attention": "linear" if m.linear else "joint" if m.joint else "crossed",
        }


def rows_of(table: Columns) -> list[Row]:
    """Read configurations from columns; raise InputError naming what is missing and what is known."""
    missing = [name for name in NEEDED if name not in table]
    if missing:
        raise InputError(
            f"diffusion rows lack column {missing[0]!r}; needed: {', '.join(NEEDED)}; "
            f"read where given: {', '.join(OPTIONAL)}"
        )
    count = len(table["model_id"])
    return [_row({name: column[i] for name, column in table.items()}, i) for i in range(count)]


def _row(cells: Mapping[str, Any], index: int) -> Row:
    model, chip = diffuser(str(cells["model_id"])), hardware.chip(str(cells["gpu"]))
    picture = Picture(
        height=whole(cells, "height"), width=whole(cells, "width"), frames=whole(cells, "num_frames", 1),
        batch=whole(cells, "batch_size"),
    )  # fmt: skip
    ulysses, ring = whole(cells, "ulysses_degree", 1), whole(cells, "ring_degree", 1)
    groups = {
        "model": model.name,
        "batch": f"{number(cells, 'batch_size'):g}",
        "num_gpus": str(ulysses * ring),
        "task": str(cells.get("task", "text-to-image" if picture.frames == 1 else "text-to-video")),
    }
    device, steps = Device(chip, hardware.default_node(chip)), whole(cells, "inference_steps")
    return Row(cells.get("row_id", index), model, picture, steps, ulysses, ring, device, groups)


def works(rows: Sequence[Row], source: Source) -> Parts:
    """Return rows of one chip as one piece of work: the step as "decode", what surrounds the steps as "mixed"."""
    device, n = rows[0].device, len(rows)
    step = [denoise_operators(r.model, r.picture, r.ulysses, r.ring) for r in rows]
    ends = [frame_operators(r.model, r.picture) for r in rows]
    both = sums(Inquiry.of([Piece(o, o) for o in (*step, *ends)]), device, source, clock_grid(device))
    both = slowed(both, "attention_prefill", legacy(device))
    none, one = np.zeros((n, 1)), np.ones((n, 1))
    # Kernels are launched one by one: no graph is captured.
    beat = Beat(batch=none, prompts=none, visual=none, loose=one, logits=none, crowd=none, shared=one)
    share = np.array([[1.0 / (r.steps + 1.0)] for r in rows])
    return Parts(rows_from(both, slice(0, n)), rows_from(both, slice(n, None)), (beat, beat), share, none)


# FLOP of a bf16 product per cycle and unit that instructions of 2020 reach (A100: 312 TFLOP/s over 108 x 1.41 GHz).
_AMPERE: Final = 2048.0
# Of the rate of a unit with newer instructions, what those of 2020 still gain (0.62 of a Hopper unit's 4096:
# Luo et al., arXiv 2402.13499, table 8, mma against wgmma).
_KEPT: Final = 0.62 * 4096.0 / _AMPERE


def legacy(device: Device) -> float:
    """Return how much slower attention is that runs on instructions of 2020 than the chip's own.

    Frameworks that split sequences bring their own FlashAttention-2, written for the A100; the source's
    attention is a serving engine's, with the instructions of each chip (arXiv 2407.08608: 35 % of an
    H100's rate against 75 %).
    """
    chip = device.chip
    own = chip["compute.rate.bf16"] / (chip["compute.units"] * chip["clock.reference"])
    return max(own / (_AMPERE * _KEPT), 1.0)


def targets_of(rows: Sequence[Row], work: Parts, c: Constants) -> dict[str, Array]:
    """Return (n,) predictions by target name at the chip's highest clock."""
    device = rows[0].device
    grid = clock_grid(device)
    work = replace(work, mixed=_ends(work.mixed, c["ends.time"]))
    table = assemble(work, c, device.chip["power.waiting"], device.chip["power.limit"], grid, grid[-1:])
    pieces = np.array([r.steps + 1.0 for r in rows])
    batch = np.array([float(r.picture.batch) for r in rows])
    devices = np.array([float(r.devices) for r in rows])
    time, energy = pieces * table.time[:, 0], pieces * table.energy[:, 0]
    return {
        "energy_per_gen_j": devices * energy / batch,
        "throughput_gen_s": batch / time,
        "power_per_gpu_w": energy / time,
        "batch_latency_s": time,
    }


def _ends(work: Sums, factor: float) -> Sums:
    for kind in work.busy:
        work = slowed(work, kind, factor)
    return work


def predict(rows: Sequence[Row], source: Source) -> dict[str, Array]:
    """Return (n,) predictions of every row by target name."""
    out = {name: np.empty(len(rows)) for name in TARGETS}
    for chip in dict.fromkeys(r.device.chip.name for r in rows):
        mine = np.array([i for i, r in enumerate(rows) if r.device.chip.name == chip])
        some = [rows[i] for i in mine]
        found = targets_of(some, works(some, source), constants(some[0].architecture, "diffusion"))
        for name, values in found.items():
            out[name][mine] = values
    return out


def validate(table: Columns, source: Source, measured: Columns | None = None) -> dict[str, Any]:
    """Predict every row and compare with what was measured; as `serving_rows.validate`."""
    rows = rows_of(table)
    return compare(rows, predict(rows, source), table if measured is None else measured, "diffusion")
