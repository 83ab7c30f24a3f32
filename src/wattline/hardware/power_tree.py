"""The way power comes in: site feed, UPS, row, rack, PDU, node, each with a limit, a loss and a load of its own.

    inflow(v) = (1 + loss(v)) * (standing(v) + load(v) + sum of inflow(c) over what hangs on v) <= limit(v)

`load` is what jobs draw at a node of the tree, `standing` what is drawn there whatever they do (switches,
pumps, lights). All watts, all arrays over the nodes of the tree. Every inflow is an affine function of
the loads, so allocation stays a linear problem: a watt drawn at v is `up(v)` watts at the feed.

Cooling and the rest of the site is the feed's own loss: `Overhead` makes it of a fixed part (so PUE
falls with load) and a share that depends on the outdoor temperature.

Redundancy: a `Group` of siblings must carry its load with its `spare` largest members lost. Where the
load of a lost member moves in fixed proportions ("fixed": cords and transfer switches), every member may
be used to ``1 - lost / all`` of its limit; where it can be moved at will ("free"), only the group's sum
is bounded, by what the survivors carry. Both rules are sufficient for every choice of who is lost.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core.errors import InputError, nearest
from ..core.units import show
from . import redundancy
from .redundancy import Contingency, Group

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

# Limits are kept to this relative error of floating-point sums.
TOLERANCE: Final = 1e-9


@dataclass(frozen=True)
class Overhead:
    """What the site adds to its equipment's power: ``fixed + share(outdoor) * equipment``.

    Attributes
    ----------
    fixed : W, drawn at any load: pumps, lights, transformers' standing loss.
    share : W per W of equipment, at each temperature of `outdoor` (K, rising), straight lines between and
        level beyond the ends. One share and no temperature is a share that holds always.
    """

    fixed: float = 0.0
    share: tuple[float, ...] = (0.0,)
    outdoor: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        numbers = (self.fixed, *self.share, *self.outdoor)
        if not all(math.isfinite(x) and x >= 0 for x in numbers):
            raise InputError(f"overhead must be finite numbers of 0 or more, got {numbers}")
        if len(self.share) != max(1, len(self.outdoor)):
            raise InputError(
                f"overhead needs one share for each outdoor temperature, got {len(self.share)} and {len(self.outdoor)}"
            )
        if any(b <= a for a, b in zip(self.outdoor, self.outdoor[1:], strict=False)):
            raise InputError(f"outdoor temperatures must rise, got {self.outdoor} K")

    def at(self, outdoor: float | None) -> float:
        """Return the share at an outdoor temperature, K."""
        if not self.outdoor:
            return self.share[0]
        if outdoor is None:
            raise InputError("the site's overhead depends on the outdoor temperature, and none is given")
        return float(np.interp(outdoor, self.outdoor, self.share))

    def pue(self, equipment: float, outdoor: float | None = None) -> float:
        """Return facility power over equipment power at `equipment` W."""
        return 1.0 + self.at(outdoor) + (self.fixed / equipment if equipment > 0 else math.inf)


@dataclass(frozen=True, eq=False)
class PowerTree:
    """A tree of power delivery as arrays. Build one with `of` or `read`.

    Attributes
    ----------
    names : (n,) one name each. parent : (n,) index of what feeds it, -1 for the feed.
    limit : (n,) W that may flow in, infinite where nothing bounds it. standing : (n,) W of its own.
    loss : (n,) W lost per W passed on. groups : redundancy groups. overhead : of the whole site.
    outdoor : K, None where the overhead does not depend on it.
    """

    names: tuple[str, ...]
    parent: Ints
    limit: Array
    standing: Array
    loss: Array
    groups: tuple[Group, ...] = ()
    overhead: Overhead = field(default_factory=Overhead)
    outdoor: float | None = None

    # ---- making one -------------------------------------------------------------------------

    @staticmethod
    def of(
        names: Sequence[str],
        parent: ArrayLike,
        limit: ArrayLike,
        *,
        standing: ArrayLike = 0.0,
        loss: ArrayLike = 0.0,
        groups: Iterable[Group] = (),
        overhead: Overhead | None = None,
        outdoor: float | None = None,
    ) -> PowerTree:
        """Make a tree from arrays and check it: one feed, no cycle, limits that carry the standing loads."""
        n = len(names)
        up = np.array(parent, np.int64)
        most, own, lost = (np.array(np.broadcast_to(np.asarray(x, float), n)) for x in (limit, standing, loss))
        if up.shape != (n,) or n == 0:
            raise InputError(f"a power tree needs one parent for each of its names, got {n} and {up.size}")
        tree = PowerTree(tuple(names), up, most, own, lost, tuple(groups), overhead or Overhead(), outdoor)
        tree._check()
        return tree

    @staticmethod
    def read(rows: Iterable[Mapping[str, Any]], **more: Any) -> PowerTree:
        """Make a tree from rows of SI values: name, and optionally on (what feeds it), limit, standing, loss.

        >>> PowerTree.read([{"name": "feed", "limit": 1e6}, {"name": "row", "on": "feed"}]).depth
        2
        """
        held = list(rows)
        names = [str(row["name"]) for row in held]
        place = {name: i for i, name in enumerate(names)}
        parent = []
        for row in held:
            on = row.get("on")
            if on is not None and on not in place:
                raise InputError(f"{row['name']} hangs on {on!r}, which is not in the power tree; {nearest(on, names)}")
            parent.append(-1 if on is None else place[on])
        own, lost = ([float(row.get(key, 0.0)) for row in held] for key in ("standing", "loss"))
        limits = [float(row.get("limit", math.inf)) for row in held]
        return PowerTree.of(names, parent, limits, standing=own, loss=lost, **more)

    def _check(self) -> None:
        if len(self._place) != len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise InputError(f"every part of a power tree has a name of its own, but {twice!r} stands twice")
        for what, values in (("limit", self.limit), ("standing", self.standing), ("loss", self.loss)):
            bad = np.flatnonzero(~(values >= 0) | ((values == np.inf) & (what != "limit")))
            if bad.size:
                raise InputError(f"{what} of {self.names[bad[0]]} must be 0 or more, got {values[bad[0]]}")
        roots = np.flatnonzero(self.parent < 0)
        if self.parent.max() >= len(self.names):
            raise InputError(f"a parent of the power tree is number {self.parent.max()} of {len(self.names)}")
        self._no_cycle()
        if roots.size != 1:
            listed = ", ".join(self.names[i] for i in roots[:5])
            raise InputError(f"a power tree has one feed, but {roots.size} parts hang on nothing: {listed}")
        for group in self.groups:
            self._check_group(group)
        self.overhead.at(self.outdoor)
        self.check_idle()

    def _no_cycle(self) -> None:
        """Refuse parts that never reach the feed, naming the ring."""
        at = self.parent.copy()
        for _ in range(len(self.names).bit_length()):  # doubling: after k rounds `at` is 2^k steps up
            at = np.where(at < 0, -1, at[at])
        left = np.flatnonzero(at >= 0)
        if not left.size:
            return
        ring, v = [], int(at[left[0]])
        while v not in ring:
            ring.append(v)
            v = int(self.parent[v])
        shown = " -> ".join(self.names[i] for i in [*ring[ring.index(v) :], v])
        raise InputError(f"a power tree may hold no cycle, but each of these hangs on the next: {shown}")

    def _check_group(self, group: Group) -> None:
        members = [self.index(name) for name in group.members]
        if len(set(members)) != len(members):
            raise InputError(f"redundancy group {group.name}: each member stands once, got {group.members}")
        across = self._across(group)
        if across and (group.sharing == "free" or group.spare != 1 or self._nested(members)):
            raise InputError(
                f"redundancy group {group.name}: members that are no siblings must not hang on one another, share in "
                f"fixed proportions or have a catcher, and one of them may be lost; got {group.members}, "
                f"sharing {group.sharing!r}, spare {group.spare}"
            )
        if not 1 <= group.spare < len(members):
            raise InputError(
                f"redundancy group {group.name}: spare must be 1 to {len(members) - 1} of its {len(members)} members, "
                f"got {group.spare}"
            )
        if not np.isfinite(self.limit[members]).all():
            raise InputError(f"redundancy group {group.name}: every member needs a limit")
        seen = [name for other in self.groups if other is not group for name in other.members]
        if both := set(seen) & set(group.members):
            raise InputError(f"{min(both)} is in two redundancy groups; a part takes over for one group only")

    def _across(self, group: Group) -> bool:
        """Whether what moves in a group does not nest: its members are no siblings, or one of them stands by."""
        return group.sharing == "catcher" or len({int(self.parent[self.index(m)]) for m in group.members}) != 1

    def _nested(self, members: Sequence[int]) -> bool:
        """Whether one of the parts hangs on another."""
        for member in members:
            at = int(self.parent[member])
            while at >= 0:
                if at in members:
                    return True
                at = int(self.parent[at])
        return False

    # ---- shape ------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def _place(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}

    def index(self, name: str) -> int:
        """Return where a part stands in the arrays."""
        if name not in self._place:
            raise InputError(f"{name!r} is not in the power tree; {nearest(name, self.names)}")
        return self._place[name]

    @cached_property
    def root(self) -> int:
        """Index of the feed."""
        return int(np.flatnonzero(self.parent < 0)[0])

    @cached_property
    def level(self) -> Ints:
        """(n,) steps from the feed."""
        out = np.zeros(len(self), np.int64)
        at = self.parent
        while (at >= 0).any():
            out += at >= 0
            at = np.where(at < 0, -1, self.parent[at])
        return out

    @property
    def depth(self) -> int:
        """Levels, the feed's own included."""
        return int(self.level.max()) + 1

    @cached_property
    def _steps(self) -> list[tuple[Ints, Ints, Ints]]:
        """Per level, deepest first: its parts sorted by parent, where each parent's begin, and the parents."""
        out = []
        for level in range(self.depth - 1, 0, -1):
            parts = np.flatnonzero(self.level == level)
            parts = parts[np.argsort(self.parent[parts], kind="stable")]
            parents, begin = np.unique(self.parent[parts], return_index=True)
            out.append((parts, begin, parents))
        return out

    @cached_property
    def dark(self) -> NDArray[np.bool_]:
        """(n,) True where a part has no power: its limit, or one above it, is 0 W."""
        out = np.asarray(self.limit == 0, bool)
        for parts, _, _ in reversed(self._steps):
            out[parts] |= out[self.parent[parts]]
        return out

    # ---- power ------------------------------------------------------------------------------

    @cached_property
    def factor(self) -> Array:
        """(n,) watts in per watt passed on; the feed's holds the site's overhead at the outdoor temperature."""
        out = 1.0 + self.loss
        out[self.root] += self.overhead.at(self.outdoor)
        return out

    @cached_property
    def up(self) -> Array:
        """(n,) watts at the feed per watt drawn at each part."""
        out = self.factor.copy()
        for parts, _, _ in reversed(self._steps):
            out[parts] *= out[self.parent[parts]]
        return out

    def flows(self, load: ArrayLike) -> Array:
        """Return the inflow of every part, W, for loads drawn at the parts: (..., n) -> (..., n)."""
        below = np.array(np.broadcast_to(load, np.broadcast_shapes(np.shape(load), (len(self),))), float)
        below += self.standing
        for parts, begin, parents in self._steps:
            inflow = below[..., parts] * self.factor[parts]
            below[..., parts] = inflow
            below[..., parents] += np.add.reduceat(inflow, begin, axis=-1)
        below[..., self.root] = below[..., self.root] * self.factor[self.root] + self.overhead.fixed
        return below

    def row_per_watt(self, load: ArrayLike) -> Array:
        """Return the watts through every constraint that loads (..., n) cause, without what flows anyway.

        Not a difference of flows: beside a gigawatt of standing load a watt's share would lose half of its digits.
        """
        bare = replace(self, standing=np.zeros(len(self)), overhead=replace(self.overhead, fixed=0.0))
        kept = (
            "_place",
            "root",
            "level",
            "_steps",
            "factor",
            "up",
            "pools",
            "contingencies",
            "row_names",
            "row_parent",
        )
        _keep(self, bare, kept)
        return bare.row_flows(load)

    def pue(self, load: ArrayLike) -> Array:
        """Return the feed's inflow over what is delivered at the parts, for loads (..., n); NaN where nothing is."""
        drawn = np.sum(np.broadcast_to(load, np.broadcast_shapes(np.shape(load), (len(self),))), axis=-1)
        inflow = np.asarray(self.flows(load)[..., self.root], float)
        return np.asarray(np.divide(inflow, drawn, out=np.full(np.shape(inflow), np.nan), where=drawn > 0))

    # ---- limits -----------------------------------------------------------------------------

    @cached_property
    def capacity(self) -> Array:
        """(n,) W that may flow into each part once fixed redundancy groups are derated."""
        out = self.limit.copy()
        for group in self.groups:
            if group.sharing == "fixed" and not self._across(group):
                members = [self.index(name) for name in group.members]
                out[members] *= redundancy.used(self.limit[members], self.loss[members], group.spare)
        return out

    def _kept(self, group: Group) -> float:
        """Return the watts that may flow into all members so that they remain when the largest are lost."""
        members = [self.index(name) for name in group.members]
        return redundancy.together(self.limit[members], self.loss[members], group.spare)

    @cached_property
    def contingencies(self) -> tuple[Contingency, ...]:
        """What each loss in a group of parts that are no siblings asks of those that take over; these do not nest."""
        return tuple(
            replace(c, name=f"{self.names[c.part]} without {self.names[c.lost]}")
            for group in self.groups
            if self._across(group)
            for c in redundancy.contingencies(group, self.index, self.parent, self.factor, self.limit)
        )

    @cached_property
    def pools(self) -> tuple[Group, ...]:
        """Groups bounded as a sum; each is one more constraint between its members and what feeds them."""
        return tuple(group for group in self.groups if group.sharing == "free")

    @cached_property
    def row_names(self) -> tuple[str, ...]:
        """What each constraint is called: the parts, the pools, then what each loss asks for."""
        return (*self.names, *(group.name for group in self.pools), *(c.name for c in self.contingencies))

    @cached_property
    def row_parent(self) -> Ints:
        """(rows,) the next constraint upwards, -1 above the feed. They nest: no two overlap in part, but for
        `contingencies`, which stand last and above which there is none.
        """
        out = np.append(self.parent, np.zeros(len(self.pools), np.int64))
        for k, group in enumerate(self.pools):
            members = [self.index(name) for name in group.members]
            out[len(self) + k] = self.parent[members[0]]
            out[members] = len(self) + k
        return np.append(out, np.full(len(self.contingencies), -1, np.int64))

    @cached_property
    def row_ratio(self) -> Array:
        """(rows,) watts at the feed per watt of a constraint."""
        above = np.append(self.parent, [self.parent[self.index(group.members[0])] for group in self.pools])
        ratio = np.where(above < 0, 1.0, self.up[above.astype(np.int64)])
        return np.append(ratio, np.ones(len(self.contingencies)))

    @cached_property
    def row_limit(self) -> Array:
        """(rows,) W each constraint allows."""
        losses = [float(self.limit[c.part]) if self.limit[[*c.taking]].any() else math.inf for c in self.contingencies]
        return np.concatenate([self.capacity, [self._kept(group) for group in self.pools], losses])

    def row_flows(self, load: ArrayLike) -> Array:
        """Return the watts through every constraint, pools included, for loads (..., n)."""
        flows = self.flows(load)
        pools = [flows[..., [self.index(m) for m in group.members]].sum(axis=-1) for group in self.pools]
        losses = [flows[..., c.part] + c.share * flows[..., c.lost] for c in self.contingencies]
        return np.concatenate([flows, *(row[..., None] for row in (*pools, *losses))], axis=-1)

    def headroom(self, load: ArrayLike) -> Array:
        """Return the watts left under every constraint (rows), for loads (..., n); negative where exceeded."""
        return np.asarray(self.row_limit - self.row_flows(load))

    def check_idle(self, idle: ArrayLike = 0.0) -> None:
        """Refuse limits below what is drawn at the least, naming the part lowest in the tree, and the watts."""
        self.check_flows(self.row_flows(np.broadcast_to(np.asarray(idle, float), len(self))))

    def check_flows(self, flows: Array) -> None:
        """Refuse limits below idle flows (rows,) that were worked out before."""
        over = np.flatnonzero(flows > self.row_limit * (1 + TOLERANCE))
        if not over.size:
            return
        pools = [self.level[self.index(g.members[0])] for g in self.pools]
        deep = np.concatenate([self.level, pools, [self.level[c.part] for c in self.contingencies]])
        worst = int(over[np.argmax(deep[over])])
        raise InputError(
            f"{self.row_names[worst]} may take {show(float(self.row_limit[worst]), 'W', 4)} but draws "
            f"{show(float(flows[worst]), 'W', 4)} with everything idle, "
            f"{show(float(flows[worst] - self.row_limit[worst]), 'W', 4)} too much; "
            "raise its limit or move equipment elsewhere"
        )

    def nesting(self) -> PowerTree:
        """Return the tree without the groups whose losses do not nest."""
        return (
            replace(self, groups=tuple(g for g in self.groups if not self._across(g))) if self.contingencies else self
        )

    # ---- variants ---------------------------------------------------------------------------

    def with_limit(self, name: str, limit: float) -> PowerTree:
        """Return the tree with one limit changed."""
        limits = self.limit.copy()
        limits[self.index(name)] = limit
        return self.with_limits(limits)

    def with_limits(self, limit: Array) -> PowerTree:
        """Return the tree with other limits (n,); a group's follow from its members'."""
        if not (limit >= 0).all():
            worst = int(np.argmin(np.nan_to_num(limit, nan=-1.0)))
            raise InputError(f"limit of {self.names[worst]} must be 0 or more, got {limit[worst]}")
        out = replace(self, limit=np.array(limit, float))
        kept = ("_place", "root", "level", "_steps", "factor", "up", "contingencies", "row_names", "row_parent")
        _keep(self, out, (*kept, "row_ratio"))
        return out

    def with_standing(self, standing: Array) -> PowerTree:
        """Return the tree with other loads of its parts' own (n,), W, >= 0."""
        out = replace(self, standing=np.array(standing, float))
        kept = ("_place", "root", "level", "_steps", "factor", "up", "capacity", "pools", "row_names", "row_parent")
        _keep(self, out, (*kept, "contingencies", "row_ratio", "row_limit"))
        return out

    def with_outdoor(self, outdoor: float) -> PowerTree:
        """Return the tree at another outdoor temperature, K."""
        out = replace(self, outdoor=outdoor)
        _keep(self, out, ("_place", "root", "level", "_steps", "row_names", "row_parent"))
        return out


def _keep(old: PowerTree, new: PowerTree, names: Sequence[str]) -> None:
    """Hand on what was worked out and does not depend on what changed."""
    new.__dict__.update({name: old.__dict__[name] for name in names if name in old.__dict__})


def uniform(
    fan: Sequence[tuple[str, int, float]], *, loss: Mapping[str, float] | None = None, **more: Any
) -> PowerTree:
    """Return a regular tree: for each level from the feed down its kind, how many hang on one above, and the limit.

    >>> len(uniform([("feed", 1, 1e6), ("row", 4, 3e5), ("rack", 10, 4e4)]))
    45
    """
    names: list[str] = []
    parent: list[Ints] = []
    limits, losses = [], []
    above = np.array([-1])
    labels = [""]
    for kind, count, limit in fan:
        first = len(names)
        labels = [f"{label}.{k}" if label else str(k) for label in labels for k in range(count)]
        names += [kind if len(labels) == 1 else f"{kind}-{label.split('.', 1)[-1]}" for label in labels]
        parent.append(np.repeat(above, count))
        above = first + np.arange(len(labels))
        limits.append(np.full(len(labels), limit))
        losses.append(np.full(len(labels), (loss or {}).get(kind, 0.0)))
    return PowerTree.of(names, np.concatenate(parent), np.concatenate(limits), loss=np.concatenate(losses), **more)
