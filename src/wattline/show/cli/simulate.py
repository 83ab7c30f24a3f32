"""The command `wattline simulate`: a [serve] scenario played against its requests; a fleet's is in `cli_site`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from ...core.errors import InputError
from ...core.units import show
from .output import Json, Sets, pairs, print_json, tell, writable

if TYPE_CHECKING:
    from ...scenario.simulate_serving import Simulation


def register(app: App) -> None:
    """Add the command to the command line."""
    app.command(simulate)


def simulate(
    scenario: Path,
    *,
    sets: Sets = (),
    policies: Annotated[
        bool, Parameter(show_default=False, help="Also run every fixed clock and every policy, beside their bound.")
    ] = False,
    html: Annotated[Path | None, Parameter(help="Write a self-contained HTML report.")] = None,
    parquet: Annotated[Path | None, Parameter(help="Write one row per request (latencies, joules) as Parquet.")] = None,
    controllers: Annotated[
        tuple[str, ...],
        Parameter(
            name="--controller",
            show_default=False,
            help="Fleet: who sets the caps; several may be given.",
        ),
    ] = (),
    engine: Annotated[str, Parameter(help="Fleet: local, or ray for the runs of a large study.")] = "local",
    sweep: Annotated[
        str | None, Parameter(help="Play many loads: rate (to the largest that keeps the promise) or concurrency.")
    ] = None,
    chart: Annotated[
        Path | None, Parameter(help="With --sweep: tokens/s/chip against tokens/s/user: .html, .svg, .png or .json.")
    ] = None,
    json: Json = False,
) -> int:
    """Play a serving scenario against its requests, or a fleet's site second by second.

    A service: latencies, joules of each request, power over time; the exit code is 1 where the promised latencies were
    not kept. A fleet: work done and lost, energy, peak, violations and breakers that tripped, under each controller;
    the exit code is 1 where none kept every limit.

    Example: wattline simulate examples/llama-8b-simulated.toml --set serve.policy=governor

    With --sweep rate, the largest goodput under the promise; the exit code is 1 where no load keeps it.

    Example: wattline simulate examples/llama-8b-simulated.toml --sweep rate --chart loads.svg

    Parameters
    ----------
    scenario
        Scenario file (TOML) with a [serve] section, or with [[job]].
    """
    from ...scenario import scenario as scenarios
    from ...scenario import simulate_serving as simulation
    from ...scenario.fleet_file import is_fleet
    from ...serving.simulate.outcome import write_parquet

    for path in (html, parquet, chart):
        writable(path)
    if chart and sweep is None:
        raise InputError("--chart draws what --sweep rate or --sweep concurrency found")
    if is_fleet(scenario):
        from . import site as cli_site

        if policies or parquet:
            raise InputError("--policies and --parquet are for serving scenarios; a fleet takes --controller")
        return cli_site.simulate(scenario, pairs(sets), controllers, engine, html, print_json if json else None)
    if controllers or engine != "local":
        raise InputError("--controller and --engine are for fleet scenarios, those with [[job]]")
    if sweep is not None:
        if policies or parquet:
            raise InputError("--policies and --parquet are of one load; leave out --sweep")
        return _sweep(scenario, sets, sweep, [path for path in (chart, html) if path], json)
    found = simulation.run(scenarios.load(scenario).with_(pairs(sets)), policies=policies)
    if parquet:
        write_parquet(found.run, parquet)
    if html:
        from ..report.simulated import write_html

        words = ["wattline", "simulate", str(scenario), *(w for s in sets for w in ("--set", s))]
        words += [*(["--policies"] if policies else []), "--html", str(html)]
        write_html(page_of(found), html, scenario=scenario.read_text("utf-8"), command=shlex.join(words))
    if json:
        print_json(found.to_dict())
    else:
        _show(found)
    return 0 if found.run.kept else 1


def _sweep(scenario: Path, sets: tuple[str, ...], over: str, files: list[Path], json: bool) -> int:
    from ...scenario import scenario as scenarios
    from ...scenario.serving_sweep import rows_of
    from ...scenario.serving_sweep import sweep as swept

    found = swept(scenarios.load(scenario).with_(pairs(sets)), over)
    if files:
        from ..report.loads import write

        words = ["wattline", "simulate", str(scenario), *(w for s in sets for w in ("--set", s)), "--sweep", over]
        for path in files:
            write(found, path, scenario=scenario.read_text("utf-8"), command=shlex.join([*words, "--html", str(path)]))
    if json:
        print_json(found.to_dict())
    else:
        from ..report.loads import headline

        print(found.title)
        tell(None, *rows_of(found), False)
        print(headline(found))
        for line in found.assumptions:
            print(f"assumed: {line}")
    return 0 if found.best is not None else 1


def page_of(found: Simulation) -> Any:
    from ..report.simulated import Page

    return Page(
        title=found.title, run=found.run, facility_j=found.facility_j, facts=found.facts, rows=summary(found),
        policies=None if found.study is None else policy_table(found), assumptions=found.assumptions,
        study=found.study,
    )  # fmt: skip


def summary(found: Simulation) -> list[tuple[str, str]]:
    """Return what came of it, in words."""
    from ..report import words

    told: Mapping[str, Any] = found.run.to_dict()
    run = found.run

    def four(key: str) -> str:
        return ", ".join(f"{p} {show(told[key][p], 's')}" for p in ("p50", "p90", "p99") if p in told[key])

    missed = told["violations"]
    lines = [
        ("policy", run.policy),
        ("energy per output token", f"{show(run.energy_j / run.tokens, 'J')} of the chips, "
         f"{show(found.facility_j / run.tokens, 'J')} of the facility"),
        ("energy", f"{show(run.energy_j, 'J')} of the chips, {show(found.facility_j, 'J')} of the facility, "
         f"in {show(run.duration, 's')}"),
        ("by phase", ", ".join(f"{name} {100 * j / run.energy_j:.1f} %" for name, j in told["phases_j"].items() if j)),
        ("prefill", f"{show(told['prefill_j_per_prompt_token'], 'J')} per prompt token"),
        ("decode", f"{show(told['decode_j_per_output_token'], 'J')} per output token"),
        ("time to first token", four("ttft_s")),
        ("time per output token", four("tpot_s")),
        ("end to end", four("latency_s")),
        ("promise", "" if not run.promised else
         ("kept" if run.kept else "not kept") + f"; of {len(run.arrival) - run.filling:,} requests {missed['ttft']:,} "
         f"had a late first token and {missed['tpot']:,} were too slow after it"),
        ("replicas awake", f"{told['mean_replicas_awake']:.2f} of {run.replicas} on average, "
         f"busy {100 * told['busy']:.0f} % of that time"),
        ("engine steps", f"{run.steps:,}; {told['preemptions']:,} preemptions; "
         f"{words.percent(told['cached_prompt_tokens'] / told['prompt_tokens'])} of prompt tokens found in the cache"),
    ]  # fmt: skip
    lines += [(words.figure(k).lower(), words.value(k, v)) for k, v in found.figures.items()]
    return [line for line in lines if line[1]]


def policy_table(found: Simulation) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows of the policies beside the best fixed clock and the bound."""
    assert found.study is not None
    heads = ["policy", "promise", "J/token", "TTFT p99", "TPOT p99", "awake", "saves", "above bound"]
    return heads, [
        [
            row["policy"], {True: "kept", False: "missed", None: "none"}[row["promise_kept"]],
            f"{row['energy_per_token_j']:.4g}",
            show(row["ttft_s"], "s"), show(row["tpot_s"], "s"), f"{row['mean_replicas_awake']:.2f}",
            f"{100 * row['saving_vs_best_fixed']:+.1f} %", f"{100 * row['gap_to_bound']:.0f} %",
        ]
        for row in found.study.rows()
    ]  # fmt: skip


def _show(found: Simulation) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    console.print(found.title)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    for name, text in (*found.facts.items(), *summary(found)):
        table.add_row(name, text)
    console.print(table)
    if found.study is not None:
        heads, rows = policy_table(found)
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
        for number, head in enumerate(heads):
            table.add_column(head, justify="left" if number == 0 else "right")
        for row in rows:
            table.add_row(*row)
        console.print(table)
        console.print(
            f"saves: against {found.study.best.policy}, the best fixed clock that keeps the promise in hindsight"
        )
