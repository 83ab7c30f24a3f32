"""A plan from a measurement: which setting of a profiled piece of work meets the goal with the least energy.

The work is done `times` times, one after the other, each at the chosen setting. Energies are those of the profiled
devices, times the building's overhead; hosts and networks that the profile did not meter are not in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..core.errors import GoalError, ScenarioError
from ..core.units import show
from ..frontier.algebra import Frontier
from ..frontier.answer import Answer, Array, Goal, Outcome, Rates


def plan_profiled(
    frontier: Frontier,
    baseline: tuple[float, float],
    goal: Goal,
    rates: Rates,
    *,
    name: str,
    times: int = 1,
    pue: float = 1.0,
    power_limit: float | None = None,
    source: str = "",
    devices: int = 1,
    settings: Mapping[str, Any] | None = None,
    assumptions: tuple[str, ...] = (),
) -> Answer:
    """Choose a point of a measured frontier.

    frontier : of one execution, on all profiled devices. baseline : (s, J) of one execution at the highest setting.
    settings : what to set for the baseline. power_limit : W, facility.
    """
    time = times * frontier.time
    waiting = times * frontier.waiting_power * frontier.time
    energy = pue * (times * frontier.energy + waiting)
    base_time, base_energy = times * baseline[0], times * pue * baseline[1]
    index, text = _choose(time, energy, base_time, goal, rates, power_limit)
    point = frontier.at(index)

    def outcome(t: float, e: float, knobs: Mapping[str, Any]) -> Outcome:
        wait = times * frontier.waiting_power * (t / times)
        inside = {"work": e / pue - wait, "chip.waiting": wait, "cooling": e - e / pue}
        return Outcome(
            time_s=t,
            energy_j=e,
            average_power_w=e / t,
            breakdown_j={part: joules for part, joules in inside.items() if joules},
            knobs=(knobs,) if knobs else (),
            figures={"each_s": t / times, "each_j": e / times, **rates.figures(e)},
        )

    uncertainty = float(np.nan_to_num(point.uncertainty))
    return Answer(
        kind="profiled",
        title=f"{name}, {times:,} times" if times > 1 else name,
        work="the whole job" if times > 1 else "one execution",
        time_s=time,
        energy_j=energy,
        power_w=energy / time,
        chosen=outcome(float(time[index]), float(energy[index]), dict(point.plan[0].knobs)),
        baseline=outcome(base_time, base_energy, dict(settings or {})),
        goal=text,
        elasticity={},
        provenance="measured",
        sources=(source,),
        uncertainty=uncertainty,
        time_uncertainty=0.0,
        assumptions=assumptions,
        facts={"scope": f"the {devices} profiled device{'s' if devices > 1 else ''}, waiting included"},
    )


def _choose(
    time: Array, energy: Array, base_time: float, goal: Goal, rates: Rates, power_limit: float | None
) -> tuple[int, str]:
    """The index of the point that meets the goal, and the goal in words."""
    allowed = np.ones(len(time), bool) if power_limit is None else energy / time <= power_limit
    if goal.kind in ("power", "energy", "carbon", "cost"):
        rate = {"carbon": rates.carbon, "cost": rates.price}.get(goal.kind, 1.0)
        if not rate:
            needs = {"carbon": "site.carbon", "cost": "site.price"}[goal.kind]
            raise ScenarioError(f"goal.{goal.kind} needs {needs}, and the scenario gives none; add it to [site]")
        unit = {"power": "W", "energy": "J", "carbon": "g", "cost": "USD"}[goal.kind]
        values = energy / time if goal.kind == "power" else rate * energy
        text = f"fastest within goal.{goal.kind} = {show(goal.value, unit)}"
        fits = allowed & (values <= goal.value * (1 + 1e-9))
        least, order = f"the least that was measured is {show(float(values.min()), unit)}", time
    elif goal.kind in ("max_slowdown", "deadline", "least_energy"):
        limit = {"deadline": goal.value, "max_slowdown": (1 + goal.value) * base_time}.get(goal.kind, np.inf)
        text = {
            "deadline": f"least energy by {show(goal.value, 's')}",
            "max_slowdown": f"least energy at no more than {100 * goal.value:.3g} % slowdown",
            "least_energy": "least energy whatever the time",
        }[goal.kind]
        fits = allowed & (time <= limit * (1 + 1e-9))
        least, order = f"the fastest that was measured takes {show(float(time[0]), 's', 4)}", energy
    else:
        raise ScenarioError(f"goal.{goal.kind} is no goal for a profile; try goal.max_slowdown or goal.deadline")
    if power_limit is not None:
        text += f", within site.power_limit = {show(power_limit, 'W')}"
    if not fits.any():
        raise GoalError(f"{text} cannot be met: {least}")
    return int(np.flatnonzero(fits)[np.argmin(order[fits])]), text
