"""Carbon and water of what a site draws, each line with what it rests on: nothing is assumed that is not said.

    location    what is bought, at the mean intensity of its grid (GHG Protocol Scope 2 Guidance, location-based)
    market      the same energy at the intensity of what was contracted, the residual mix else (market-based)
    marginal    the same energy at the intensity of what answers one joule more: what a change would change
    embodied    making the equipment, by the share of its life that the plan takes
    water       at the site per joule of the jobs (WUE, ISO/IEC 30134-9), and at the power plants per joule bought
    SCI         (location + embodied) / work, ISO/IEC 21031:2024; offsets and contracts do not enter

A line stands only where what it needs is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..core.units import show
from .tasks import Array

# Seconds that equipment is used where its life is not stated: 5 years, within the 3 to 6 that operators write off over.
LIFE = 5 * 31557600.0


@dataclass(frozen=True)
class Line:
    """One figure: `value` in `unit` (g, L, g/chip-hour), what it is called, and in a sentence what it rests on."""

    key: str
    name: str
    value: float
    unit: str
    how: str


@dataclass(frozen=True)
class Made:
    """Equipment of one job: `carbon` g of making all of it, `life` s that it is used, and whether that was stated."""

    job: str
    carbon: float
    life: float = LIFE
    stated: bool = True


@dataclass(frozen=True, eq=False)
class Intensities:
    """What a joule carries, None where not given: g/J bought by three countings, L/J at plants and at the site."""

    location: Array | None = None
    market: Array | None = None
    marginal: Array | None = None
    plants: float | None = None
    site: float | None = None


def lines(
    given: Intensities, bought: Array, jobs: Array, dt: Array, work: float, made: Sequence[Made] = (), own: float = 0.0
) -> tuple[Line, ...]:
    """Return the lines of a plan.

    bought, jobs, dt : (n,) W bought (what is sold is no one's credit here), W of the jobs, s. work : chip-seconds at
    full speed done. own : g of the site's sources.
    """
    joules = np.maximum(bought, 0.0) * dt
    span = float(dt.sum())
    out: list[Line] = []
    scope1 = f", and {show(own, 'g')} of the site's own sources" if own else ""
    for key, name, rate, said in (
        ("carbon_location_g", "location-based", given.location, "grid.carbon, the mean of the grid"),
        ("carbon_market_g", "market-based", given.market, "grid.carbon_market, what is contracted"),
        ("carbon_marginal_g", "marginal", given.marginal, "grid.carbon_marginal, what one joule more emits"),
    ):
        if rate is not None:
            mean = float(rate @ joules / joules.sum()) if joules.sum() > 0 else float(rate.mean())
            how = f"{show(float(joules.sum()), 'J')} bought at {3.6e6 * mean:.4g} g/kWh on average ({said}){scope1}"
            out.append(Line(key, f"Carbon, {name}", float(rate @ joules) + own, "g", how))
    embodied = sum(m.carbon * span / m.life for m in made)
    if made:
        lives = {m.life for m in made}
        told = f"{show(min(lives), 's')}" + (f" to {show(max(lives), 's')}" if len(lives) > 1 else "")
        assumed = "" if all(m.stated for m in made) else " (5 years assumed where job.life is left out)"
        how = (
            f"{show(sum(m.carbon for m in made), 'g')} of making the equipment of {', '.join(m.job for m in made)}, "
            f"{show(span, 's')} of a life of {told}{assumed}, used or not"
        )
        out.append(Line("carbon_embodied_g", "Carbon, embodied", embodied, "g", how))
    if given.site is not None:
        used = float(jobs @ dt)
        how = f"{show(used, 'J')} of the jobs at {3.6e6 * given.site:.3g} L/kWh (site.wue)"
        out.append(Line("water_site_l", "Water, at the site", given.site * used, "L", how))
    if given.plants is not None:
        how = f"{show(float(joules.sum()), 'J')} bought at {3.6e6 * given.plants:.3g} L/kWh (grid.water)"
        out.append(Line("water_plants_l", "Water, at power plants", given.plants * float(joules.sum()), "L", how))
    if given.location is not None and made and work > 0:
        operated = float(given.location @ joules) + own
        how = (
            f"({show(operated, 'g')} operational, location-based + {show(embodied, 'g')} embodied) over "
            f"{work / 3600:,.4g} chip-hours at full speed (ISO/IEC 21031: no contracts, no offsets)"
        )
        out.append(Line("sci_g_per_chip_h", "SCI", 3600 * (operated + embodied) / work, "g/chip-hour", how))
    return tuple(out)
