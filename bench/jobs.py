"""Batch size x power limit of recurring jobs: our tuner beside Zeus' policy and the oracle, on measured traces.

    python bench/jobs.py TRACES           TRACES: folder with power_trace.csv, train_trace.csv, workloads.csv
    python bench/jobs.py TRACES --seeds 20 --json
    python bench/jobs.py TRACES --headline headline.csv    the oracle beside the published table of best choices

The traces are those of the Zeus artifact (NSDI 2023; ml-energy/zeus, Apache-2.0), not part of this project.
Savings are of energy against the owner's batch size at the highest power limit, over all recurrences with
every failed and exploring run counted; a job recurs 2 x batch sizes x power limits times, as in the paper.
"Above oracle": mean cost of the batch size settled on, above that of the best fixed choice.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from wattline.training.jobs import Job, default, oracle, read
from wattline.training.play import play
from wattline.training.recurring import Outcome, Trial, Tuner, ValueTuner


def jobs(folder: Path) -> list[Job]:
    """Read every job of the traces on every GPU."""
    epochs, power, work = (
        list(csv.DictReader((folder / f"{n}.csv").read_text().splitlines()))
        for n in ("train_trace", "power_trace", "workloads")
    )
    return [
        read(
            epochs, power, gpu=gpu, dataset=w["dataset"], network=w["network"], optimizer=w["optimizer"],
            target_metric=float(w["target_metric"]), max_epochs=float(w["max_epochs"]), batch=int(w["b0"]),
        )
        for gpu in sorted({row["gpu"] for row in power})
        for w in work
    ]  # fmt: skip


@dataclass
class Zeus:
    """Zeus' policy: prune from the owner's batch size down, then up, twice; then Gaussian Thompson sampling."""

    batches: tuple[int, ...]
    start: int
    seed: int = 0
    beta: float = 2.0
    seen: dict[int, list[float]] = field(default_factory=dict)
    least: float = np.inf

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.engine = self.explore()
        self.arms: list[int] = []
        self.row: int | None = next(self.engine)
        self.spent = 0.0

    def explore(self):
        rows, first = list(range(len(self.batches))), self.start
        for _ in range(2):
            good, best = [], np.inf
            for side in ([r for r in reversed(rows) if r <= first], [r for r in rows if r > first]):
                start = first
                for row in side:
                    reached, cost = yield row
                    if not reached:
                        break
                    good.append(row)
                    if cost < best:
                        best, start = cost, row
                first_next = start if good else first
            rows, first = sorted(good), min(good, key=lambda r: np.mean(self.seen.get(r, [np.inf])), default=first_next)
        self.arms = rows

    def ask(self, *, retry: bool = False) -> Trial:  # noqa: ARG002
        bound = self.beta * self.least
        if self.row is not None:
            return Trial(self.row, bound)
        drawn = {}
        for row in self.arms:
            costs = np.array(self.seen[row])
            spread = costs.std() or 1e-9
            drawn[row] = self.random.normal(costs.mean(), spread / np.sqrt(len(costs)))
        return Trial(min(drawn, key=drawn.get), bound)

    def tell(self, outcome: Outcome) -> None:
        self.spent += outcome.cost
        if outcome.reached:
            self.least, self.spent = min(self.least, self.spent), 0.0
        if outcome.reached or self.row is None:
            self.seen.setdefault(outcome.row, []).append(outcome.cost)
        if self.row is not None:
            try:
                self.row = self.engine.send((outcome.reached, outcome.cost))
            except StopIteration:
                self.row = None


def settled(tuner: Tuner) -> int:
    """Return the batch size a tuner has settled on."""
    if isinstance(tuner, ValueTuner):
        return tuner.best
    return min(tuner.arms or tuner.seen, key=lambda r: np.mean(tuner.seen[r]))


def study(
    job: Job, eta: float, make: Callable[[Job, int], Tuner], seeds: int, recurrences: int | None = None
) -> dict[str, float]:
    """Play one job under one tuner for several seeds."""
    base, best = default(job, eta), oracle(job, eta)
    count = recurrences or 2 * len(job.batches) * len(job.limits)
    saved, above = [], []
    for seed in range(seeds):
        tuner = make(job, seed)
        played = play(job, tuner, count, eta=eta, seed=seed)
        saved.append(1 - played.energy.mean() / base.energy)
        row = settled(tuner)
        above.append(job.mean_epochs[row] * job.epoch_cost(eta)[row].min() / best.cost - 1)
    return {
        "recurrences": count,
        "saved": float(np.mean(saved)),
        "above": float(np.mean(above)),
        "worst": float(np.max(above)),
        "oracle": 1 - best.energy / base.energy,
    }


def against_table(folder: Path, rows: list[dict[str, str]]) -> list[dict[str, object]]:
    """Compare every job's best choice by energy with a published table of them (columns as in headline.csv)."""
    found = []
    published = {(row["gpu"], row["dataset"], row["network"]): row for row in rows}
    for job in jobs(folder):
        network, dataset, gpu = job.name.replace(" on ", ", ").split(", ")
        row, best = published[gpu, dataset, network], oracle(job, 1.0)
        configurations = len(job.batches) * len(job.limits)
        feasible = int(job.feasible.sum()) * len(job.limits)
        same = (
            (best.batch, best.limit) == (int(row["best_b"]), float(row["best_p_w"]))
            and round(best.energy / 1e6, 3) == float(row["best_eta_mj"])
            and round(default(job, 1.0).energy / 1e6, 3) == float(row["default_eta_mj"])
            and round(100 * (1 - best.energy / default(job, 1.0).energy), 1) == float(row["eta_saving_pct"])
            and (configurations, feasible) == (int(row["n_configs"]), int(row["n_feasible"]))
        )
        found.append(
            {"job": job.name, "batch": best.batch, "limit_w": best.limit, "energy_mj": best.energy / 1e6, "same": same}
        )
    return found


TUNERS = {
    "ours": lambda job, _seed: ValueTuner(job.batches, job.start),
    "Zeus": lambda job, seed: Zeus(job.batches, job.start, seed),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--recurrences", type=int)
    parser.add_argument("--headline", type=Path, help="published table of best choices to compare the oracle with")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.headline:
        rows = against_table(options.folder, list(csv.DictReader(options.headline.read_text().splitlines())))
        for row in rows:
            print(
                f"{row['job']:45} {row['batch']:6} {row['limit_w']:4.0f} W {row['energy_mj']:8.3f} MJ  {'same' if row['same'] else 'DIFFERS'}"
            )
        return 0 if all(row["same"] for row in rows) else 1
    found = [
        {"eta": eta, "tuner": name, "job": job.name, **study(job, eta, make, options.seeds, options.recurrences)}
        for eta in (0.5, 1.0)
        for name, make in TUNERS.items()
        for job in jobs(options.folder)
    ]
    if options.json:
        print(json.dumps(found, indent=1))
        return 0
    for eta in (0.5, 1.0):
        print(
            f"\neta = {eta}\n\n| job | recurrences | oracle saves | "
            + " | ".join(f"{n} saves | {n} above oracle, mean, worst" for n in TUNERS)
            + " |"
        )
        print("| --- | --- | --- |" + " --- | --- |" * len(TUNERS))
        mine = [r for r in found if r["eta"] == eta]
        for job in dict.fromkeys(r["job"] for r in mine):
            rows = {r["tuner"]: r for r in mine if r["job"] == job}
            one = rows["ours"]
            print(
                f"| {job} | {one['recurrences']} | {100 * one['oracle']:.1f} % | "
                + " | ".join(
                    f"{100 * rows[n]['saved']:.1f} % | {100 * rows[n]['above']:.1f} %, {100 * rows[n]['worst']:.1f} %"
                    for n in TUNERS
                )
                + " |"
            )
        mean = {
            n: [np.mean([r[k] for r in mine if r["tuner"] == n]) for k in ("saved", "above")]
            + [max(r["worst"] for r in mine if r["tuner"] == n)]
            for n in TUNERS
        }
        oracle_mean = np.mean([r["oracle"] for r in mine if r["tuner"] == "ours"])
        print(
            f"| **mean** | | {100 * oracle_mean:.1f} % | "
            + " | ".join(
                f"{100 * mean[n][0]:.1f} % | {100 * mean[n][1]:.1f} %, {100 * mean[n][2]:.1f} %" for n in TUNERS
            )
            + " |"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
