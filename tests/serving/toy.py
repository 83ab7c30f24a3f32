"""A source whose physics fits on a page, so that plans can be checked by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wattline.hardware.chip import clocks as lockable
from wattline.source.base import Array, Device, Points
from wattline.workload.operator import Operator


@dataclass(frozen=True)
class Toy:
    """Time is FLOPs over a rate that follows the clock; power is waiting + a f^3 + b, the cube law."""

    points_made: list[int] | None = None

    def points(self, operators: Sequence[Operator], device: Device, clocks: Array | None = None) -> Points:
        chip = device.chip
        f = lockable(chip) if clocks is None else clocks
        rate = chip["compute.rate.bf16"] * f / chip["clock.reference"]
        work = sum(o.repeat * (o.flops + 10.0 * o.bytes) for o in operators) + 1e9
        time = work / rate
        x = f / chip["clock.max"]
        parts = {
            "compute.bf16": 0.6 * chip["power.limit"] * x**3 * time,
            "leakage": 0.1 * chip["power.limit"] * time,
            "waiting": chip["power.waiting"] * time,
        }
        return Points(np.asarray(f), time, parts, chip["power.waiting"], "modelled", "toy", 0.05, 0.02)
