"""What a design costs its owner and the climate: electricity for the works, and the chips written off over their life.

    cost   = energy x price   + chip-seconds x markup x making (USD)   / (life x use)
    carbon = energy x carbon  + chip-seconds x making (g CO2e)         / (life x use)

Both per unit of each work, mixed by the works' shares of the energy and relative to the unchanged chip. So a larger
cache that saves little energy and doubles the price of the die shows as what it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from ..core.errors import InputError, ScenarioError
from ..frontier.answer import Array
from ..hardware.architecture import Architecture
from ..hardware.facts import Sheet
from ..hardware.manufacture import Made, made
from .design_file import Study, Work
from .scenario import cluster_of, rates_of

# Goal -> what the site must state for it, and the key.
GOALS: Final = {"cost": ("price", "usd"), "carbon": ("carbon", "carbon_g")}


def making(chip: Sheet) -> Made | None:
    """Return what a chip costs to make; None where its description does not say enough."""
    found = described(chip)
    try:
        return None if found is None else made(found)
    except InputError:
        return None


def described(chip: Sheet) -> Architecture | None:
    """Return the description a chip's facts were worked out from; None for a sheet of facts alone."""
    parts: object = chip.parts
    return parts if isinstance(parts, Architecture) else None


def made_of(chip: Sheet) -> dict[str, float]:
    """Return the USD and the grams a chip takes to make, as entries of a design's row; empty where not known."""
    found = making(chip)
    return {} if found is None else {"usd": found.total_usd, "carbon_g": found.total_carbon_g}


def check(study: Study) -> None:
    """Refuse a study that asks for least cost or carbon and cannot be told them."""
    least = study.get("least")
    if least not in GOALS:
        return
    rate, _ = GOALS[least]
    for work in study.works:
        if getattr(rates_of(work.scenario), rate) is None:
            example = "80 USD/MWh" if rate == "price" else "400 g/kWh"
            raise ScenarioError(
                f'design.least = "{least}" needs site.{rate}, what a joule costs the site; state it, e.g. '
                f'site.{rate} = "{example}"'
            )
    chip = cluster_of(study.works[0].scenario).chip
    found = described(chip)
    if found is None:
        raise ScenarioError(
            f'design.least = "{least}" needs a chip of parts, and {chip.name} is a sheet of facts; name a description '
            "(wattline catalog architectures)"
        )
    made(found)  # says what is missing


def table(study: Study, base: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Array]:
    """Return goal -> (n,) ratios to the unchanged chip, for the goals that every row and the site allow."""
    known = [goal for goal in GOALS if _possible(study, goal, rows)]
    found = [ratios(study, base, row) for row in rows]
    return {goal: np.array([each[goal] for each in found]) for goal in known}


def _possible(study: Study, goal: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    rate, part = GOALS[goal]
    stated = all(getattr(rates_of(work.scenario), rate) is not None for work in study.works)
    chip = cluster_of(study.works[0].scenario).chip
    return stated and bool(made_of(chip)) and all(part in row for row in rows)


def ratios(study: Study, base: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, float]:
    """Return goal -> what the mix takes on a design over what it takes on the unchanged chip."""
    unchanged = made_of(cluster_of(study.works[0].scenario).chip)
    out = {}
    for goal, (rate, part) in GOALS.items():
        if part not in row or part not in unchanged:
            continue
        before = after = 0.0
        for work in study.works:
            each = getattr(rates_of(work.scenario), rate)
            if each is None:
                break
            old, new = base[work.name], row["works"][work.name]
            start = old.chosen.energy_j
            capital = (study.get("markup") if goal == "cost" else 1.0) / (study.get("life") * study.get("use"))
            held = _chips(work) * capital
            seconds = _machine_time(old)
            before += work.weight / start * (each * start + held * seconds * unchanged[part])
            after += work.weight / start * (each * new["energy_j"] + held * new["machine_time_s"] * row[part])
        else:
            out[goal] = after / before
    return out


def _machine_time(answer: Any) -> float:
    figures = answer.chosen.figures
    return 1.0 / figures["tokens_per_s"] if answer.kind == "serving" else float(answer.chosen.time_s)


def _chips(work: Work) -> int:
    """Return the chips whose time the work's machine time is: of the run, or of one replica."""
    return int(cluster_of(work.scenario).devices)


def assumed(study: Study) -> list[str]:
    """Return what is assumed of making chips."""
    if study.get("least") not in GOALS:
        return ["masks and design of another chip are not counted; what a chip costs to make is told, not chosen by"]
    years, use, markup = study.get("life") / 31557600.0, study.get("use"), study.get("markup")
    cut = any(key.endswith("making.dies") for axis in study.axes for o in axis.options for key in o.changes)
    return [
        f"a chip is written off over {years:.3g} years of which it works {100 * use:.3g} %, at {markup:.3g} times what "
        "it costs to make (design.life, design.use, design.markup); hosts, network and buildings are alike",
        "masks and design of another chip are not counted",
        *(["dies cut from one chip are joined for free: state the energy of the wires between them"] if cut else []),
    ]
