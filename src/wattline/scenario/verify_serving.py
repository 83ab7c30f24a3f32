"""A user's own benchmark beside what a scenario predicts: which figures lie outside the interval, and what mends it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..core.errors import InputError, ScenarioError, WattlineError
from ..core.units import show
from ..hardware import catalog as hardware
from ..hardware.cluster import Cluster
from ..serving import closed_loop
from ..serving.bench_files import Bench, read
from ..serving.beside import bounds, extrapolated
from ..serving.closed_loop import TARGETS, Row
from ..serving.profile import Engine
from ..serving.step import Load
from ..source.base import Device, Source
from . import stated as scenarios
from .simulate_serving import clock_of, replica_of
from .stated import Scenario

TITLES: Final = ("time per token", "time to the first token", "output tokens/s and chip")
_UNITS: Final = ("s", "s", "")


@dataclass(frozen=True)
class Figure:
    """One figure of a run: measured (None where the file has none), predicted, what nine in ten lie between."""

    name: str
    title: str
    unit: str
    measured: float | None
    predicted: float
    low: float
    high: float

    @property
    def inside(self) -> bool | None:
        """Whether the measured figure lies in the interval; None where there is none."""
        return None if self.measured is None else bool(self.low <= self.measured <= self.high)

    def shown(self, value: float) -> str:
        return show(value, self.unit) if self.unit else f"{value:,.0f}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {"measured": self.measured, "predicted": self.predicted, "interval": [self.low, self.high],
                "inside": self.inside}  # fmt: skip


@dataclass(frozen=True)
class Verified:
    """One run of a file beside the prediction."""

    bench: Bench
    figures: tuple[Figure, ...]
    notes: tuple[str, ...]

    @property
    def outside(self) -> list[str]:
        """Titles of the figures outside their interval."""
        return [f.title for f in self.figures if f.inside is False]


@dataclass(frozen=True)
class Verdict:
    """Runs beside predictions, and the command that calibrates where some lie outside."""

    runs: tuple[Verified, ...]
    assumptions: tuple[str, ...]
    calibration: str

    @property
    def agrees(self) -> bool:
        """Whether every measured figure lies in its interval."""
        return not any(run.outside for run in self.runs)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values under stable JSON keys."""
        return {
            "agrees": self.agrees,
            "runs": [
                {
                    "file": run.bench.file, "tool": run.bench.tool, "concurrency": run.bench.concurrency,
                    "prompt_tokens": run.bench.prompt, "output_tokens": run.bench.output,
                    **{f.name: f.to_dict() for f in run.figures}, "outside": run.outside, "notes": list(run.notes),
                }
                for run in self.runs
            ],
            "assumptions": list(self.assumptions),
            "calibrate": None if self.agrees else self.calibration,
        }  # fmt: skip


def verify(scenario: Scenario, files: Sequence[Path], source: Source | None = None) -> Verdict:
    """Set benchmarks of a server that runs as `scenario` says beside the prediction for their load.

    The prediction is for the lengths and the concurrency of each run, at `serve.clock` or the highest clock.

    Raises
    ------
    InputError : a file is no result that is known. ScenarioError : the scenario serves nothing, or with pools apart.
    """
    if not scenario.has("serve"):
        raise ScenarioError("a benchmark is verified against a [serve] section; the scenario has none")
    if scenario.get("serve.prefill_replicas"):
        raise ScenarioError("serve.prefill_replicas: a benchmark is verified against one pool; leave the key out")
    source = source or scenarios.source_of(scenario)
    cluster = scenarios.cluster_of(scenario)
    replicas = scenario.get("serve.replicas") or 1
    clock = clock_of(scenario, "serve.clock", cluster)
    benches = [bench for path in files for bench in read(path)]
    if not benches:
        raise InputError("no file of a benchmark was named")
    rows = [_row(scenario, cluster, bench, replicas, i) for i, bench in enumerate(benches)]
    found = closed_loop.predict(rows, source, clock)
    ends = {name: bounds(rows, name, values, "engine_factors") for name, values in found.items()}
    runs = []
    for i, (bench, row) in enumerate(zip(benches, rows, strict=True)):
        measured = (bench.tpot, bench.ttft, bench.output_rate / (row.replica.parallel.devices * replicas))
        figures = tuple(
            Figure(name, title, unit, value, float(found[name][i]), *(float(end[i]) for end in ends[name]))
            for name, title, unit, value in zip(TARGETS, TITLES, _UNITS, measured, strict=True)
        )
        beyond = extrapolated(row, "engine_factors")
        far = (f"unlike any measured server in {', '.join(beyond)}: the interval is wider",) if beyond else ()
        runs.append(Verified(bench, figures, (*_differences(bench, row), *far)))
    at = (
        "the highest clock; state serve.clock where the server is locked to another" if clock is None else "serve.clock"
    )
    said = (
        f"predicted for each run's lengths and requests at once, at {at}",
        "intervals hold nine in ten measurements of models that the constants were not fitted to",
    )
    return Verdict(tuple(runs), said, calibration(scenario, cluster, files))


def _row(scenario: Scenario, cluster: Cluster, bench: Bench, replicas: int, index: int) -> Row:
    replica = replica_of(scenario, cluster)
    load = Load(prompt=bench.prompt, output=max(bench.output, 1.0))
    device = Device(cluster.chip, cluster.node)
    return Row(index, replica, load, max(bench.concurrency / replicas, 1.0), device, {"engine": replica.engine.name})


def _differences(bench: Bench, row: Row) -> tuple[str, ...]:
    """Say where a file states another server than the scenario does."""
    replica, said = row.replica, bench.stated
    mine = {
        "tp": str(replica.parallel.devices), "framework": replica.engine.name, "hw": row.device.chip.name,
    }  # fmt: skip
    out = []
    for column, value in mine.items():
        theirs = said.get(column)
        if theirs and _plain(column, theirs) != value:
            out.append(f"the file says {column} = {theirs}, the scenario {value}")
    name = bench.model.rpartition("/")[2].lower()
    if name and replica.model.name.lower() not in name and name not in replica.model.name.lower():
        out.append(f"the file says model {bench.model}, the scenario {replica.model.name}")
    return tuple(out)


def _plain(column: str, value: str) -> str:
    try:
        if column == "hw":
            return hardware.device(value.partition("-trt")[0]).name
        return Engine.parse(value).name if column == "framework" else value
    except WattlineError:
        return value


def calibration(scenario: Scenario, cluster: Cluster, files: Sequence[Path]) -> str:
    """Return the command that fits factors to these runs."""
    engine = scenarios.engine_of(scenario)
    devices = scenario["serve.tensor"] * scenario["serve.data"]
    words = ["wattline", "calibrate", "serving", *map(str, files), "--chip", cluster.chip.name]
    words += ["--model", str(scenario.get("model.name") or scenarios.model_of(scenario).name)]
    words += ["--engine", f"{engine.name} {'.'.join(map(str, engine.version))}", "--tensor", str(devices)]
    words += ["--expert", str(scenario["serve.expert"])] if scenario["serve.expert"] > 1 else []
    words += ["--precision", str(scenario["serve.precision"])] if scenario.get("serve.precision") else []
    return shlex.join([*words, "--output", "factors.toml"])


def rows_of(verdict: Verdict) -> list[list[str]]:
    """Return a table's rows: run, figure, measured, predicted, interval, whether it lies inside."""
    out = []
    for run in verdict.runs:
        label = f"{run.bench.file}: {run.bench.concurrency:.0f} at once"
        for figure in run.figures:
            if figure.measured is None or not np.isfinite(figure.measured):
                continue
            word = "inside" if figure.inside else "OUTSIDE"
            off = figure.measured / figure.predicted - 1.0
            out.append([
                label, figure.title, figure.shown(figure.measured), figure.shown(figure.predicted),
                f"{figure.shown(figure.low)} to {figure.shown(figure.high)}", f"{100 * off:+.0f} %, {word}",
            ])  # fmt: skip
            label = ""
    return out
