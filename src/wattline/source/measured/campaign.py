"""What ran in the second before a reading: the reference campaign of matrix products, replayed.

NVIDIA's driver answers with the mean power of the last second (NVML API reference, nvmlDeviceGetPowerUsage:
"averaged over 1 sec interval" from Ampere on). The collector of the reference kernels (collector/ of
ai-dynamo/aiconfigurator) takes such a reading every 100 ms, the first as its loop starts, and small products
run for 10 ms to 200 ms: what it prints is mostly the products before. Their order is known, since the
collector walks a grid of shapes downwards; so are the times between, but for a few constants fitted to the
readings (``[campaign]`` of ``data/calibration.toml``). Where a block-scaled product is met with a tile it has
not had, its kernel is compiled first (`blocks`) and the board idles for a second.

Nothing here enters a plan. Shapes off the grid are left as they are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..base import Array
from ..roofline.blocks import compiled
from ..roofline.silicon import Silicon, calibration

# The collector's grid (cases/base_ops/gemm.yaml): rows of activations, and features in and out.
ROWS: Final = (
    *range(1, 18), 32, 33, 48, 49, 64, 65, 80, 81, 96, 97, 112, 113, 128, 129, 160, 161, 192, 193, 224, 225,
    256, 257, 512, 513, *(m + o for m in range(768, 4353, 256) for o in (0, 1)), 8192, 16384, 32768,
)  # fmt: skip
FEATURES: Final = (
    32, 64, 128, 256, 512, 768, 1024, 1536, 2048, 2560, 3072, 3584, 4096, 5120, 6144, 7168, 8192, 10240, 12288,
    16384, 51200, 65536,
)  # fmt: skip
DTYPES: Final = ("bfloat16", "fp8_block", "nvfp4")
# Six copies of a bf16 layer are run in turn, one of the others; short runs aim at 0.3 s, long ones at 1 s.
_COPIES: Final = (6.0, 1.0, 1.0)
_SHORT, _TARGETS, _MOST_RUNS, _LEAST_RUNS = 1e-4, (0.3, 1.0), 3000, 6
_PERIOD, _WINDOW = 0.1, 1.0
# Cases that fit into a second before a reading, at most.
_BEFORE: Final = 64

_Own = Callable[[Mapping[str, NDArray[Any]]], tuple[Array, Array]]


@dataclass(frozen=True)
class Schedule:
    """The products of a campaign in order: which dtype (index into DTYPES), m, n, k, and whether compiled first."""

    dtype: NDArray[np.int64]
    m: NDArray[np.int64]
    n: NDArray[np.int64]
    k: NDArray[np.int64]
    compiled: NDArray[np.bool_]

    def find(self, dtype: str, m: Array, n: Array, k: Array) -> NDArray[np.int64]:
        """Return where products stand in the campaign, -1 for those not on its grid."""
        if dtype not in DTYPES:
            return np.full(np.shape(m), -1, np.int64)
        mine = _key(self.dtype, self.m, self.n, self.k)
        order = np.argsort(mine)
        asked = _key(DTYPES.index(dtype), *(np.asarray(x).astype(np.int64) for x in (m, n, k)))
        at = order[np.clip(np.searchsorted(mine[order], asked), 0, len(order) - 1)]
        return np.where(mine[at] == asked, at, -1)

    def part(self, pick: NDArray[np.int64]) -> Schedule:
        """Return some of the cases, in the order asked for."""
        return Schedule(self.dtype[pick], self.m[pick], self.n[pick], self.k[pick], self.compiled[pick])

    def table(self, pick: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Return some of the cases as a table of kernels."""
        return {
            "op_name": np.full(pick.size, "gemm"), "gemm_dtype": np.array(DTYPES)[self.dtype[pick]],
            "m": self.m[pick], "n": self.n[pick], "k": self.k[pick],
        }  # fmt: skip


def _key(dtype: Any, m: Any, n: Any, k: Any) -> NDArray[np.int64]:
    return np.asarray(((m * 100_003 + n) * 100_003 + k) * 4 + dtype, dtype=np.int64)


@functools.cache
def schedule(architecture: str) -> Schedule | None:
    """Return the campaign on a chip of `architecture`, None where none is known."""
    if architecture not in ("hopper", "blackwell"):
        return None
    sides = np.array(sorted(FEATURES, reverse=True))
    m, n, k, dtype = (
        x.ravel() for x in np.meshgrid(np.array(sorted(ROWS, reverse=True)), sides, sides, np.arange(3), indexing="ij")
    )
    keep = ~((n == 65536) & (k == 65536))
    keep &= (dtype == 0) | ((n >= 128) & (k >= 128))
    if architecture == "hopper":
        keep &= dtype != 2
    else:
        keep &= (dtype != 1) | (m % 4 == 0)
    m, n, k, dtype = m[keep], n[keep], k[keep], dtype[keep]
    scaled = dtype == 1
    first = np.zeros(m.size, dtype=bool)
    first[scaled] = compiled(architecture, m[scaled], n[scaled], k[scaled])
    return Schedule(dtype, m, n, k, first)


@dataclass(frozen=True)
class Pauses:
    """What lies between two runs: s per weight and W of filling them, s of setting up, s of compiling a kernel.

    `fill`, `setup`: of bf16 products, then of the others.
    """

    fill: tuple[float, float]
    setup: tuple[float, float]
    filling: float
    compiling: float

    @classmethod
    def of(cls, chip: str) -> Pauses | None:
        """Return the fitted pauses of a chip's campaign, None where it has none."""
        known = calibration()["campaign"].get(chip)
        if known is None:
            return None
        fill, setup = known["fill"], known["setup"]
        return cls((fill[0], fill[1]), (setup[0], setup[1]), known["filling"], known["compiling"])


def readings(cases: Schedule, time: Array, power: Array, pauses: Pauses, waiting: float) -> Array:
    """Return the watts printed for each of consecutive cases whose kernels take `time` s at `power` W."""
    plain = cases.dtype == 0
    copies = np.array(_COPIES)[cases.dtype]
    once = copies * time
    target = np.where(once < _SHORT, *_TARGETS)
    runs = np.clip((target / once).astype(np.int64) + 1, _LEAST_RUNS, _MOST_RUNS)
    lasts = runs * once
    fill = copies * cases.n * cases.k * np.where(plain, *pauses.fill)
    idle = np.where(plain, *pauses.setup) + cases.compiled * pauses.compiling
    spans = np.stack([fill, idle, lasts], axis=1)
    watts = np.stack([np.full(time.size, pauses.filling), np.full(time.size, waiting), power], axis=1)
    edge = np.concatenate([[0.0], np.cumsum(spans.ravel())])
    joules = np.concatenate([[0.0], np.cumsum((spans * watts).ravel())])
    begin = edge[2::3]
    count = np.ceil(lasts / _PERIOD).astype(np.int64).clip(1)
    # A reading holds what came before the first case too: taken as the board waiting.
    edge, joules = np.concatenate([[-_WINDOW], edge]), np.concatenate([[-_WINDOW * waiting], joules])
    total = np.zeros(time.size)
    for i in range(int(count.max(initial=0))):
        on = count > i
        at = begin[on] + i * _PERIOD
        total[on] += (np.interp(at, edge, joules) - np.interp(at - _WINDOW, edge, joules)) / _WINDOW
    return np.asarray(total / count)


def read(columns: Mapping[str, NDArray[Any]], dtype: str, chip: Silicon, power: Array, own: _Own) -> Array:
    """Return the watts the campaign printed for products; `power` where it is not known.

    `own` : table of kernels -> their seconds and watts, as the benchmark's loop runs them.
    """
    pauses, cases = Pauses.of(chip.name), schedule(chip.architecture)
    if pauses is None or cases is None:
        return power
    at = cases.find(dtype, columns["m"], columns["n"], columns["k"])
    found = at >= 0
    if not found.any():
        return power
    near = np.zeros(cases.m.size + _BEFORE, dtype=bool)
    for back in range(_BEFORE):
        near[at[found] + _BEFORE - back] = True
    pick = np.flatnonzero(near[_BEFORE:])
    shown = readings(cases.part(pick), *own(cases.table(pick)), pauses, chip.waiting)
    out = np.array(power)
    out[found] = shown[np.searchsorted(pick, at[found])]
    return out
