"""Closed-loop benchmarks, row by row: as many requests at once as stated, each followed by the next.

    time per token = the mean step      first token = one's own prompt + the step under way + HTTP and tokeniser
    requests per second = concurrency / (first token + output x time per token)

Columns are those of InferenceMAX results (vllm bench serve and its kin): chip, engine, model, lengths,
concurrency and parallelism in; median times and tokens per second and GPU out. Rows are only read here.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any, Final

import numpy as np

from ..core.errors import InputError
from ..hardware import catalog as hardware
from ..source.base import Array, Device, Source
from ..workload import catalog as models
from ..workload.infer import AS_STORED
from ..workload.model import Model
from ..workload.parallel import Parallel
from .beside import Columns, Measured, compare, each, number, whole
from .engine import Constants, Parts, assemble
from .profile import Engine
from .step import Load, Replica, clock_grid, work_of

TARGETS: Final = ("median_tpot", "median_ttft", "output_tput_per_gpu")

NEEDED: Final = ("hw", "framework", "model", "isl", "osl", "conc", "tp")

# Columns read where they are there: name -> what stands for a missing one.
OPTIONAL: Final[Mapping[str, str]] = {
    "image": "the usual version of the engine", "ep": "1", "dp_attention": "false",
    "precision": "as the model is stored",
    "range_ratio": "0.8: lengths even between that share and all of the stated one",
    "kv_cache_dtype": "what the public recipe of that engine and chip says, else as the model states",
}  # fmt: skip


@dataclass(frozen=True)
class Row(Measured):
    """One benchmark. `groups`: by what its error is reported. `receive`: steps from one look for new requests to the
    next."""

    receive: float = 1.0

    @property
    def traits(self) -> Mapping[str, float | str]:
        """What decides whether a row is like those the factors were fitted to."""
        return {"chip": self.device.chip.name, "engine": self.replica.engine.name, "context": self.load.seen}


def is_closed_loop(table: Columns) -> bool:
    """Return whether columns are those of a closed-loop benchmark."""
    return "conc" in table and "isl" in table


def read(table: Columns) -> tuple[list[Row | None], list[str]]:
    """Return each row, None where it cannot be read, and for each the reason, "" where there is none."""
    return each(table, row_of, what="closed-loop", needed=NEEDED, optional=OPTIONAL)


def row_of(cells: Mapping[str, Any], index: int) -> Row:
    """Read one benchmark."""
    chip = hardware.device(str(cells["hw"]).partition("-trt")[0])
    engine = engine_of(str(cells["framework"]), str(cells.get("image", "")))
    model = _model(str(cells["model"]), str(cells.get("precision", "")))
    devices, expert = whole(cells, "tp"), whole(cells, "ep", 1)
    apart = str(cells.get("dp_attention", "")).lower() == "true"
    parallel = Parallel(
        tensor=1 if apart else devices, data=devices if apart else 1, expert=expert, section="serve"
    ).check(model)
    mean = (1.0 + number(cells, "range_ratio", 0.8)) / 2.0
    load = Load(prompt=mean * number(cells, "isl"), output=max(mean * number(cells, "osl"), 1.0))
    device = Device(chip, hardware.default_node(chip))
    groups = {
        "engine": engine.name, "chip": chip.name, "model": model.name, "num_gpus": str(devices),
        "lengths": f"{number(cells, 'isl'):g} in, {number(cells, 'osl'):g} out",
    }  # fmt: skip
    requests = number(cells, "conc")
    launched = recipe(engine.name, chip.tags.get("architecture", ""), apart, requests)
    if switch := launched.get("switch"):
        engine = replace(engine, switches=engine.switches | {switch})
    replica = Replica(
        model=model, parallel=parallel, engine=engine, neighbours=1.0, balanced=bool(launched.get("balanced")),
        precision=replace(AS_STORED, kv=cells.get("kv_cache_dtype") or launched.get("kv")),
    )  # fmt: skip
    return Row(cells.get("row_id", index), replica, load, requests, device, groups, float(launched.get("receive", 1.0)))


@functools.cache
def _recipes() -> tuple[Mapping[str, Any], ...]:
    text = (resources.files(__package__) / "data" / "recipes.toml").read_text("utf-8")
    return tuple(tomllib.loads(text)["recipe"])


def recipe(engine: str, chip: str, apart: bool, requests: float) -> Mapping[str, Any]:
    """Return how a public benchmark of this kind was launched, see ``data/recipes.toml``."""
    facts = {"engine": engine, "chip": chip, "apart": apart}
    out: dict[str, Any] = {}
    for rule in _recipes():
        if all(rule.get(key, value) == value for key, value in facts.items()) and requests >= rule.get("at_least", 0):
            out |= rule["set"]
    return out


def engine_of(framework: str, image: str) -> Engine:
    """Return the engine of a row: its name, and its version where the image's tag states one."""
    tag = image.rpartition(":")[2]
    found = re.match(r"v?(\d+\.\d+)", tag)
    usual = Engine.parse(framework)
    return Engine.parse(f"{usual.name} {found[1]}") if found else usual


# Endings that name a build of a model, not another model.
_BUILDS: Final = re.compile(r"(-\d{4})?(-(NV)?FP4(-V\d)?|-FP8(-dynamic|-block)?)?$", re.IGNORECASE)


def _model(name: str, precision: str) -> Model:
    """Return a model by its name or that of what it is a build of, its products stored in `precision`."""
    try:
        model = models.model(name)
    except InputError:
        plain = _BUILDS.sub("", name.rpartition("/")[2])
        try:
            model = models.model(plain)
        except InputError:
            return models.model(name)  # say what the row says
    if precision in ("fp4", "nvfp4") and model.weights.of("experts" if model.moe else "dense") != "fp4":
        narrow = replace(model.weights, dense="fp4", experts="fp4", shared="fp4", attention="bf16")
        model = replace(model, weights=narrow)
    return model


# ------------------------------------------------------------------ predictions
def like(row: Row) -> tuple[str, str, bool]:
    """Return what rows share that are worked out together: chip, factors of the engine, whether its host is ahead."""
    return row.device.chip.name, row.replica.profile(row.device).factors, row.replica.ahead(row.device)


def works(rows: Sequence[Row], source: Source) -> Parts:
    """Return alike rows as one piece of work for `assemble`."""
    device = rows[0].device
    return work_of([row.job for row in rows], device, source, clock_grid(device))


def targets_of(rows: Sequence[Row], work: Parts, c: Constants, clock: float | None = None) -> Array:
    """Return (n, 3) seconds per token, to the first token, and output tokens per second and GPU of alike rows.

    clock : Hz; the highest where None.
    """
    chip, grid = rows[0].device.chip, clock_grid(rows[0].device)
    ahead = rows[0].replica.ahead(rows[0].device)
    asked = grid[-1:] if clock is None else np.array([clock])
    table = assemble(work, c, chip["power.waiting"], chip["power.limit"], grid, asked, ahead)
    step, plain = table.time[:, 0], table.decode[:, 0]
    batch = np.array([row.batch for row in rows])
    output = np.array([row.load.output for row in rows])
    fresh = np.array([row.load.fresh for row in rows])
    devices = np.array([float(row.replica.parallel.devices) for row in rows])
    unseen = np.array([(row.receive - 1.0) / 2.0 for row in rows]) * step
    first = first_token(c, fresh, plain, (step - plain) * output / batch) + unseen
    return np.stack([step, first, batch * output / (first + output * step) / devices], axis=1)


def first_token(c: Constants, fresh: Array, step: Array, fill: Array) -> Array:
    """Return the median seconds to the first token.

    fresh : prompt tokens computed. step : seconds of a step without prompts: half of one is under way, and one gives
    the token. fill : seconds that a prompt adds to the steps it is read in.
    """
    return np.asarray(c["first.request"] + c["first.token"] * fresh + c["first.prefill"] * fill + 1.5 * step)


def predict(rows: Sequence[Row], source: Source, clock: float | None = None) -> dict[str, Array]:
    """Return (n,) predictions of every row by target name, in the units of the columns, at a clock (the highest)."""
    found = np.zeros((len(rows), len(TARGETS)))
    for key in dict.fromkeys(map(like, rows)):
        mine = [i for i, row in enumerate(rows) if like(row) == key]
        some = [rows[i] for i in mine]
        found[mine] = targets_of(some, works(some, source), some[0].replica.constants(some[0].device), clock)
    return {name: found[:, i] for i, name in enumerate(TARGETS)}


def validate(table: Columns, source: Source, measured: Columns | None = None) -> dict[str, Any]:
    """Predict every row and compare with what was measured, as `serving_rows.validate` does."""
    found, reasons = read(table)
    rows = [row for row in found if row is not None]
    if not rows:
        raise InputError(reasons[0])
    good = [i for i, row in enumerate(found) if row is not None]
    targets = table if measured is None else measured
    picked = {name: [targets[name][i] for i in good] for name in TARGETS if name in targets}
    refused = [
        {"row_id": i, "model": str(table["model"][i]), "metric": "", "reason": why}
        for i, why in enumerate(reasons)
        if why
    ]
    told = compare(rows, predict(rows, source), picked, "engine_factors")
    return {**told, "rows": len(found), "picked": good, "refused": refused}
