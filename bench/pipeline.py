"""Exact pipeline frontiers and plans beside `lowtime` and HiGHS, in one run on the same profile.

    python bench/pipeline.py PROFILE.csv [PROFILE.csv ...] --waiting-power 83.64 [70.38 ...]
        [--sizes 4x8,8x12] [--savings 8x12] [--peer-sizes 4x8,8x12] [--peer PYTHON] [--milp 3x4] [--json]

PROFILE.csv: stage,instruction,frequency,time,energy (MHz, s, J per device), forward and backward. `--peer` names an
interpreter in which `pip install lowtime "networkx<3.5" matplotlib pandas` was done. Sizes are stages x microbatches,
1F1B. Each frontier is solved in a process of its own, so that its peak memory is its own; compiling is not
counted, and times are medians of three where they are short.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from wattline.scenario.pipeline import warm
from wattline.training.pipeline import PipelineJob, PipelinePlan, plan_pipeline
from wattline.training.profile import read

SLOWDOWNS = (0.0, 0.005, 0.02, 0.05, 0.1)


def planned(path: str, size: str, waiting: float) -> PipelinePlan:
    """Return the plan of a profile at a size like "8x32"."""
    stages, microbatches = map(int, size.split("x"))
    return plan_pipeline(PipelineJob(read(Path(path)), stages, microbatches, waiting_power=waiting))


# ---- HiGHS ---------------------------------------------------------------------------------------


class Rows:
    """Rows of a sparse matrix, gathered one by one."""

    def __init__(self) -> None:
        self.row: list[int] = []
        self.column: list[int] = []
        self.value: list[float] = []
        self.low: list[float] = []
        self.high: list[float] = []

    def add(self, entries: list[tuple[int, float]], low: float, high: float) -> None:
        """Append a row: low <= sum of value * x[column] <= high."""
        for column, value in entries:
            self.row.append(len(self.high))
            self.column.append(column)
            self.value.append(value)
        self.low.append(low)
        self.high.append(high)

    def matrix(self, columns: int) -> Any:
        """Return the matrix."""
        return sparse.csr_matrix((self.value, (self.row, self.column)), shape=(len(self.high), columns))


def linear_bound(plan: PipelinePlan, deadline: float) -> float:
    """Return the least energy above waiting with settings mixed in time, by a linear program."""
    n, rows, corners = len(plan.dag.nodes), Rows(), [o.corners for o in plan.options]
    for a, b in plan.dag.edges.tolist():
        rows.add([(a, 1.0), (n + a, 1.0), (b, -1.0)], -np.inf, 0.0)
    for i in range(n):
        rows.add([(i, 1.0), (n + i, 1.0)], -np.inf, deadline)
        t, e = corners[plan.dag.nodes[i]]
        for k, slope in enumerate(np.diff(e) / np.diff(t)):
            rows.add([(n + i, slope), (2 * n + i, -1.0)], -np.inf, slope * t[k] - e[k])
    ends = np.array([(t[0], t[-1], e[-1]) for t, e in corners])[plan.dag.nodes]
    low, high = np.r_[np.zeros(n), ends[:, 0], ends[:, 2]], np.r_[np.full(n, np.inf), ends[:, 1], np.full(n, np.inf)]
    tight = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    cost = np.r_[np.zeros(2 * n), np.ones(n)]
    return float(linprog(cost, rows.matrix(3 * n), rows.high, bounds=np.c_[low, high], options=tight).fun)


def integer_optimum(plan: PipelinePlan, deadline: float, limit: float) -> tuple[float, float]:
    """Return the least energy above waiting with one setting per computation, and the proved bound, by a MILP."""
    n, net, rows = len(plan.dag.nodes), plan.network, Rows()
    size = np.diff(net.first)[plan.dag.nodes]
    offset = n + np.r_[0, np.cumsum(size)]
    spans = [
        [(int(offset[i]) + j, float(net.time[net.first[k] + j])) for j in range(size[i])]
        for i, k in enumerate(plan.dag.nodes)
    ]
    cost = np.r_[np.zeros(n), np.concatenate([net.energy[net.first[k] : net.first[k + 1]] for k in plan.dag.nodes])]
    for i in range(n):
        rows.add([(c, 1.0) for c, _ in spans[i]], 1.0, 1.0)
        rows.add([(i, 1.0), *spans[i]], -np.inf, deadline)
    for a, b in plan.dag.edges.tolist():
        rows.add([(a, 1.0), (b, -1.0), *spans[a]], -np.inf, 0.0)
    whole = np.r_[np.zeros(n), np.ones(len(cost) - n)]
    found = milp(
        cost, constraints=LinearConstraint(rows.matrix(len(cost)), rows.low, rows.high), integrality=whole,
        bounds=Bounds(np.zeros(len(cost)), np.r_[np.full(n, deadline), np.ones(len(cost) - n)]),
        options={"mip_rel_gap": 1e-6, "time_limit": limit},
    )  # fmt: skip
    return float(found.fun), float(found.mip_dual_bound)


# ---- one size, one peer --------------------------------------------------------------------------


def frontier(path: str, size: str, waiting: float, check: int) -> dict[str, Any]:
    """Solve one size: time, memory, and the difference from HiGHS at five deadlines where small enough."""
    warm()
    planned(path, "2x3", waiting)
    plan = planned(path, size, waiting)
    spent = [plan.frontier.solve_s]
    while len(spent) < 3 and sum(spent) < 10:
        spent.append(planned(path, size, waiting).frontier.solve_s)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    row: dict[str, Any] = {
        "size": size, "computations": len(plan.network.rows), "method": plan.frontier.method,
        "breakpoints": len(plan.time), "solve_s": float(np.median(spent)), "peak_mb": peak,
    }  # fmt: skip
    if row["computations"] <= check:
        times = np.linspace(plan.time[0] * (1 + 1e-9), plan.time[-1], 5)
        began = time.perf_counter()
        expected = [plan.total(linear_bound(plan, t), t) for t in times]
        row["highs_s_per_point"] = (time.perf_counter() - began) / len(times)
        row["difference"] = max(abs(plan.bound(t) / e - 1) for t, e in zip(times, expected, strict=True))
    return row


def peer(python: str, path: str, size: str, waiting: float) -> dict[str, Any] | str:
    """Run lowtime; return what it printed, or why it could not run."""
    driver = str(Path(__file__).parent / "lowtime_peer.py")
    done = subprocess.run(
        [python, driver, path, *size.split("x"), str(waiting)], capture_output=True, text=True, check=False
    )
    if "ModuleNotFoundError" in done.stderr:
        return "not installed"
    if done.returncode:
        return f"failed: {done.stderr.strip().splitlines()[-1]}"
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def savings(path: str, size: str, waiting: float, peered: dict[str, Any] | str | None) -> list[dict[str, Any]]:
    """Return per slowdown what the bound, the plan, and the peer's best plan in time save against maximum clocks."""
    plan = planned(path, size, waiting)
    base = plan.baseline
    out = []
    for slowdown in SLOWDOWNS:
        began = time.perf_counter()
        found = plan.realize(max_slowdown=slowdown)
        row = {
            "profile": Path(path).name, "size": size, "slowdown": slowdown,
            "bound": 1 - plan.bound(found.deadline) / base.energy, "plan": 1 - found.energy / base.energy,
            "gap": found.gap, "realize_s": time.perf_counter() - began,
        }  # fmt: skip
        if isinstance(peered, dict):
            met = [e for t, e in peered["plans"] if t <= (1 + slowdown) * base.time * (1 + 1e-9)]
            row["peer"] = 1 - min(met) / base.energy if met else None
        out.append(row)
    return out


def integers(path: str, size: str, waiting: float, limit: float) -> list[dict[str, Any]]:
    """Return how far plans are from the integer optimum, or from what the MILP proved in its time."""
    plan = planned(path, size, waiting)
    out = []
    for slowdown in SLOWDOWNS:
        found = plan.realize(max_slowdown=slowdown)
        best, proved = integer_optimum(plan, found.deadline, limit)
        total = plan.total(found.above, found.deadline)
        out.append({
            "profile": Path(path).name, "size": size, "slowdown": slowdown,
            "above_milp": total / plan.total(best, found.deadline) - 1,
            "above_proved": total / plan.total(proved, found.deadline) - 1,
            # Points of saving that lie between the exact bound and the plan, the MILP's, and what that proved.
            **{f"{name}_above_bound": (joules - plan.bound(found.deadline)) / plan.baseline.energy for name, joules in (
                ("plan", total), ("milp", plan.total(best, found.deadline)),
                ("proved", plan.total(proved, found.deadline)),
            )},
        })  # fmt: skip
    return out


# ---- printing ------------------------------------------------------------------------------------


def table(heads: list[str], rows: list[list[str]]) -> None:
    """Print a Markdown table."""
    for line in (heads, ["---"] * len(heads), *rows):
        print("| " + " | ".join(line) + " |", flush=True)
    print(flush=True)


def percent(value: float | None, digits: int = 2) -> str:
    """Write a share as percent, "none" where there is none."""
    return "none" if value is None else f"{100 * value:.{digits}f} %"


def show(found: dict[str, Any]) -> None:
    """Print every table."""
    rows = [
        [
            r["profile"], r["size"], f"{r['computations']:,}", r["method"], f"{r['breakpoints']:,}", f"{r['solve_s']:.3f}",
            f"{r['peak_mb']:.0f}", f"{r['difference']:.0e}" if "difference" in r else "", r["peer"],
        ]
        for r in found["frontiers"]
    ]  # fmt: skip
    heads = ["profile", "size", "computations", "method", "breakpoints", "solve s", "peak MB", "off HiGHS", "lowtime s"]
    table(heads, rows)
    rows = [
        [
            r["profile"], r["size"], percent(r["slowdown"], 1), percent(r["bound"]), percent(r["plan"]),
            percent(r["gap"], 3), percent(r["peer"]) if "peer" in r else "not run", f"{r['realize_s']:.2f}",
        ]
        for r in found["savings"]
    ]  # fmt: skip
    table(["profile", "size", "slowdown", "bound", "plan", "plan above bound", "lowtime", "plan s"], rows)
    rows = [
        [
            r["profile"],
            r["size"],
            percent(r["slowdown"], 1),
            percent(r["above_milp"], 3),
            percent(r["above_proved"], 3),
            *(percent(r[f"{name}_above_bound"], 3) for name in ("plan", "milp", "proved")),
        ]
        for r in found["integers"]
    ]
    if rows:
        table(
            [
                "profile",
                "size",
                "slowdown",
                "above the MILP's plan",
                "above what it proved",
                "plan above bound",
                "MILP",
                "proved",
            ],
            rows,
        )


def split(text: str) -> list[str]:
    """Read sizes parted by commas."""
    return [size for size in text.split(",") if size]


def main() -> None:
    """Run everything and print tables, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profiles", nargs="+")
    parser.add_argument("--waiting-power", type=float, nargs="+", required=True, help="watts per device, per profile")
    parser.add_argument("--sizes", default="4x8,8x12,4x32,8x32,8x64,8x128,16x256")
    parser.add_argument("--savings", default="8x12,8x32")
    parser.add_argument("--peer-sizes", default="4x8,8x12")
    parser.add_argument("--peer", default=sys.executable, help="an interpreter that has lowtime")
    parser.add_argument("--milp", default="", help="sizes to compare with the integer optimum, e.g. 3x4")
    parser.add_argument("--milp-seconds", type=float, default=60.0)
    parser.add_argument("--check", type=int, default=512, help="compare with HiGHS up to so many computations")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    powers = given.waiting_power * (len(given.profiles) if len(given.waiting_power) == 1 else 1)
    if given.one:
        print(json.dumps(frontier(given.profiles[0], given.one, powers[0], given.check)))
        return
    found: dict[str, Any] = {"frontiers": [], "savings": [], "integers": []}
    for path, waiting in zip(given.profiles, powers, strict=True):
        peers = {size: peer(given.peer, path, size, waiting) for size in split(given.peer_sizes)}
        for size in split(given.sizes):
            command = [sys.executable, __file__, path, "--waiting-power", str(waiting), "--one", size]
            command += ["--check", str(given.check)]
            row = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            other = peers.get(size, "not run")
            row["profile"] = Path(path).name
            row["peer"] = f"{other['solve_s']:.1f}" if isinstance(other, dict) else other
            found["frontiers"].append(row)
        for size in split(given.savings):
            found["savings"] += savings(path, size, waiting, peers.get(size))
        for size in split(given.milp):
            found["integers"] += integers(path, size, waiting, given.milp_seconds)
    if given.json:
        print(json.dumps(found, indent=1))
    else:
        show(found)


if __name__ == "__main__":
    main()
