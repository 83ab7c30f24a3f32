"""Tuning a repeating step: our tuner beside Zeus' just-in-time profiling and the oracle, on recorded landscapes.

    python bench/tune.py SWEEPS.csv [PROFILE.csv ...]       power-limit sweeps; pipeline profiles for clock sweeps
    python bench/tune.py SWEEPS.csv --seeds 20 --looks 500

SWEEPS: power_limit_sweeps.csv of the Zeus artifact (NSDI 2023); PROFILE: profiles of the Perseus artifact (SOSP 2024),
both ml-energy/zeus, Apache-2.0, not part of this project. A landscape is what was recorded, as if it were the truth;
looks at it (40 steps each) scatter by 3 % in time and 2 % in power. Zeus looks once at every setting, from the highest
down, takes the best, and never looks again. Costs are relative to running at the best setting from the first step on:

    end       cost of the setting in use at the end, above the best's (a percent beyond a promised slowdown counts as 20)
    in all    cost of all steps, exploring included, above the best's from the start
    exploring cost of looks elsewhere than at the best known setting, above the best's, in steps of the best
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wattline.control.loops.tuner import Objective, Tuner

STEPS = 40
NOISE = (0.03, 0.02)
OBJECTIVES = {
    "energy": Objective(eta=1.0),
    "eta 0.5": Objective(eta=0.5),
    "5 % slower": Objective(max_slowdown=0.05),
}


@dataclass
class Land:
    """A recorded landscape: settings ascending, s and J of a step at each."""

    name: str
    knob: str
    values: list[float]
    time: np.ndarray
    energy: np.ndarray

    def cost(self, objective: Objective) -> np.ndarray:
        return objective.cost(self.time, self.energy / self.time)

    def spent(self, objective: Objective) -> np.ndarray:
        """What running costs: where a slowdown is promised, joules, and those of the time beyond the promise again."""
        if objective.max_slowdown is None:
            return self.cost(objective)
        late = self.time / self.time[-1] / (1.0 + objective.max_slowdown) - 1.0
        return self.energy * (1.0 + np.maximum(late, 0.0))


def sweeps(path: Path) -> list[Land]:
    rows = defaultdict(list)
    for row in csv.DictReader(path.read_text().splitlines()):
        rows[row["gpu"], row["model"], row["num_gpus"]].append(row)
    out = []
    for name, each in rows.items():
        each.sort(key=lambda r: float(r["power_limit_w"]))
        steps = np.array([float(r["steps"]) for r in each])
        out.append(
            Land(
                " ".join(name), "power_limit", [float(r["power_limit_w"]) for r in each],
                np.array([float(r["time_s"]) for r in each]) / steps,
                np.array([float(r["energy_per_gpu_j"]) for r in each]) / steps,
            )
        )  # fmt: skip
    return out


def clocks(path: Path, count: int = 16) -> list[Land]:
    """A stage's forward and backward as one step, at `count` of the clocks that both have."""
    found: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(lambda: [0.0, 0.0, 0.0]))
    for row in csv.DictReader(path.read_text().splitlines()):
        at = found[row["stage"]][float(row["frequency"]) * 1e6]
        for k, value in enumerate((float(row["time"]), float(row["energy"]), 1.0)):
            at[k] += value
    out = []
    for stage, table in found.items():
        both = sorted(f for f, row in table.items() if row[2] == 2)
        picked = [both[i] for i in np.unique(np.linspace(0, len(both) - 1, count).round().astype(int))]
        t, e, _ = np.array([table[f] for f in picked]).T
        out.append(Land(f"{path.stem} stage {stage}", "clock", picked, t, e))
    return out


class Zeus:
    """One look at each setting, from the highest down; then the one whose cost was least."""

    def __init__(self, values: list[float], objective: Objective, **_: object) -> None:
        self.values, self.objective, self.done = values, objective, 0
        self.seen: dict[float, tuple[float, float]] = {}

    def ask(self) -> float:
        for value in reversed(self.values):
            if value not in self.seen:
                return value
        return self.best

    @property
    def best(self) -> float:
        tried = [v for v in self.values if v in self.seen]
        if not tried or self.values[-1] not in self.seen:
            return self.values[-1]
        t, p = np.array([self.seen[v] for v in tried]).T
        return tried[int(self.objective.cost(t, p).argmin())]

    @property
    def looking(self) -> bool:
        return len(self.seen) < len(self.values)

    def tell(self, value: float, *, seconds: float, joules: float, steps: int) -> None:
        self.done += steps
        self.seen.setdefault(value, (seconds / steps, joules / seconds))


def play(kind: type, lands: list[Land], objective: Objective, looks: int, seed: int) -> tuple[float, float, float]:
    """(end, in all, exploring); landscapes follow one another in equal parts."""
    first = lands[0]
    random = np.random.default_rng(seed)
    tuner = kind(first.values, objective, knob=first.knob, steps=looks * STEPS, seed=seed)
    spent = ideal = exploring = 0.0
    for k in range(looks):
        land = lands[k * len(lands) // looks]
        cost = land.spent(objective)
        least = cost[land.cost(objective).argmin()]
        value = tuner.ask()
        at, looking = land.values.index(value), tuner.looking
        slow, hot = np.exp(random.normal(0.0, NOISE))
        tuner.tell(
            value, seconds=STEPS * land.time[at] * slow, joules=STEPS * land.energy[at] * slow * hot, steps=STEPS
        )
        spent += STEPS * cost[at]
        ideal += STEPS * least
        exploring += STEPS * (cost[at] - least) / least if looking else 0.0
    cost = lands[-1].cost(objective)
    return cost[lands[-1].values.index(tuner.best)] / cost.min() - 1.0, spent / ideal - 1.0, exploring


def untuned(lands: list[Land], objective: Objective) -> float:
    costs = [land.cost(objective) for land in lands]
    return sum(c[-1] for c in costs) / sum(c.min() for c in costs) - 1.0


def drifting(lands: list[Land]) -> Iterator[list[Land]]:
    """Halfway the work becomes that of the next landscape on the same kind of device."""
    for k, a in enumerate(lands):
        for b in lands[k + 1 :] + lands[:k]:
            if a.values == b.values:
                yield [a, b]
                break


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweeps", type=Path)
    parser.add_argument("profiles", type=Path, nargs="*")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--looks", type=int, default=100)
    given = parser.parse_args()
    limits = sweeps(given.sweeps)
    suites = {"power limits": [[land] for land in limits], "power limits, drift": list(drifting(limits))}
    if given.profiles:
        suites["clocks"] = [[land] for path in given.profiles for land in clocks(path)]
    print(f"{given.looks} looks of {STEPS} steps, {given.seeds} seeds\n")
    print("| landscapes | wanted | | end: mean | 90 % | worst | in all: mean | worst | exploring, steps |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, cases in suites.items():
        for wanted, objective in OBJECTIVES.items():
            for who, kind in (("wattline", Tuner), ("Zeus JIT", Zeus)):
                end, total, exploring = np.array(
                    [play(kind, case, objective, given.looks, seed) for case in cases for seed in range(given.seeds)]
                ).T
                print(
                    f"| {name} ({len(cases)}) | {wanted} | {who} | {end.mean():.1%} | {np.quantile(end, 0.9):.1%} | "
                    f"{end.max():.1%} | {total.mean():.1%} | {total.max():.1%} | {exploring.mean():.0f} |",
                    flush=True,
                )
            base = np.array([untuned(case, objective) for case in cases])
            print(
                f"| {name} ({len(cases)}) | {wanted} | untuned | {base.mean():.1%} | {np.quantile(base, 0.9):.1%} | "
                f"{base.max():.1%} | {base.mean():.1%} | {base.max():.1%} | 0 |",
                flush=True,
            )


if __name__ == "__main__":
    main()
