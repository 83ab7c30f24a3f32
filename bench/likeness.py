"""Large products on the GPU-like descriptions: the mapping search beside the calibrated roofline.

    python bench/likeness.py

Time and energy of bf16 products at the sheet's reference clock and at three quarters of it; relative differences of
the search (`wattline.source.dataflow` on a100-like and h100-like) from the roofline on the chips' own sheets.
"""

from __future__ import annotations

import numpy as np

from wattline.hardware import catalog
from wattline.source.base import Device
from wattline.source.dataflow import Dataflow
from wattline.source.roofline.source import Roofline
from wattline.workload.operator import Gemm

CHIPS = (("a100-like", "a100-sxm-80gb"), ("h100-like", "h100-sxm"))
SHAPES = (
    (4096, 4096, 4096),
    (8192, 8192, 8192),
    (4096, 11008, 4096),
    (8192, 28672, 8192),
    (16384, 4096, 14336),
)


def device(name: str) -> Device:
    """Return a chip in its usual node."""
    chip = catalog.chip(name)
    return Device(chip, catalog.default_node(chip))


def differences(like: str, sheet: str, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return relative differences of time and of energy at the two clocks."""
    m, n, k = shape
    product = [Gemm(name="product", m=m, n=n, k=k)]
    clocks = np.array([1.0, 0.75]) * catalog.chip(sheet)["clock.reference"]
    ours = Dataflow(like).points(product, device(like), clocks)
    theirs = Roofline().points(product, device(sheet), clocks)
    return ours.time / theirs.time - 1, ours.energy / theirs.energy - 1


def main() -> None:
    print("| chip | m, n, k | time | time at 3/4 clock | energy | energy at 3/4 clock |")
    print("| --- " * 6 + "|")
    for like, sheet in CHIPS:
        for shape in SHAPES:
            time, energy = differences(like, sheet, shape)
            cells = " | ".join(f"{100 * v:+.1f} %" for v in (*time, *energy))
            print(f"| {like} | {', '.join(map(str, shape))} | {cells} |")


if __name__ == "__main__":
    main()
