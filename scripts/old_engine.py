"""Factors of vLLM 0.5, whose scheduler and sampler run in one Python loop, from the second leaderboard's rows.

ML.ENERGY leaderboard v2 (Apache-2.0): whole runs on A100 and H100, vLLM 0.5.4. Called by calibrate_engines.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from calibrate_serving import Array
from scipy.optimize import least_squares

from wattline.scenario.validate import read_table
from wattline.serving import engine
from wattline.serving import serving_rows as sr
from wattline.source.roofline.source import Roofline

# Priors, each free to leave by a factor of e: a host several times slower (vLLM's notes on 0.6 say 62 % of a step).
PRIOR: Mapping[str, float] = {"host": 3.0, "sampler": 1.0, "gaps": 2.0}
TARGETS = ("throughput_tok_s", "energy_per_token_j")
WEIGHTS = np.array([[8.0], [4.0]])


class Rows:
    """Rows that the catalog knows, made ready once."""

    def __init__(self, path: Path) -> None:
        table = sr.renamed(read_table(path))
        found, _ = sr.read(table)
        good = [i for i, row in enumerate(found) if row is not None and float(table["avg_batch_size"][i]) > 0]
        self.rows = [row for i in good if (row := found[i]) is not None]
        self.measured = np.array([[float(table[name][i]) for i in good] for name in TARGETS])
        self.family = np.array([row.replica.model.name.partition("-")[0] for row in self.rows])
        chips = np.array([row.device.chip.name for row in self.rows])
        self.kinds = [np.flatnonzero(chips == chip) for chip in np.unique(chips)]
        source = Roofline()
        self.work = [sr.works([self.rows[i] for i in kind], source) for kind in self.kinds]

    def errors(self, factors: Mapping[str, float]) -> Array:
        """Return (targets, rows) logarithms of predicted over measured."""
        out = np.zeros(self.measured.shape)
        for kind, work in zip(self.kinds, self.work, strict=True):
            some = [self.rows[i] for i in kind]
            c = engine.scaled(engine.constants(some[0].architecture), factors)
            guess = sr.targets_of(some, sr.table_of(some, work, c))
            out[:, kind] = np.log(np.array([guess[name] for name in TARGETS]) / self.measured[:, kind])
        return out


def fit(rows: Rows, keep: Array) -> dict[str, float]:
    """Return factors fitted to the rows of `keep`."""
    center = np.log([*PRIOR.values()])

    def residual(x: Array) -> Array:
        raw = (WEIGHTS * rows.errors(dict(zip(PRIOR, np.exp(x).tolist(), strict=True))))[:, keep].ravel()
        soft = np.sign(raw) * np.sqrt(2.0 * (np.sqrt(1.0 + raw**2) - 1.0))
        return np.concatenate([soft, x - center])

    return dict(zip(PRIOR, np.exp(least_squares(residual, center, max_nfev=15).x).tolist(), strict=True))


def report(path: Path) -> dict[str, float]:
    """Print errors fitted and with families left out, by chip, and return the factors."""
    rows = Rows(path)
    found = fit(rows, np.ones(len(rows.rows), dtype=bool))
    held = np.zeros(rows.measured.shape)
    for family in np.unique(rows.family):
        mine = rows.family == family
        held[:, mine] = rows.errors(fit(rows, ~mine))[:, mine]
    print(f"\nvLLM 0.5: {found}\n")
    print("| chip | rows | fitted: tokens/s, J/token | family left out |\n| --- | --- | --- | --- |")
    for kind in rows.kinds:
        cells = [
            ", ".join(f"{100 * np.median(np.abs(np.expm1(x[kind]))):.1f}" for x in e)
            for e in (rows.errors(found), held)
        ]
        print(f"| {rows.rows[kind[0]].device.chip.name} | {kind.size} | {' | '.join(cells)} |")
    return found
