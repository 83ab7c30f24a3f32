"""Which block-scaled products need a kernel of their own: the tile rules of DeepGEMM, met in the order of a campaign.

DeepGEMM (deepseek-ai/DeepGEMM, MIT; csrc/jit_kernels/heuristics/sm90.hpp and sm100.hpp) compiles a kernel per
(n, k), tile and cluster when it first meets them, which takes a second or more. The rules below are those by
which it ranks tiles, written anew for arrays; on Hopper products of fewer than 32 rows go to another library
(FlashInfer), which compiles once per (n, k).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_Ints = NDArray[np.int64]

_SHARED_MEMORY: Final = 232448  # B per unit that a kernel may use, Hopper and Blackwell
_HOPPER_UNITS, _BLACKWELL_UNITS = 132, 148
_CLUSTERS: Final = ((1, 1), (1, 2), (2, 1))


def compiled(architecture: str, m: _Ints, n: _Ints, k: _Ints) -> NDArray[np.bool_]:
    """Return which products, in the order met, have a kernel compiled first."""
    tile = _hopper(m, n, k) if architecture == "hopper" else _blackwell(m, n, k)
    key = np.stack([n, k, tile], axis=1)
    out = np.zeros(m.size, dtype=bool)
    out[np.unique(key, axis=0, return_index=True)[1]] = True
    return out


def _up(a: _Ints, b: int) -> _Ints:
    return -(-a // b)


def _hopper(m: _Ints, n: _Ints, k: _Ints) -> _Ints:
    """Return a number that names the tile and cluster of each product on Hopper."""
    best, tile = np.full(m.size, np.inf), np.full(m.size, -1, np.int64)
    for cluster, (down, across) in enumerate(_CLUSTERS):
        for high in (64, 128, 32, 256):
            for wide in (*range(16, 129, 16), 144, 160, 192):
                if high > 128 and wide > 128:
                    continue
                cycles = _hopper_cycles(m, n, k, (high, wide), (down, across))
                cycles = np.where((high == 32) & (m > 32), np.inf, cycles)
                cycles = np.where(_stages(k, high, wide) < (3 if high * wide >= 128 * 192 else 4), np.inf, cycles)
                better = cycles < best
                best, tile = (
                    np.where(better, cycles, best),
                    np.where(better, cluster * 10**6 + high * 1000 + wide, tile),
                )
    return np.where(m < 32, -2, tile)


def _stages(k: _Ints, high: int, wide: int) -> _Ints:
    """Return how many steps of K a tile can hold in shared memory."""
    scales = _up(_up(k, 128) * 4 * (1 if 128 % wide == 0 else 2), 8) * 8
    output = -(-high * wide * 2 // 1024) * 1024
    return (_SHARED_MEMORY - output - 256 - scales) // (high * 128 + wide * 128 + -(-high * 4 // 128) * 128)


def _hopper_cycles(
    m: _Ints, n: _Ints, k: _Ints, tile: tuple[int, int], cluster: tuple[int, int]
) -> NDArray[np.float64]:
    """Return DeepGEMM's estimate of cycles: traffic of both cache levels over how full the waves are."""
    (high, wide), (down, across) = tile, cluster
    blocks = _up(m, high) * _up(n, wide)
    waves = _up(blocks, _HOPPER_UNITS)
    output = high * wide * 2
    far = (k * (high // across + wide // down) + output) * blocks // 6153
    near = (k * (high + wide) + k * (max(64, high) + wide) + 2 * output) * blocks // (128 * _HOPPER_UNITS)
    cycles = np.floor(np.maximum(far, near) / (blocks / (waves * _HOPPER_UNITS)))
    return np.where((waves <= 1) & (down * across > 1), np.inf, cycles)


def _blackwell(m: _Ints, n: _Ints, k: _Ints) -> _Ints:
    """Return a number that names the tile and cluster of each product on Blackwell.

    Ranked by: a single wave, a cluster of two, fewer waves, a fuller last wave, the smaller tile.
    """
    best, tile = np.full(m.size, np.iinfo(np.int64).max), np.full(m.size, -1, np.int64)
    swapped = [(True, high, 128, c) for c in _CLUSTERS[:2] for high in range(16, 257, 16) if high // c[1] % 8 == 0]
    straight = [
        (False, high, wide, c) for c in _CLUSTERS[::2] for high in (32, 64, 128) for wide in (16, *range(32, 257, 32))
        if wide // c[0] % 8 == 0
    ]  # fmt: skip
    for number, (swap, high, wide, (down, across)) in enumerate(straight + swapped):
        blocks = _up(m, high) * _up(n, wide)
        waves = _up(blocks, _BLACKWELL_UNITS)
        last = np.where(blocks % _BLACKWELL_UNITS == 0, _BLACKWELL_UNITS, blocks % _BLACKWELL_UNITS)
        rank = np.where(waves == 1, 0, 1) * 2 + (1 if down * across == 1 else 0)
        rank = (rank * 10**6 + waves) * 1000 + _BLACKWELL_UNITS - last
        rank = (rank * 1000 + high + wide) * 10**5 + high * wide
        fits = (_up(m, high) % down == 0) & (_up(n, wide) % across == 0)
        if not swap:
            fits &= high == np.where(m <= 32, 32, np.where(m <= 64, 64, 128))
            fits &= (wide <= 128) | (k > 256)
        rank = np.where(fits, rank, np.iinfo(np.int64).max)
        better = rank < best
        best, tile = np.where(better, rank, best), np.where(better, number, tile)
    return tile
