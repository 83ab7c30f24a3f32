"""Compare pipeline plans with published and measured results, and print the tables of docs/validation.md.

    python scripts/validate_pipeline.py REFERENCE_DIR

REFERENCE_DIR holds `pipeline/`: profiles of GPT-3 175B on A100 and A40 and iterations really run under frequency plans
(measured_end_to_end_a100.csv), all from the artifact of Perseus (SOSP 2024; ml-energy/zeus, Apache-2.0). Published
figures are those of the paper's large-scale emulation and its straggler experiment. Nothing is fitted to the published
figures; the measured runs are split by row: constants come from even rows, errors are quoted on odd ones.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from wattline.training.pipeline import PipelineJob, plan_pipeline
from wattline.training.profile import read

Floats = NDArray[np.float64]

# Saving without slowdown by microbatches, saving beside a 1.2x straggler at 96 microbatches, waiting power in watts.
PUBLISHED: Final = {
    "a100_sxm": ({12: 0.152, 24: 0.142, 48: 0.136, 96: 0.133}, 0.270, 83.64),
    "a40": ({12: 0.118, 24: 0.102, 48: 0.093, 96: 0.089}, 0.236, 70.38),
}
STRAGGLER: Final = 1.2


def table(heads: list[str], rows: list[list[str]]) -> None:
    """Print a Markdown table."""
    for line in (heads, ["---"] * len(heads), *rows):
        print("| " + " | ".join(line) + " |")
    print()


def emulation(folder: Path) -> None:
    """Print saving without slowdown, and beside a straggler, with what was published."""
    rows = []
    for gpu, (published, beside, waiting) in PUBLISHED.items():
        profile = read(folder / f"gpt3-175b+{gpu}_bf16.csv")
        for microbatches, stated in published.items():
            plan = plan_pipeline(PipelineJob(profile, profile.stages, microbatches, waiting_power=waiting))
            found = plan.realize()
            base = plan.baseline
            bound = 1 - plan.bound(found.deadline) / base.energy
            saved = 1 - found.energy / base.energy
            rows.append([gpu, str(microbatches), "none", *(f"{100 * v:.1f} %" for v in (stated, saved, bound))])
        slow = STRAGGLER * base.time
        waits = plan.realize(slow, waits=True)
        straggled = plan.at(slow)
        saved = 1 - waits.energy / straggled.baseline
        rows.append([gpu, "96", "1.2x", *(f"{100 * v:.1f} %" for v in (beside, saved, straggled.saving))])
        # Read the other way: the least time-energy point alone, against maximum clocks that do not wait.
        least = min(float(plan.time[-1]), slow)
        other = 1 - plan.realize(least).energy / base.energy
        rows.append([gpu, "96", "1.2x, own iteration only", f"{100 * beside:.1f} %", f"{100 * other:.1f} %", ""])
    table(["GPU", "microbatches", "straggler", "published", "plan", "bound"], rows)


def measured(path: Path) -> dict[str, list[tuple[float, float, float, float]]]:
    """Return per workload (longest path s, iteration s, joules, mean clock MHz) of every run with a longest path."""
    found = defaultdict(list)
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            if row["dag_time_from_measured_ops"]:
                numbers = (
                    float(row[k]) for k in ("dag_time_from_measured_ops", "iter_time", "iter_energy", "mean_freq")
                )
                found[row["model"]].append(tuple(numbers))
    return found  # type: ignore[return-value]


def ape(guess: Floats, truth: Floats) -> float:
    """Return the mean absolute relative error."""
    return float(np.mean(np.abs(guess / truth - 1)))


def energy_terms(time: Floats, clock: Floats) -> Floats:
    """Return what energy is made of: seconds drawn at constant power, and work at a voltage that follows the clock."""
    return np.stack([time, np.ones_like(time), (clock / 1410.0) ** 2], axis=1)


def runs(path: Path) -> None:
    """Print predicted against measured time and energy of iterations really run."""
    rows, everything = [], []
    for model, found in sorted(measured(path).items()):
        dag, time, energy, clock = np.array(found).T
        even, odd = np.arange(len(dag)) % 2 == 0, np.arange(len(dag)) % 2 == 1
        offset = float(np.median((time - dag)[even]))
        guess = dag + offset
        # Held-out slowdown against the first run, which is at maximum clocks: what a user asks for.
        slower = np.abs((guess / guess[0]) - (time / time[0]))[odd]
        weights, *_ = np.linalg.lstsq(
            energy_terms(guess, clock)[even] / energy[even, None], np.ones(even.sum()), rcond=None
        )
        joules = energy_terms(guess, clock) @ weights
        share = dag / time
        rows.append([
            model, str(odd.sum()), f"{100 * share.min():.1f}-{100 * share.max():.1f} %", f"{offset:.3f} s",
            f"{100 * (time - dag)[odd].std() / time[odd].mean():.2f} %", f"{100 * ape(dag[odd], time[odd]):.2f} %",
            f"{100 * ape(guess[odd], time[odd]):.2f} %", f"{100 * slower.mean():.2f} points",
            f"{100 * ape(joules[odd], energy[odd]):.2f} %",
        ])  # fmt: skip
        everything.append((ape(dag[odd], time[odd]), ape(guess[odd], time[odd]), ape(joules[odd], energy[odd])))
    heads = ["workload", "held-out runs", "longest path / measured", "offset", "its spread", "time error, longest path"]
    table([*heads, "with offset", "slowdown error", "energy error"], rows)
    mean = 100 * np.mean(everything, axis=0)
    print(
        f"Mean over workloads: time {mean[0]:.2f} % without and {mean[1]:.2f} % with offset, energy {mean[2]:.2f} %.\n"
    )


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", type=Path)
    folder = parser.parse_args().reference / "pipeline"
    emulation(folder)
    runs(folder / "measured_end_to_end_a100.csv")


if __name__ == "__main__":
    main()
