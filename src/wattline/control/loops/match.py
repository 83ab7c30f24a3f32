"""Whether a plan is for this job: one for other devices or another schedule is refused before anything is set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...core.units import show
from ..daemon.client import Held
from ..leases.actuator import UNITS, ControlError, Knob


def same_job(planned: Mapping[str, Any], actual: Mapping[str, Any]) -> None:
    """Refuse a plan whose stated facts are not those of the job: schedule, stages, microbatches, devices, ...

    Facts that either side does not state are not compared; a plan that shares none is refused, for nothing is known.

    >>> same_job({"stages": 4, "schedule": "1f1b"}, {"stages": 4, "rank": 0})
    """
    shared = [key for key in planned if key in actual]
    if not shared:
        raise ControlError("plan", f"the plan states none of {', '.join(actual)}, so it cannot be told what it is for")
    if wrong := [key for key in shared if planned[key] != actual[key]]:
        told = ", ".join(f"{key} {planned[key]!r} (here: {actual[key]!r})" for key in wrong)
        raise ControlError("plan", f"the plan is for another job: {told}", "plan this job anew")


def settable(held: Sequence[Held], settings: Iterable[Mapping[Knob, float]], names: Iterable[str] = ()) -> None:
    """Refuse a plan whose settings these devices do not have, or that was made for devices of other names."""
    wanted = set(names)
    every = list(settings)
    for lease in held:
        if wanted and lease.name not in wanted:
            raise ControlError(
                "plan", f"the plan is for {', '.join(sorted(wanted))}, and {lease.device} is {lease.name}"
            )
        for setting in every:
            for knob, value in setting.items():
                range_ = lease.ranges.get(knob)
                if range_ is None:
                    raise ControlError("plan", f"the plan sets {knob}, which {lease.device} does not have")
                try:
                    range_.check(knob, value)
                except ControlError as error:
                    asks = f"the plan asks for {knob.replace('_', ' ')} {show(value, UNITS[knob], 4)}"
                    raise ControlError(
                        "plan", f"{asks} on {lease.device}: {error.reason}", "plan for this device"
                    ) from None
