"""What decides the caps of a site's nodes: one small protocol, and five that keep it.

A controller is told the site once (`start`) and then, every `interval` seconds and whenever something happened (a limit
announced, a node failed or returned, a breaker tripped), gets a `Reading` and returns caps in watts, or None to leave
them. It never sees what comes, only what is measured and announced.

`uncapped` does nothing; `uniform` gives every node the same share of its range; `proportional` shares each part's room
by what its nodes could draw now; `prices` asks the fleet planner; `thresholds` locks clocks in steps as the feed
fills, the way POLCA does (Patel et al., arXiv 2308.12908).

The middle three plan: what all nodes may draw under their caps together, cooling that still follows an earlier load
included, stays within every limit. A test holds them to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from ...core.errors import GoalError, InputError, nearest
from ...frontier.algebra import Frontier
from ...hardware.power_tree import PowerTree
from ..allocate import Fleet
from ..curves import Job
from ._site_state import UP, Live

if TYPE_CHECKING:
    from .model import Crew, Site

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Reading:
    """What is known at `time` (s).

    Attributes
    ----------
    limit : (rows,) W, the least until the next decision is in force. power : (nodes,) W now. feed : W of the site.
    removed : W of heat that cooling takes. busy, up : (nodes,) with work, and not down. asked : (crews,) share of
        full speed.
    """

    time: float
    limit: Array
    power: Array
    feed: float
    removed: float
    busy: Flags
    up: Flags
    asked: Array

    @staticmethod
    def of(site: Site, s: Live, now: float, limit: Array) -> Reading:
        """Return what is measured now."""
        up = s.state == UP
        tasked = np.array([crew.tasked for crew in site.crews])[site.group]
        asked = s.asked if now > 0 else np.array([crew.load for crew in site.crews])
        feed, removed = float(s.flow[site.tree.root]), float(s.removed[0])
        return Reading(now, limit, s.power, feed, removed, up & (~tasked | (s.task >= 0)), up, asked)


class Controller(Protocol):
    """**Contract**: `act` returns (nodes,) W, all >= 0, or None, and depends on nothing but what it was told."""

    name: str
    interval: float

    def start(self, site: Site) -> None:
        """Get ready for a site; forget any other."""

    def act(self, now: Reading) -> Array | None:
        """Return the caps of all nodes, W, or None to leave them."""


def room(tree: PowerTree, limit: Array, removed: float) -> Array:
    """Return limits (rows,) whose steady flows are safe now, while cooling still takes `removed` W of heat.

    The feed's equipment may draw b with ``(1 + loss) b + share max(b, removed) + fixed <= limit``.
    """
    out, root = limit.copy(), tree.root
    share, loss = tree.overhead.at(tree.outdoor), 1.0 + float(tree.loss[root])
    left = float(limit[root]) - tree.overhead.fixed
    if math.isfinite(left) and share > 0:
        steady = left / (loss + share)
        if removed > steady:
            out[root] = (left - share * removed) / loss * (loss + share) + tree.overhead.fixed
    return out


class Uncapped:
    """Every node runs as fast as it can."""

    name = "uncapped"
    interval = math.inf

    def start(self, site: Site) -> None:
        """Nothing is needed."""

    def act(self, now: Reading) -> Array | None:  # noqa: ARG002
        """Leave all as it is."""
        return None


class Uniform:
    """Every node gets the same share of what lies between its least and its most power; the tightest limit decides."""

    name = "uniform"

    def __init__(self, interval: float = 30.0) -> None:
        self.interval = interval

    def start(self, site: Site) -> None:
        """Work out the flows of all nodes at their least, and what the rest adds."""
        self.site = site
        self.floor, self.range = site.floor, np.maximum(site.top - site.floor, 0.0)
        self.least = site.tree.row_flows(site.load(self.floor))
        self.more = site.tree.row_flows(site.load(site.top)) - self.least

    def act(self, now: Reading) -> Array | None:
        """Return the caps of the largest share that no limit forbids."""
        left = room(self.site.tree, now.limit, now.removed) - self.least
        bound = self.more > 0
        share = float(np.min(left[bound] / self.more[bound], initial=1.0))
        return np.asarray(self.floor + max(0.0, share) * self.range)


class Proportional:
    """Each part divides what it may draw among what hangs on it, in proportion to what that could draw now."""

    name = "proportional"

    def __init__(self, interval: float = 30.0) -> None:
        self.interval = interval

    def start(self, site: Site) -> None:
        """Order the parts from the feed down."""
        self.site = site
        tree = site.tree
        self.levels = [np.flatnonzero(tree.level == level) for level in range(1, tree.depth)]
        self.floor = site.floor

    def act(self, now: Reading) -> Array | None:
        """Return caps: nodes of a part take the same share of their range; nodes without work stay at their least."""
        tree, site = self.site.tree, self.site
        want = np.where(now.busy, np.maximum(site.top, self.floor), self.floor)
        least, most = tree.row_flows(site.load(self.floor)), tree.row_flows(site.load(want))
        limit = room(tree, now.limit, now.removed)
        limit = _members(tree, limit, least, most)
        share = np.ones(len(tree))
        share[tree.root] = _part(limit[tree.root], least[tree.root], most[tree.root])
        given = least[: len(tree)] + share * (most - least)[: len(tree)]
        for parts in self.levels:
            above = tree.parent[parts]
            # A part's children share its room; what one of them cannot use for a limit of its own is left unused.
            ratio = np.divide(given - least[: len(tree)], (most - least)[: len(tree)], out=np.ones(len(tree)),
                              where=(most - least)[: len(tree)] > 0)  # fmt: skip
            fair = least[parts] + ratio[above] * (most - least)[parts]
            given[parts] = np.maximum(least[parts], np.minimum(fair, limit[parts]))
        spread = (most - least)[: len(tree)]
        ratio = np.divide(given - least[: len(tree)], spread, out=np.ones(len(tree)), where=spread > 0)
        return np.asarray(self.floor + np.clip(ratio, 0.0, 1.0)[site.place] * (want - self.floor))


def _part(limit: float, least: float, most: float) -> float:
    return 1.0 if most <= limit or most <= least else max(0.0, (limit - least) / (most - least))


def _members(tree: PowerTree, limit: Array, least: Array, most: Array) -> Array:
    """Return limits of parts in which those of pooled members share their pool's in proportion."""
    out = limit[: len(tree)].copy()
    for q, group in enumerate(tree.pools, len(tree)):
        members = [tree.index(name) for name in group.members]
        share = _part(float(limit[q]), float(least[q]), float(most[q]))
        out[members] = np.minimum(out[members], least[members] + share * (most - least)[members])
    return out


class Prices:
    """The fleet planner: caps where a watt does most, planned again when something happened and every `interval`.

    Nodes of one crew at one part are one job of the planner, a gang one job wherever its nodes are; nodes without
    work count as
    standing load at their least power. Where the owed minimum does not fit, it is dropped and `dropped` counts it.
    """

    name = "prices"

    def __init__(self, interval: float = 30.0) -> None:
        self.interval = interval

    def start(self, site: Site) -> None:
        """Group the nodes."""
        self.site, self.dropped = site, 0
        nodes = np.arange(len(site.place))
        key = np.where(
            site.gang >= 0, len(site.tree) * len(site.crews) + site.gang, site.group * len(site.tree) + site.place
        )
        order = np.argsort(key, kind="stable")
        cut = np.flatnonzero(np.diff(key[order])) + 1
        self.sets = np.split(nodes[order], cut)
        self.number = np.empty(len(nodes), np.int64)
        for number, some in enumerate(self.sets):
            self.number[some] = number
        self.head = np.array([some[0] for some in self.sets])
        self.copies: dict[tuple[int, int, float], Job] = {}
        # Limits of rows hold what groups derate, so groups do not derate them again.
        tree = site.tree
        self.tree = replace(tree, groups=tree.pools, limit=tree.row_limit[: len(tree)])
        self.where = [_shares(site, some) if site.gang[some[0]] >= 0 else site.tree.names[site.place[some[0]]]
                      for some in self.sets]  # fmt: skip

    def act(self, now: Reading) -> Array | None:
        """Return the plan's caps."""
        site, floor = self.site, self.site.floor
        # A gang waits for its failed nodes at the least power; all its nodes are planned or none.
        gang = site.gang >= 0
        whole = np.bincount(self.number, weights=~now.busy) == 0
        busy = np.where(gang, whole[self.number], now.busy)
        count = np.bincount(self.number[busy], minlength=len(self.sets))
        standing = site.tree.standing + site.load(np.where(busy, 0.0, floor))
        limit = np.maximum(room(site.tree, now.limit, now.removed)[: len(site.tree)], 0.0)
        tree = self.tree.with_standing(standing).with_limits(np.minimum(self.tree.limit, limit))
        used = np.flatnonzero(count)
        caps = floor.copy()
        power = self._plan(tree, used, count, now.asked)
        if power is not None:
            each = np.zeros(len(self.sets))
            each[used] = power / count[used]
            caps[busy] = np.maximum(floor[busy], each[self.number[busy]])
        return caps

    def _plan(self, tree: PowerTree, used: NDArray[np.int64], count: NDArray[np.int64], asked: Array) -> Array | None:
        if not used.size:
            return None
        # Demand in steps of 2 %, upwards, so that jobs are made once.
        ahead = np.where([crew.tasked for crew in self.site.crews], 1.0, np.clip(np.ceil(50 * asked) / 50, 0.02, 1.0))
        jobs = [self._job(int(k), int(count[k]), float(ahead[self.site.group[self.head[k]]])) for k in used]
        try:
            return Fleet(tree, jobs).most_work().power
        except GoalError:
            self.dropped += 1
        except InputError:  # not even idle nodes fit: least power is all there is
            self.dropped += 1
            return None
        try:
            return Fleet(tree, [replace(job, minimum=0.0) for job in jobs]).most_work().power
        except (GoalError, InputError):
            return None

    def _job(self, k: int, count: int, asked: float) -> Job:
        if (k, count, asked) not in self.copies:
            crew = self.site.crews[int(self.site.group[self.head[k]])]
            at = self.where[k]
            name = f"{crew.name}@{at if isinstance(at, str) else k}"
            one = capped(crew, asked)
            paused = None if crew.paused is None else crew.paused * count
            self.copies[k, count, asked] = Job(
                name, one.copies(count), at, weight=crew.weight * count,
                minimum=crew.minimum * asked * (1 - 1e-9), paused=paused,
            )  # fmt: skip
        return self.copies[k, count, asked]


def _shares(site: Site, nodes: NDArray[np.int64]) -> str | Mapping[str, float]:
    parts, counts = np.unique(site.place[nodes], return_counts=True)
    if parts.size == 1:
        return str(site.tree.names[int(parts[0])])
    return {site.tree.names[int(p)]: float(c) / len(nodes) for p, c in zip(parts, counts, strict=True)}


def capped(crew: Crew, asked: float) -> Frontier:
    """Return what a node does under a cap, its phases averaged, when `asked` of full speed is wanted.

    A cap of c W lets a phase that takes a share a of the power above idle go as fast as ``idle + (c - idle) / a`` W
    would; more than is asked for is not done. Its power counts as c, which it never exceeds.
    """
    hull = crew.frontier.hull()
    idle, power, speed = hull.waiting_power, hull.average_power[::-1], 1 / hull.time[::-1]
    loud, quiet = crew.lasts or (1.0, 0.0)
    phases = [(1.0, loud / (loud + quiet)), (crew.quiet, quiet / (loud + quiet))]
    enough = float(np.interp(asked, speed, power))
    caps = np.concatenate([idle + a * (np.append(power, enough) - idle) for a, _ in phases])
    caps = np.unique(caps[caps >= power[0]])
    paces = [np.interp(idle + (caps - idle) / a, power, speed) for a, _ in phases]
    work = np.asarray(sum(share * np.minimum(asked, pace) for pace, (_, share) in zip(paces, phases, strict=True)))
    return Frontier.of(1 / work, (caps - idle) / work, waiting_power=idle)


class Thresholds:
    """Clocks locked in steps as the feed fills: cheap work first, all work next, everything at its least at the limit.

    Measured, not planned: it reacts to what the feed draws. Defaults after POLCA: above `first` of the limit work of
    less weight is locked to `slow[0]` of full speed, above `second` to `slow[1]` and all other work to `slow[2]`; locks
    are let go `below` under the threshold that set them; at the limit everything brakes.
    """

    name = "thresholds"

    def __init__(
        self,
        interval: float = 2.0,
        first: float = 0.80,
        second: float = 0.89,
        slow: tuple[float, float, float] = (1275 / 1410, 1110 / 1410, 1305 / 1410),
        below: float = 0.05,
    ) -> None:
        if not 0 < first <= second <= 1 or not all(0 < s <= 1 for s in slow):
            raise InputError(
                f"0 < first <= second <= 1 must hold and speeds lie in (0, 1], got {first}, {second}, {slow}"
            )
        self.interval, self.first, self.second, self.slow, self.below = interval, first, second, slow, below

    def start(self, site: Site) -> None:
        """Look up the power of every crew at the locked clocks."""
        self.site, self.level, self.brakes = site, 0, 0
        weight = np.array([crew.weight for crew in site.crews])
        cheap = (weight < weight.max())[site.group] if weight.min() < weight.max() else np.ones(len(site.group), bool)
        one, two, three = (self._power(speed) for speed in self.slow)
        free = np.maximum(site.top, site.floor)
        self.steps = [free, np.where(cheap, one, free), np.where(cheap, two, three), site.floor]

    def _power(self, speed: float) -> Array:
        c, out = self.site.curves, []
        for begin, count in zip(c.begin, c.count, strict=True):
            rows = slice(int(begin), int(begin + count))
            out.append(float(np.interp(speed * c.work[rows][-1], c.work[rows], c.power[rows])))
        return np.asarray(np.maximum(np.array(out)[self.site.group], self.site.floor))

    def act(self, now: Reading) -> Array | None:
        """Return the caps of the level that the feed's use asks for, or None where it stays."""
        used = now.feed / float(now.limit[self.site.tree.root])
        rise = (self.first, self.second, 1.0)
        level = self.level
        while level < 3 and used > rise[level]:
            level += 1
        if level == self.level:
            while level > 0 and used < rise[level - 1] - self.below:
                level -= 1
        if level == self.level and now.time > 0:
            return None
        self.brakes += level == 3 and self.level < 3
        self.level = level
        return np.asarray(self.steps[level])


CONTROLLERS: Final[Mapping[str, Callable[[], Controller]]] = MappingProxyType(
    {
        "uncapped": Uncapped,
        "uniform": Uniform,
        "proportional": Proportional,
        "prices": Prices,
        "thresholds": Thresholds,
    }
)


def controller(name: str) -> Controller:
    """Return a new controller by its name."""
    if name not in CONTROLLERS:
        raise InputError(f"controller {name!r} is not known; {nearest(name, CONTROLLERS)}")
    return CONTROLLERS[name]()
