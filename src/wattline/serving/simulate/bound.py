"""The least energy any policy could take, all arrivals known and tokens free to meet in any step.

A step of `b` decoding requests and `p` prompt tokens at a clock takes t seconds and c joules. Whatever a policy
does, its steps x_j decode all D tokens and read all N prompt tokens, and where every request keeps its promise,
tokens take `tpot` seconds on average:

    least  sum c_j x_j   with  sum b_j x_j >= D,  sum p_j x_j >= N,  sum b_j t_j x_j <= tpot D

Any prices of the three (a, b, m) with  a b_j + b p_j <= c_j + m b_j t_j  for all j give a bound from below (weak
duality), so it holds however well they are found. It leaves out arrivals, queues and the first token's promise:
a policy's gap to it is at most what is left to win.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from ...source.base import Array
from ...workload.traffic import Requests
from .outcome import Limits
from .pool import Fleet, Pool
from .table import BUSY, JOULES

_ROUNDS: Final = 60  # of a search that keeps the golden part of an interval each: 3e-13 of it is left
_GOLDEN: Final = (5.0**0.5 - 1.0) / 2.0


@dataclass(frozen=True)
class Bound:
    """Joules no policy goes below: with every replica awake all along, and with replicas parked for free.

    decode, prefill : joules above waiting that one more token would take; hurry : watts that a second of `tpot` saves.
    """

    awake_j: float
    parked_j: float
    decode: float
    prefill: float
    hurry: float


def clairvoyant(requests: Requests, fleet: Fleet, limits: Limits) -> Bound:
    """Return the bound for a fleet that keeps the promised time per token for every request."""
    after = (requests.output - 1).astype(np.float64)
    decoded, read = float(after.sum()), float(requests.prompt.sum())
    if requests.page:  # what other requests with the same prefix computed need not be computed again
        _, at = np.unique(requests.pages, return_index=True)
        read -= requests.page * (len(requests.pages) - len(at))
        read = max(read, float(len(requests)))
    seen = requests.prompt + requests.output / 2.0
    context = float((after * seen).sum() / decoded) if decoded > 0 else 1.0
    reach = float((requests.prompt.astype(np.float64) ** 2).sum() / 2.0 / requests.prompt.sum())
    steps = [_steps(pool, context, reach, float(requests.prompt.mean())) for pool in fleet.pools]
    tokens, prompts, seconds, moved, waiting = (np.concatenate(column) for column in zip(*steps, strict=True))
    tpot = limits.tpot if limits.tpot is not None else np.inf
    span = float(requests.arrival[-1])
    fixed = sum(pool.replicas * pool.idle_power for pool in fleet.pools) * span
    above = _least(tokens, prompts, seconds, moved, decoded, read, tpot)
    whole = _least(tokens, prompts, seconds, moved + waiting * seconds, decoded, read, tpot)
    return Bound(fixed + above[0], whole[0], above[1], above[2], above[3])


def _steps(pool: Pool, context: float, reach: float, usual: float) -> tuple[Array, Array, Array, Array, Array]:
    """Return tokens out, prompt tokens, seconds, joules above waiting and waiting power of every step on the grid."""
    table = pool.table
    batches = np.unique(np.minimum(table.batch, pool.max_batch))
    rows: list[tuple[float, ...]] = []
    most = sum(pool.accepted**k for k in range(table.verified))  # tokens that a step gives a request on average
    for batch in batches:
        for prompt in (0.0, *table.prompt):
            if batch * table.verified + prompt > table.replica.chunk or batch + prompt == 0:
                continue
            ends = prompt / usual if prompt > 0 else 0.0
            pieces, late = table.pieces(float(batch), context, float(prompt), reach, ends)
            host = table.host_time(float(batch), float(prompt), ends)
            busy = np.sum([cells[:, BUSY] for cells in late], axis=0)
            moved = np.sum([cells[:, JOULES] for cells in pieces], axis=0)
            for level, (b, joules) in enumerate(zip(busy, moved, strict=True)):
                time = table.overlap(float(b), host)
                if level == 0 or joules / time + table.waiting <= table.limit:
                    rows.append((batch * most, prompt, time, float(joules), table.waiting))
    columns = np.array(rows).T
    return columns[0], columns[1], columns[2], columns[3], columns[4]


def _least(
    tokens: Array, prompts: Array, seconds: Array, joules: Array, decoded: float, read: float, tpot: float
) -> tuple[float, float, float, float]:
    """Return the best bound found and its prices (J per token out, J per prompt token, W)."""
    out = tokens > 0
    only = ~out & (prompts > 0)

    def at(hurry: float) -> tuple[float, float, float]:
        cost = joules + hurry * tokens * seconds

        def value(price: float) -> float:
            return decoded * float(((cost - price * prompts)[out] / tokens[out]).min()) + read * price

        top = float((cost[only] / prompts[only]).min()) if only.any() else float((cost[out] / 1.0).max())
        price = _highest(value, 0.0, top)
        slack = hurry * tpot * decoded if hurry > 0 else 0.0
        return value(price) - slack, float(((cost - price * prompts)[out] / tokens[out]).min()), price

    if not np.isfinite(tpot):
        found = at(0.0)
        return (*found, 0.0)
    most = float((joules[out] / (tokens[out] * seconds[out])).max())
    hurry = _highest(lambda h: at(h)[0], 0.0, most)
    best = max((0.0, hurry), key=lambda h: at(h)[0])
    return (*at(best), best)


def _highest(value: Callable[[float], float], low: float, high: float) -> float:
    """Return where a concave function is highest, by golden sections."""
    a, b = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    left, right = value(a), value(b)
    for _ in range(_ROUNDS):
        if left < right:
            low, a, left = a, b, right
            b = low + _GOLDEN * (high - low)
            right = value(b)
        else:
            high, b, right = b, a, left
            a = high - _GOLDEN * (high - low)
            left = value(a)
    return (low + high) / 2.0
