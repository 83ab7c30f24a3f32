"""Whether printed promises hold: every serving example and random scenarios, played on requests that no plan has seen.

python bench/promise.py                        the examples on ten seeds of 6,000 requests, then 200 random scenarios
python bench/promise.py --count 20 --first 40  twenty of them, from the fortieth
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from wattline.core.errors import WattlineError
from wattline.scenario import scenario as sc

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tests.scenario.serving_draws import draw, played  # noqa: E402

EXAMPLES = ("llama-8b-serving", "llama-8b-simulated", "deepseek-v3-serving")
REQUESTS, SEEDS = 6000, 10


def examples() -> None:
    """Print how many of ten unseen runs of each example keep its promise."""
    print("| example | clock, MHz | cap | step tokens | chance said | kept | s of a core |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in EXAMPLES:
        stated, start = sc.load(ROOT / "examples" / f"{name}.toml"), time.process_time()
        found = sc.solve(stated)
        spent = time.process_time() - start
        kept = sum(played(stated, found, 1000 + seed, REQUESTS).run.kept for seed in range(SEEDS))
        (knob,), chance = found.chosen.knobs, found.chosen.figures["promise_probability"]
        print(
            f"| {name} | {knob['clock_hz'] / 1e6:.0f} | {knob['max_batch']} | {knob['max_step_tokens']} | "
            f"{100 * chance:.1f} % | {kept} of {SEEDS} | {spent:.1f} |"
        )


def scenarios(first: int, count: int) -> int:
    """Print what became of random scenarios; return how many broke a promise said to be safe."""
    kept = broken = refused = unsure = 0
    start = time.process_time()
    for number in range(first, first + count):
        stated = draw(number)
        try:
            found = sc.solve(stated)
            run = played(stated, found, 10_000 + number, 4000).run
        except WattlineError as error:
            refused += 1
            print(f"{number}: {error}", file=sys.stderr)
            continue
        if found.chosen.figures["promise_probability"] < 0.99:
            unsure += 1
        elif run.kept:
            kept += 1
        else:
            broken += 1
            print(f"{number}: broken, {run.violations} of {len(run.arrival)}, {found.chosen.knobs}", file=sys.stderr)
    print(
        f"\n{count} random scenarios: {kept} kept, {broken} broken, {unsure} told as less than 99 % sure, "
        f"{refused} refused; {(time.process_time() - start) / count:.1f} s of a core each"
    )
    return broken


def main() -> int:
    """Print both tables; 1 where more promises broke than one in fifty."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--no-examples", action="store_true")
    options = parser.parse_args()
    if not options.no_examples:
        examples()
    return int(scenarios(options.first, options.count) > max(1, options.count // 50))


if __name__ == "__main__":
    sys.exit(main())
