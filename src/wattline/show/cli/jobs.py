"""Recurring training jobs as the command line knows them: `wattline jobs frontier`, `next` and `play`."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from ...core.errors import InputError
from .output import Json, filled, print_json, terminal

if TYPE_CHECKING:
    from ...training.jobs import Choice, Job

Gpu = Annotated[str, Parameter(help="Device of the traces, as their column gpu has it.")]
Eta = Annotated[float, Parameter(help="1 weighs energy alone, 0 time alone.")]
Batch = Annotated[int, Parameter(help="The owner's batch size.")]

jobs = App(
    name="jobs", help="Training jobs that recur: which batch size and power limit cost least, and what to run next."
)


def register(app: App) -> None:
    """Add the commands to the command line."""
    app.command(jobs)


@jobs.command
def frontier(
    epochs: Path,
    power: Path,
    *,
    gpu: Gpu,
    dataset: str,
    network: str,
    optimizer: str,
    target: Annotated[float, Parameter(help="Target metric, as the trace of epochs has it.")],
    batch: Batch,
    max_epochs: Annotated[float, Parameter(help="A run is given up after so many.")] = 100.0,
    eta: Eta = 0.5,
    json: Json = False,
) -> None:
    """Show time and energy of one training over batch sizes and power limits, and the choice of least cost.

    Example: wattline jobs frontier epochs.csv power.csv --gpu v100 --dataset squad --network bert --optimizer adamw
    --target 84 --batch 32

    Parameters
    ----------
    epochs
        Trace of epochs to the target in Zeus' layout (CSV).
    power
        Trace of time and power per epoch at each power limit (CSV).
    """
    from ...core.units import show
    from ...training.jobs import default, oracle

    job = _job(epochs, power, gpu, dataset, network, optimizer, target, batch, max_epochs)
    points, best, now = job.frontier(), oracle(job, eta), default(job, eta)
    rows = [
        {"batch_size": k["batch_size"], "power_limit_w": k["power_limit_w"], "time_s": float(t), "energy_j": float(e)}
        for i, (t, e) in enumerate(zip(points.time, points.energy, strict=True))
        for k in [points.plan(i)[0].knobs]
    ]
    if json:
        print_json({"job": job.name, "eta": eta, "frontier": rows, "best": _plain(best), "now": _plain(now)})
        return
    units = {"power_limit_w": "W", "time_s": "s", "energy_j": "J"}
    told = [[str(r["batch_size"]), *(show(r[key], unit, 4) for key, unit in units.items())] for r in rows]
    terminal().print(filled(["batch size", "power limit", "time", "energy"], told))
    terminal().print(
        f"\nleast cost at eta = {eta:g}: batch size {best.batch} at {show(best.limit, 'W')}, "
        f"{100 * (1 - best.energy / now.energy):.1f} % less energy and {100 * (best.time / now.time - 1):+.1f} % time "
        f"against batch size {now.batch} at {show(now.limit, 'W')}"
    )


@jobs.command(name="next")
def next_(
    history: Path,
    *,
    batches: Annotated[str, Parameter(help="Batch sizes to choose from: 32,64,128.")],
    start: Batch,
    recurrences: Annotated[int | None, Parameter(help="How often the job will run in all, where known.")] = None,
    json: Json = False,
) -> None:
    """Say with which batch size the job is to run next, and at what cost to stop that run.

    Example: wattline jobs next runs.csv --batches 32,64,128,256 --start 64

    Parameters
    ----------
    history
        Runs so far (CSV): batch_size,reached,cost_j; a file that is not there yet is a job that never ran.
    """
    from ...core.units import show
    from ...training.history import learnt

    tuner, trial = learnt(
        _rows(history) if history.exists() else [], _sizes(batches), start, recurrences, source=str(history)
    )
    size, best = tuner.batches[trial.row], tuner.batches[tuner.best]
    bound = None if trial.bound == float("inf") else trial.bound
    if json:
        print_json({"batch_size": size, "stop_at_cost_j": bound, "best_batch_size": best, "looks": size != best})
        return
    stop = "" if bound is None else f"; stop it once it has cost {show(bound, 'J', 4)}"
    known = (
        "" if size == best else f" (the best known is {best}; what this run would teach is worth more than it costs)"
    )
    terminal().print(f"run with batch size {size}{known}{stop}")


@jobs.command
def play(
    epochs: Path,
    power: Path,
    *,
    gpu: Gpu,
    dataset: str,
    network: str,
    optimizer: str,
    target: Annotated[float, Parameter(help="Target metric, as the trace of epochs has it.")],
    batch: Batch,
    recurrences: Annotated[int, Parameter(help="How often the job recurs.")] = 50,
    max_epochs: Annotated[float, Parameter(help="A run is given up after so many.")] = 100.0,
    eta: Eta = 0.5,
    seed: int = 0,
    json: Json = False,
) -> None:
    """Play the tuner against measured traces: what it would have saved, every exploring run counted.

    Example: wattline jobs play epochs.csv power.csv --gpu v100 --dataset squad --network bert --optimizer adamw
    --target 84 --batch 32 --recurrences 100
    """
    from ...training.jobs import default, oracle
    from ...training.play import play as played
    from ...training.recurring import ValueTuner

    job = _job(epochs, power, gpu, dataset, network, optimizer, target, batch, max_epochs)
    found = played(job, ValueTuner(job.batches, job.start, recurrences), recurrences, eta=eta, seed=seed)
    now, best = default(job, eta), oracle(job, eta)
    told: dict[str, Any] = {
        "job": job.name, "recurrences": recurrences, "runs": found.runs, "energy_j": float(found.energy.sum()),
        "time_s": float(found.time.sum()), "saving_energy": 1 - float(found.energy.sum()) / (recurrences * now.energy),
        "saving_time": 1 - float(found.time.sum()) / (recurrences * now.time),
        "oracle_saving_energy": 1 - best.energy / now.energy, "settled_on": job.batches[int(found.row[-1])],
    }  # fmt: skip
    if json:
        print_json(told)
        return
    terminal().print(
        f"{recurrences} recurrences in {found.runs} runs save {100 * told['saving_energy']:.1f} % of the energy and "
        f"{100 * told['saving_time']:.1f} % of the time against batch size {batch}, exploring counted; all known "
        f"beforehand would save {100 * told['oracle_saving_energy']:.1f} %; it settles on {told['settled_on']}"
    )


def _job(
    epochs: Path, power: Path, gpu: str, dataset: str, network: str, optimizer: str, target: float, batch: int,
    max_epochs: float,
) -> Job:  # fmt: skip
    from ...training.jobs import read

    return read(
        _rows(epochs), _rows(power), gpu=gpu, dataset=dataset, network=network, optimizer=optimizer,
        target_metric=target, max_epochs=max_epochs, batch=batch,
    )  # fmt: skip


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: is no CSV ({error})") from None


def _sizes(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"--batches {text!r} must be batch sizes with commas between, e.g. 32,64,128")
    return [int(part) for part in parts]


def _plain(choice: Choice) -> Mapping[str, float]:
    return {
        "batch_size": choice.batch, "power_limit_w": choice.limit, "time_s": choice.time, "energy_j": choice.energy,
        "cost_j": choice.cost,
    }  # fmt: skip
