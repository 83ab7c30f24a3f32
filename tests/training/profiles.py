"""Synthetic pipeline profiles for tests: made up, seeded, and small enough for a MILP."""

import numpy as np

from wattline.training.profile import Profile, parse

HEAD = "stage,instruction,frequency,time,energy"
WORK = {"forward": 0.05, "backward": 0.09, "backward_input": 0.05, "backward_weight": 0.04, "recompute": 0.05}


def text(stages=4, clocks=(1400, 1200, 1000, 800), instructions=("forward", "backward"), noise=0.01, seed=0, head=HEAD):
    """The CSV of a profile whose last stage is heavier."""
    random = np.random.default_rng(seed)
    lines = [head]
    for stage in range(stages):
        for what in instructions:
            for clock in clocks:
                share = clock / max(clocks)
                time = WORK[what] * (1.1 if stage == stages - 1 else 1.0) * (0.85 / share + 0.15)
                time *= random.normal(1, noise / 4)
                power = (110 + 290 * share**2.6) * random.normal(1, noise)
                lines.append(f"{stage},{what},{clock},{time:.9f},{power * time:.9f}")
    return "\n".join(lines)


def profile(**given) -> Profile:
    """The profile itself."""
    return parse(text(**given), "made-up.csv")
