"""Predictions beside measurements as the command line knows them: `wattline validate` and `wattline calibrate`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from ...core.errors import InputError
from .output import Json, Sets, pairs, percent, print_json, tell, terminal, writable

Targets = Annotated[Path | None, Parameter(help="Measured columns in a file of their own, by row_id or in order.")]
Chart = Annotated[
    Path | None, Parameter(help="Draw predicted against measured into this file: .html, .svg, .png or .json.")
]

check = App(name="validate", help="Compare predictions with measurements.")
fitting = App(name="calibrate")


def register(app: App) -> None:
    """Add the commands to the command line."""
    app.command(check)
    app.command(fitting)
    app.command(verify)


@check.command(name="operators")
def validate_operators(
    inputs: Path,
    *,
    targets: Annotated[
        Path | None, Parameter(help="Measured latency (ms) and power (W), by row_id or in order.")
    ] = None,
    chip: Annotated[str | None, Parameter(help="Chip of all rows; the column device where left out.")] = None,
    chart: Chart = None,
    json: Json = False,
) -> None:
    """Predict time and energy of measured kernels, and say how wrong the predictions are.

    Example: wattline validate operators kernels.csv --targets measured.csv --json

    Parameters
    ----------
    inputs
        Table of kernels (CSV, plain or .gz).
    """
    from ...scenario.validate import operators

    writable(chart)
    _told(operators(inputs, targets, chip), chart, json)


@check.command(name="serving")
def validate_serving(inputs: Path, *, targets: Targets = None, chart: Chart = None, json: Json = False) -> None:
    """Predict measured LLM serving: joules per token, throughput, power and time between tokens.

    Example: wattline validate serving runs.csv --targets measured.csv --json

    Parameters
    ----------
    inputs
        Table of configurations (CSV, plain or .gz): model_id, gpu, task, attn_tp, avg_batch_size, avg_output_len, ...
    """
    _validated("serving", inputs, targets, chart, json)


@check.command(name="diffusion")
def validate_diffusion(inputs: Path, *, targets: Targets = None, chart: Chart = None, json: Json = False) -> None:
    """Predict measured image and video generation: joules and seconds per generation, power.

    Example: wattline validate diffusion runs.csv --json

    Parameters
    ----------
    inputs
        Table of configurations (CSV, plain or .gz): model_id, gpu, batch_size, inference_steps, height, width, ...
    """
    _validated("diffusion", inputs, targets, chart, json)


@check.command(name="training")
def validate_training(inputs: Path, *, targets: Targets = None, chart: Chart = None, json: Json = False) -> None:
    """Predict published training runs: iteration times, FLOP/s per device, days, GPU-hours.

    Example: wattline validate training runs.csv --json

    Parameters
    ----------
    inputs
        Table of runs (CSV, plain or .gz): model, hardware, num_devices, parallelism, batch, metric, value, unit.
    """
    _validated("training", inputs, targets, chart, json)


@check.command(name="silicon")
def validate_silicon(figures: Path | None = None, /, *, every: bool = False, json: Json = False) -> None:
    """Set published rates of kernels on public chips, none of them fitted, beside the predictions.

    Example: wattline validate silicon --every

    Parameters
    ----------
    figures
        Table of published rates (CSV); the shipped one where left out.
    every
        Print each figure with its set-up and source.
    """
    from ...scenario.silicon import silicon

    found = silicon(figures)
    rows = [
        [name, str(g["rows"]), *(percent(g[k]).lstrip("+") for k in ("median_ape", "near")), percent(g["bias"])]
        for name, g in found["groups"].items()
    ]
    whole = [percent(found[k]).lstrip("+") for k in ("median_ape", "near_share")]
    rows.append(["all", str(found["rows"]), *whole, ""])
    tell(found, ["published", "figures", "median error", "within 15 %", "bias"], rows, json)
    if every and not json:
        each = [
            [
                f["chip"],
                f["setup"],
                f"{f['published_tflops']:g}",
                f"{f['predicted_tflops']:.4g}",
                percent(f["error"]),
                f["source"],
            ]
            if f["error"] is not None
            else [f["chip"], f["setup"], f"{f['published_tflops']:g}", "", "", f["reason"]]
            for f in found["figures"]
        ]
        tell(None, ["chip", "set-up", "TFLOP/s", "predicted", "error", "source"], each, json=False)


def _validated(kind: str, inputs: Path, targets: Path | None, chart: Path | None, json: bool) -> None:
    from ...scenario.validate import configurations

    writable(chart)
    _told(configurations(kind, inputs, targets), chart, json)


def _told(found: Mapping[str, Any], chart: Path | None, json: bool) -> None:
    """Draw and print what a validation found."""
    if chart:
        from ..report.scatter import write_scatter

        write_scatter(found, chart)
    names = ["mape", "median_ape", "p90_ape", "bias"]
    rows = [[target, *(percent(m[n]).lstrip("+") for n in names)] for target, m in found["metrics"].items()]
    tell(found, [f"{found['rows']:,} rows", *names], rows or [["no measurements to compare with"]], json)
    for note in () if json else found.get("notes", ()):
        print(note)
    if found.get("refused") and not json:
        told = [[str(r["row_id"]), str(r["model"]), str(r["metric"]), r["reason"]] for r in found["refused"]]
        tell(found, ["not predicted", "model", "metric", "why"], told, json)


def verify(*files: Path, sets: Sets = (), json: Json = False) -> int:
    """Set benchmarks of your own server beside what its scenario predicts; the exit code is 1 where some lie outside.

    For the lengths and the requests at once of each run: time per token, time to the first token, tokens per second
    and chip, each with the interval of nine in ten. Where some lie outside, the command that calibrates is printed.

    Example: wattline verify run-32.json run-128.json examples/llama-8b-serving.toml --set serve.clock="1.3 GHz"

    Parameters
    ----------
    files
        Results of vllm bench serve, sglang.bench_serving, GenAI-Perf, AIPerf or InferenceMAX (JSON or JSON lines), and
        one scenario file (TOML) with [serve].
    """
    from ...scenario import scenario as scenarios
    from ...scenario.verify_serving import rows_of, verify

    stated = [path for path in files if path.suffix == ".toml"]
    if len(stated) != 1 or len(files) < 2:
        raise InputError(
            f"wattline verify RUN.json ... SCENARIO.toml takes one scenario and at least one result, got "
            f"{', '.join(map(str, files)) or 'nothing'}"
        )
    found = verify(scenarios.load(stated[0]).with_(pairs(sets)), [path for path in files if path not in stated])
    if json:
        print_json(found.to_dict())
        return 0 if found.agrees else 1
    heads = ["run", "figure", "measured", "predicted", "nine in ten", "measured is"]
    tell(None, heads, rows_of(found), False)
    console = terminal()
    for note in dict.fromkeys(note for run in found.runs for note in run.notes):
        console.print(f"note: {note}")
    for line in found.assumptions:
        console.print(f"assumed: {line}")
    if not found.agrees:
        console.print('To calibrate to this server (three to ten runs), then state serve.factors = "factors.toml":')
        print(found.calibration)
    return 0 if found.agrees else 1


@fitting.command(name="serving")
def calibrate_serving(
    files: Annotated[list[Path], Parameter(consume_multiple=True, negative="")],
    *,
    chip: Annotated[str | None, Parameter(help="Chip, where the files do not name it.")] = None,
    model: Annotated[str | None, Parameter(help="Model, where the files do not name it or name it otherwise.")] = None,
    engine: Annotated[str | None, Parameter(help='Engine and version, as "vllm 0.14"; as the files say.')] = None,
    tensor: Annotated[int | None, Parameter(help="Devices of the server, where the files do not say.")] = None,
    expert: Annotated[int | None, Parameter(help="Expert-parallel devices, likewise.")] = None,
    precision: Annotated[
        str | None, Parameter(help="Precision of the weights, where not as the model is stored.")
    ] = None,
    output: Annotated[Path | None, Parameter(help="Write the factors here; stdout where left out.")] = None,
    json: Json = False,
) -> None:
    """Fit factors on host, kernels, experts, prompts and requests to three to ten runs of your own server.

    Example: wattline calibrate serving run-8.json run-32.json run-128.json --chip h100 --tensor 4 --output mine.toml

    Then `serve.factors = "mine.toml"` in a scenario.

    Parameters
    ----------
    files
        Results of vllm bench serve, sglang.bench_serving, GenAI-Perf, AIPerf or InferenceMAX (JSON or JSON lines).
    """
    from ...scenario.calibrate_serving import calibrate_serving as fit

    writable(output)
    name, _, version = (engine or "").partition(" ")
    stated = {
        "hw": chip, "model": model, "framework": name, "image": f":v{version}" if version else "",
        "precision": precision,
        "tp": str(tensor) if tensor else "", "ep": str(expert) if expert else "",
    }  # fmt: skip
    found = fit(files, {k: v for k, v in stated.items() if v})
    if output:
        output.write_text(found["file"], "utf-8")
    elif not json:
        print(found["file"])
    for line in () if json else found["skipped"]:
        print(f"skipped: {line}")
    rows = [[n, f"{f['factor']:.2f}", f"{100 * f['spread']:.0f} %", ""] for n, f in found["factors"].items()]
    told = {"median_tpot": "time per token", "median_ttft": "time to first token", "output_tput_per_gpu": "tokens/s"}
    for key, title in told.items():
        if key in found["before"]:
            parts = (found[when].get(key) for when in ("before", "after", "left_out"))
            rows.append([f"median error of {title}", *("" if v is None else percent(v).lstrip("+") for v in parts)])
    tell(found, [f"{found['rows']} runs", "factor or before", "spread or after", "run left out"], rows, json)


@fitting.default
def calibrate(
    chip: str,
    rows: Path,
    *,
    output: Annotated[Path | None, Parameter(help="Write the chip's new facts here; stdout where left out.")] = None,
    json: Json = False,
) -> None:
    """Fit a chip's facts to a few measured kernels, and say what moved and what it won.

    Example: wattline calibrate b200-sxm rows.csv --output my-b200.toml

    Parameters
    ----------
    chip
        A chip of the catalog, or a chip file (TOML).
    rows
        Measured kernels (CSV, plain or .gz) with latency (ms) and power (W).
    """
    from ...scenario.validate import calibrate as fit

    writable(output)
    text, report = fit(chip, rows, output)
    if output:
        output.write_text(text, "utf-8")
    elif not json:
        print(text)
    before, after = (
        {k: {"median_ape": m.median_ape, "bias": m.bias} for k, m in ms.items()} for ms in (report.before, report.after)
    )
    changes = {k: {"before": a, "after": b} for k, (a, b) in report.changes.items() if a != b}
    found = {"changes": changes, "before": before, "after": after, "sheet": text}
    table = [[k, f"{c['before']:.4g}", f"{c['after']:.4g}"] for k, c in changes.items()]
    table += [
        [f"median error of {k}", percent(before[k]["median_ape"]), percent(after[k]["median_ape"])] for k in before
    ]
    tell(found, ["fact", "before", "after"], table, json)
