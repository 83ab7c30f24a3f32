"""Factors of a user's own engine from files of its benchmarks: files in, the file that `serve.factors` names out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import InputError
from ..serving import own_factors
from ..serving.bench_files import Bench, read
from ..serving.closed_loop import TARGETS


def calibrate_serving(files: Sequence[Path], stated: Mapping[str, str]) -> dict[str, Any]:
    """Fit factors to the runs of `files`.

    stated : columns of a closed-loop row (hw, model, framework, image, tp, ep, dp_attention, precision) that the files
        leave open, or that replace the model they name.

    Returns factors with their spread, median errors before, after and of each run left out, the runs, what was skipped,
    and the text of the file.
    """
    from .scenario import default_source

    benches: list[Bench] = []
    skipped = []
    for path in files:
        try:
            benches += read(path)
        except InputError as error:
            skipped.append(str(error))
    if not benches:
        raise InputError(skipped[0] if skipped else "no file of a benchmark was named")
    runs = own_factors.runs_of(benches, stated)
    found = own_factors.fit(runs, default_source())
    before, after = found.predictions
    return {
        "rows": len(runs),
        "factors": {n: {"factor": v, "spread": s} for n, (v, s) in found.factors.items()},
        "before": dict(found.before),
        "after": dict(found.after),
        "left_out": dict(found.left_out),
        "runs": [
            {"file": run.bench.file, "tool": run.bench.tool, "model": run.row.replica.model.name,
             "chip": run.row.device.chip.name, "concurrency": run.row.batch, "prompt_tokens": run.bench.prompt,
             "output_tokens": run.bench.output,
             **{name: {"measured": _number(run.measured[i]), "before": float(before[k, i]), "after": float(after[k, i])}
                for i, name in enumerate(TARGETS)}}
            for k, run in enumerate(runs)
        ],
        "skipped": skipped,
        "file": own_factors.write(found, runs),
    }  # fmt: skip


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
