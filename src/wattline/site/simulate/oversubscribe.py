"""How many more servers a feed carries: few draw their most at once, and those that do can be slowed for a while.

Two answers. Without control, `breach` is the chance that servers together draw more than the feed, from the
distribution of one server's power: the sum of independent servers is a convolution, done exactly on a grid of watts,
hour by hour for a load they share. With control, `study` plays the site with more and more servers under each
controller and reports what each crew loses and how long the feed is above its limit; `carried` reads the most servers
off it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...core.errors import InputError
from .controllers import Controller, Thresholds
from .model import Crew, Site
from .play import play

Array = NDArray[np.float64]

# Steps of the grid of watts up to the feed's limit.
_GRID: Final = 4096


@dataclass(frozen=True, eq=False)
class Draw:
    """Power of one server: `watts` (k,) and the chance of each, (hours, k); an hour is an equal share of the time."""

    watts: Array
    chance: Array

    def __post_init__(self) -> None:
        if self.watts.size == 0 or self.chance.shape[1:] != self.watts.shape or (self.watts < 0).any():
            shapes = f"{self.chance.shape} and {self.watts.shape}"
            raise InputError(f"a distribution needs as many chances as watts of 0 or more, got {shapes}")
        if (self.chance < 0).any() or not np.allclose(self.chance.sum(axis=1), 1.0):
            raise InputError("chances of a distribution must be 0 or more and sum to 1 in each hour")

    @staticmethod
    def of_samples(samples: ArrayLike) -> Draw:
        """Return the distribution of measured watts: (n,), or (hours, n) where servers share their load by the hour."""
        rows = np.atleast_2d(np.asarray(samples, float))
        if rows.size == 0 or not (np.isfinite(rows).all() and (rows >= 0).all()):
            raise InputError("samples of power must be finite watts of 0 or more")
        watts, place = np.unique(rows, return_inverse=True)
        place = place.reshape(rows.shape)
        chance = np.stack([np.bincount(row, minlength=len(watts)) / rows.shape[1] for row in place])
        return Draw(watts, chance)

    @staticmethod
    def of_crew(crew: Crew, hours: int = 288) -> Draw:
        """Return the distribution of an uncapped node of a crew without tasks: its phases at the loads of a day."""
        loud, quiet = crew.lasts or (1.0, 0.0)
        share = loud / (loud + quiet)
        idle, top = crew.frontier.waiting_power, float(crew.frontier.average_power[0])
        angle = 2 * math.pi * (np.arange(hours) + 0.5) / hours
        load = np.clip(crew.load * (1 + crew.swing * np.sin(angle)), 0.0, 1.0)
        watts = idle + np.outer(load, [1.0, crew.quiet]) * (top - idle)
        chance = np.zeros((hours, watts.size))
        for hour in range(hours):
            chance[hour, 2 * hour : 2 * hour + 2] = share, 1 - share
        return Draw(watts.ravel(), chance)


def breach(draws: Sequence[tuple[Draw, int]], limit: float) -> float:
    """Return the share of time that servers, independent within each hour, together draw more than `limit` W.

    Each of `draws` is a kind of server and how many there are. Watts between two steps of the grid (1/4096 of the
    limit) are shared between them, which keeps the mean.
    """
    if not limit > 0 or not draws or any(count < 0 for _, count in draws):
        raise InputError("a limit above 0 W and servers are due")
    hours = {len(draw.chance) for draw, _ in draws}
    if len(hours) > 1:
        raise InputError(f"all kinds of servers need the same hours, got {sorted(hours)}")
    step = limit / _GRID
    most = sum(count * float(draw.watts.max()) for draw, count in draws)
    if most <= limit:
        return 0.0
    size = 1 << math.ceil(math.log2(most / step + len(draws) + sum(count for _, count in draws) + 2))
    out = []
    for hour in range(hours.pop()):
        product = np.ones(size // 2 + 1, complex)
        for draw, count in draws:
            product *= np.fft.rfft(_on_grid(draw.watts / step, draw.chance[hour], size)) ** count
        # What rounds to the limit itself is no breach.
        out.append(float(np.clip(np.fft.irfft(product, size)[_GRID + 1 :], 0.0, None).sum()))
    return min(1.0, math.fsum(out) / len(out))


def _on_grid(place: Array, chance: Array, size: int) -> Array:
    low = np.floor(place + 1e-9).astype(np.int64)
    part = np.clip(place - low, 0.0, 1.0)
    out = np.bincount(low, chance * (1 - part), size) + np.bincount(low + 1, chance * part, size)
    return np.asarray(out, float)


def most_servers(draw: Draw, limit: float, chance: float) -> int:
    """Return the most servers whose breach of `limit` is at most `chance`, without any control."""
    if not 0 <= chance < 1:
        raise InputError(f"a chance must lie in 0 to 1, got {chance}")
    low = int(limit // float(draw.watts.max()))
    high = max(low + 1, int(limit / max(float((draw.chance @ draw.watts).mean()), 1e-300)) * 2 + 2)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if breach([(draw, middle)], limit) <= chance else (low, middle)
    return low


@dataclass(frozen=True)
class Row:
    """One site of a study under one controller.

    `slowdown`: work lost to caps by crew, as a share of what was wanted. `breach`: share of time above the feed's
    limit. `brakes`: times that thresholds braked everything. `peak`: of the limit.
    """

    servers: int
    controller: str
    slowdown: Mapping[str, float]
    breach: float
    brakes: int
    trips: int
    peak: float

    @property
    def worst(self) -> float:
        """Slowdown of the crew that loses most."""
        return max(self.slowdown.values())


def study(
    site_of: Callable[[int], Site],
    counts: Sequence[int],
    controllers: Sequence[Callable[[], Controller]],
    *,
    lasts: float,
    seeds: Sequence[int] = (0,),
) -> list[Row]:
    """Play `site_of(servers)` for every count and controller; means over the seeds, of trips and peaks the most."""
    out = []
    for servers in counts:
        site = site_of(servers)
        root, limit = site.tree.root, float(site.tree.capacity[site.tree.root])
        for make in controllers:
            runs, brakes = [], 0
            for seed in seeds:
                made = make()
                runs.append(play(site, made, lasts=lasts, seed=seed))
                brakes += made.brakes if isinstance(made, Thresholds) else 0
            wanted = np.sum([r.wanted for r in runs], axis=0)
            capped = np.sum([r.lost[:, 0] for r in runs], axis=0)
            slow = {crew.name: float(c / w) for crew, c, w in zip(site.crews, capped, wanted, strict=True)}
            over = sum(float(r.over[root, 0]) for r in runs) / (lasts * len(runs))
            trips, peak = max(int(r.trips.sum()) for r in runs), max(r.peak for r in runs) / limit
            out.append(Row(servers, runs[0].controller, slow, over, brakes, trips, peak))
    return out


def carried(rows: Sequence[Row], *, slowdown: float, chance: float) -> dict[str, int]:
    """Return for each controller the most servers up to which every count keeps slowdown and chance of a breach."""
    out: dict[str, int] = {}
    stopped: set[str] = set()
    for row in sorted(rows, key=lambda row: row.servers):
        if row.controller in stopped:
            continue
        if row.worst <= slowdown and row.breach <= chance and not row.trips:
            out[row.controller] = row.servers
        else:
            stopped.add(row.controller)
            out.setdefault(row.controller, 0)
    return out
