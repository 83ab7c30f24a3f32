"""Scenarios solved once a process: many commands and pages ask the same ones, and each takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from wattline.frontier.answer import Answer
from wattline.scenario import scenario as scenarios
from wattline.scenario import whatif
from wattline.scenario.stated import Scenario
from wattline.source.base import Source

_answers: dict[str, Answer] = {}
_solve: Callable[..., Answer] = scenarios.solve


def solved(
    scenario: Scenario, *, source: Source | None = None, detail: bool = True, simulated: bool | None = None
) -> Answer:
    """Return what `scenario.solve` does, and keep it; what rests on a source or a store of the caller is not kept."""
    if source is not None or scenario.has("measured"):
        return _solve(scenario, source=source, detail=detail, simulated=simulated)
    parts: list[Any] = [sorted(d.items()) for d in (scenario.values, scenario.text, scenario.chip, scenario.node)]
    key = repr((scenario.name, *parts, scenario.folder.resolve(), detail, simulated))
    if key not in _answers:
        _answers[key] = _solve(scenario, detail=detail, simulated=simulated)
    return _answers[key]


def remembered(patch: pytest.MonkeyPatch) -> None:
    """Have commands use `solved`."""
    patch.setattr(scenarios, "solve", solved)
    patch.setattr(whatif, "solve", solved)
