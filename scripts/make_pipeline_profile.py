"""Write a synthetic pipeline profile: what a sweep over clocks might measure, from a simple model with seeded noise.

    python scripts/make_pipeline_profile.py examples/pipeline-profile.csv

The numbers are made up and stand for no device. A computation takes a part that scales with the clock and one that does
not (memory); power is a constant plus a part that rises with the clock to the power of 2.6. The last stage is heavier.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

HIGHEST, LOWEST, STEP = 1410, 810, 30  # MHz
WORK = {"forward": 0.050, "backward": 0.095}  # seconds at the highest clock


def rows(stages: int, seed: int) -> list[list[object]]:
    """Return one row per stage, instruction and clock."""
    random = np.random.default_rng(seed)
    out: list[list[object]] = []
    for stage in range(stages):
        heavier = 1.0 + 0.02 * stage % 0.05 + (0.08 if stage == stages - 1 else 0.0)
        for instruction, work in WORK.items():
            for clock in range(HIGHEST, LOWEST - 1, -STEP):
                share = clock / HIGHEST
                time = heavier * work * (0.85 / share + 0.15) * random.normal(1, 0.002)
                power = (110.0 + 290.0 * share**2.6) * random.normal(1, 0.008)
                out.append([stage, instruction, clock, f"{time:.6f}", f"{power * time:.4f}"])
    return out


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--stages", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with given.path.open("w", encoding="utf-8", newline="") as stream:
        out = csv.writer(stream, lineterminator="\n")
        out.writerow(["stage", "instruction", "frequency", "time", "energy"])
        out.writerows(rows(given.stages, given.seed))


if __name__ == "__main__":
    main()
