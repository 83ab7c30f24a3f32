"""How many more copies of a job a site carries, within a loss of work: ``goal.more``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from ..core.errors import GoalError, InputError, ScenarioError, nearest
from ..hardware.power_tree import PowerTree
from ..site.allocate import Fleet
from ..site.fleet_plan import FleetPlan
from .fleet_file import FleetScenario
from .fleet_work import Work, placed

# Copies beyond which nobody looks: the limits are then no limits.
_MOST: Final = 2_000_000


@dataclass(frozen=True)
class More:
    """The answer: so many more copies of `job` beside `now`; `loss` : share of all work not done then.

    `next_loss` : with one copy more, None where its minimum does not fit; `stops` : what then is in the way.
    """

    job: str
    now: int
    more: int
    allowed: float
    loss: float
    feed: float
    next_loss: float | None
    stops: tuple[str, ...]


def more_of(scenario: FleetScenario, tree: PowerTree, known: dict[str, Work]) -> tuple[FleetScenario, More]:
    """Return the scenario with as many more copies of `goal.more` as are carried within `goal.loss`, and the answer."""
    name = scenario.goal["more"]
    names = [row.get("name", f"job-{k}") for k, row in enumerate(scenario.jobs, 1)]
    if name not in names:
        raise ScenarioError(f"goal.more: no job is called {name!r}; {nearest(name, names)}")
    at, allowed = names.index(name), scenario.goal.get("loss", 0.01)
    now = scenario.jobs[at].get("count", 1)

    def tried(more: int) -> tuple[float | None, FleetPlan | None, tuple[str, ...]]:
        try:
            jobs = [p.job for p in placed(_with(scenario, at, now + more), tree, known)]
            fleet = Fleet(tree, jobs)
            plan = fleet.most_work()
        except (GoalError, InputError) as error:
            return None, None, (str(error),)
        full = float(fleet.points.weight @ fleet.points.fastest)
        return 1.0 - plan.value / full if full else 0.0, plan, tuple(part for part, _ in plan.binding())

    def fits(more: int) -> bool:
        loss = tried(more)[0]
        return loss is not None and loss <= allowed + 1e-12

    if not fits(0):
        loss = tried(0)[0]
        why = "its minimum service does not fit" if loss is None else f"{100 * loss:.3g} % of all work is lost"
        raise GoalError(
            f"there is no room for more of {name}: with the {now:,} there are {why} already, and goal.loss allows "
            f"{100 * allowed:.3g} %; raise a limit or allow more loss"
        )
    low, high = 0, 1
    while high <= _MOST and fits(high):
        low, high = high, 2 * high
    if high > _MOST:
        raise GoalError(f"more than {_MOST:,} more of {name} fit: no limit of the site bounds them; state its limits")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    loss, plan, _ = tried(low)
    after, _, stops = tried(low + 1)
    assert loss is not None
    assert plan is not None
    return _with(scenario, at, now + low), More(name, now, low, allowed, max(loss, 0.0), plan.feed, after, stops)


def _with(scenario: FleetScenario, at: int, count: int) -> FleetScenario:
    """Return the scenario with another number of copies of a job."""
    jobs = list(scenario.jobs)
    jobs[at] = {**jobs[at], "count": count}
    return replace(scenario, jobs=tuple(jobs))
