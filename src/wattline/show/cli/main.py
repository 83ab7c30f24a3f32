"""The command line: reads what was typed, calls one function, prints tables or JSON.

Exit codes: 0 done, 1 the goal cannot be met, 2 bad input, 130 interrupted. A failure is one sentence on
stderr. With --json, stdout holds JSON and nothing else: stable keys, SI units in their names.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter

from ...core.errors import InputError, WattlineError, nearest
from ...core.version import __version__
from . import (
    control as cli_control,
)
from . import (
    imported as cli_imported,
)
from . import (
    jobs as cli_jobs,
)
from . import (
    live as cli_live,
)
from . import (
    pipeline as cli_pipeline,
)
from . import (
    quick as cli_quick,
)
from . import (
    simulate as cli_simulate,
)
from . import (
    trace as cli_trace,
)
from . import (
    validate as cli_validate,
)
from . import (
    web as cli_web,
)
from .output import (
    Engine,
    Jobs,
    Json,
    Sets,
    Verbose,
    blank_table,
    pairs,
    percent,
    print_json,
    progress,
    tell,
    terminal,
    writable,
    write_csv,
)

if TYPE_CHECKING:
    from ...frontier.answer import Answer
    from ...scenario.scenario import Scenario

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
app.register_install_completion_command(help="Complete commands and options in this shell from now on.")
cli_quick.register(app)
cli_live.register(app)
cli_control.register(app)
cli_web.register(app)
cli_simulate.register(app)
cli_pipeline.register(app)
cli_jobs.register(app)
cli_imported.register(app)
cli_validate.register(app)
cli_trace.register(app)


# Columns of chips as parts that need a wide page: they stand in JSON and in the sheet of one.
_LONG = ("title", "levels")

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
    emit: Annotated[
        Literal["vllm", "sglang", "trtllm", "k8s", "dynamo", "slurm", "redfish"] | None,
        Parameter(help="Print only what to run or apply: a launch line or manifests, of a fleet its caps."),
    ] = None,
    verbose: Verbose = False,
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
    from ...scenario import scenario as scenarios
    from ...scenario.levers import with_levers
    from . import design as cli_design
    from . import fleet as cli_fleet
    from . import search as cli_search

    for path in (html, csv, charts):
        writable(path, folder=path is charts)
    if cli_design.asked(scenario):
        wanted = cli_design.Wanted(html, charts, csv, print_json if json else None)
        cli_design.plan(scenario, pairs(sets), wanted, engine or "local", jobs, progress)
        return
    if emit is not None:
        from ...scenario import emitted, fleet, fleet_emit

        if fleet.is_fleet(scenario):
            print(fleet_emit.text(fleet.load(scenario, pairs(sets)), emit), end="")
            return
        print(emitted.text(scenarios.load(scenario).with_(pairs(sets)), emit), end="")
        return
    spread = engine is not None or jobs is not None
    if not spread and cli_fleet.plan(scenario, pairs(sets), html, charts, csv, print_json if json else None):
        return
    stated = scenarios.load(scenario).with_(pairs(sets))
    if scenarios.searches(stated):
        files, told = (html, charts, csv), print_json if json else None
        cli_search.plan(stated, scenario, sets, files, (engine or "local", jobs), progress, told)
        return
    if spread:
        raise InputError(
            "--engine and --jobs need a study or a search: the scenario has no [design], no [serve.search]"
        )
    answer = with_levers(scenarios.solve(stated), stated)
    if html or charts or csv:
        _write_plan(answer, scenario, sets, html, charts, csv)
    if json:
        print_json(answer.to_dict())
        return
    from ..report import show_plan

    show_plan(answer, terminal(), verbose=verbose)


def _write_plan(
    answer: Answer, scenario: Path, sets: Sequence[str], html: Path | None, charts: Path | None, csv: Path | None
) -> None:
    from .. import report

    if html:
        words = ["wattline", "plan", str(scenario), *(w for s in sets for w in ("--set", s)), "--html", str(html)]
        report.write_html(answer, html, scenario=scenario.read_text("utf-8"), command=shlex.join(words))
    if charts:
        report.write_charts(answer, charts)
    if csv:
        report.write_knobs(answer, csv)


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
    from ...scenario import scenario as scenarios
    from ...scenario.sweep import grid as product
    from . import fleet as cli_fleet

    if not sets and not grid:
        raise InputError("whatif needs a change: --set key=value or --grid key=a,b,c")
    writable(csv)
    axes = {k: [v.strip() for v in text.split(",") if v.strip()] for k, text in pairs(grid, "--grid").items()}
    points = product(axes, pairs(sets))
    if (told := cli_fleet.whatif(scenario, points, (engine, jobs), csv, print_json if json else None)) is not None:
        return told
    stated = scenarios.load(scenario)
    rows = _sweep(stated, points, engine, jobs)
    base, rows = rows[0], _against(rows[0], rows[1:])
    if csv:
        write_csv(csv, rows)
    if json:
        print_json({"base": base, "rows": rows})
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
    from ...scenario.sweep import sweep

    with progress(len(points) + 1) as tell:
        return sweep(stated, [{}, *points], engine=engine, jobs=jobs, progress=tell)


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
    from ...core.units import show

    table = blank_table([*keys, "time", "energy", "time saved", "energy saved"], right=len(keys))
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
        savings = [percent(row.get(f"saving_{what}_vs_base")) for what in ("time", "energy")]
        table.add_row(*cells, show(row["time_s"], "s"), show(row["energy_j"], "J"), *savings)
    console = terminal()
    console.print(table)
    if len(rows) > _ROWS:
        console.print(f"{len(rows) - _ROWS:,} more rows; --csv FILE or --json gives every one", highlight=False)


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
    from ...scenario import listing

    if import_ is not None:
        if kind != "architectures" or name is not None:
            raise InputError("--import reads a chip description; write wattline catalog architectures --import FILE")
        found = listing.imported(import_)
        if json:
            print_json(found)
        else:
            print(found["toml"], end="")
        return
    if kind is not None and kind not in _KINDS:
        raise InputError(f"catalog {kind!r} is not known; {nearest(kind, _KINDS)}")
    if kind is None:
        names = {k: listing.names(k) for k in _KINDS}
        tell(names, ["kind", "names"], [[k, ", ".join(v)] for k, v in names.items()], json)
    elif name is None:
        rows = [listing.summary(kind, n) for n in listing.names(kind)]
        shown = [k for k in rows[0] if kind != "architectures" or k not in _LONG]
        heads = [listing.BRIEF[kind].get(k, k) for k in shown]
        tell(rows, heads, [[listing.cell(k, row[k]) for k in shown] for row in rows], json)
    elif kind == "models":
        facts = listing.summary(kind, name)
        tell(facts, ["key", "value"], [[k, listing.cell(k, v)] for k, v in facts.items()], json)
    else:
        sheet = listing.sheet(kind, name)
        lines = [[k, listing.cell(k, f), f["source"]] for k, f in sheet["facts"].items()]
        lines += listing.making_lines(sheet)
        tell(sheet, ["key", "value", "source"], lines, json)


# ---- schema --------------------------------------------------------------------------------------


@app.command
def schema(what: str | None = None, /, *, json: Json = False) -> None:
    """Show every key that a file may have, with its unit, its default and its meaning.

    Example: wattline schema serve

    Parameters
    ----------
    what
        Kind of file (scenario, fleet, design, hardware, architecture), section or key; an overview where left out.
    """
    from ...scenario import reference

    if what is None and not json:
        tell(None, ["file", "what it is", "sections"], [list(row) for row in reference.sections()], json=False)
        return
    found = reference.rows(what)
    several = len({row.file for row in found}) > 1
    heads = ["key", "value", "default", "meaning", *(["file"] if several else [])]
    lines = [[r.key, r.value, r.default, r.meaning, *([r.file] if several else [])] for r in found]
    tell(found, heads, lines, json)


if __name__ == "__main__":
    sys.exit(main())
