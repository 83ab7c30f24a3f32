"""The obviously correct way to count: run the loops, remember what every copy holds, and count what moves."""

from __future__ import annotations

import itertools
from collections import defaultdict

import numpy as np

from wattline.hardware.architecture import OPERANDS, Fanout, Level
from wattline.source.dataflow.einsum import RELEVANT, REUSED
from wattline.source.dataflow.plan import ORDERS, Mappings


def issues(maps: Mappings, i: int):
    """Yield every issue: per part (turn of each loop), per part (copy along each loop), per part (size handed in)."""
    path = maps.architecture.path
    copies, units = maps.copies()[i], maps.units()[i]

    def walk(p, size, turns, where, sizes):
        sizes = [*sizes, tuple(size)]
        if p == len(path):
            yield turns, where, sizes
            return
        step = maps.inner[i, p]
        if not isinstance(path[p], Level):
            shares = [_shared(int(s), int(n), int(u)) for s, n, u in zip(size, copies[p], units[p], strict=True)]
            for index in itertools.product(*(range(len(s)) for s in shares)):
                child = [s[v] for s, v in zip(shares, index, strict=True)]
                yield from walk(p + 1, child, [*turns, (0, 0, 0)], [*where, index], sizes)
            return
        counts = [-(-int(s) // int(t)) for s, t in zip(size, step, strict=True)]
        order = ORDERS[maps.order[i, p]]
        for at in itertools.product(*(range(counts[d]) for d in order)):
            index = [0, 0, 0]
            for d, v in zip(order, at, strict=True):
                index[d] = v
            child = [min(int(t), int(s) - v * int(t)) for s, t, v in zip(size, step, index, strict=True)]
            yield from walk(p + 1, child, [*turns, tuple(index)], [*where, (0, 0, 0)], sizes)

    yield from walk(0, maps.einsum.size, [], [], [])


def _shared(size, copies, unit):
    """Sizes of the shares of `size` among `copies`, in whole units dealt round and round."""
    shares = [0] * copies
    for j, start in enumerate(range(0, size, unit)):
        shares[j % copies] += min(unit, size - start)
    return [s for s in shares if s]


def time_key(maps: Mappings, i: int, turns, end: int):
    """Sort key of the time at which an issue's tile at `end` is in place: its loops from the outside in."""
    return tuple(turns[p][d] for p in range(end) for d in ORDERS[maps.order[i, p]])


def brute(maps: Mappings, i: int):
    """Return read, write, carried words (parts, 3) and the steps of the arithmetic, by running the loops."""
    path = maps.architecture.path
    parts = len(path)
    read, write, carried = (np.zeros((parts, 3)) for _ in range(3))
    every = list(issues(maps, i))
    steps = len({time_key(maps, i, t, parts) for t, _, _ in every})
    for x, operand in enumerate(OPERANDS):
        holders = [p for p in range(parts) if maps.keep[i, p, x]]
        for outer, inner in zip(holders, [*holders[1:], parts], strict=True):
            moves = _moves(maps, i, every, x, inner)
            fans = [p for p in range(outer + 1, inner) if isinstance(path[p], Fanout)]
            merges = {p for p in fans if (path[p].reduce if operand == "c" else operand in path[p].multicast)}
            alone, sent = _words(moves, operand, inner, set()), _words(moves, operand, inner, merges)
            for p in fans:
                carried[p, x] += _words(moves, operand, inner, {q for q in merges if q > p})
            if operand == "c":
                distinct = maps.einsum.m * maps.einsum.n
                write[outer, x] += sent
                read[outer, x] += sent - distinct
                for p in fans:
                    carried[p, x] += sent - distinct
                if inner < parts:
                    write[inner, x] += sent - distinct
                    read[inner, x] += alone - (alone - sent)
            else:
                read[outer, x] += sent
                if inner < parts:
                    write[inner, x] += alone
    return read, write, carried, steps


def _words(moves, operand, inner, shared):
    """Words moved, copies of the fan-outs in `shared` counting once where they need the same."""
    seen = {}
    for when, copies, size in moves:
        seen[when, tuple(_place(copies[p], operand, p in shared) for p in range(inner))] = size
    return sum(seen.values())


def _place(copy, operand, shared):
    """Where a copy is, as far as its words of `operand` tell it from others."""
    return tuple(v for d, v in enumerate(copy) if not shared or d != REUSED[operand])


def _moves(maps, i, every, x, end):
    """Return (time, copy, words) of every tile of operand `x` that newly arrives at part `end`.

    A copy gives up its tile when one of the loops it runs itself turns; while others take a turn that a copy
    with a remainder does not have, it waits and keeps what it has.
    """
    operand = OPERANDS[x]
    relevant = RELEVANT[operand]
    path = maps.architecture.path
    latched = end < len(path) or operand in maps.architecture.compute.latched
    levels = [p for p in range(end) if isinstance(path[p], Level)]
    held: dict[object, object] = {}
    by_time: dict[object, dict[object, tuple]] = defaultdict(dict)
    for turns, copies, sizes in every:
        now = {d: [turns[p][d] for p in levels] for d in relevant}
        own = {d: [-(-sizes[p][d] // int(maps.inner[i, p, d])) for p in levels] for d in relevant}
        words = sizes[end][relevant[0]] * sizes[end][relevant[1]]
        by_time[time_key(maps, i, turns, end)][tuple(copies[:end])] = (now, own, words)

    def turned(mine, now):
        for d in relevant:
            at = next((j for j in range(len(levels)) if mine[0][d][j] != now[d][j]), None)
            if at is not None and mine[1][d][at] > 1:
                return True
        return False

    out = []
    for when in sorted(by_time):
        present = by_time[when]
        now = next(iter(present.values()))[0]
        for place in held:
            if held[place] is not None and turned(held[place], now):
                held[place] = None
        for place, (mine, own, words) in present.items():
            if not latched or held.get(place) is None:
                out.append((when, place, words))
                held[place] = (mine, own)
    return out
