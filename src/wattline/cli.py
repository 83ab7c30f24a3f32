"""The command line: reads what was typed, calls one function, prints tables or JSON.

Exit codes: 0 done, 1 the goal cannot be met, 2 bad input, 130 interrupted. A failure is one sentence on
stderr. With --json, stdout holds JSON and nothing else: stable keys, SI units in their names.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter

from . import __version__, cli_control, cli_live, cli_simulate, cli_web
from .errors import InputError, WattlineError, nearest

if TYPE_CHECKING:
    from rich.console import Console

    from .plan.answer import Answer
    from .scenario import Scenario

app = App(
    name="wattline",
    help="Energy plans for AI systems: how much energy, where it goes, and which settings save most.",
    version=__version__,
    help_format="plaintext",
    default_parameter=Parameter(negative=()),
    exit_on_error=False,
    print_error=False,
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
check = App(name="validate", help="Compare predictions with measurements.")
app.command(check)
cli_live.register(app)
cli_control.register(app)
cli_web.register(app)
cli_simulate.register(app)

Sets = Annotated[
    tuple[str, ...],
    Parameter(
        name="--set",
        show_default=False,
        help='Replace a value at any layer, e.g. --set chip.memory.hbm.energy="2 pJ/bit".',
    ),
]
Targets = Annotated[Path | None, Parameter(help="Measured columns in a file of their own, by row_id or in order.")]
Chart = Annotated[
    Path | None, Parameter(help="Draw predicted against measured into this file: .html, .svg, .png or .json.")
]
Engine = Annotated[Literal["local", "ray"], Parameter(help="Where to run: this machine, or a Ray cluster.")]
Jobs = Annotated[int | None, Parameter(help="Workers; all cores where left out.")]
Json = Annotated[bool, Parameter(name="--json", show_default=False, help="Print JSON on stdout and nothing else.")]

# Most rows of a table that are printed.
_ROWS = 40


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    typed = list(sys.argv[1:] if argv is None else argv)
    try:
        code = app(typed)
        sys.stdout.flush()
    except CycloptsError as error:
        return _fail(_sentence(error), 2)
    except WattlineError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone; let the interpreter close a stdout that still works.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int) -> int:
    print(f"wattline: error: {' '.join(message.split())}", file=sys.stderr)
    return code


def _sentence(error: CycloptsError) -> str:
    """Return what is wrong with a command line in one sentence, with where to look."""
    text = " ".join(str(error).split()).rstrip(".")
    chain = " ".join(error.command_chain or ())
    return f"{text}; see wattline {f'{chain} ' if chain else ''}--help"


# ---- plan ----------------------------------------------------------------------------------------


@app.command
def plan(
    scenario: Path,
    *,
    sets: Sets = (),
    html: Annotated[Path | None, Parameter(help="Write a self-contained HTML report.")] = None,
    charts: Annotated[Path | None, Parameter(help="Write every chart as SVG and PNG into this folder.")] = None,
    csv: Annotated[Path | None, Parameter(help="Write the plan's knobs as CSV; of a study every design.")] = None,
    engine: Annotated[
        Literal["local", "ray"] | None, Parameter(help="Where a study or search runs: this machine, or a Ray cluster.")
    ] = None,
    jobs: Annotated[int | None, Parameter(help="Workers of a study or search; all cores where left out.")] = None,
    json: Json = False,
) -> None:
    """Plan the work of a scenario: its frontier, the chosen point, its knobs, and where the joules go.

    A scenario with [[job]] is a fleet, one with [design] a study of designs, one with [serve.search] a search.

    Example: wattline plan examples/llama-70b-training.toml --set hardware.chip=h200-sxm --html report.html

    Parameters
    ----------
    scenario
        Scenario file (TOML).
    """
    from . import cli_design, cli_fleet, cli_search
    from . import scenario as scenarios

    for path in (html, csv, charts):
        _writable(path, folder=path is charts)
    if cli_design.asked(scenario):
        wanted = cli_design.Wanted(html, charts, csv, _print_json if json else None)
        cli_design.plan(scenario, _pairs(sets), wanted, engine or "local", jobs, _progress)
        return
    spread = engine is not None or jobs is not None
    if not spread and cli_fleet.plan(scenario, _pairs(sets), html, charts, csv, _print_json if json else None):
        return
    stated = scenarios.load(scenario).with_(_pairs(sets))
    if scenarios.searches(stated):
        files, told = (html, charts, csv), _print_json if json else None
        cli_search.plan(stated, scenario, sets, files, (engine or "local", jobs), _progress, told)
        return
    if spread:
        raise InputError(
            "--engine and --jobs need a study or a search: the scenario has no [design], no [serve.search]"
        )
    answer = scenarios.solve(stated)
    if html or charts or csv:
        _write_plan(answer, scenario, sets, html, charts, csv)
    if json:
        _print_json(answer.to_dict())
        return
    from .report import show_plan

    show_plan(answer, _console())


def _write_plan(
    answer: Answer, scenario: Path, sets: Sequence[str], html: Path | None, charts: Path | None, csv: Path | None
) -> None:
    from . import report

    if html:
        words = ["wattline", "plan", str(scenario), *(w for s in sets for w in ("--set", s)), "--html", str(html)]
        report.write_html(answer, html, scenario=scenario.read_text("utf-8"), command=shlex.join(words))
    if charts:
        report.write_charts(answer, charts)
    if csv:
        report.write_knobs(answer, csv)


def _writable(path: Path | None, *, folder: bool = False) -> None:
    """Refuse a path that cannot be written, before any long work."""
    if path is None:
        return
    if folder:
        existing = next(p for p in (path, *path.absolute().parents) if p.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK):
            raise InputError(f"{path}: cannot be made a folder here; {existing} is no folder that can be written to")
        return
    parent = path.absolute().parent
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name a file in it")
    if not parent.is_dir():
        raise InputError(f"{path}: cannot be written, there is no folder {parent}")
    if not os.access(path if path.exists() else parent, os.W_OK):
        raise InputError(f"{path}: cannot be written (permission denied)")


def _pairs(items: Sequence[str], option: str = "--set") -> dict[str, str]:
    """Read key=value words; a key given twice is refused, since only one could hold."""
    out: dict[str, str] = {}
    for item in items:
        key, equals, value = item.partition("=")
        key = key.strip()
        if not equals or not key or not value.strip():
            raise InputError(f"{option} {item!r} must be key=value, e.g. {option} hardware.chip=h200-sxm")
        if key in out:
            raise InputError(f"{option} gives {key} twice; keep one")
        out[key] = value.strip()
    return out


# ---- what-if -------------------------------------------------------------------------------------


@app.command
def whatif(
    scenario: Path,
    *,
    sets: Sets = (),
    grid: Annotated[
        tuple[str, ...],
        Parameter(show_default=False, help="Sweep a key over values: --grid key=a,b,c; several make a grid."),
    ] = (),
    engine: Engine = "local",
    jobs: Jobs = None,
    csv: Annotated[Path | None, Parameter(help="Write every row as CSV.")] = None,
    json: Json = False,
) -> int:
    """Answer a scenario with other values beside the unchanged one, one point or a whole grid.

    Example: wattline whatif examples/llama-70b-training.toml --grid goal.max_slowdown=0%,5%,10% --grid site.pue=1.1,1.3

    Parameters
    ----------
    scenario
        Scenario file (TOML).
    """
    from . import scenario as scenarios
    from .sweep import grid as product

    if not sets and not grid:
        raise InputError("whatif needs a change: --set key=value or --grid key=a,b,c")
    _writable(csv)
    axes = {k: [v.strip() for v in text.split(",") if v.strip()] for k, text in _pairs(grid, "--grid").items()}
    points = product(axes, _pairs(sets))
    stated = scenarios.load(scenario)
    rows = _sweep(stated, points, engine, jobs)
    base, rows = rows[0], _against(rows[0], rows[1:])
    if csv:
        _write_csv(csv, rows)
    if json:
        _print_json({"base": base, "rows": rows})
    else:
        _show_rows(base, rows, list(points[0]))
    failed = [row for row in rows if "error" in row]
    if failed:
        print(
            f"wattline: {len(failed)} of {len(rows)} points have no answer; the first: {failed[0]['error']}",
            file=sys.stderr,
        )
    if len(failed) < len(rows):
        return 0
    # Bad input, or a goal out of reach? The first point says it again, with its exit code.
    scenarios.solve(stated.with_(points[0]), detail=False)
    return 1


def _sweep(stated: Scenario, points: list[dict[str, Any]], engine: str, jobs: int | None) -> list[dict[str, Any]]:
    from .sweep import sweep

    with _progress(len(points) + 1) as tell:
        return sweep(stated, [{}, *points], engine=engine, jobs=jobs, progress=tell)


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    with Progress(
        BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True
    ) as bar:
        task = bar.add_task("", total=total)
        yield lambda done: bar.advance(task, done)


def _against(base: Mapping[str, Any], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add what each row saves against the unchanged scenario, where both have an answer."""
    if "error" in base:
        return rows
    return [
        row if "error" in row else {
            **row,
            "saving_energy_vs_base": 1 - row["energy_j"] / base["energy_j"],
            "saving_time_vs_base": 1 - row["time_s"] / base["time_s"],
        }
        for row in rows
    ]  # fmt: skip


def _show_rows(base: Mapping[str, Any], rows: list[dict[str, Any]], keys: list[str]) -> None:
    from .units import show

    table = _table([*keys, "time", "energy", "time saved", "energy saved"], right=len(keys))
    if "error" in base:
        table.add_row("unchanged", *[""] * (len(keys) - 1), str(base["error"]))
    else:
        table.add_row(
            "unchanged", *[""] * (len(keys) - 1), show(base["time_s"], "s"), show(base["energy_j"], "J"), "", ""
        )
    for row in rows[:_ROWS]:
        cells = [str(row[key]) for key in keys]
        if "error" in row:
            table.add_row(*cells, "no answer")
            continue
        savings = [_percent(row.get(f"saving_{what}_vs_base")) for what in ("time", "energy")]
        table.add_row(*cells, show(row["time_s"], "s"), show(row["energy_j"], "J"), *savings)
    console = _console()
    console.print(table)
    if len(rows) > _ROWS:
        console.print(f"{len(rows) - _ROWS:,} more rows; --csv FILE or --json gives every one", highlight=False)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:+.2f} %"


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    import csv

    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", encoding="utf-8", newline="") as stream:
        out = csv.DictWriter(stream, names, restval="", lineterminator="\n")
        out.writeheader()
        out.writerows(rows)


# ---- pipeline ------------------------------------------------------------------------------------


@app.command
def pipeline(
    profile: Path,
    *,
    stages: Annotated[int, Parameter(help="Devices in a row; fewer or more than profiled are picked or repeated.")],
    microbatches: Annotated[int, Parameter(help="Microbatches per iteration and replica.")],
    schedule: Annotated[str, Parameter(help="1f1b, gpipe, interleaved, zb-h1 or dualpipe.")] = "1f1b",
    virtual: Annotated[int, Parameter(help="Model chunks per device, for interleaved.")] = 1,
    waiting_power: Annotated[str | None, Parameter(help="What a device draws while it waits, e.g. 75 W.")] = None,
    chip: Annotated[str | None, Parameter(help="Chip of the catalog whose waiting power to assume instead.")] = None,
    static_power: Annotated[str, Parameter(help="Further power per device that the profile does not hold.")] = "0 W",
    replicas: Annotated[int, Parameter(help="Data-parallel pipelines that do the same.")] = 1,
    max_slowdown: Annotated[str | None, Parameter(help="Against maximum clocks; 0 % where nothing is given.")] = None,
    deadline: Annotated[str | None, Parameter(help="Time of one iteration, e.g. 3 s.")] = None,
    straggler: Annotated[str | None, Parameter(help="Iteration time of a slower pipeline to wait for.")] = None,
    power_cap: Annotated[str | None, Parameter(help="Average power of all devices at most, e.g. 2 kW.")] = None,
    transfer_time: Annotated[str, Parameter(help="Time of a message to the next stage; one per link: a,b,c.")] = "0 s",
    switch_latency: Annotated[str, Parameter(help="Time a device stands still to change its clock.")] = "0 s",
    granularity: Annotated[
        Literal["microbatch", "instruction", "stage"], Parameter(help="What has a clock of its own.")
    ] = "microbatch",
    compare: Annotated[bool, Parameter(help="Also plan at every granularity, and say what each saves.")] = False,
    regress: Annotated[bool, Parameter(help="Plan on a convex curve through noisy samples; report both.")] = False,
    switch_once: Annotated[bool, Parameter(help="Also realise the bound, by one switch inside a computation.")] = False,
    split_backward: Annotated[str | None, Parameter(help="Share of backward its input part takes, e.g. 50 %.")] = None,
    allow_fixed: Annotated[bool, Parameter(help="Accept computations that have one setting only.")] = False,
    points: Annotated[int, Parameter(help="Deadlines at which a plan is realised.")] = 25,
    plan: Annotated[Path | None, Parameter(help="Write the chosen plan for a runtime (.csv or .json).")] = None,
    picture: Annotated[Path | None, Parameter(help="Write who runs when (.svg, .png) or the report (.html).")] = None,
    family: Annotated[
        Path | None, Parameter(help="Write the plans of all --points, to follow stragglers with.")
    ] = None,
    json: Json = False,
) -> None:
    """Plan the clocks of a pipeline from a measured profile: the exact frontier, and a plan a runtime can follow.

    Example: wattline pipeline examples/pipeline-profile.csv --stages 4 --microbatches 16 --waiting-power "75 W"

    Parameters
    ----------
    profile
        Measured settings (CSV, plain or .gz): stage,instruction,frequency,time,energy in MHz, s and J per device.
    """
    from . import pipeline as pipelines
    from .report import plans

    plans.check_suffixes(plan, picture)
    for path in (plan, picture, family):
        _writable(path)
    request = pipelines.Request(
        profile, stages, microbatches, schedule, virtual, waiting_power, chip, static_power, replicas, max_slowdown,
        deadline, straggler, power_cap, transfer_time, switch_latency, granularity, compare, regress, switch_once,
        split_backward, allow_fixed, points,
    )  # fmt: skip
    with _progress(pipelines.steps(request)) as tell:
        found = pipelines.run(request, tell)
    for warning in found.values["warnings"]:
        print(f"wattline: warning: {warning}", file=sys.stderr)
    if plan:
        plans.write_plan(found.rows, pipelines.head(found), plan)
    if family:
        from .control.straggler import Family

        Family.of(found.plan, points).write(family)
    if picture:
        words = ["wattline", "pipeline", str(profile), "--stages", str(stages), "--microbatches", str(microbatches)]
        plans.write_picture(found.answer, picture, shlex.join(words))
    if json:
        _print_json(found.values)
        return
    from .report import show_plan

    show_plan(found.answer, _console())
    for heads, rows in pipelines.tables(found):
        _console().print(_filled(heads, rows))


def _filled(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    table = _table(heads, right=1)
    for row in rows:
        table.add_row(*row)
    return table


# ---- catalog -------------------------------------------------------------------------------------

_KINDS = ("chips", "architectures", "nodes", "racks", "sites", "models")


@app.command
def catalog(
    kind: str | None = None,
    name: str | None = None,
    /,
    *,
    import_: Annotated[
        Path | None,
        Parameter(name="--import", help="Hardware YAML of AccelForge or ZigZag to write as a chip description (TOML)."),
    ] = None,
    json: Json = False,
) -> None:
    """Show what Wattline knows by name, each number with its unit and source.

    Example: wattline catalog chips h100-sxm

    Parameters
    ----------
    kind
        chips, architectures (chips as parts), nodes, racks, sites or models; all where left out.
    name
        One of them, in full.
    """
    from . import listing

    if import_ is not None:
        if kind != "architectures" or name is not None:
            raise InputError("--import reads a chip description; write wattline catalog architectures --import FILE")
        found = listing.imported(import_)
        if json:
            _print_json(found)
        else:
            print(found["toml"], end="")
        return
    if kind is not None and kind not in _KINDS:
        raise InputError(f"catalog {kind!r} is not known; {nearest(kind, _KINDS)}")
    if kind is None:
        names = {k: listing.names(k) for k in _KINDS}
        _tell(names, ["kind", "names"], [[k, ", ".join(v)] for k, v in names.items()], json)
    elif name is None:
        rows = [listing.summary(kind, n) for n in listing.names(kind)]
        heads = [listing.BRIEF[kind].get(k, k) for k in rows[0]]
        _tell(rows, heads, [[listing.cell(k, v) for k, v in row.items()] for row in rows], json)
    elif kind == "models":
        facts = listing.summary(kind, name)
        _tell(facts, ["key", "value"], [[k, listing.cell(k, v)] for k, v in facts.items()], json)
    else:
        sheet = listing.sheet(kind, name)
        lines = [[k, listing.cell(k, f), f["source"]] for k, f in sheet["facts"].items()]
        _tell(sheet, ["key", "value", "source"], lines, json)


# ---- measurements --------------------------------------------------------------------------------


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
    from .validate import operators

    _writable(chart)
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


def _validated(kind: str, inputs: Path, targets: Path | None, chart: Path | None, json: bool) -> None:
    from .validate import configurations

    _writable(chart)
    _told(configurations(kind, inputs, targets), chart, json)


def _told(found: Mapping[str, Any], chart: Path | None, json: bool) -> None:
    """Draw and print what a validation found."""
    if chart:
        from .report.scatter import write_scatter

        write_scatter(found, chart)
    names = ["mape", "median_ape", "p90_ape", "bias"]
    rows = [[target, *(_percent(m[n]).lstrip("+") for n in names)] for target, m in found["metrics"].items()]
    _tell(found, [f"{found['rows']:,} rows", *names], rows or [["no measurements to compare with"]], json)
    if found.get("refused") and not json:
        told = [[str(r["row_id"]), str(r["model"]), str(r["metric"]), r["reason"]] for r in found["refused"]]
        _tell(found, ["not predicted", "model", "metric", "why"], told, json)


@app.command
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
    from .validate import calibrate as fit

    _writable(output)
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
        [f"median error of {k}", _percent(before[k]["median_ape"]), _percent(after[k]["median_ape"])] for k in before
    ]
    _tell(found, ["fact", "before", "after"], table, json)


# ---- output --------------------------------------------------------------------------------------


def _tell(found: Any, heads: list[str], rows: list[list[str]], json: bool) -> None:
    """Print `found` as JSON, or the rows as a table."""
    if json:
        _print_json(found)
        return
    table = _table(heads)
    for row in rows:
        table.add_row(*row)
    _console().print(table)


def _table(heads: Sequence[str], right: int | None = None) -> Any:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for number, head in enumerate(heads):
        side: Any = "right" if right is not None and number >= right else "left"
        table.add_column(head, justify=side, overflow="fold", no_wrap=number == 0)
    return table


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False)


def _print_json(found: Any) -> None:
    """Print JSON; what is not a number there (NaN, infinity) is null."""
    import msgspec

    text = msgspec.json.format(msgspec.json.encode(found, enc_hook=lambda value: value.item()), indent=2)
    sys.stdout.write(text.decode() + "\n")


if __name__ == "__main__":
    sys.exit(main())
