"""What any step of a replica takes, tabulated once so that a simulator can price millions of them.

A step decodes `batch` requests of `context` tokens on average and reads `prompt` tokens of prefill, each of
which attends to `reach` keys on average. Busy seconds and joules of a step are a sum of four pieces, just
as `serving/engine.py` sums kinds of operators:

    layers (tokens)  +  head (sampled rows)  +  decode attention (batch, context)  +  prefill attention (prompt, reach)

The first two step at tile edges of the matrix products, so they are kept token by token up to 512 and at both
edges of every tile beyond; attention lies on a grid. In between are straight lines. The host's seconds, the
overlap of both and the power limit are applied to the sum, exactly: the only error is that of the lines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from ...source.base import Array, Device, Source
from ...workload.operator import Operator
from ..engine import (
    COUNTS,
    KINDS,
    Beat,
    Constants,
    Inquiry,
    Piece,
    Sums,
    busiest,
    host_time,
    kind_of,
    run,
    spread,
    sums,
)
from ..profile import as_run
from ..step import TASTE, Job, Load, Replica, beats_of, clock_grid, round_operators, unevenness, vision_operators

Work = tuple[Operator, ...]

# Columns of a cell before the components: busy seconds, joules in all (without waiting).
BUSY, JOULES, FIRST = 0, 1, 2
# Nodes of the grids of attention: even in their logarithm, so the relative error is even too.
_BATCHES, _PROMPTS, _CONTEXTS, _REACHES = 40, 28, 24, 20
# Tokens up to which layers are kept one by one, and the tile whose edges are kept beyond (64 or a multiple of it in
# every GEMM library the sources were fitted on).
EACH, TILE = 512, 64
# Tokens from which a tile more or less no longer shows, and the spacing of nodes from there on.
FINE, COARSE = 8192, 1024
# Steps that a source is asked for at once.
_BLOCK = 32


@dataclass(frozen=True)
class Cost:
    """One step: seconds, joules of the whole replica (waiting included), the clock level really run, and parts.

    decode_attention, prefill_attention : joules among them that attention of each phase takes.
    """

    time: float
    energy: float
    level: float
    decode_attention: float
    prefill_attention: float
    parts: Mapping[str, float]


@dataclass(frozen=True)
class StepTable:
    """Steps of one replica at every level of its clock.

    A cell holds busy seconds, joules of all devices (without waiting), and the latter by component.

    Attributes
    ----------
    clocks : (L,) Hz, ascending. batch, prompt, context, reach : nodes of attention's grids.
    parts : names of the components but waiting, K of them.
    layers : (n, L, 2 + K) by tokens, as `tokens_at` numbers them. head : (rows, L, 2 + K), from 0 rows on.
    decode : (batch, context, L, 2 + K). prefill : (prompt, reach, L, 2 + K).
    host : seconds of the host: per step, per running request, per new prompt, and for launches where a step
        without prompts is not one captured graph, and where it carries prompts.
    waiting, limit : watts of all devices while awake, and at most.
    verified : tokens per request and step: 1, more with speculative decoding.
    outside : seconds a request waits outside of steps until its first token is seen, and the same per prompt token.
    """

    replica: Replica
    device: Device
    clocks: Array
    batch: Array
    prompt: Array
    context: Array
    reach: Array
    parts: tuple[str, ...]
    layers: Array
    head: Array
    decode: Array
    prefill: Array
    host: tuple[float, float, float, float, float]
    exponent: float
    waiting: float
    limit: float
    verified: int
    provenance: str
    source: str
    uncertainty: float
    time_uncertainty: float
    outside: tuple[float, float] = (0.0, 0.0)

    def level(self, clock: float) -> float:
        """Return a clock (Hz) as a level, whole at the table's own clocks."""
        return float(np.interp(clock, self.clocks, np.arange(len(self.clocks))))

    def clock(self, level: float) -> float:
        """Return the clock (Hz) of a level."""
        return float(np.interp(level, np.arange(len(self.clocks)), self.clocks))

    # ---- one step, plainly: what the compiled core does, and what tests hold it against -------------
    def step(
        self, batch: float, context: float, prompt: float = 0.0, reach: float = 0.0, prompts: float = 0.0,
        level: float | None = None,
    ) -> Cost:  # fmt: skip
        """Return one step. `prompts`: new requests whose prompt ends in it. `level`: the highest clock where None."""
        top = len(self.clocks) - 1
        pieces, late = self.pieces(batch, context, prompt, reach, prompts)
        busy = np.sum([cells[:, BUSY] for cells in late], axis=0)
        joules = np.sum([cells[:, JOULES] for cells in pieces], axis=0)
        host = self.host_time(batch, prompt, prompts)
        asked = float(top) if level is None else level
        times = [self.overlap(float(b), host) for b in busy]
        powers = [float(j) / t + self.waiting for j, t in zip(joules, times, strict=True)]
        at = _within(powers, self.limit, asked)
        low = min(int(at), top - 1)
        part = at - low
        time = times[low] + part * (times[low + 1] - times[low])
        rows = [cells[low] + part * (cells[low + 1] - cells[low]) for cells in pieces]
        total = np.sum(rows, axis=0)
        named = {name: float(total[FIRST + i]) for i, name in enumerate(self.parts)}
        named["waiting"] = self.waiting * time
        return Cost(
            time,
            float(total[JOULES]) + self.waiting * time,
            at,
            float(rows[2][JOULES]),
            float(rows[3][JOULES]) if prompt > 0 else 0.0,
            named,
        )

    def pieces(
        self, batch: float, context: float, prompt: float, reach: float, prompts: float
    ) -> tuple[list[Array], list[Array]]:
        """Return the cells of each piece, and those that set the time where data-parallel groups wait."""
        mine = [
            self._layers(batch * self.verified + prompt),
            _line(self.head, batch * self.verified + prompts),
            _plane(self.decode, self.batch, self.context, batch, context),
        ]
        if prompt <= 0:
            return mine, mine
        mine.append(_plane(self.prefill, self.prompt, self.reach, prompt, reach))
        groups = self.replica.groups
        if groups == 1:
            return mine, mine
        most = prompt * max(1.0, groups / max(prompts, 1.0))
        late = [self._layers(batch * self.verified + most), *mine[1:3]]
        return mine, [*late, _plane(self.prefill, self.prompt, self.reach, most, reach)]

    def _layers(self, tokens: float) -> Array:
        i, part = tokens_at(tokens)
        return np.asarray(self.layers[i] + part * (self.layers[i + 1] - self.layers[i]))

    def host_time(self, batch: float, prompt: float, prompts: float) -> float:
        """Return the host's seconds of a step."""
        step, sequence, each, alone, mixed = self.host
        loose = batch / self.replica.groups > self.replica.captured(self.device)
        return step + sequence * batch + each * prompts + (mixed if prompt > 0 else alone if loose else 0.0)

    def overlap(self, busy: float, host: float) -> float:
        """Return the seconds of a step from those of the device and of the host."""
        if not self.replica.ahead(self.device):
            return busy + host
        top = max(busy, host)
        return float(top * ((busy / top) ** self.exponent + (host / top) ** self.exponent) ** (1.0 / self.exponent))


def _within(powers: Sequence[float], limit: float, asked: float) -> float:
    """Return the highest level up to `asked` at which power keeps the limit; power rises with the level."""
    high = min(int(np.ceil(asked)), len(powers) - 1)
    while high > 0 and powers[high] > limit:
        high -= 1
    if high + 1 >= len(powers) or powers[high + 1] <= limit:
        return asked
    span = powers[high + 1] - powers[high]
    part = min(max((limit - powers[high]) / span, 0.0), 1.0) if span > 0 else 0.0
    return min(asked, high + part)


def tokens_at(tokens: float) -> tuple[int, float]:
    """Return the row of `layers` at or below a count of tokens, and how far it lies towards the next row."""
    if tokens < EACH:
        return int(tokens), tokens - int(tokens)
    if tokens < FINE:
        tile = int(np.ceil(tokens / TILE)) - 1
        return EACH + 1 + 2 * (tile - EACH // TILE), (tokens - tile * TILE - 1.0) / (TILE - 1.0)
    block = int(tokens / COARSE)
    return _LAST + block - FINE // COARSE, tokens / COARSE - block


# Row of the first coarse node, `FINE` tokens.
_LAST: Final = EACH + 2 * (FINE - EACH) // TILE


def _rows(last: float) -> Array:
    """Return the tokens of each row of `layers`, as `tokens_at` numbers them, up to `last` at least."""
    tiles = np.arange(EACH // TILE, FINE // TILE)
    edges = np.stack([tiles * TILE + 1.0, (tiles + 1.0) * TILE], 1).ravel()
    coarse = np.arange(FINE // COARSE + 1, max(int(np.ceil(last / COARSE)), FINE // COARSE) + 2) * float(COARSE)
    return np.concatenate([np.arange(EACH + 1.0), edges, coarse])


def _line(cells: Array, x: float) -> Array:
    i = min(int(x), len(cells) - 2)
    return np.asarray(cells[i] + (x - i) * (cells[i + 1] - cells[i]))


def _plane(cells: Array, rows: Array, columns: Array, x: float, y: float) -> Array:
    i, p = place(rows, x)
    j, q = place(columns, y)
    near = cells[i, j] + q * (cells[i, j + 1] - cells[i, j])
    return np.asarray(near + p * (cells[i + 1, j] + q * (cells[i + 1, j + 1] - cells[i + 1, j]) - near))


def place(nodes: Array, x: float) -> tuple[int, float]:
    """Return the interval of `nodes` that holds `x`, the first or last one beyond the ends, and how far in it lies."""
    i = min(max(int(np.searchsorted(nodes, x, side="right")) - 1, 0), len(nodes) - 2)
    return i, (x - nodes[i]) / (nodes[i + 1] - nodes[i])


# ---- making one ----------------------------------------------------------------------------------


def step_table(
    replica: Replica,
    device: Device,
    source: Source,
    *,
    max_batch: int = 512,
    longest: int = 8192,
    draft: tuple[Replica, int] | None = None,
    settings: Constants | None = None,
) -> StepTable:
    """Return the steps of `replica` with up to `max_batch` running requests of up to `longest` tokens.

    `draft`: a draft model and how many tokens it proposes per step (speculative decoding): the replica then
    verifies one token more than that per request and step, after as many steps of the draft model. Where
    proposals cost nothing (n-grams, heads of the model itself), the draft is the replica itself.
    """
    kind = device.chip.tags.get("architecture", "")
    c = replica.constants(device) if settings is None else settings
    verified = 1 if draft is None else draft[1] + 1
    axes = (
        _nodes(1, max(max_batch, 2), _BATCHES, zero=True),
        _nodes(1, max(replica.chunk, 2), _PROMPTS),
        _nodes(1, max(longest, 2), _CONTEXTS),
        _nodes(1, max(longest, 2), _REACHES),
    )
    maker = _Maker(replica, device, source, c, axes, verified)
    out = maker.table(spread(kind, "energy_per_token_j"), spread(kind, "throughput_tok_s"))
    if draft is None or draft[0] == replica:
        return out
    return _drafted(out, _Maker(draft[0], device, source, c, axes, verified).table(0.0, 0.0), draft[1])


def _nodes(first: float, last: float, count: int, *, zero: bool = False) -> Array:
    nodes = np.unique(np.round(np.geomspace(first, last, count)))
    return np.concatenate([[0.0], nodes]) if zero else nodes


@dataclass(frozen=True)
class _Maker:
    replica: Replica
    device: Device
    source: Source
    c: Constants
    axes: tuple[Array, Array, Array, Array]
    verified: int

    def table(self, uncertainty: float, time_uncertainty: float) -> StepTable:
        """Return the table: each piece of a step priced apart."""
        replica, c, (batch, prompt, context, reach) = self.replica, self.c, self.axes
        tokens = _rows(replica.chunk * replica.groups)
        sampled = np.arange(self.verified * batch[-1] + 2.0)  # no more requests run than that
        layers = self._priced([self._operators(m) for m in tokens], _layer, tokens, "gap.step")
        head = self._priced([self._operators(m) for m in sampled], _headed, sampled, "gap.logits")
        decode = self._priced([self._operators(b, context=x) for b in batch for x in context], _decoding)
        prefill = self._priced([self._operators(0.0, p, reach=k) for p in prompt for k in reach], _reading)
        # The last stage alone has the head, and all others wait for it once per microbatch.
        head = (head[0] * replica.parallel.pipeline, *head[1:])
        families = (layers, head, decode, prefill)
        names = tuple(sorted({name for _, parts, _ in families for name in parts}))
        each = float(layers[2][1, 0] + head[2][1, 0] + decode[2][-1, 0])
        launches = (each, each + float(prefill[2][0, 0]))
        chip, devices = self.device.chip, replica.parallel.devices
        sample = self.source.points(self._operators(batch[-1]), self.device, clock_grid(self.device)[-1:])
        return StepTable(
            replica=replica, device=self.device, clocks=clock_grid(self.device), batch=batch, prompt=prompt,
            context=context, reach=reach, parts=names,
            layers=self._cells(layers, names), head=self._cells(head, names),
            decode=self._cells(decode, names, len(batch), len(context)),
            prefill=self._cells(prefill, names, len(prompt), len(reach)),
            host=self._host(launches), exponent=c["host.exponent"],
            waiting=devices * c["energy.waiting"] * chip["power.waiting"],
            limit=devices * c["limit.share"] * chip["power.limit"],
            verified=self.verified, provenance=sample.provenance,
            source=f"{sample.source}; engine steps: serving/data/serving.toml", uncertainty=uncertainty,
            time_uncertainty=time_uncertainty, outside=(c["first.request"], c["first.token"]),
        )  # fmt: skip

    def _operators(self, batch: float, prompt: float = 0.0, context: float = 1.0, reach: float = 0.0) -> Work:
        r = self.replica
        chunks = _entries(prompt, reach)
        plain = round_operators(r, chunks, batch, max(context, 1.0), TASTE)
        patches = r.patches * prompt / r.groups
        plain += vision_operators(patches, max(patches / r.picture, 1.0), r.parallel.tensor, r.precision.activation)
        return as_run(plain, r.profile(self.device))

    def _priced(
        self, work: Sequence[Work], keep: Callable[[Operator], bool], batch: Array | None = None, gap: str = ""
    ) -> tuple[Array, Mapping[str, Array], Array]:
        """Return (n, L) busy seconds and joules by component of the kept operators, and their launches (n, 1).

        Host and waiting are left out, and of the gaps that come once a step all but `gap`.
        """
        expert = self.replica.parallel.expert
        mine = [tuple(o for o in some if keep(o)) for some in work]
        late = [tuple(busiest(o, expert) for o in some) for some in mine] if expert > 1 else mine
        chip = self.device.chip.tags.get("architecture", "")
        pieces = [self.replica.piece(a, b, chip) for a, b in zip(mine, late, strict=True)]
        found = self._sums(pieces)
        left = {"gap.step", "gap.logits"} - {gap}
        quiet = {
            n: 0.0 if n in left or (n.startswith("host.") and n != "host.exponent") else v for n, v in self.c.items()
        }
        beat = self._beat(np.zeros(len(mine)) if batch is None else batch)
        busy, parts = run(found, beat, quiet, 0.0, False)
        return busy, {n: j for n, j in parts.items() if n != "waiting"}, found.launches

    def _sums(self, pieces: Sequence[Piece]) -> Sums:
        grid = clock_grid(self.device)
        some = [
            sums(Inquiry.of(pieces[i : i + _BLOCK]), self.device, self.source, grid)
            for i in range(0, len(pieces), _BLOCK)
        ]
        names = dict.fromkeys(key for found in some for key in found.joules)
        none = [np.zeros((len(found.launches), grid.size)) for found in some]
        return Sums(
            {kind: np.concatenate([found.busy[kind] for found in some]) for kind in KINDS},
            {k: np.concatenate([f.joules.get(k, zero) for f, zero in zip(some, none, strict=True)]) for k in names},
            {name: np.concatenate([found.counts[name] for found in some]) for name in COUNTS},
        )

    def _beat(self, batch: Array, prompts: float = 0.0, loose: bool = False) -> Beat:
        jobs = [Job(self.replica, _ANY, float(b)) for b in batch]
        return beats_of(jobs, self.device, prompts, np.zeros(len(jobs)), np.full(len(jobs), loose))

    def _host(self, launches: tuple[float, float]) -> tuple[float, float, float, float, float]:
        def seconds(batch: float, prompts: float, kernels: float, loose: bool) -> float:
            count = np.full((1, 1), kernels)
            return float(
                host_time(Sums({}, {}, {"kernel": count}), self._beat(np.array([batch]), prompts, loose), self.c)[0, 0]
            )

        step = seconds(0.0, 0.0, 0.0, False)
        return (
            step, seconds(1.0, 0.0, 0.0, False) - step, seconds(0.0, 1.0, 0.0, False) - step,
            seconds(0.0, 0.0, launches[0], True) - step, seconds(0.0, 0.0, launches[1], True) - step,
        )  # fmt: skip

    def _cells(self, priced: tuple[Array, Mapping[str, Array], Array], names: Sequence[str], *shape: int) -> Array:
        busy, parts, _ = priced
        zero = np.zeros_like(busy)
        joules = [self.replica.parallel.devices * parts.get(n, zero) for n in names]
        busy = busy * unevenness(self.replica)
        stack = np.stack([busy, np.sum(joules, axis=0), *joules], axis=-1)
        return stack.reshape(*(shape or stack.shape[:1]), *stack.shape[1:])


# Beats ask for the requests' lengths only where prompts hold images.
_ANY: Final = Load(prompt=1.0, output=1.0)


def _entries(prompt: float, reach: float) -> tuple[tuple[float, float, float], ...]:
    """Return `prompt` tokens that attend to `reach` keys on average as (new, context, how many) entries."""
    if prompt <= 0:
        return ()
    if reach >= prompt / 2.0:
        return ((prompt, reach + prompt / 2.0, 1.0),)
    return ((2.0 * reach, 2.0 * reach, prompt / (2.0 * reach)),)


# What `step_operators` adds once per step, for the tokens that are sampled; the rest is per layer.
_HEAD: Final = ("head", "logits_all_gather", "sampling")


# What a recurrent layer does to read prompts (`pieces.scan`) and, request by request, to its state.
_SCAN: Final = ("convolution", "scan", "scan_weights", "scan_values", "scan_state", "recurrent_gate")
_STATE: Final = "state_update"


def _reading(operator: Operator) -> bool:
    """Whether an operator is for prompts alone: attention, latents expanded anew each chunk, scans and their state."""
    named = operator.name in ("up_kv", _STATE, *_SCAN) or operator.name.startswith("vision_")
    return named or kind_of(operator) == "attention_prefill"


def _decoding(operator: Operator) -> bool:
    """Whether an operator is for decoding requests alone."""
    kinds = ("attention_decode", "attention_latent")
    return kind_of(operator) in kinds or operator.name.startswith(("absorb_", _STATE))


def _headed(operator: Operator) -> bool:
    return operator.name in _HEAD


def _layer(operator: Operator) -> bool:
    return not (_reading(operator) or _decoding(operator) or _headed(operator))


def _drafted(table: StepTable, small: StepTable, length: int) -> StepTable:
    """Add the draft model's work to every step: `length` steps of one token per request, and the same prompts.

    The draft runs one token per request, so of its layers it takes the row of tokens / verified.
    """
    names = tuple(sorted({*table.parts, *small.parts}))
    table, small = widened(table, names), widened(small, names)
    tokens = _rows(table.replica.chunk * table.replica.groups)

    def each(cells: Array, at: Array) -> Array:
        return np.stack([_line(cells, float(x)) for x in at])

    own = np.stack([small._layers(float(x)) for x in tokens / table.verified])
    rows = each(small.head, np.arange(len(table.head)) / table.verified)
    return replace(
        table,
        layers=table.layers + length * own,
        head=table.head + length * rows,
        decode=table.decode + length * small.decode,
        prefill=table.prefill + small.prefill,
    )


def widened(table: StepTable, names: tuple[str, ...]) -> StepTable:
    """Return the table with the components `names`, those it lacks at zero: so that pools share columns."""
    if names == table.parts:
        return table

    def wide(cells: Array) -> Array:
        out = np.zeros((*cells.shape[:-1], FIRST + len(names)))
        out[..., :FIRST] = cells[..., :FIRST]
        for i, name in enumerate(table.parts):
            out[..., FIRST + names.index(name)] = cells[..., FIRST + i]
        return out

    return replace(
        table, parts=names, layers=wide(table.layers), head=wide(table.head), decode=wide(table.decode),
        prefill=wide(table.prefill),
    )  # fmt: skip
