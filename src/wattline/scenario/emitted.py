"""A scenario planned and written out as what serves it: launch lines, manifests and values (`serving.deploy`)."""

from __future__ import annotations

from ..core.errors import InputError
from ..serving.deploy import FORMS, emit
from .launch import pools, searched
from .scenario import Scenario, searches, solve
from .search import search


def text(scenario: Scenario, form: str) -> str:
    """Plan a scenario and return what to run or apply in one of `FORMS`.

    Raises
    ------
    InputError : the scenario serves nothing.
    """
    if form not in FORMS:
        raise InputError(
            f"--emit {form} writes out the caps of a fleet, a scenario with [[job]]; here {', '.join(FORMS)}"
        )
    if not scenario.has("serve"):
        raise InputError("--emit writes out what serves; the scenario has no [serve]")
    if searches(scenario):
        some = searched(scenario, search(scenario).chosen.pools)
    else:
        some = pools(scenario, solve(scenario).chosen)
    return emit(some, form, scenario.name)
