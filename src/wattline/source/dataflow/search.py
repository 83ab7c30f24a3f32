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
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ...errors import InputError
from ...hardware.architecture import OPERANDS, Architecture, Compute, Fanout, Level
from .cost import issue_time, mac_energy
from .einsum import RELEVANT, REUSED, Einsum
from .plan import Bools, Floats, Ints, Mappings, joined
from .prune import undominated
from .tiling import Space, shares, sizes

# Loops to put innermost; `plan.ORDERS` begins with the order for each.
INNERMOST = (0, 1, 2)
# Rows (tile inside, tile outside, order) evaluated at once: bounds memory.
CHUNK = 400_000


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
    price : (3, columns) what one word of each costs on the way in, so far. late : (columns,) what a word of c that
    leaves costs the level it leaves. ways : (n,) mappings a row stands for. back, order : where each row came from.
    """

    tile: Ints
    cost: Floats
    words: Floats
    still: Bools
    price: Floats
    late: Floats
    unit: tuple[int, int, int]
    batch: int
    copies: int
    ways: Floats
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
        self.covered = 0.0
        wide = [part.name for part in self.path] + ["arithmetic"]
        self.names = wide if self.space.wide else [d.name for d in architecture.domains]
        self.column = {name: i for i, name in enumerate(self.names)}
        for part in self.path:
            if isinstance(part, Level):
                for port, rate in _ports(part):
                    if np.isfinite(rate):
                        self.column[port] = len(self.column)
        self.column["compute"] = len(self.column)
        fans = [p for p, part in enumerate(self.path) if isinstance(part, Fanout)]
        self.array = _outside_array(self.path, fans)

    # -- prices --------------------------------------------------------------------------------------

    def _vector(self) -> Floats:
        return np.zeros(len(self.column))

    def _energy(self, part: Level | Fanout | Compute) -> int:
        """Return the energy column of a part: its own, or its domain's."""
        if not self.space.wide:
            return self.column[part.domain]
        return self.column["arithmetic" if isinstance(part, Compute) else part.name]

    def access(self, level: Level, read: float, write: float) -> Floats:
        """Return the cost of one byte read and (or) written at one instance."""
        out = self._vector()
        out[self._energy(level)] = 8.0 * (read * level.read_energy + write * level.write_energy)
        for port, rate in _ports(level):
            if np.isfinite(rate):
                out[self.column[port]] += (write if port.endswith(".write") else read) / rate
                if level.shared_port:
                    out[self.column[port]] += write / rate
        return out

    def width(self, x: int, partial: bool = True) -> float:
        """Return the bytes of a moving word; sums move at the width of partial sums."""
        return self.einsum.partial if x == 2 and partial else self.einsum.widths[x]

    # -- the walk ------------------------------------------------------------------------------------

    def start(self) -> _State:
        """Return one issue of the arithmetic."""
        compute = self.architecture.compute
        granule = np.minimum(np.array(compute.granule, dtype=np.int64), self.full)
        cost = self._vector()
        cost[self._energy(compute)] = float(np.prod(granule)) * mac_energy(self.architecture, self.einsum.precision)
        cost[self.column["compute"]] = issue_time(self.architecture, self.einsum.precision)
        words = np.array([[float(granule[list(RELEVANT[x])].prod()) for x in OPERANDS]])
        still = np.array([[x in compute.latched for x in OPERANDS]])
        zero = np.zeros((3, len(self.column)))
        unit = (int(granule[0]), int(granule[1]), int(granule[2]))
        return _State(granule[None], cost[None], words, still, zero, self._vector(), unit, 1, 1, np.ones(1))

    def run(self) -> list[_State]:
        """Return the final states, each of one choice of bypasses and copies."""
        return list(self._walk(self.start(), len(self.path) - 1))

    def _walk(self, state: _State, p: int) -> Iterator[_State]:
        if p < 0:
            yield state
            return
        part = self.path[p]
        choices = self._copies(state, part) if isinstance(part, Fanout) else self._levels(state, part, p)
        for outer in choices:
            if len(outer.tile):
                yield from self._walk(outer, p - 1)

    # -- fan-outs ------------------------------------------------------------------------------------

    def _copies(self, state: _State, part: Fanout) -> Iterator[_State]:
        if part.dealt:
            yield self._deal(state, part)
            return
        remaining = tuple(int(-(-f // u)) for f, u in zip(self.full, state.unit, strict=True))
        left = -(-self.einsum.batch // state.batch)
        for share in shares(part, remaining, left, self.space):  # type: ignore[arg-type]
            yield self._spread(state, part, share)

    def _spread(self, state: _State, part: Fanout, share: tuple[int, int, int, int]) -> _State:
        split, batch = np.array(share[:3]), share[3]
        fits = np.all((split == 1) | (state.tile * (split - 1) < self.full), axis=1)
        tile = np.minimum(state.tile * split, self.full)[fits]
        grown = tile / state.tile[fits]
        used = -(-tile // state.tile[fits])
        copies = int(np.prod(share))
        cost = state.cost[fits].copy()
        energy = len(self.names)
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
            bits = 8.0 * self.width(x)
            price[x, self._energy(part)] += bits * part.energy * (fan + (1.0 if operand == "c" else 0.0))
        unit = tuple(int(min(u * s, f)) for u, s, f in zip(state.unit, share[:3], self.full, strict=True))
        rows = np.flatnonzero(fits)
        return self._pruned(
            _State(
                tile, cost, words, state.still[fits], price, late, unit, state.batch * batch,  # type: ignore[arg-type]
                state.copies * copies, state.ways[fits], state, rows, np.zeros(len(rows), dtype=np.int64), share=batch,
            )
        )  # fmt: skip

    def _deal(self, state: _State, part: Fanout) -> _State:
        """Deal tiles to free copies: time by whole rounds, nothing reused from one tile to the next."""
        turns = np.ceil(self.full / state.tile)
        number = turns[:, 0] * turns[:, 1] * (self.einsum.batch if "batch" in part.dims else 1)
        rounds = np.ceil(number / part.size) / number
        energy = len(self.names)
        cost, price, late = state.cost.copy(), state.price.copy(), state.late.copy()
        cost[:, energy:] *= rounds[:, None]
        price[:, energy:] /= part.size
        late[energy:] /= part.size
        price[:, self._energy(part)] += [8.0 * self.width(x) * part.energy * (1 + (x == 2)) for x in range(3)]
        n = len(state.tile)
        return _State(
            state.tile, cost, state.words, np.zeros((n, 3), dtype=bool), price, late, state.unit,
            state.batch, state.copies * part.size, state.ways,
            state, np.arange(n), np.zeros(n, dtype=np.int64),
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
        outer = self._tiles(state, level, p, held)
        pairs = self._pairs(state, outer, p)
        step = max(1, CHUNK // 3)
        found = [
            self._loops(state, pairs[0][at : at + step], outer[pairs[1][at : at + step]])
            for at in range(0, max(1, len(pairs[0])), step)
        ]
        best = self._pruned(_concatenated(found))
        return self._hold(best, level, p, held)

    def _tiles(self, state: _State, level: Level, p: int, held: Bools) -> Ints:
        """Return the tile sizes a level may hold, (n, 3)."""
        if p == 0:
            return self.full[None]
        imperfect = self.space.imperfect and p <= self.array
        perfect = self._fitting(level, state, held, [sizes(f, u, self.space, False) for f, u in self._axes(state)])
        if not imperfect:
            return perfect
        lists = [sizes(f, u, self.space, True) for f, u in self._axes(state)]
        more = _largest(self._fitting(level, state, held, lists), lists, held)
        return np.unique(np.concatenate([perfect, more]), axis=0)

    def _axes(self, state: _State) -> list[tuple[int, int]]:
        return [(int(f), int(u)) for f, u in zip(self.full, state.unit, strict=True)]

    def _fitting(self, level: Level, state: _State, held: Bools, lists: list[Ints]) -> Ints:
        grid = np.stack(np.meshgrid(*lists, indexing="ij"), axis=-1).reshape(-1, 3)
        need = np.zeros(len(grid))
        for x, operand in enumerate(OPERANDS):
            if held[x]:
                one, two = RELEVANT[operand]
                size = grid[:, one].astype(np.float64) * grid[:, two]
                if operand == "c":
                    # Sums that are finished when they arrive are stored at the width of results.
                    finished = bool(np.all(state.tile[:, 2] == self.full[2]))
                    need += size * (self.einsum.widths[2] if finished else self.einsum.partial)
                else:
                    need += size * self.einsum.widths[x]
        room = level.capacity / (2.0 if level.double_buffered else 1.0)
        return np.asarray(grid[need * state.batch <= room])

    def _pairs(self, state: _State, outer: Ints, p: int) -> tuple[Ints, Ints]:
        """Return (row inside, tile outside) pairs in which the inner tile fits, and divides where it must."""
        exact = not (self.space.imperfect and p <= self.array)
        match = np.ones((len(state.tile), len(outer)), dtype=bool)
        for d in range(3):
            mine, theirs = np.unique(state.tile[:, d]), np.unique(outer[:, d])
            ok = mine[:, None] <= theirs[None, :]
            if exact:
                whole = theirs[None, :] % mine[:, None] == 0
                # A tile that reaches the end of the loop need not divide.
                ok &= whole | (theirs[None, :] == self.full[d])
            match &= ok[np.searchsorted(mine, state.tile[:, d])][:, np.searchsorted(theirs, outer[:, d])]
        row, column = np.nonzero(match)
        return row, column

    def _loops(self, state: _State, row: Ints, tile: Ints) -> _State:
        """Run the loops of a level over tiles `row` of `state` to make `tile` (n, 3), in each order that matters."""
        inner = state.tile[row]
        turns = -(-tile // inner)
        many: Bools = np.greater(turns, 1)
        none: Bools = np.logical_not(np.any(many, axis=1))
        many[:, 0] = many[:, 0] | none  # one tile, no loop: any order
        picks = [np.flatnonzero(many[:, d]) for d in INNERMOST]
        index = np.concatenate(picks)
        last = np.repeat(np.array(INNERMOST, dtype=np.int64), [len(pick) for pick in picks])
        row, tile, inner, turns = row[index], tile[index], inner[index], turns[index]
        self.evaluated += len(index)
        ratio = tile / inner
        grown = ratio.prod(axis=1)
        cost = state.cost[row] * grown[:, None]
        cost[:, self.column["compute"]] *= turns.prod(axis=1) / grown
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
        return _State(
            tile, cost, words, still, state.price, state.late, state.unit, state.batch, state.copies, state.ways[row],
            state, row, last,
        )  # fmt: skip

    def _hold(self, state: _State, level: Level, p: int, held: Bools) -> _State:
        """Charge the words that leave and enter a level, and start those it will ask for."""
        cost, words, still = state.cost.copy(), state.words.copy(), state.still.copy()
        price, late = state.price.copy(), state.late.copy()
        for x, operand in enumerate(OPERANDS):
            if not held[x] or (p == 0 and operand in self.einsum.resident):
                continue
            size = self.width(x)
            mine = self.access(level, size, size if operand == "c" else 0.0)
            cost += words[:, x][:, None] * (price[x] + mine + (late if operand == "c" else 0.0))
            one, two = RELEVANT[operand]
            words[:, x] = state.tile[:, one].astype(np.float64) * state.tile[:, two]
            still[:, x] = True
            if operand == "c":
                price[x] = 0.0
                late = self.access(level, size, size)
            else:
                price[x] = self.access(level, 0.0, size)
        if p == self.array:
            compute = self.architecture.compute
            clock = self.architecture.domain(compute.domain).reference_clock
            cost[:, self.column["compute"]] += compute.pipeline / clock
        keep = (bool(held[0]), bool(held[1]), bool(held[2]))
        return _State(
            state.tile, cost, words, still, price, late, state.unit, state.batch, state.copies, state.ways,
            state.inside, state.back, state.order, keep,
        )  # fmt: skip

    def _pruned(self, state: _State) -> _State:
        """Return the rows that nothing of the same tile and stillness beats."""
        group = _numbered(state.tile) * 8 + state.still @ np.array([1, 2, 4])
        keep = undominated(np.concatenate([state.cost, state.words], axis=1), group)
        ways = np.bincount(group, weights=state.ways, minlength=int(group.max()) + 1 if len(group) else 0)
        share = np.bincount(group[keep], minlength=len(ways))
        return _State(
            state.tile[keep], state.cost[keep], state.words[keep], state.still[keep], state.price, state.late,
            state.unit, state.batch, state.copies, ways[group[keep]] / share[group[keep]], state.inside,
            state.back[keep], state.order[keep], state.keep, state.share,
        )  # fmt: skip


def _numbered(tiles: Ints) -> Ints:
    """Return a number for each row of `tiles`, equal rows alike."""
    out: Ints = np.zeros(len(tiles), dtype=np.int64)
    for d in range(tiles.shape[1]):
        values = np.unique(tiles[:, d])
        out = out * len(values) + np.searchsorted(values, tiles[:, d])
    return out


def _ports(level: Level) -> list[tuple[str, float]]:
    name = f"memory.{level.name}"
    if level.shared_port:
        return [(name, level.read_bandwidth)]
    return [(f"{name}.read", level.read_bandwidth), (f"{name}.write", level.write_bandwidth)]


def _outside_array(path: tuple[Level | Fanout, ...], fans: list[int]) -> int:
    """Return the level just outside the innermost run of fan-outs (as `count` does)."""
    if not fans:
        return 0
    p = fans[-1]
    while p > 0 and isinstance(path[p - 1], Fanout):
        p -= 1
    return p - 1


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
    first = states[0]
    arrays = {
        n: np.concatenate([getattr(s, n) for s in states])
        for n in ("tile", "cost", "words", "still", "ways", "back", "order")
    }
    return _State(
        arrays["tile"], arrays["cost"], arrays["words"], arrays["still"], first.price, first.late, first.unit,
        first.batch, first.copies, arrays["ways"], first.inside, arrays["back"], arrays["order"],
    )  # fmt: skip


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
    finals = one.run()
    if not finals:
        raise InputError(
            f"no tile of {einsum.m} x {einsum.n} x {einsum.k} fits the levels of {architecture.name}; "
            "make the smallest level larger"
        )
    covered = sum(float(s.ways.sum()) for s in finals)
    return Found(joined([_unrolled(s, einsum, architecture) for s in finals]), one.evaluated, covered)
