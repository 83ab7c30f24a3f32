"""A user's own engine from a few of its own runs: factors on the shipped constants, as a posterior around 1.

    runs (prompt, output, concurrency -> seconds per token, first token, tokens/s)
      --factors on host, kernels, experts, prompts, requests; log-normal priors--> factors with their spread

Three to ten runs cannot tell fifteen constants; they can tell whether this host is slower than the one the
constants were fitted on, and by how much. What the runs say nothing about stays at 1 with the prior's width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ..core.errors import InputError
from ..source.base import Array, Source
from . import closed_loop
from .bench_files import Bench
from .factors import FACTORS, scaled

# How well a run is met by the best factors, relative: seconds per token, first token, tokens per second.
_NOISE: Final = (0.04, 0.15, 0.04)
_ROUNDS: Final = 12
# Runs that are worth it: fewer say little, more are for scripts/calibrate_serving.py.
FEWEST, MOST = 1, 50


@dataclass(frozen=True)
class Run:
    """One benchmark beside what the shipped constants make of it."""

    bench: Bench
    row: closed_loop.Row

    @property
    def measured(self) -> Array:
        """(3,) seconds per token, seconds to the first token (NaN where not told), output tokens/s and GPU."""
        first = np.nan if self.bench.ttft is None else self.bench.ttft
        devices = self.row.replica.parallel.devices
        return np.array([self.bench.tpot, first, self.bench.output_rate / devices])


@dataclass(frozen=True)
class Posterior:
    """factors : (value, relative spread) by name. before, after, left_out : median size of errors by target; left_out:
    of each run under factors fitted without it (empty for one run). predictions : (runs, 3) before and after."""

    factors: Mapping[str, tuple[float, float]]
    before: Mapping[str, float]
    after: Mapping[str, float]
    left_out: Mapping[str, float]
    predictions: tuple[Array, Array]


def runs_of(benches: Sequence[Bench], stated: Mapping[str, str]) -> list[Run]:
    """Return benchmarks as closed-loop rows; `stated` (columns of such a row) stands where a file says nothing."""
    if not FEWEST <= len(benches) <= MOST:
        raise InputError(f"{len(benches)} runs; three to ten are asked for, {FEWEST} to {MOST} are taken")
    out = []
    for i, bench in enumerate(benches):
        cells: dict[str, Any] = {**stated, **bench.stated, "model": stated.get("model") or bench.model}
        for column, option in (("hw", "--chip"), ("model", "--model")):
            if not cells.get(column):
                raise InputError(f"{bench.file}: does not say its {column}; name it with {option}")
        cells = {"framework": "vllm", "tp": "1"} | cells
        cells |= {"isl": bench.prompt, "osl": bench.output, "conc": bench.concurrency, "range_ratio": 1.0}
        try:
            out.append(Run(bench, closed_loop.row_of(cells, i)))
        except InputError as error:
            raise InputError(f"{bench.file}: {error}") from None
    return out


def fit(runs: Sequence[Run], source: Source) -> Posterior:
    """Return factors fitted to runs."""
    works = [closed_loop.works([run.row], source) for run in runs]
    bases = [run.row.replica.constants(run.row.device) for run in runs]
    names = [n for n in FACTORS if n != "experts" or any(run.row.replica.model.moe for run in runs)]
    width = np.array([FACTORS[n][0] for n in names])
    measured = np.array([run.measured for run in runs])

    def predicted(x: Array) -> Array:
        factors = dict(zip(names, np.exp(x), strict=True))
        rows = [closed_loop.targets_of([run.row], work, scaled(base, factors))[0]
                for run, work, base in zip(runs, works, bases, strict=True)]  # fmt: skip
        return np.array(rows)

    def misses(x: Array, keep: Sequence[int]) -> Array:
        ratio = np.log(predicted(x)[keep] / measured[keep]) / np.array(_NOISE)
        return np.where(np.isfinite(ratio), ratio, 0.0).ravel()

    every = list(range(len(runs)))
    x, spread = _map(lambda at: misses(at, every), width)
    before, after = predicted(np.zeros(width.size)), predicted(x)
    alone = np.full_like(after, np.nan)
    for i in every if len(runs) > 1 else ():
        rest = [k for k in every if k != i]
        alone[i] = predicted(_map(lambda at, rest=rest: misses(at, rest), width)[0])[i]  # type: ignore[misc]
    factors = {n: (float(np.exp(v)), float(s)) for n, v, s in zip(names, x, spread, strict=True)}
    left_out = _errors(alone, measured) if len(runs) > 1 else {}
    return Posterior(factors, _errors(before, measured), _errors(after, measured), left_out, (before, after))


def _map(misses: Callable[[Array], Array], width: Array) -> tuple[Array, Array]:
    """Return the most probable logarithms of factors and their spread (Laplace), by damped Gauss-Newton."""
    x, damping = np.zeros(width.size), 1e-2

    def loss(at: Array, r: Array) -> float:
        return float(np.sum(2.0 * (np.sqrt(1.0 + r**2) - 1.0)) + np.sum((at / width) ** 2))

    now = misses(x)
    precision = np.diag(1.0 / width**2)
    for _ in range(_ROUNDS):
        slope = np.stack([(misses(x + 1e-4 * e) - now) / 1e-4 for e in np.eye(width.size)], axis=1)
        weight = 1.0 / np.sqrt(1.0 + now**2)
        precision = slope.T @ (slope * weight[:, None]) + np.diag(1.0 / width**2)
        pull = slope.T @ (weight * now) + x / width**2
        step = np.linalg.solve(precision + damping * np.diag(np.diag(precision)), pull)
        trial = x - np.clip(step, -1.0, 1.0)
        then = misses(trial)
        if loss(trial, then) < loss(x, now):
            done = bool(np.max(np.abs(step)) < 1e-4)
            x, now, damping = trial, then, damping / 4.0
            if done:
                break
        else:
            damping *= 8.0
            if damping > 1e6:
                break
    return x, np.sqrt(np.diag(np.linalg.inv(precision)))


def _errors(predicted: Array, measured: Array) -> dict[str, float]:
    size = np.abs(predicted / measured - 1.0)
    return {name: float(np.median(size[np.isfinite(size[:, i]), i])) for i, name in enumerate(closed_loop.TARGETS)
            if np.isfinite(size[:, i]).any()}  # fmt: skip


def write(posterior: Posterior, runs: Sequence[Run]) -> str:
    """Return factors as the TOML file that `serve.factors` names."""
    row = runs[0].row
    names = [*dict.fromkeys(run.bench.file for run in runs)]
    files = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    lines = [
        "# What this engine on this host takes over the shipped constants: [factor, relative spread].",
        f'source = "fitted to {len(runs)} runs by wattline calibrate serving: {files}"',
        f'engine = "{row.replica.engine.name}"',
        f'chip = "{row.device.chip.name}"',
        "",
        "[factors]",
        *[f"{name} = [{value:.4f}, {spread:.3f}]" for name, (value, spread) in posterior.factors.items()],
    ]
    return "\n".join(lines) + "\n"
