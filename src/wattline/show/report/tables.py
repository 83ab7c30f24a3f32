"""The plan's knobs as CSV: one row per setting, nothing summed up."""

from __future__ import annotations

import csv
from pathlib import Path

from ...frontier.answer import Answer
from .words import compact


def write_knobs(answer: Answer, path: Path) -> None:
    """Write every knob of the chosen plan; lists of microbatches become ranges like 0-31."""
    knobs = answer.chosen.knobs
    names = list(dict.fromkeys(key for knob in knobs for key in knob))
    with path.open("w", encoding="utf-8", newline="") as stream:
        out = csv.DictWriter(stream, names, restval="", lineterminator="\n")
        out.writeheader()
        for knob in knobs:
            out.writerow({k: compact(v) if isinstance(v, (list, tuple)) else v for k, v in knob.items()})
