"""From chip joules to facility joules: hosts, network, fans and cooling around the chips.

A cluster's facility power is affine in the power of its chips, so facility energy is
``factor * chip energy + standing * factor * time``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from ..frontier.answer import Array
from ..hardware.cluster import Cluster

Quantity = TypeVar("Quantity", float, Array)


@dataclass(frozen=True)
class Overhead:
    """`factor`: facility joules per chip joule. `standing`: watts that a second costs besides, before `factor`."""

    cluster: Cluster
    factor: float
    standing: float

    @staticmethod
    def of(cluster: Cluster) -> Overhead:
        alone = cluster.facility_power(0.0)
        factor = (cluster.facility_power(1.0) - alone) / cluster.devices
        return Overhead(cluster, factor, alone / factor)

    def total(self, chip_energy: Quantity, time: Quantity) -> Quantity:
        """Return facility joules of `chip_energy` joules of all chips over `time` seconds (arrays too)."""
        return self.factor * (chip_energy + self.standing * time)

    def breakdown(self, chip_parts: Mapping[str, float], time: float) -> dict[str, float]:
        """Return facility joules by component: the chips' own parts, then host, network, fan, cooling."""
        chip_energy = math.fsum(chip_parts.values())
        watts = self.cluster.parts(chip_energy / time / self.cluster.devices)
        out = {f"chip.{name}": joules for name, joules in chip_parts.items() if joules}
        return out | {name: power * time for name, power in watts.items() if name != "chip"}

    def uncertainty(self, chips: float, chip_energy: float, time: float) -> float:
        """Return the relative uncertainty of facility energy from that of the chips and of the node's facts."""
        parts = self.cluster.parts(chip_energy / time / self.cluster.devices)
        facts = self.cluster.node.facts
        relative = {
            "chip": chips,
            "host": facts["host.power"].uncertainty,
            "network": facts["nic.power"].uncertainty,
            "fan": facts["fan.fraction"].uncertainty,
        }
        whole = math.fsum(parts.values())
        return math.sqrt(sum((relative.get(name, 0.0) * watts / whole) ** 2 for name, watts in parts.items()))
