"""Work as the search sees it: c[m, n] += a[m, k] * b[k, n], `batch` times over, with the width of every word.

Each operand is touched by two of the three loops and reused over the third. Convolutions, grouped products
and the two products of attention come here as products too (`operators`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ...core.errors import InputError
from ...hardware.architecture import OPERANDS

DIMS: Final = ("m", "n", "k")
# Which of m, n, k index each operand, and the one left over, across which it can be reused.
RELEVANT: Final = {"a": (0, 2), "b": (1, 2), "c": (0, 1)}
REUSED: Final = {"a": 1, "b": 0, "c": 2}


@dataclass(frozen=True)
class Einsum:
    """One product.

    Attributes
    ----------
    m, n, k, batch : loop bounds.
    widths : bytes of a stored word of a, b and of the finished c.
    partial : bytes of a partial sum of c.
    precision : of the arithmetic.
    overlap : times that a word of a appears in it (windows of a convolution); levels outside the array keep it once.
    resident : operands that never see main memory: what one product of a fused pair hands to the next.
    """

    m: int
    n: int
    k: int
    batch: int = 1
    widths: tuple[float, float, float] = (1.0, 1.0, 1.0)
    partial: float = 4.0
    precision: str = "int8"
    resident: tuple[str, ...] = ()
    overlap: float = 1.0

    def __post_init__(self) -> None:
        if min(self.m, self.n, self.k, self.batch) < 1:
            raise InputError(
                f"a product needs m, n, k and batch of 1 or more, got {self.m}, {self.n}, {self.k}, {self.batch}"
            )

    @property
    def size(self) -> tuple[int, int, int]:
        """(m, n, k)."""
        return (self.m, self.n, self.k)

    @property
    def macs(self) -> float:
        """Multiply-accumulates over the whole batch."""
        return float(self.m) * self.n * self.k * self.batch

    def words(self, operand: str) -> float:
        """Return the distinct words of an operand over the whole batch."""
        one, two = RELEVANT[operand]
        return float(self.size[one]) * self.size[two] * self.batch

    def width(self, operand: str, outside: bool = False) -> float:
        """Return the bytes of a stored word of `operand`; `outside` the array a word in several windows counts once."""
        return self.widths[OPERANDS.index(operand)] / (self.overlap if outside and operand == "a" else 1.0)

    @property
    def compulsory(self) -> float:
        """Bytes that main memory must give and take: each input once, the result once."""
        return sum(self.words(x) * self.width(x, outside=True) for x in OPERANDS if x not in self.resident)
