"""How much dearer the searched configuration is than the best of all, on random spaces that are simulated whole.

python bench/search_regret.py                20 spaces
python bench/search_regret.py --count 3      three of them
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from wattline.core.errors import GoalError
from wattline.scenario import search as serve_search

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tests.scenario.search.spaces import draw, exhaustive  # noqa: E402


def main() -> int:
    """Print a row per space; 1 where one is more than 1 % dearer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    print("| space | settings | best, J/token | found, J/token | regret | exhaustive, s | search, s |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    worst = 0.0
    for number in range(options.first, options.first + options.count):
        stated = draw(number)
        start = time.process_time()
        best = exhaustive(stated)
        middle = time.process_time()
        try:
            found = serve_search.search(stated, jobs=1).chosen
            got = found.best.energy if (found.probability or 0.0) >= 0.99 else None
        except GoalError:
            got = None
        spent = time.process_time() - middle
        if best is None:
            print(
                f"| {number} | | none is sure | {'none' if got is None else f'{got:.4f}'} | | {middle - start:.0f} | {spent:.0f} |"
            )
            continue
        regret = float("inf") if got is None else got / best.energy - 1.0
        worst = max(worst, regret)
        print(
            f"| {number} | {best.settings} | {best.energy:.4f} | {'none' if got is None else f'{got:.4f}'} | {100 * regret:.2f} % | "
            f"{middle - start:.0f} | {spent:.0f} |",
            flush=True,
        )
    print(f"\nworst regret {100 * worst:.2f} %")
    return int(worst > 0.01)


if __name__ == "__main__":
    sys.exit(main())
