"""Answers kept to be compared: a table of terms per case in a JSON file beside the test that reads it.

A pin is no evidence that an answer is right, only that it moved. `scripts/write_pins.py` writes every table anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

Terms = Mapping[str, ArrayLike]
COMMAND = "python scripts/write_pins.py"
_DIGITS = 9


def write(path: Path, found: Mapping[str, Terms]) -> None:
    """Write case -> term -> numbers, one case a line."""
    lines = []
    for case, terms in found.items():
        plain = {term: [float(f"{x:.{_DIGITS}g}") for x in np.ravel(np.asarray(v, float))] for term, v in terms.items()}
        lines.append(f"{json.dumps(case)}: {json.dumps(plain, separators=(',', ':'))}")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


def moved(path: Path, found: Mapping[str, Terms], relative: float = 1e-6) -> list[str]:
    """Return one line per term of `found` that is not as kept: case, term, how far it moved."""
    kept: dict[str, dict[str, list[float]]] = json.loads(path.read_text("utf-8"))
    lines = [f"{case}: {'new' if case in found else 'gone'}" for case in kept.keys() ^ found.keys()]
    for case in kept.keys() & found.keys():
        now = {term: np.ravel(np.asarray(v, float)) for term, v in found[case].items()}
        lines += [f"{case}: term {t} {'new' if t in now else 'gone'}" for t in sorted(kept[case].keys() ^ now.keys())]
        lines += [
            f"{case}: {term} moved by {far:.2g}, from {kept[case][term]} to {now[term].tolist()}"
            for term in now.keys() & kept[case].keys()
            if (far := _far(kept[case][term], now[term])) > relative
        ]
    return sorted(lines)


def check(path: Path, found: Mapping[str, Terms], relative: float = 1e-6) -> None:
    """Fail with the terms that moved and the command that accepts them."""
    lines = moved(path, found, relative)
    terms = sorted({line.split(": ", 1)[1].split(" moved")[0] for line in lines})
    more = [f"and {len(lines) - 8} more"] if len(lines) > 8 else []
    told = "\n".join([*lines[:8], *more])
    assert not lines, f"moved: {', '.join(terms[:20])}\n{told}\nwhere this is meant: {COMMAND}"


def _far(kept: Sequence[float], now: np.ndarray) -> float:
    old = np.asarray(kept, float)
    if old.shape != now.shape:
        return float("inf")
    scale = np.where(old == 0.0, 1.0, np.abs(old))
    same = (old == now) | (np.isnan(old) & np.isnan(now))
    return float(np.max(np.where(same, 0.0, np.abs(now - old) / scale), initial=0.0))
