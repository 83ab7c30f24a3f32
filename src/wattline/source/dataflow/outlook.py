"""What is certain about the rest of a mapping: the least that parts further out will add to it.

Every mandatory level further out passes each word of its operands at least once, and the words a tile asks for are
asked for again by every tile like it, shared at most by all copies of the fan-outs in between. A way whose costs plus
this least are already worse than a complete mapping in every column that decides can be dropped at once: nothing
is lost, since costs only add.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ...hardware.architecture import OPERANDS, Fanout, Level
from .columns import Columns
from .einsum import RELEVANT
from .plan import Bools, Floats, Ints


@dataclass(frozen=True)
class Ahead:
    """What lies outside a part, for each operand: the next level that must take it, and what the others cost at least.

    Attributes
    ----------
    copies : the most copies outside. sender : (3,) price of a word at the next mandatory level, reads and writes.
    nearer : (3,) the least price of a word at that level, or at any before it that may keep the operand.
    share : (3,) most copies one word may serve on the way. rest : the least of the levels beyond.
    finish : what the results save against moving as partial sums that are read back each time.
    """

    copies: int
    sender: tuple[Floats, Floats, Floats]
    nearer: tuple[Floats, Floats, Floats]
    share: tuple[float, float, float]
    rest: Floats
    finish: Floats


class Outlook:
    """Least costs of what is left to do, at every place of the path."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self.einsum, self.path = columns.einsum, columns.architecture.path
        self.full = np.array(self.einsum.size, dtype=np.int64)
        self._ahead = [self._look(p) for p in range(len(self.path) + 1)]

    def _must(self, p: int, operand: str) -> bool:
        part = self.path[p]
        return isinstance(part, Level) and operand in part.holds and operand not in part.optional

    def _look(self, p: int) -> Ahead:
        """Return what lies in parts before `p`."""
        columns, einsum = self.columns, self.einsum
        copies = math.prod(part.size for part in self.path[:p] if isinstance(part, Fanout))
        senders, nearers, shares = [], [], []
        rest, finish = columns.vector(), columns.vector()
        for x, operand in enumerate(OPERANDS):
            levels = [q for q in range(p) if self._must(q, operand)]
            if not levels:
                senders.append(columns.vector())
                nearers.append(columns.vector())
                shares.append(1.0)
                continue
            q = levels[-1]
            size = columns.width(x, q, sends=True)
            level = self.path[q]
            assert isinstance(level, Level)
            away = q == 0 and operand in einsum.resident
            price = columns.vector() if away else columns.access(level, size, size if operand == "c" else 0.0)
            senders.append(self._spread(price, q))
            nearer = senders[-1]
            for o in range(q + 1, p):
                other = self.path[o]
                if isinstance(other, Level) and operand in other.optional:
                    kept = columns.access(other, columns.width(x, o, sends=True), size if operand == "c" else 0.0)
                    nearer = np.minimum(nearer, self._spread(kept, o))
            nearers.append(nearer)
            between = [part for part in self.path[q + 1 : p] if isinstance(part, Fanout)]
            shared = [f.size for f in between if (f.reduce if operand == "c" else operand in f.multicast)]
            shares.append(float(math.prod(shared)))
            words, final = einsum.words(operand), einsum.width(operand, outside=True)
            if operand == "c" and not away:
                finish += words * columns.access(level, size, max(0.0, size - final))
            for q in levels[:-1]:
                level = self.path[q]
                assert isinstance(level, Level)
                if not (q == 0 and operand in einsum.resident):
                    read, write = (0.0, final) if operand == "c" else (final, 0.0)
                    rest += words * self._spread(columns.access(level, read, write), q)
            for q in levels[1:]:
                level = self.path[q]
                assert isinstance(level, Level)
                if operand != "c":
                    rest += words * self._spread(columns.access(level, 0.0, final), q)
        return Ahead(
            copies,
            (senders[0], senders[1], senders[2]),
            (nearers[0], nearers[1], nearers[2]),
            (shares[0], shares[1], shares[2]),
            rest,
            finish,
        )

    def _spread(self, price: Floats, q: int) -> Floats:
        """Return a price with its busy time shared by all instances of part `q`."""
        out = price.copy()
        out[self.columns.energy :] /= math.prod(part.size for part in self.path[:q] if isinstance(part, Fanout))
        return out

    def floor(
        self, p: int, tile: Ints, cost: Floats, words: Floats, still: Bools, price: Floats, late: Floats,
        credit: Floats, batch: int,
    ) -> Floats:  # fmt: skip
        """(n, columns) least cost of the whole work for ways that parts `p` and inwards are settled for."""
        ahead, energy = self._ahead[p], self.columns.energy
        again = self.full / tile
        rounds = self.einsum.batch / batch
        scale = again[:, 0] * again[:, 1] * again[:, 2] * rounds
        moved = np.empty((len(tile), 6))
        prices = np.empty((6, cost.shape[1]))
        fixed = ahead.rest - ahead.finish - credit
        for x, operand in enumerate(OPERANDS):
            one, two = RELEVANT[operand]
            once = self.einsum.words(operand)
            arrive = words[:, x] * np.where(still[:, x], again[:, one] * again[:, two] * rounds, scale)
            moved[:, x] = arrive
            moved[:, 3 + x] = np.maximum(arrive / ahead.share[x] - once, 0.0)
            prices[x] = price[x]
            prices[x, energy:] /= ahead.copies
            prices[3 + x] = ahead.nearer[x]
            if operand == "c":
                prices[3 + x, :energy] += late[:energy]
            fixed = fixed + once * ahead.sender[x]
        out = moved @ prices
        out[:, :energy] += cost[:, :energy] * scale[:, None]
        out[:, energy:] += cost[:, energy:] * (scale / ahead.copies)[:, None]
        return np.asarray(out + fixed)
