"""Measured image and video generation, row by row: denoising steps and what surrounds them.

    time = steps * (one pass of the transformer over all tokens) + text encoders + autoencoder

Columns are those of the ML.ENERGY leaderboard as cleaned for reference, or as its second version names them. A model
is one of the catalog, or a folder or config file, or, where a row states only its parameters, the usual transformer of
that size. Rows are only read here; one that cannot be read says why and costs no other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..core.errors import InputError
from ..hardware import catalog as hardware
from ..source.base import Array, Device, Source
from ..workload.diffusion import Diffuser, Picture, denoise_operators, diffuser, frame_operators
from ..workload.diffusion_config import guessed
from ..workload.diffusion_config import read as read_config
from ..workload.unet import Unet
from .beside import Columns, compare, each, number, whole
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

NEEDED: Final = ("model_id", "gpu", "batch_size", "inference_steps")

# Columns read where they are there: name -> what stands for a missing one.
OPTIONAL: Final[Mapping[str, str]] = {
    "height": "the model's own", "width": "the model's own", "ulysses_degree": "1", "ring_degree": "1",
    "num_frames": "1: an image", "task": "", "nickname": "the model", "total_params_b": "the catalog's model",
}  # fmt: skip

# Column of the leaderboard's second version -> ours.
RENAMED: Final[Mapping[str, str]] = {
    "Model": "model_id", "GPU": "gpu", "Batch size": "batch_size", "Denoising steps": "inference_steps",
    "Frames": "num_frames", "Batch latency (s)": "batch_latency_s", "Energy/image (J)": "energy_per_gen_j",
    "Energy/video (J)": "energy_per_gen_j", "kind": "task",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One configuration: `steps` denoising steps of a model on `ulysses` x `ring` devices."""

    id: Any
    model: Diffuser | Unet
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
            "attention": "a UNet"
            if isinstance(m, Unet)
            else "linear"
            if m.linear
            else "joint"
            if m.joint
            else "crossed",
            "facts": "guessed" if m.guessed else "known",
        }


def renamed(table: Columns) -> dict[str, Any]:
    """Return the table under our column names; two columns of one meaning fill each other's empty cells."""
    out: dict[str, Any] = {}
    for name, cells in table.items():
        ours = RENAMED.get(name, name)
        values = [_plain(c) for c in cells]
        out[ours] = [b if _empty(a) else a for a, b in zip(out[ours], values, strict=True)] if ours in out else values
    return out


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _empty(value: Any) -> bool:
    return value in ("", None) or value != value  # NaN is no value either


def read(table: Columns) -> tuple[list[Row | None], list[str]]:
    """Return each row, None where it cannot be read, and for each the reason, "" where there is none."""
    return each(table, _row, what="diffusion", needed=NEEDED, optional=OPTIONAL)


def rows_of(table: Columns) -> list[Row]:
    """Read configurations from columns; raise InputError for the first that cannot be read."""
    rows, reasons = read(renamed(table))
    first = next((reason for reason in reasons if reason), "")
    if first:
        raise InputError(first)
    return [row for row in rows if row is not None]


def _model(cells: Mapping[str, Any]) -> Diffuser | Unet:
    """Return the model of a row: of the catalog, of files, or the usual one of its number of parameters."""
    name = str(cells["model_id"])
    path = Path(name)
    if path.exists() and (path.is_dir() or path.suffix == ".json"):
        return read_config(path)
    try:
        return diffuser(name)
    except InputError as error:
        billions = number(cells, "total_params_b", 0.0)
        if not billions:
            raise InputError(
                f"{error}; a folder with model_index.json, or a column total_params_b, is read too"
            ) from None
        video = "video" in str(cells.get("task", "")) or whole(cells, "num_frames", 1) > 1
        return guessed(name.split("/")[-1].lower(), 1e9 * billions, video)


def _row(cells: Mapping[str, Any], index: int) -> Row:
    model, chip = _model(cells), hardware.device(str(cells["gpu"]))
    high, wide = model.size
    picture = Picture(
        height=whole(cells, "height", high), width=whole(cells, "width", wide), frames=whole(cells, "num_frames", 1),
        batch=whole(cells, "batch_size"),
    )  # fmt: skip
    ulysses, ring = whole(cells, "ulysses_degree", 1), whole(cells, "ring_degree", 1)
    groups = {
        "model": model.name,
        "batch": f"{number(cells, 'batch_size'):g}",
        "num_gpus": str(ulysses * ring),
        "task": str(cells.get("task", "text-to-image" if picture.frames == 1 else "text-to-video")),
    }
    if isinstance(model, Unet) and ulysses * ring > 1:
        raise InputError(f"{model.name}: a UNet has no sequence to split over {ulysses * ring} devices")
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
    beat = Beat(batch=none, prompts=none, visual=none, loose=one, logits=none, crowd=none, pressed=none)
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
    """Predict every row that can be read and compare with what was measured; as `serving_rows.validate`.

    The others come back under "refused" with their reasons; where none can be read the first reason is raised.
    """
    table = renamed(table)
    found, reasons = read(table)
    good = [i for i, row in enumerate(found) if row is not None]
    if not good:
        raise InputError(reasons[0])
    rows = [row for row in found if row is not None]
    targets = table if measured is None else renamed(measured)
    picked: dict[str, Any] = {name: [targets[name][i] for i in good] for name in TARGETS if name in targets}
    if "energy_per_gen_j" in picked and "batch_latency_s" in picked and len(picked) == 2:
        picked |= _implied(rows, picked)
    told = compare(rows, predict(rows, source), picked, "diffusion")
    ids = table.get("row_id", list(range(len(found))))
    refused = [
        {"row_id": ids[i], "model": str(table["model_id"][i]), "metric": "", "reason": why}
        for i, why in enumerate(reasons) if why
    ]  # fmt: skip
    notes = [f"column {n} is not there and was taken as {OPTIONAL[n]}" for n in ("height", "width") if n not in table]
    return {**told, "rows": len(found), "picked": good, "seen": picked, "refused": refused, "notes": notes}


def _implied(rows: Sequence[Row], found: Mapping[str, Sequence[Any]]) -> dict[str, list[float]]:
    """Return throughput and power that a table's energy and time of a batch imply."""
    batch = [float(r.picture.batch) for r in rows]
    time, energy = ([float(v) for v in found[name]] for name in ("batch_latency_s", "energy_per_gen_j"))
    return {
        "throughput_gen_s": [b / t for b, t in zip(batch, time, strict=True)],
        "power_per_gpu_w": [e * b / t / r.devices for e, b, t, r in zip(energy, batch, time, rows, strict=True)],
    }
