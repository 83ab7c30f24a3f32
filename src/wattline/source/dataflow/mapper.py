"""The search for mappings, from the arithmetic outwards, keeping at every tile size what nothing beats.

A part of the path adds to what lies inside it: a level the turns of its loops, a fan-out its copies. So for every
tile size it is enough to keep the undominated ways to compute one such tile (dynamic programming over tile sizes).
"No worse" means: in the joules of every domain, in the busy seconds of every port, and in the words that still
have to come from further out. Whether an operand's words are still the same after one tile (`still`) decides
whether an outer loop may reuse them, so only ways alike in that are compared. With tiles that divide, the
surviving mappings are exactly those an exhaustive search would keep; with others the totals used here are
estimates (remainders as fractions), and survivors are counted exactly afterwards (`count`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.errors import InputError
from ...hardware.architecture import OPERANDS, Architecture, Fanout, Level
from .columns import Columns
from .cost import cost, issue_time, mac_energy
from .count import count
from .einsum import DIMS, RELEVANT, REUSED, Einsum
from .outlook import Outlook
from .plan import Bools, Floats, Ints, Mappings, joined
from .prune import undominated
from .tiling import Space, shares, sizes

# Loops to put innermost; `plan.ORDERS` begins with the order for each.
INNERMOST = (0, 1, 2)
# Pairs (tile inside, tile outside) evaluated at once: their arrays stay in the processor's caches.
CHUNK = 6144
# Rows kept at each step of the first, quick pass, which sets a bar for the exact one; and how many bars.
BEAM = 96
BARS = 24


@dataclass(frozen=True)
class Found:
    """The outcome of a search.

    Attributes
    ----------
    mappings : the survivors.
    evaluated : partial mappings whose cost was worked out.
    covered : complete mappings they stand for.
    """

    mappings: Mappings
    evaluated: int
    covered: float


@dataclass(frozen=True)
class _State:
    """Undominated ways to compute one tile, for one choice of bypasses and copies inside.

    Attributes
    ----------
    tile : (n, 3) sizes. cost : (n, columns) J of all copies inside, busy seconds of one. words : (n, 3) words of
    a, b, c one such tile asks from further out. still : (n, 3) whether those are one tile's worth, unchanged.
    exact : (n,) whether all tiles so far divide, so that cost and words are counts and no estimates.
    price : (3, columns) what one word of each costs on the way in, so far. late : (columns,) what a word of c that
    leaves costs the level it leaves. refund : (columns,) what of `late` the first visit of each result saves, `drain`
    the part of it that a reduction forfeits; credit : (columns,) refunds so far, of the whole work.
    ways : (n,) mappings a row stands for. back, order : where each row came from.
    """

    tile: Ints
    cost: Floats
    words: Floats
    still: Bools
    exact: Bools
    price: Floats
    late: Floats
    unit: tuple[int, int, int]
    batch: int
    ways: Floats
    refund: Floats
    drain: Floats
    credit: Floats
    inside: _State | None = None
    back: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    order: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    keep: tuple[bool, bool, bool] = (False, False, False)
    share: int = 1


class _Search:
    def __init__(self, einsum: Einsum, architecture: Architecture, space: Space) -> None:
        self.einsum, self.architecture, self.space = einsum, architecture, space
        self.path = architecture.path
        self.full = np.array(einsum.size, dtype=np.int64)
        self.evaluated = 0
        self.columns = Columns(einsum, architecture, space.wide)
        self.energy = self.columns.energy
        self.outlook = Outlook(self.columns)
        self.beam: int | None = None
        self.bar: Floats | None = None
        self.array = self.columns.array

    # -- the walk ------------------------------------------------------------------------------------

    def start(self) -> _State:
        """Return one issue of the arithmetic."""
        compute = self.architecture.compute
        granule = np.minimum(np.array(compute.granule, dtype=np.int64), self.full)
        none = self.columns.vector()
        cost = none.copy()
        cost[self.columns.of(compute)] = float(np.prod(granule)) * mac_energy(self.architecture, self.einsum.precision)
        cost[self.columns.compute] = issue_time(self.architecture, self.einsum.precision)
        words = np.array([[float(granule[list(RELEVANT[x])].prod()) for x in OPERANDS]])
        still = np.array([[x in compute.latched for x in OPERANDS]])
        zero = np.zeros((3, len(none)))
        unit = (int(granule[0]), int(granule[1]), int(granule[2]))
        return _State(
            granule[None], cost[None], words, still, np.ones(1, dtype=bool), zero, none, unit, 1, np.ones(1), none,
            none, none,
        )  # fmt: skip

    def run(self) -> list[_State]:
        """Return the final states, each of one choice of bypasses and copies."""
        return list(self._walk(self.start(), len(self.path) - 1))

    def best(self, finals: list[_State]) -> Floats | None:
        """Return the deciding columns of the best complete mappings: a bar that others have to pass.

        Totals of tiles that leave remainders are estimates, and one below the truth would drop better mappings: each
        row is raised by what its exact counts cost over its estimate.
        """
        if not finals:
            return None
        totals = np.concatenate([self.totals(s) for s in finals])
        exact = self._counted(finals)
        joules, seconds = totals[:, : self.energy].sum(axis=1), totals[:, self.energy :].max(axis=1)
        over = np.maximum(1.0, np.maximum(exact[:, 0] / joules, exact[:, 1] / seconds))
        values = self.columns.decisive(totals) * over[:, None]
        return np.asarray(values[undominated(values)][:BARS])

    def _counted(self, finals: list[_State]) -> Floats:
        """Return joules and seconds of complete mappings by their exact counts, (n, 2)."""
        maps = joined([_unrolled(s, self.einsum, self.architecture) for s in finals])
        costs = cost(maps, count(maps))
        return np.column_stack([costs.energy.sum(axis=1), costs.busy.max(axis=1)])

    def _walk(self, state: _State, p: int) -> Iterator[_State]:
        if p < 0:
            yield state
            return
        part = self.path[p]
        choices = self._copies(state, part, p) if isinstance(part, Fanout) else self._levels(state, part, p)
        for outer in choices:
            if len(outer.tile):
                yield from self._walk(outer, p - 1)

    # -- fan-outs ------------------------------------------------------------------------------------

    def _copies(self, state: _State, part: Fanout, p: int) -> Iterator[_State]:
        if part.dealt:
            yield self._deal(state, part)
            return
        remaining = tuple(int(-(-f // u)) for f, u in zip(self.full, state.unit, strict=True))
        left = -(-self.einsum.batch // state.batch)
        for share in shares(part, remaining, left, self.space):  # type: ignore[arg-type]
            yield self._spread(state, part, share, p)

    def _spread(self, state: _State, part: Fanout, share: tuple[int, int, int, int], p: int) -> _State:
        split, batch = np.array(share[:3]), share[3]
        fits = np.all((split == 1) | (state.tile * (split - 1) < self.full), axis=1)
        tile = np.minimum(state.tile * split, self.full)[fits]
        grown = tile / state.tile[fits]
        used = -(-tile // state.tile[fits])
        copies = int(np.prod(share))
        cost = state.cost[fits].copy()
        energy = self.energy
        cost[:, :energy] *= (grown.prod(axis=1) * batch)[:, None]
        words, price, late = state.words[fits].copy(), state.price.copy(), state.late.copy()
        late[energy:] /= copies
        for x, operand in enumerate(OPERANDS):
            one, two = RELEVANT[operand]
            reused = REUSED[operand]
            shared = part.reduce if operand == "c" else operand in part.multicast
            words[:, x] *= grown[:, one] * grown[:, two] * batch
            fan = float(share[reused])
            if not shared:
                words[:, x] *= used[:, reused]
                fan = 1.0
            # Per word that enters: `fan` words arrive at copies; one copy sees its part of them.
            price[x, :energy] *= fan
            price[x, energy:] *= fan / copies
            bits = 8.0 * self.columns.width(x)
            price[x, self.columns.of(part)] += bits * part.energy * fan
        refund, drain, credit = state.refund.copy(), state.drain.copy(), state.credit.copy()
        for saved in (refund, drain, credit):
            saved[energy:] /= copies
        if part.reduce and share[2] > 1:
            refund, drain = refund - drain, np.zeros_like(drain)
        wire = 8.0 * self.columns.width(2) * part.energy
        late[self.columns.of(part)] += wire
        refund[self.columns.of(part)] += wire
        m, n, k = (int(min(u * s, f)) for u, s, f in zip(state.unit, share[:3], self.full, strict=True))
        rows = np.flatnonzero(fits)
        divides = state.exact[fits] & np.all(grown == used, axis=1)
        return self._pruned(
            replace(
                state, tile=tile, cost=cost, words=words, still=state.still[fits], exact=divides, price=price,
                late=late, unit=(m, n, k), batch=state.batch * batch, ways=state.ways[fits], refund=refund, drain=drain,
                credit=credit, inside=state, back=rows, order=np.zeros(len(rows), dtype=np.int64), keep=_NOTHING,
                share=batch,
            ),
            p,
        )  # fmt: skip

    def _deal(self, state: _State, part: Fanout) -> _State:
        """Deal tiles to free copies: time by whole rounds, nothing reused from one tile to the next."""
        turns = np.ceil(self.full / state.tile)
        number = turns[:, 0] * turns[:, 1] * (self.einsum.batch if "batch" in part.dims else 1)
        rounds = np.ceil(number / part.size) / number
        energy = self.energy
        cost, price, late = state.cost.copy(), state.price.copy(), state.late.copy()
        refund, drain, credit = state.refund.copy(), state.drain.copy(), state.credit.copy()
        for saved in (refund, drain, credit):
            saved[energy:] /= part.size
        cost[:, energy:] *= rounds[:, None]
        price[:, energy:] /= part.size
        late[energy:] /= part.size
        wires = [8.0 * self.columns.width(x) * part.energy for x in range(3)]
        price[:, self.columns.of(part)] += wires
        late[self.columns.of(part)] += wires[2]
        refund[self.columns.of(part)] += wires[2]
        n = len(state.tile)
        return replace(
            state, cost=cost, still=np.zeros((n, 3), dtype=bool), price=price, late=late, refund=refund,
            drain=drain, credit=credit, inside=state, back=np.arange(n),
            order=np.zeros(n, dtype=np.int64), keep=_NOTHING, share=1,
        )  # fmt: skip

    # -- levels --------------------------------------------------------------------------------------

    def _levels(self, state: _State, level: Level, p: int) -> Iterator[_State]:
        # What never sees main memory must live in the outermost level on the chip that can hold it.
        bound = {x for x in self.einsum.resident if p == self._home(x)}
        optional = [x for x in level.holds if x in level.optional and x not in bound]
        for dropped in itertools.product((False, True), repeat=len(optional)):
            gone = {x for x, d in zip(optional, dropped, strict=True) if d}
            keep = tuple(x in level.holds and x not in gone for x in OPERANDS)
            yield self._level(state, level, p, keep)  # type: ignore[arg-type]

    def _home(self, operand: str) -> int:
        """Return the outermost level inside main memory that can hold an operand."""
        inside = (p for p, part in enumerate(self.path) if p and isinstance(part, Level) and operand in part.holds)
        return next(inside, 0)

    def _level(self, state: _State, level: Level, p: int, keep: tuple[bool, bool, bool]) -> _State:
        held = np.array(keep)
        outer = self._tiles(state, p, held)
        pairs = self._pairs(state, outer, self._fits(p, state.batch, held, outer, False))
        found, made = [], np.zeros(len(outer))
        for at in range(0, max(1, len(pairs[0])), CHUNK):
            rows, which = self._loops(state, pairs[0][at : at + CHUNK], outer, pairs[1][at : at + CHUNK])
            made += np.bincount(which, weights=rows.ways, minlength=len(outer))
            pick = self._hopeful(rows, p + 1)
            found.append(replace(_rows(rows, pick), ways=which[pick].astype(np.float64)))
        best = self._pruned(_concatenated(found), p + 1)
        which = best.ways.astype(np.int64)
        # Ways that make a tile are shared out among the rows that stand for them.
        best = replace(best, ways=made[which] / np.bincount(which, minlength=len(outer))[which])
        return self._hold(best, level, p, held)

    def _tiles(self, state: _State, p: int, held: Bools) -> Ints:
        """Return the tile sizes a level may hold, (n, 3)."""
        if p == 0 or not held.any():  # loops over nothing that is kept belong to the level outside
            return self.full[None]
        perfect = self._fitting(p, state, held, [sizes(f, u, self.space, False) for f, u in self._axes(state)])
        if not self.space.imperfect:
            return perfect
        lists = [
            sizes(-(-f // o), u, self.space, True) for (f, u), o in zip(self._axes(state), self._across(p), strict=True)
        ]
        if p <= self.array:
            # The largest that hold partial sums, and the largest that hold finished results.
            each = [self._fitting(p, state, held, lists, finished) for finished in (False, True)]
            more = np.concatenate([_largest(tiles, lists, held) for tiles in each])
        else:
            # Inside the array a tile must match those outside it; loops that nothing held here depends on need not.
            loops = {d for x, operand in enumerate(OPERANDS) if held[x] for d in RELEVANT[operand]}
            plain = [sizes(f, u, self.space, False) for f, u in self._axes(state)]
            more = self._fitting(p, state, held, [lists[d] if d in loops else plain[d] for d in range(3)])
        return np.unique(np.concatenate([perfect, more]), axis=0)

    def _across(self, p: int) -> list[int]:
        """Return the most copies outside part `p` along each loop: what a tile here need not reach past."""
        out = []
        for d, name in enumerate(DIMS):
            fans = [f.size for f in self.path[:p] if isinstance(f, Fanout) and not f.dealt and f.dims == (name,)]
            out.append(min(math.prod(fans), int(self.full[d])))
        return out

    def _axes(self, state: _State) -> list[tuple[int, int]]:
        return [(int(f), int(u)) for f, u in zip(self.full, state.unit, strict=True)]

    def _fitting(self, p: int, state: _State, held: Bools, lists: list[Ints], finished: bool = True) -> Ints:
        grid = np.stack(np.meshgrid(*lists, indexing="ij"), axis=-1).reshape(-1, 3)
        finished = finished and bool(np.any(state.tile[:, 2] == self.full[2]))
        return np.asarray(grid[self._fits(p, state.batch, held, grid, finished)])

    def _fits(self, p: int, batch: int, held: Bools, tiles: Ints, finished: bool) -> Bools:
        """(n,) whether a level can hold tiles, its results `finished` when they arrive or as partial sums."""
        need = np.zeros(len(tiles))
        for x, operand in enumerate(OPERANDS):
            if held[x]:
                one, two = RELEVANT[operand]
                size = tiles[:, one].astype(np.float64) * tiles[:, two]
                if operand == "c":
                    # Sums that are finished when they arrive are stored at the width of results.
                    need += size * (self.einsum.widths[2] if finished else self.einsum.partial)
                else:
                    need += size * self.columns.width(x, p)
        level = self.path[p]
        assert isinstance(level, Level)
        room = level.capacity / (2.0 if level.double_buffered else 1.0)
        return np.asarray(need * batch <= room)

    def _pairs(self, state: _State, outer: Ints, roomy: Bools) -> tuple[Ints, Ints]:
        """Return (row inside, tile outside) pairs: the inner tile divides the outer, or that is a whole loop.

        Outer tiles that are not `roomy` take finished results only, which come from inner tiles that span all of k.
        """
        match = np.ones((len(state.tile), len(outer)), dtype=bool)
        for d in range(3):
            mine, theirs = np.unique(state.tile[:, d]), np.unique(outer[:, d])
            ok = mine[:, None] <= theirs[None, :]
            whole = theirs[None, :] % mine[:, None] == 0
            # A tile that reaches the end of the loop need not divide.
            ok &= whole | (theirs[None, :] == self.full[d])
            match &= ok[np.searchsorted(mine, state.tile[:, d])][:, np.searchsorted(theirs, outer[:, d])]
        match &= roomy[None, :] | (state.tile[:, 2] == self.full[2])[:, None]
        row, column = np.nonzero(match)
        return row, column

    def _loops(self, state: _State, row: Ints, outer: Ints, which: Ints) -> tuple[_State, Ints]:
        """Make tiles `which` of `outer` from rows `row` of `state`, by loops in each order that matters.

        Returns the rows made, and which tile each is.
        """
        inner, tile = state.tile[row], outer[which]
        turns = np.ceil(tile / inner)
        many: Bools = np.greater(turns, 1)
        none: Bools = np.logical_not(many[:, 0] | many[:, 1] | many[:, 2])
        many[:, 0] = many[:, 0] | none  # one tile, no loop: any order
        picks = [np.flatnonzero(many[:, d]) for d in INNERMOST]
        index = np.concatenate(picks)
        last = np.repeat(np.array(INNERMOST, dtype=np.int64), [len(pick) for pick in picks])
        row, tile, inner, turns, which = row[index], tile[index], inner[index], turns[index], which[index]
        self.evaluated += len(index)
        ratio = tile / inner
        grown = _volume(ratio)
        cost = state.cost[row] * grown[:, None]
        unit = np.array(state.unit, dtype=np.float64)
        issues = _volume(np.ceil(tile / unit)) / _volume(np.ceil(inner / unit))
        cost[:, self.columns.compute] *= issues / grown
        words, still = state.words[row].copy(), state.still[row].copy()
        moving = ~none[index]
        for x, operand in enumerate(OPERANDS):
            one, two = RELEVANT[operand]
            reused = REUSED[operand]
            kept = still[:, x] & ((last == reused) | ~moving)
            opened = still[:, x] & ~kept
            again = np.where(kept, 1.0, np.where(opened, turns[:, reused], ratio[:, reused]))
            words[:, x] *= ratio[:, one] * ratio[:, two] * again
            still[:, x] = kept & (turns[:, one] == 1) & (turns[:, two] == 1)
        divides = state.exact[row] & np.all(turns == ratio, axis=1)
        made = replace(
            state, tile=tile, cost=cost, words=words, still=still, exact=divides, ways=state.ways[row],
            inside=state, back=row, order=last, keep=_NOTHING, share=1,
        )  # fmt: skip
        return made, which

    def _hold(self, state: _State, level: Level, p: int, held: Bools) -> _State:
        """Charge the words that leave and enter a level, and start those it will ask for."""
        cost, words, still = state.cost.copy(), state.words.copy(), state.still.copy()
        price, late, refund, drain = state.price.copy(), state.late, state.refund, state.drain
        credit, columns = state.credit, self.columns
        for x, operand in enumerate(OPERANDS):
            if not held[x]:
                continue
            away = p == 0 and operand in self.einsum.resident
            size, results = columns.width(x, p, sends=True), operand == "c"
            mine = columns.vector() if away else columns.access(level, size, size if results else 0.0)
            cost += words[:, x][:, None] * (price[x] + mine + (late if results else 0.0))
            one, two = RELEVANT[operand]
            words[:, x] = float(state.batch) * state.tile[:, one] * state.tile[:, two]
            still[:, x] = True
            if results:
                final = self.einsum.width("c")
                saved = columns.vector() if away else columns.access(level, size, size - final)
                credit = credit + self.einsum.words("c") * (saved + refund)
                price[x] = 0.0
                late = columns.access(level, size, size)
                refund = columns.access(level, size - final, size)
                drain = columns.access(level, size - final, 0.0)
            else:
                price[x] = columns.access(level, 0.0, columns.width(x, p))
        if p == self.array:
            compute = self.architecture.compute
            clock = self.architecture.domain(compute.domain).reference_clock
            cost[:, columns.compute] += compute.pipeline / clock
        keep = (bool(held[0]), bool(held[1]), bool(held[2]))
        return replace(
            state, cost=cost, words=words, still=still, price=price, late=late, refund=refund, drain=drain,
            credit=credit, keep=keep,
        )  # fmt: skip

    def _pruned(self, state: _State, p: int) -> _State:
        """Return the rows that nothing of the same tile and stillness beats, and that may still matter in the end.

        Counts are compared with counts and estimates with estimates: one that flatters a remainder drops no count.
        """
        if isinstance(self.path[min(p, len(self.path) - 1)], Fanout) or self.beam is not None:
            state = _rows(state, self._hopeful(state, p))
        group = _numbered(state.tile) * 16 + state.still @ np.array([1, 2, 4]) + 8 * state.exact
        return _rows(state, undominated(np.concatenate([state.cost, state.words], axis=1), group))

    def _hopeful(self, state: _State, p: int) -> NDArray[np.intp]:
        """Return the rows whose least total cost no complete mapping beats; under a beam, the most promising."""
        if self.bar is None and self.beam is None:
            return np.arange(len(state.tile))
        least = self.columns.decisive(
            self.outlook.floor(
                p, state.tile, state.cost, state.words, state.still, state.price, state.late, state.credit, state.batch
            )
        )
        if self.beam is not None:
            return _promising(least, self.beam, self.energy)
        assert self.bar is not None
        hopeful = np.arange(len(least))
        for known in self.bar:
            better, equal = np.zeros(len(hopeful), dtype=bool), np.ones(len(hopeful), dtype=bool)
            for column, value in enumerate(known):
                here = least[hopeful, column]
                better |= here < value * (1 - 1e-9)
                equal &= here <= value * (1 + 1e-9)
            hopeful = hopeful[better | equal]
        return hopeful

    def totals(self, state: _State) -> Floats:
        """(n, columns) cost of the whole work for complete mappings."""
        rounds = self.einsum.batch / state.batch
        dealt = any(isinstance(f, Fanout) and f.dealt and "batch" in f.dims for f in self.path)
        out = state.cost * rounds
        out[:, self.columns.compute] *= 1.0 if dealt else math.ceil(rounds) / rounds
        return out - state.credit


def _volume(sizes: Floats) -> Floats:
    """Return the product of (n, 3) sizes; written out, which is several times faster than a reduction."""
    return np.asarray(sizes[:, 0] * sizes[:, 1] * sizes[:, 2])


def _numbered(tiles: Ints) -> Ints:
    """Return a number for each row of `tiles`, equal rows alike."""
    out: Ints = np.zeros(len(tiles), dtype=np.int64)
    for d in range(tiles.shape[1]):
        values = np.unique(tiles[:, d])
        out = out * len(values) + np.searchsorted(values, tiles[:, d])
    return out


_NOTHING = (False, False, False)
_ROWS = ("tile", "cost", "words", "still", "exact", "ways", "back", "order")


def _rows(state: _State, pick: NDArray[np.intp]) -> _State:
    """Return some rows of a state."""
    return _with(state, {n: getattr(state, n)[pick] for n in _ROWS})


def _with(state: _State, arrays: dict[str, Any]) -> _State:
    return replace(state, **arrays)


def _promising(least: Floats, beam: int, energy: int) -> NDArray[np.intp]:
    """Return about `beam` rows: of least energy among the fastest, of least energy, of least product."""
    if len(least) <= beam:
        return np.arange(len(least))
    joules, seconds = least[:, :energy].sum(axis=1), least[:, energy:].max(axis=1)
    fastest = seconds <= seconds.min() * 1.0001
    orders = [np.argsort(np.where(fastest, joules, np.inf)), np.argsort(joules), np.argsort(joules * seconds)]
    return np.unique(np.concatenate([o[: max(1, beam // 3)] for o in orders]))


def _largest(tiles: Ints, lists: list[Ints], held: Bools) -> Ints:
    """Return tiles that cannot grow to the next candidate of any loop their level's operands depend on."""
    known = {tuple(t) for t in tiles.tolist()}
    loops = {d for x, operand in enumerate(OPERANDS) if held[x] for d in RELEVANT[operand]}
    after = [dict(itertools.pairwise(values.tolist())) for values in lists]
    out = []
    for t in tiles.tolist():
        grown = ((*t[:d], after[d][t[d]], *t[d + 1 :]) for d in loops if t[d] in after[d])
        if not any(g in known for g in grown):
            out.append(t)
    return np.array(out, dtype=np.int64).reshape(-1, 3)


def _concatenated(states: list[_State]) -> _State:
    if len(states) == 1:
        return states[0]
    return _with(states[0], {n: np.concatenate([getattr(s, n) for s in states]) for n in _ROWS})


def _unrolled(state: _State, einsum: Einsum, architecture: Architecture) -> Mappings:
    """Return the mappings behind the rows of a final state."""
    n, parts = len(state.tile), len(architecture.path)
    inner = np.zeros((n, parts, 3), dtype=np.int64)
    order = np.zeros((n, parts), dtype=np.int64)
    keep = np.zeros((n, parts, 3), dtype=bool)
    batch = np.ones((n, parts), dtype=np.int64)
    row = np.arange(n)
    at: _State = state
    for p in range(parts):
        assert at.inside is not None
        order[:, p] = at.order[row]
        keep[:, p] = at.keep
        batch[:, p] = at.share
        row = at.back[row]
        at = at.inside
        inner[:, p] = at.tile[row]
    return Mappings(einsum, architecture, inner, order, keep, batch)


def search(einsum: Einsum, architecture: Architecture, space: Space | None = None) -> Found:
    """Return the mappings of `einsum` on `architecture` that no other beats, over all bypasses and copies."""
    precision = einsum.precision
    if precision not in architecture.compute.macs_per_cycle:
        known = ", ".join(architecture.compute.macs_per_cycle)
        raise InputError(f"{architecture.name} has no arithmetic for {precision}; it has {known}")
    one = _Search(einsum, architecture, space or Space())
    one.beam = BEAM
    one.bar = one.best(one.run())
    one.beam = None
    finals = one.run()
    if not finals:
        raise InputError(
            f"no tile of {einsum.m} x {einsum.n} x {einsum.k} fits the levels of {architecture.name}; "
            "make the smallest level larger"
        )
    covered = sum(float(s.ways.sum()) for s in finals)
    return Found(joined([_unrolled(s, einsum, architecture) for s in finals]), one.evaluated, covered)
