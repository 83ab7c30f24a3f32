"""Carbon and water of a fleet's plan, from what its scenario states: of the hour it stands in, or of all its hours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..site.answer import FleetAnswer
from ..site.equipment import Equipment
from ..site.footprint import LIFE, Intensities, Line, Made, lines
from ..site.horizon import HorizonPlan
from ..site.tasks import Conditions
from .fleet_file import FleetScenario, SeriesFile
from .fleet_work import Placed


def now(scenario: FleetScenario, answer: FleetAnswer, jobs: Sequence[Placed]) -> tuple[Line, ...]:
    """Return the lines of one hour at the power of a plan; series over time have no hour to be read at here."""
    grid, hour = scenario.grid, np.array([3600.0])

    def one(name: str) -> np.ndarray | None:
        value = grid.get(name)
        return None if value is None or isinstance(value, SeriesFile) else np.array([float(value)])

    given = Intensities(
        one("carbon"), one("carbon_market"), one("carbon_marginal"), grid.get("water"), scenario.feed.get("wue")
    )
    work = 3600.0 * sum(p.work.chips * p.copies * j.speed for p, j in zip(jobs, answer.jobs, strict=True))
    power = np.array([float(answer.plan.power.sum())])
    return lines(given, np.array([answer.plan.feed]), power, hour, work, _made(jobs))


def over_time(
    scenario: FleetScenario, plan: HorizonPlan, conditions: Conditions, equipment: Equipment, jobs: Sequence[Placed]
) -> tuple[Line, ...]:
    """Return the lines of a plan over time."""
    c = conditions
    given = Intensities(c.carbon, c.market, c.marginal, scenario.grid.get("water"), scenario.feed.get("wue"))
    chips = np.array([p.work.chips * p.copies for p in jobs], float)
    work = float(chips @ np.maximum(plan.work, 0.0).sum(axis=1))
    own = sum((s.carbon * float(plan.equipment[s.name] @ c.dt) for s in equipment.sources), 0.0)
    return lines(given, plan.grid, plan.power.sum(axis=0), c.dt, work, _made(jobs), own)


def _made(jobs: Sequence[Placed]) -> list[Made]:
    return [
        Made(p.job.name, p.row["embodied"] * p.copies, p.row.get("life", LIFE), "life" in p.row)
        for p in jobs
        if "embodied" in p.row
    ]
