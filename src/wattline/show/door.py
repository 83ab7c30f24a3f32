"""The front door in Python: one verb for each question, one type for every answer.

    >>> import wattline
    >>> load = {"rate": "1 req/s", "prompt": 200, "output": 50}
    >>> found = wattline.plan(model="llama-3.2-1b", chip="h100-sxm", chips_per_node=1, serve=load)
    >>> found.kind, sorted(found.rows[0])
    ('plan', ['average_power_w', 'energy_j', 'time_s'])

Each verb takes a TOML file, a mapping, or keywords (`scenario.asked`), `changes=` by dotted key, and where a model
is asked, `source=`: anything with ``points(operators, device, clocks)`` (`source.base.Source`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import InputError
from ..scenario.asked import Asked, Changes, asked
from .result import Result

if TYPE_CHECKING:
    from ..source.base import Source

What = str | Path | Mapping[str, Any] | None


def plan(
    what: What = None, *, changes: Changes | None = None, source: Source | None = None, jobs: int | None = None,
    engine: str = "local", **keywords: Any,
) -> Result:  # fmt: skip
    """Plan work: its frontier, the chosen point, its settings, and where the joules go.

    Parameters
    ----------
    what : a TOML file, a mapping of sections, or None with keywords: ``model=, chip=, nodes=, serve={...}``.
    changes : dotted key -> value put in place of what is stated, with units as in a file ("250 W").
    source : what turns work and a device into time and energy; the calibrated analytic model where None.
    jobs, engine : workers, and "local" or "ray", of a study of designs or a search.

    Raises
    ------
    InputError, ScenarioError : what was asked cannot be used. GoalError : the goal cannot be met; the message says what
    can.
    """
    return _planned(asked(what, changes, **keywords), source, jobs, engine)


def _planned(q: Asked, source: Source | None, jobs: int | None, engine: str) -> Result:
    from . import report
    from .report import placement, regions, searched

    stated: Any = q.stated
    if source is not None and q.kind != "plan":
        raise InputError(f"source= goes with one piece of work ([train] or [serve]), this is a {q.kind}")
    if q.kind == "fleet":
        from ..scenario import fleet as fleets

        fleet_answer = fleets.solve(stated)
        return Result("fleet", fleet_answer, fleet_answer.to_dict,
                      lambda path: report.write_fleet_html(fleet_answer, path, scenario=q.text))  # fmt: skip
    if q.kind == "placement":
        from ..scenario import fleet_place

        placed = fleet_place.solve(stated)

        def page(path: Path) -> None:
            placement.write_placement(placed, path, None, None, scenario=q.text, command="")

        return Result("placement", placed, placed.to_dict, page)
    if q.kind == "regions":
        from ..scenario import fleet_space

        spread = fleet_space.solve(stated)
        return Result("regions", spread, spread.to_dict,
                      lambda path: regions.write_regions(spread, path, None, scenario=q.text, command=""))  # fmt: skip
    if q.kind == "design":
        from ..scenario import design

        study = design.answer(stated, engine=engine, jobs=jobs)
        return Result("design", study, study.to_dict,
                      lambda path: report.write_design_html(study, path, scenario=q.text))  # fmt: skip
    if q.kind == "search":
        from ..scenario.search import search

        best = search(stated, engine=engine, jobs=jobs)
        return Result("search", best, best.to_dict, lambda path: searched.write_html(best, path, scenario=q.text))
    from ..scenario import scenario as scenarios
    from ..scenario.levers import with_levers

    answer = scenarios.solve(stated, source=source)
    answer = answer if source is not None else with_levers(answer, stated)
    return Result("plan", answer, answer.to_dict, lambda path: report.write_html(answer, path, scenario=q.text))


def whatif(what: What = None, *, changes: Changes, source: Source | None = None, **keywords: Any) -> Result:
    """Answer a question unchanged and with `changes` in place: two rows, and what the change saves."""
    return sweep(what, points=[changes], source=source, **keywords)


def sweep(
    what: What = None, *, grid: Mapping[str, Sequence[Any]] | None = None, points: Sequence[Changes] = (),
    changes: Changes | None = None, source: Source | None = None, jobs: int | None = None, engine: str = "local",
    **keywords: Any,
) -> Result:  # fmt: skip
    """Answer a question at every point of a grid: one row each, the unchanged one first.

    Parameters
    ----------
    grid : dotted key -> values; every combination is a point. points : changes listed one by one.
    changes : values that all points share. jobs, engine : workers, and "local" or "ray".
    """
    from ..scenario import sweep as sweeps
    from ..scenario.whatif import summaries

    q = asked(what, changes, **keywords)
    if q.kind != "plan":
        raise InputError(f"sweep takes one piece of work ([train] or [serve]), this is a {q.kind}")
    every: list[Changes] = [{}, *points, *(sweeps.grid(grid) if grid else [])]
    if len(every) == 1:
        raise InputError('sweep needs points: grid={"site.pue": [1.1, 1.3]} or points=[{...}, ...]')
    stated: Any = q.stated
    rows = summaries(stated, every, source) if source else sweeps.sweep(stated, every, engine=engine, jobs=jobs)
    return Result("rows", rows, lambda: {"base": rows[0], "rows": rows})


def simulate(
    what: What = None, *, changes: Changes | None = None, source: Source | None = None, policies: bool = False,
    controllers: Sequence[str] = (), **keywords: Any,
) -> Result:  # fmt: skip
    """Play a [serve] question request by request, or a fleet second by second.

    Parameters
    ----------
    policies : also every fixed clock and every policy (serving). controllers : which ones a fleet is played under.
    """
    q = asked(what, changes, **keywords)
    stated: Any = q.stated
    if q.kind in ("fleet", "placement", "regions"):
        from ..scenario import simulate_site
        from .cli.site import page_of
        from .report.site_page import write_site_html

        played = simulate_site.run(stated, controllers=controllers)
        return Result("site simulation", played, played.to_dict,
                      lambda path: write_site_html(page_of(played), path, scenario=q.text))  # fmt: skip
    if q.kind == "design":
        raise InputError("a study of designs is planned, not simulated; call wattline.plan")
    from ..scenario import simulate_serving
    from .cli.simulate import page_of as serving_page
    from .report.simulated import write_html

    served = simulate_serving.run(stated, source=source, policies=policies)
    return Result("simulation", served, served.to_dict,
                  lambda path: write_html(serving_page(served), path, scenario=q.text))  # fmt: skip


def pipeline(profile: str | Path, *, stages: int, microbatches: int, **options: Any) -> Result:
    """Plan one iteration of a pipeline from its measured profile.

    Parameters
    ----------
    profile : CSV of stage, instruction, frequency (MHz), time (s), energy (J per device).
    options : what `wattline pipeline` takes, e.g. ``waiting_power="75 W"``, ``max_slowdown="2 %"``.
    """
    from ..scenario import pipeline as pipelines
    from . import report

    try:
        request = pipelines.Request(Path(profile), stages, microbatches, **options)
    except TypeError as error:
        raise InputError(f"pipeline: {str(error).removeprefix('Request.__init__() ')}") from None
    found = pipelines.run(request)
    return Result("pipeline", found, lambda: found.values, lambda path: report.write_html(found.answer, path))


def fleet(
    what: What = None,
    *,
    jobs: Sequence[Mapping[str, Any]] | None = None,
    changes: Changes | None = None,
    **sections: Any,
) -> Result:
    """Share a site's power among jobs: a file with [[job]], a mapping, or ``jobs=[{...}], site={...}, grid={...}``."""
    if jobs is not None:
        sections["job"] = [dict(job) for job in jobs]
    q = asked(what, changes, **sections)
    if q.kind not in ("fleet", "placement", "regions"):
        raise InputError(f"fleet takes a scenario with [[job]], this is a {q.kind}; call wattline.plan")
    return _planned(q, None, None, "local")
