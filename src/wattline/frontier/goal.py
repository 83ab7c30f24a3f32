"""A goal picks one point of a convex frontier: a time, and the price of a second there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.errors import GoalError, ScenarioError
from ..core.units import show
from .answer import Array, Goal, Rates


@dataclass(frozen=True)
class Choice:
    """The chosen `time` (s), the goal in words, and the `price` of a second there (W), 0 where time does not bind."""

    time: float
    text: str
    price: float


def choose(
    time: Array, energy: Array, base_time: float, goal: Goal, rates: Rates, power_limit: float | None = None
) -> Choice:
    """Return where on the frontier (time ascending, facility energy in J) the goal lies."""
    best = int(np.argmin(energy))
    slowest = float(time[best])
    if goal.kind in ("power", "energy", "carbon", "cost"):
        chosen = _fastest_within(time, energy, goal, rates)
        text = f"fastest within {_limit_text(goal)}"
        deadline = chosen
    else:
        deadline, text = _deadline(goal, base_time, slowest)
        if deadline < time[0] * (1 - 1e-12):
            raise GoalError(
                f"{text} cannot be met: the fastest plan takes {show(float(time[0]), 's', 4)}; "
                f"allow at least that, or add chips"
            )
        chosen = min(max(deadline, float(time[0])), slowest)
    if power_limit is not None:
        least = float((energy / time).min())
        if least > power_limit:
            raise GoalError(
                f"site.power_limit = {show(power_limit, 'W')} cannot be met: the least possible is {show(least, 'W')}"
            )
        cool = _fastest_within(time, energy, Goal("power", power_limit), rates)
        if cool > max(deadline, float(time[0])) * (1 + 1e-12):
            raise GoalError(
                f"{text} cannot be met within site.power_limit = {show(power_limit, 'W')}: "
                f"that needs {show(cool, 's', 4)}; raise the limit or allow more time"
            )
        chosen = max(chosen, cool)
        text += f", within site.power_limit = {show(power_limit, 'W')}"
    binds = chosen < slowest * (1 - 1e-9)
    return Choice(chosen, text, _price(time, energy, chosen) if binds else 0.0)


def _deadline(goal: Goal, base_time: float, slowest: float) -> tuple[float, str]:
    if goal.kind == "deadline":
        return goal.value, f"least energy by {show(goal.value, 's')}"
    if goal.kind == "least_energy":
        return slowest, "least energy whatever the time"
    if goal.kind == "max_slowdown":
        return (1 + goal.value) * base_time, f"least energy at no more than {100 * goal.value:.3g} % slowdown"
    raise ScenarioError(f"goal.{goal.kind} is not a goal for training; try goal.max_slowdown or goal.deadline")


def _limit_text(goal: Goal) -> str:
    unit = {"power": "W", "energy": "J", "carbon": "g", "cost": "USD"}[goal.kind]
    return f"goal.{goal.kind} = {show(goal.value, unit)}"


def _fastest_within(time: Array, energy: Array, goal: Goal, rates: Rates) -> float:
    """Return the least time whose power, energy, carbon or cost is within the limit."""
    limit, values = goal.value, energy
    if goal.kind == "power":
        values = energy / time
    elif goal.kind == "carbon":
        limit = goal.value / _rate(rates.carbon, "carbon")
    elif goal.kind == "cost":
        limit = goal.value / _rate(rates.price, "price")
    ok = np.flatnonzero(values <= limit)
    if not ok.size:
        unit = "W" if goal.kind == "power" else "J"
        raise GoalError(f"{_limit_text(goal)} cannot be met: the least possible is {show(float(values.min()), unit)}")
    i = int(ok[0])
    if i == 0:
        return float(time[0])
    # On the straight line to the point before, energy e + s (t - t_i) meets the limit exactly.
    slope = (energy[i] - energy[i - 1]) / (time[i] - time[i - 1])
    if goal.kind == "power":
        return float((energy[i] - slope * time[i]) / (limit - slope))
    return float(time[i] + (limit - energy[i]) / slope)


def _rate(value: float | None, name: str) -> float:
    if not value:
        raise ScenarioError(f"this goal needs site.{name}, and the scenario gives none; add it to [site]")
    return value


def _price(time: Array, energy: Array, at: float) -> float:
    """Return watts saved per second of delay at a time on the frontier."""
    if len(time) < 2:
        return 0.0
    i = int(np.clip(np.searchsorted(time, at, side="right"), 1, len(time) - 1))
    return float((energy[i - 1] - energy[i]) / (time[i] - time[i - 1]))
