"""Sites over time drawn from 1 W to 10 GW and from an hour of quarters to a year, and another program for them.

Nothing here comes from the planner: power flows by a walk up the tree, a job is a mixture of *all* its settings
(one share of time each, the pause included) in every period, and scipy's HiGHS solves it with rows and columns
in sizes of their own. Paid pauses are whole columns with a start for each rise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_matrix

from wattline import Frontier
from wattline.hardware.power_tree import PowerTree
from wattline.site.curves import Job
from wattline.site.horizon import Conditions, Horizon, Task


@dataclass
class Drawn:
    """A site as plain lists."""

    parent: list[int]
    loss: list[float]
    limit: np.ndarray  # (periods, parts)
    standing: list[float]
    fixed: float
    pue: float
    edges: np.ndarray
    price: np.ndarray
    jobs: list[dict]

    def horizon(self) -> Horizon:
        names = [f"p{k}" for k in range(len(self.parent))]
        rows = [
            {"name": names[k], "on": None if p < 0 else names[p], "loss": self.loss[k], "standing": self.standing[k]}
            for k, p in enumerate(self.parent)
        ]
        from wattline.hardware.power_tree import Overhead

        tree = PowerTree.read(rows, overhead=Overhead(self.fixed, (self.pue,)))
        limits = {names[k]: self.limit[:, k] for k in range(len(names)) if np.isfinite(self.limit[:, k]).all()}
        tasks = []
        for j, job in enumerate(self.jobs):
            at = {names[k]: s for k, s in job["at"].items()}
            frontier = Frontier.of(job["time"], job["energy"], waiting_power=job["waiting"])
            tasks.append(
                Task(
                    Job(f"j{j}", frontier, next(iter(at)) if len(at) == 1 else at, 1.0, minimum=job["minimum"],
                        paused=job["paused"]),
                    job["due"], job["release"], job["deadline"], job["resume"],
                )
            )  # fmt: skip
        return Horizon(tree, tasks, Conditions(self.edges, price=self.price, limits=limits))


def draw(rng: np.random.Generator, *, periods: int | None = None, spread: float = 0.3, paid: bool = False) -> Drawn:
    """Return a site at random: sizes over ten decades, spans from an hour to a year, limits that bind or do not."""
    n = int(rng.integers(1, 9))
    parent = [-1, *(int(rng.integers(0, k)) for k in range(1, n))]
    loss = [float(rng.choice([0.0, 0.01, 0.04])) for _ in range(n)]
    watts = 10 ** rng.uniform(0, 10)
    span = 10 ** rng.uniform(np.log10(3600), np.log10(365 * 86400))
    count = periods or int(rng.integers(4, 40))
    edges = 1.78e9 * rng.integers(0, 2) + np.linspace(0, span, count + 1)
    if span / count < 900:
        edges = edges[0] + np.arange(count + 1) * 900.0
    price = rng.uniform(10, 200, count) / 3.6e9
    jobs = []
    for _ in range(int(rng.integers(1, 6))):
        m = int(rng.integers(1, 6))
        own = watts * 10 ** rng.uniform(-3, 0)
        unit = 10 ** rng.uniform(-3, 6)
        speed = np.sort(rng.uniform(0.3, 1, m))[::-1]
        speed[0] = 1.0
        power = own * (0.3 + 0.7 * speed ** rng.uniform(1, 3))
        waiting = own * float(rng.choice([0.0, 0.2]))
        may = bool(rng.random() < 0.7)
        parts = rng.permutation(n)[: (int(rng.integers(2, 4)) if n > 2 and rng.random() < spread else 1)]
        share = rng.dirichlet(np.ones(len(parts)) * 3) + 0.05
        begin, end = sorted(rng.choice(count + 1, 2, replace=False)) if rng.random() < 0.3 else (0, count)
        energy = (power - waiting) / speed
        # A slower setting that takes more energy is on no frontier.
        kept = energy < np.append(np.inf, np.minimum.accumulate(energy)[:-1]) * (1 - 1e-9)
        speed, energy = speed[kept], energy[kept]
        jobs.append({
            "time": unit / speed, "energy": energy * unit, "waiting": waiting,
            "minimum": 0.0 if may or rng.random() < 0.5 else float(rng.uniform(0.1, 0.9)) / unit,
            "paused": own * float(rng.choice([0.0, 0.1])) if may else None,
            "at": {int(k): float(s) for k, s in zip(parts, share / share.sum(), strict=True)},
            "release": float(edges[begin]), "deadline": float(edges[end]), "due": 0.0,
            "resume": float(rng.uniform(0.05, 0.9) * np.diff(edges)[0]) if paid and may else 0.0,
        })  # fmt: skip
    standing = [float(rng.choice([0.0, 0.002])) * watts for _ in range(n)]
    out = Drawn(parent, loss, np.full((count, n), np.inf), standing, 0.01 * watts, float(rng.uniform(0, 0.3)),
                edges, price, jobs)  # fmt: skip
    _limit(rng, out)
    _owe(rng, out)
    return out


def flows(d: Drawn, load: np.ndarray) -> np.ndarray:
    """Return the inflow of every part for loads drawn at the parts, by a walk from the leaves."""
    through = load + np.array(d.standing)
    for k in range(len(d.parent) - 1, -1, -1):
        through[k] *= 1 + d.loss[k] + (d.pue if k == 0 else 0.0)
        if k == 0:
            through[k] += d.fixed
        else:
            through[d.parent[k]] += through[k]
    return through


def _settings(job: dict) -> tuple[np.ndarray, np.ndarray]:
    """Return (W, units/s) of every setting, the pause first where there is one."""
    rate = 1 / job["time"]
    power = job["waiting"] + job["energy"] * rate
    if job["paused"] is not None:
        return np.append(job["paused"], power), np.append(0.0, rate)
    return power, rate


def _load(d: Drawn, watts: list[float]) -> np.ndarray:
    load = np.zeros(len(d.parent))
    for job, w in zip(d.jobs, watts, strict=True):
        for k, share in job["at"].items():
            load[k] += share * w
    return load


def _limit(rng: np.random.Generator, d: Drawn) -> None:
    """Put limits between what everything needs at the least and what it draws at the most."""
    least, most = [], []
    for job in d.jobs:
        power, rate = _settings(job)
        fit = rate >= job["minimum"] * (1 - 1e-12)
        # A minimum between settings is met by the setting above it.
        least.append(float(power[fit].min()))
        most.append(float(power.max()))
    low, high = flows(d, _load(d, least)), flows(d, _load(d, most))
    for k in range(len(d.parent)):
        if rng.random() < 0.6:
            d.limit[:, k] = low[k] + (high[k] - low[k]) * rng.uniform(0.05, 1.05, len(d.price)) + 1e-9 * high[k]


def _owe(rng: np.random.Generator, d: Drawn) -> None:
    """Ask for shares of what is possible with all jobs together, up to all of it."""
    possible = solve(d, most=True)
    assert possible is not None
    for job, done in zip(d.jobs, possible[1], strict=True):
        # Work that is not to be had beside the others' is not asked for.
        job["due"] = float(done * rng.choice([0.3, 0.7, 0.95, 0.999999])) if done * job["time"].min() > 1e-6 else 0.0


def solve(d: Drawn, *, most: bool = False) -> tuple[float, np.ndarray] | None:
    """Return (cost, work done of each job while it is open), or None where it cannot be done.

    `most`: instead of least cost, the largest equal share of every job's full speed.
    """
    n, parts = len(d.price), len(d.parent)
    dt, begins, ends = np.diff(d.edges), d.edges[:-1], d.edges[1:]
    none = flows(d, np.zeros(parts))
    columns: list[tuple[int, int, float, float]] = []  # job, period, W, work
    entries: list[tuple[int, int, float]] = []
    low, high = [], []

    def row(a: float, b: float) -> int:
        low.append(a)
        high.append(b)
        return len(low) - 1

    ups = []
    for job in d.jobs:
        one = np.zeros(parts)
        for k, share in job["at"].items():
            one[k] = share
        ups.append(flows(d, one) - none)
    open_ = [(begins >= job["release"] - 1e-6) & (ends <= job["deadline"] + 1e-6) for job in d.jobs]
    limits = {(t, k): row(-np.inf, 1.0) for t in range(n) for k in range(parts) if np.isfinite(d.limit[t, k])}
    whole, top = [], []
    dues = []
    for j, job in enumerate(d.jobs):
        power, rate = _settings(job)
        reach = max(float(rate.max() * dt.max()), 1e-300)
        dues.append((row(0.0, np.inf), reach))
        last = None
        for t in range(n):
            one = row(1.0, 1.0)
            at_least = row(job["minimum"] * dt[t] / reach, np.inf)
            begin = len(columns)
            for i, (w, r) in enumerate(zip(power, rate, strict=True)):
                if r > 0 and job["paused"] is not None and not open_[j][t]:
                    continue
                outside = (job["due"] > 0 or most) and not open_[j][t] and job["paused"] is None
                # Outside of its time it does as little as it may, unless its minimum asks for more.
                if outside and i + 1 < len(power) and job["minimum"] == 0:
                    continue
                columns.append((j, t, float(w), float(r * dt[t])))
                whole.append(0)
                top.append(1.0)
            for c in range(begin, len(columns)):
                entries.append((one, c, 1.0))
                entries.append((at_least, c, columns[c][3] / reach))
                if open_[j][t]:
                    entries.append((dues[j][0], c, columns[c][3] / reach))
                for k in range(parts):
                    if (t, k) in limits and ups[j][k]:
                        room = d.limit[t, k] - none[k]
                        entries.append((limits[t, k], c, ups[j][k] * columns[c][2] / room))
            if job["resume"]:
                on = len(columns)
                columns += [(j, t, 0.0, 0.0), (j, t, 0.0, -float(job["resume"] * rate.max()))]
                whole += [1, 0]
                top += [1.0, 1.0]
                switch = row(0.0, 0.0)  # the share of time at working settings is 1 when on, 0 when off
                entries += [(switch, c, 1.0) for c in range(begin, on) if columns[c][3] > 0]
                entries.append((switch, on, -1.0))
                start = row(-1.0 if t == 0 else 0.0, np.inf)
                entries += [(start, on + 1, 1.0), (start, on, -1.0)]
                if last is not None:
                    entries.append((start, last, 1.0))
                last = on
                if open_[j][t]:
                    entries.append((dues[j][0], on + 1, -job["resume"] * rate.max() / reach))
    cost = np.array([ups[j][0] * w * dt[t] * d.price[t] for j, t, w, _ in columns])
    size = float(np.abs(cost).max()) or 1.0
    a = np.array(low)
    width = len(columns)
    if most:
        width += 1
        cost = np.append(np.zeros(len(columns)), -1.0)
        whole, top = [*whole, 0], [*top, 1.0]
        size = 1.0
        for j, job in enumerate(d.jobs):
            span = float((dt * open_[j]).sum()) / float(job["time"].min())
            entries.append((dues[j][0], width - 1, -span / dues[j][1]))
    else:
        for j, job in enumerate(d.jobs):
            a[dues[j][0]] = job["due"] / dues[j][1]
    r, c, v = zip(*entries, strict=True)
    matrix = coo_matrix((v, (r, c)), shape=(len(low), width)).tocsr()
    found = milp(
        cost / size, integrality=np.array(whole), bounds=Bounds(0.0, np.array(top)),
        constraints=LinearConstraint(matrix, a, np.array(high)), options={"mip_rel_gap": 1e-9},
    )  # fmt: skip
    if found.x is None:
        return None
    done = np.zeros(len(d.jobs))
    for x, (j, t, _, work) in zip(found.x, columns, strict=False):
        done[j] += x * work * open_[j][t]
    constant = float(none[0] * (d.price @ dt))
    return constant + float(found.fun) * size, done
