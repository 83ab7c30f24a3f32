"""Where work runs: the chips it holds and what stands around them, from the host to the cooling.

Chip energy comes from frontiers; everything else here is standing power for as long as the work
runs, and fractions on top: fans and conversion inside the node, cooling and delivery in the site.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..source.base import Device


@dataclass(frozen=True)
class Place:
    """`nodes` nodes with `chips_per_node` chips used in each, in a site with power usage effectiveness `pue`.

    Where fewer chips are used than the node has, the work is charged its share of the host.
    """

    device: Device
    nodes: int
    chips_per_node: int
    pue: float = 1.0

    @property
    def devices(self) -> int:
        """Chips in all."""
        return self.nodes * self.chips_per_node

    @property
    def _share(self) -> float:
        return self.chips_per_node / self.device.node["chips"]

    @property
    def host_power(self) -> float:
        """Watts of the hosts (processors, memory, boards, disks) while the work runs."""
        return self.nodes * self._share * self.device.node["host.power"]

    @property
    def network_power(self) -> float:
        """Watts of the scale-out adapters and optics."""
        node = self.device.node
        return self.nodes * self._share * node["nic.count"] * node["nic.power"]

    @property
    def standing_power(self) -> float:
        """Watts of hosts and network together, before fans and cooling."""
        return self.host_power + self.network_power

    @property
    def overhead(self) -> float:
        """Facility joules per joule of chips, hosts and network."""
        return self.pue * (1.0 + self.device.node["fan.fraction"])

    def facility(self, chip_energy: float, time: float) -> float:
        """Return facility joules of `chip_energy` joules of all chips over `time` seconds."""
        return self.overhead * (chip_energy + self.standing_power * time)

    def breakdown(self, chip_parts: Mapping[str, float], time: float) -> dict[str, float]:
        """Return joules by component, facility scope: the chips' parts, host, network, fans, cooling."""
        out = {f"chip.{name}": joules for name, joules in chip_parts.items()}
        out["host"] = self.host_power * time
        out["network"] = self.network_power * time
        inside = sum(out.values())
        out["fans"] = self.device.node["fan.fraction"] * inside
        out["cooling"] = (self.pue - 1.0) * (inside + out["fans"])
        return out
