"""A set of mappings as arrays: how each part of the path cuts the loops, and in which order they run.

Each part of the architecture's path, outermost first, cuts its tile into smaller ones: a level in time, one
after another, in the order of `order`; a fan-out in space, one per copy. `inner[i, p]` is the (m, n, k) of the
pieces that part p of mapping i hands inwards; what a level holds is what the part outside it hands in. The
last level hands single issues (the granule) to the arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...hardware.architecture import Architecture, Fanout, Level
from .einsum import DIMS, Einsum

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

# Loop orders, outermost first; the number of one is its place here.
ORDERS: Final = ((1, 2, 0), (0, 2, 1), (0, 1, 2), (2, 1, 0), (2, 0, 1), (1, 0, 2))


@dataclass(frozen=True)
class Mappings:
    """n mappings of one product on one architecture.

    Attributes
    ----------
    inner : (n, parts, 3) sizes handed inwards by each part of the path.
    order : (n, parts) index into `ORDERS` of each level's loops; unused for fan-outs.
    keep : (n, parts, 3) whether a level keeps a, b, c; False for fan-outs.
    batch : (n, parts) products side by side across a fan-out's copies; 1 elsewhere.
    """

    einsum: Einsum
    architecture: Architecture
    inner: Ints
    order: Ints
    keep: Bools
    batch: Ints

    def __len__(self) -> int:
        return len(self.inner)

    def take(self, pick: NDArray[np.intp] | Bools) -> Mappings:
        """Return the mappings chosen by `pick`, an index or a mask."""
        return Mappings(
            self.einsum, self.architecture, self.inner[pick], self.order[pick], self.keep[pick], self.batch[pick]
        )

    def outer(self, part: int) -> Ints:
        """(n, 3) sizes that part `part` is handed: what a level holds."""
        if part == 0:
            return np.broadcast_to(np.array(self.einsum.size, dtype=np.int64), (len(self), 3))
        return np.asarray(self.inner[:, part - 1])

    def copies(self) -> Ints:
        """(n, parts, 3) copies of each fan-out along each loop; 0 for levels."""
        out = np.zeros_like(self.inner)
        for p, part in enumerate(self.architecture.path):
            if isinstance(part, Fanout):
                out[:, p] = -(-self.outer(p) // self.inner[:, p])
        return out

    def units(self) -> Ints:
        """(n, parts, 3) what the fan-outs inside each part and the granule take at once."""
        out = np.ones_like(self.inner)
        unit = np.minimum(np.array(self.architecture.compute.granule), np.array(self.einsum.size))
        running = np.broadcast_to(unit, (len(self), 3)).astype(np.int64)
        copies = self.copies()
        for p in reversed(range(self.inner.shape[1])):
            out[:, p] = running
            running = running * np.maximum(copies[:, p], 1)
        return out

    def describe(self, i: int) -> dict[str, object]:
        """Return mapping `i` in words: part -> loops or copies, and what is kept."""
        out: dict[str, object] = {}
        for p, part in enumerate(self.architecture.path):
            outer, inner = self.outer(p)[i], self.inner[i, p]
            trips = [-(-int(o) // int(s)) for o, s in zip(outer, inner, strict=True)]
            loops = {DIMS[d]: trips[d] for d in ORDERS[self.order[i, p]] if trips[d] > 1}
            if isinstance(part, Fanout):
                if self.batch[i, p] > 1:
                    loops["batch"] = int(self.batch[i, p])
                out[part.name] = {"across": loops}
            else:
                kept = "".join(x for x, k in zip("abc", self.keep[i, p], strict=True) if k)
                out[part.name] = {"keeps": kept, "tile": [int(o) for o in outer], "loops": loops}
        return out


def array_of(path: tuple[Level | Fanout, ...]) -> int:
    """Return the part outside the innermost run of fan-outs: what lies further in is the array."""
    fans = [p for p, part in enumerate(path) if isinstance(part, Fanout)]
    if not fans:
        return 0
    p = fans[-1]
    while p > 0 and isinstance(path[p - 1], Fanout):
        p -= 1
    return max(0, p - 1)


def joined(parts: list[Mappings]) -> Mappings:
    """Return several sets of mappings of one product on one architecture as one."""
    first = parts[0]
    arrays = [np.concatenate([getattr(p, n) for p in parts]) for n in ("inner", "order", "keep", "batch")]
    return Mappings(first.einsum, first.architecture, *arrays)
