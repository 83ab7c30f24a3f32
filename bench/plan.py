"""What planning costs: import, each shipped example, ten thousand what-if points.

    python bench/plan.py            every example in a fresh process, and a sweep of 1,000 points of each
    python bench/plan.py --points 10000

Targets on two idle cores: import under 150 ms, each example under 2 s and 300 MB, 10,000 points of one
scenario under 30 s. Compiled kernels are cached on disk by a first run that does not count.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
EXAMPLES = [
    path
    for path in sorted((ROOT / "examples").glob("*.toml"))
    if not any(head in path.read_text("utf-8") for head in ("[[job]]", "[design]", "[serve.search]"))
]
ONE = """
import json, resource, sys, time
start = time.perf_counter()
from wattline.show.cli.main import main
code = main(["plan", sys.argv[1], "--json"])
seconds = time.perf_counter() - start
used = resource.getrusage(resource.RUSAGE_SELF)
cpu = used.ru_utime + used.ru_stime
print(json.dumps({"seconds": seconds, "cpu_s": cpu, "peak_mb": used.ru_maxrss / 1024, "code": code}), file=sys.stderr)
"""


def fresh(code: str, *arguments: str) -> tuple[float, str]:
    """Run code in a fresh interpreter; return wall seconds and what it wrote to stderr."""
    start = time.perf_counter()
    # As installed: what Python compiles it keeps.
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    return time.perf_counter() - start, done.stderr


def importing(runs: int = 9) -> float:
    """Median seconds of `import wattline` above an empty interpreter."""
    with_it = sorted(fresh("import wattline")[0] for _ in range(runs))[runs // 2]
    without = sorted(fresh("pass")[0] for _ in range(runs))[runs // 2]
    return with_it - without


def examples() -> list[dict[str, object]]:
    """Plan every example in a process of its own, as the command line does."""
    rows = []
    for path in EXAMPLES:
        fresh(ONE, str(path))
        wall, told = fresh(ONE, str(path))
        rows.append({"example": path.name, "wall_s": wall, **json.loads(told.splitlines()[-1])})
    return rows


def _cpu() -> float:
    """Seconds of a core that this process and those it waited for have used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def sweeps(points: int) -> list[dict[str, object]]:
    """Sweep main-memory energy and the power of waiting over every example."""
    from wattline.scenario import scenario
    from wattline.scenario.sweep import grid, sweep

    side = round(points**0.5)
    axes = {
        "chip.memory.hbm.energy": [f"{2 + 4 * i / side} pJ/bit" for i in range(side)],
        "chip.power.waiting": [f"{60 + 60 * i / side} W" for i in range(-(-points // side))],
    }
    rows = []
    for path in EXAMPLES:
        if path.stem == "llama-8b-simulated":  # the model and chip of llama-8b-serving again
            continue
        stated = scenario.load(path)
        todo = grid(axes)[:points]
        start, before = time.perf_counter(), _cpu()
        done = sweep(stated, todo)
        seconds, cpu = time.perf_counter() - start, _cpu() - before
        failed = sum("error" in row for row in done)
        rows.append(
            {
                "example": path.name,
                "points": len(todo),
                "seconds": seconds,
                "per_point_ms": 1e3 * seconds / len(todo),
                "cpu_s": cpu,
                "failed": failed,
            }
        )
    return rows


def clocks() -> float:
    """Relative energy that looking at a part of the clocks costs the plan of the first example."""
    from wattline.scenario import scenario
    from wattline.training import training

    stated = scenario.load(ROOT / "examples" / "gpt3-1024-a100.toml")
    some = scenario.solve(stated, detail=False).certificate["bound_j"]
    training._PLAN_CLOCKS = 1000
    return some / scenario.solve(stated, detail=False).certificate["bound_j"] - 1.0


def main() -> int:
    """Print the tables, or everything as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = {"import_s": importing(), "examples": examples(), "sweeps": sweeps(options.points), "clocks_cost": clocks()}
    if options.json:
        print(json.dumps(found, indent=1))
        return 0
    print(f"import wattline: {1e3 * found['import_s']:.0f} ms")
    for row in found["examples"]:
        print(
            f"plan {row['example']:28} {row['wall_s']:6.2f} s  ({row['cpu_s']:.2f} s of a core)  {row['peak_mb']:5.0f} MB  exit {row['code']}"
        )
    for row in found["sweeps"]:
        print(
            f"what-if {row['example']:25} {row['points']} points  {row['seconds']:6.1f} s  {row['per_point_ms']:.1f} ms each  ({row['cpu_s']:.1f} s of a core)"
        )
    print(f"looking at {100 * 32 / 110:.0f} % of the clocks costs {100 * found['clocks_cost']:.3f} % energy")
    print(f"peak of this process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
