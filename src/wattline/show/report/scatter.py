"""Predicted against measured: one panel per target, both axes logarithmic, the line of equality, 90 % intervals."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from ...core.errors import InputError
from . import document as documents
from . import vega
from .charts import BASELINE, specification, svg

# Most rows drawn per target, groups told apart by colour, and panels side by side.
ROWS, GROUPS, ACROSS = 1500, 9, 2
SIDE: Final = 330
FORMATS: Final = (".html", ".svg", ".png", ".json")

# Okabe and Ito's colours, which people with any colour vision tell apart, and grey for the rest.
_COLOURS: Final = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#8a63c9", "#7f6000", "#2c2f36")
_REST: Final = "other"

# Targets in words, with the unit of their column.
_NAMES: Final = {
    "latency": "Time of a kernel, ms", "power": "Power, W", "energy_j": "Energy of a kernel, J",
    "energy_per_token_j": "Energy per output token, J", "throughput_tok_s": "Output tokens per second",
    "power_per_gpu_w": "Power per GPU, W", "median_itl_ms": "Time between tokens, ms",
    "energy_per_gen_j": "Energy per generation, J", "throughput_gen_s": "Generations per second",
    "batch_latency_s": "Time of a batch, s", "iteration_s": "Time of an iteration, s",
    "tflops_hardware": "TFLOP/s per GPU, recomputation counted", "tflops_model": "TFLOP/s per GPU of the model",
    "days": "Days of a whole run", "gpu_hours": "GPU-hours of a whole run", "gpu_mwh": "GPU energy of a whole run, MWh",
    "gpu_hours_per_trillion_tokens": "GPU-hours per trillion tokens",
    "tokens_per_s_per_device": "Tokens per second and GPU",
}  # fmt: skip


def write_scatter(found: Mapping[str, Any], path: Path) -> None:
    """Draw what `wattline validate` found into a file, whose ending says how: .html, .svg, .png or .json."""
    ending = path.suffix.lower()
    if ending not in FORMATS:
        raise InputError(f"{path}: a chart ends in {', '.join(FORMATS)}, got {ending or 'no ending'!r}")
    chart = scatter(points(found))
    try:
        if ending == ".json":
            path.write_text(json.dumps(chart.to_dict()), "utf-8")
        elif ending == ".html":
            path.write_text(_page(chart), "utf-8")
        else:
            drawn = svg(chart)
            if ending == ".svg":
                path.write_text(drawn, "utf-8")
            else:
                path.write_bytes(vega.png(drawn))
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None


def points(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what is to be drawn: target, measured, predicted, the interval's ends, group and row of each."""
    out: list[dict[str, Any]] = []
    for row in found["predictions"]:
        base = {"row": str(row["row_id"]), "group": str(row.get("group", row.get("model", ""))) or "all rows"}
        if "published" in row:
            name = row["target"]
            ends = (row["low"], row["high"])
            out.append({**base, "target": name, "measured": row["published"], "predicted": row[name], "ends": ends})
            continue
        for key, measured in row.get("measured", {}).items():
            ends = row.get(f"{key}_interval", (row[key], row[key]))
            out.append({**base, "target": key, "measured": measured, "predicted": row[key], "ends": tuple(ends)})
    if not out:
        raise InputError("there is nothing measured to draw predictions against; give measured columns, or --targets")
    return out


def scatter(drawn: Sequence[Mapping[str, Any]]) -> vega.Chart:
    """Return the chart of `points`."""
    common = [name for name, _ in Counter(p["group"] for p in drawn).most_common()]
    named = common if len(common) <= GROUPS else [*common[: GROUPS - 1], _REST]
    colours = [*_COLOURS[: len(named)]]
    if named[-1] == _REST:
        colours[-1] = BASELINE
    scale = vega.options(domain=named, range=colours)
    panels = [
        _panel([p for p in drawn if p["target"] == target], target, named, scale)
        for target in dict.fromkeys(p["target"] for p in drawn)
    ]
    return vega.side_by_side(*panels, columns=min(ACROSS, len(panels)), spacing=30)


def _panel(
    mine: Sequence[Mapping[str, Any]], target: str, named: Sequence[str], scale: dict[str, Any]
) -> vega.Chart:  # fmt: skip
    pick = np.unique(np.linspace(0, len(mine) - 1, min(len(mine), ROWS)).round().astype(np.int64))
    rows = [_row(mine[i], named) for i in pick]
    ends = [v for r in rows for v in (r["m"], r["p"])]
    low, high = min(ends) / 1.25, max(ends) * 1.25
    title = _NAMES.get(target, target.replace("_", " "))
    error = np.median([abs(p["predicted"] / p["measured"] - 1.0) for p in mine])
    inside = np.mean([p["ends"][0] <= p["measured"] <= p["ends"][1] for p in mine])
    told = [f"median error {100 * error:.1f} %", _count(len(rows), len(mine))]
    if any(p["ends"][0] < p["ends"][1] for p in mine):
        told[0] += f", {100 * inside:.0f} % of rows within the 90 % interval"
    ticks = _ticks(low, high)
    domain = vega.options(type="log", domain=[low, high], nice=False, clamp=True)
    text = "datum.label" if low >= 1e-3 and high < 1e5 else "replace(format(datum.value, '~e'), 'e+', 'e')"
    axis = vega.options(values=ticks, format="~g", labelExpr=text, labelOverlap=True)
    x = vega.field("m:Q", title="measured", scale=domain, axis=axis)
    y = vega.field("p:Q", title="predicted", scale=domain, axis=axis)
    colour = vega.field(
        "group:N", title=None, scale=scale, legend=vega.options(columns=4, labelLimit=220, symbolOpacity=1)
    )
    data = vega.Chart(rows)
    faint = 0.5 if len(rows) < 200 else 0.18
    bars = data.mark("rule", opacity=faint, strokeWidth=1, clip=True).encode(
        x=x, y=vega.field("low:Q", title="predicted", scale=domain, axis=axis), y2="high:Q", color=colour
    )
    tips = [vega.field(f"{k}:{'Q' if k in 'mp' else 'N'}", title=t) for k, t in
            (("row", "row"), ("group", "group"), ("m", "measured"), ("p", "predicted"))]  # fmt: skip
    dots = data.mark("circle", size=34 if len(rows) < 200 else 16, opacity=0.85 if len(rows) < 200 else 0.6, clip=True)
    corner = vega.Chart([{"m": low, "p": low}, {"m": high, "p": high}])
    equal = corner.mark("line", color=BASELINE, strokeDash=[5, 4], strokeWidth=1.2).encode(x=x, y=y)
    return vega.layer(bars, equal, dots.encode(x=x, y=y, color=colour, tooltip=tips)).properties(
        width=SIDE,
        height=SIDE,
        title=vega.options(text=title, subtitle=told, anchor="start", frame="group", fontSize=13),
    )


def _row(point: Mapping[str, Any], named: Sequence[str]) -> dict[str, Any]:
    group = point["group"] if point["group"] in named else _REST
    low, high = point["ends"]
    short = {
        k: float(f"{v:.4g}")
        for k, v in (("m", point["measured"]), ("p", point["predicted"]), ("low", low), ("high", high))
    }
    return {"row": point["row"], "group": group, **short}


def _count(drawn: int, all_rows: int) -> str:
    if all_rows == 1:
        return "1 row"
    return f"{all_rows:,} rows" if drawn == all_rows else f"{all_rows:,} rows ({drawn:,} drawn)"


def _ticks(low: float, high: float) -> list[float]:
    """Return powers of ten within a range, with multiples between where there are few."""
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    steps: tuple[float, ...] = (1.0,)
    if high / low < 1e4:
        steps = (1.0, 2.0, 5.0) if high / low > 10 else (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
    found = [float(f"{s * 10.0**d:.3g}") for d in decades for s in steps]
    return [v for v in found if low <= v <= high]


def _page(chart: vega.Chart) -> str:
    """Return a page that stands alone: the chart and what draws it, no address to fetch from."""
    drawn = {"scatter": documents.fluid(specification(chart))}
    body = f"<h1>Predicted against measured</h1>{documents.chart_place('scatter', drawn)}"
    return documents.document("Predicted against measured", body, drawn)
