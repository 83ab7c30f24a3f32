"""Chips in nodes, nodes in racks, racks in a site: what surrounds the chips, and what that draws.

    facility = pue * it        it = nodes * (node + its switches) + racks * overhead
                               node = (chips + host + adapters) * (1 + fans and conversion)

Each watt belongs to one of five parts, so a plan can say where its joules go: "chip", "host",
"network", "fan" (in the node) and "cooling" (all the site adds beyond the equipment).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ..core.errors import CapacityError, InputError
from ..core.units import show
from .facts import Sheet


@dataclass(frozen=True)
class Cluster:
    """`nodes` equal nodes of one chip, in racks and on a site where those are stated.

    Attributes
    ----------
    chip, node : sheets.
    nodes : how many nodes, at least 1.
    used : chips used in each node, all of them (node["chips"]) where None. A node used in part is charged
        its share of the host, adapters and switches: the other chips are somebody else's.
    rack : None leaves rack overhead and rack limits out.
    site : None means equipment alone: nothing for cooling and power distribution.
    """

    chip: Sheet
    node: Sheet
    nodes: int = 1
    rack: Sheet | None = None
    site: Sheet | None = None
    used: int | None = None

    def __post_init__(self) -> None:
        wanted = (("chip", self.chip), ("node", self.node), ("rack", self.rack), ("site", self.site))
        for kind, sheet in wanted:
            if sheet is not None and sheet.kind != kind:
                raise InputError(f"a {kind} sheet is due, got the {sheet.kind} {sheet.name}")
        if self.nodes < 1 or self.nodes != int(self.nodes):
            raise InputError(f"nodes must be a whole number of 1 or more, got {self.nodes!r}")
        if self.used is not None and not 1 <= self.used <= self.node["chips"]:
            raise InputError(
                f"chips used in a node must be 1 to {self.node['chips']:.0f} in {self.node.name}, got {self.used}"
            )

    @property
    def devices(self) -> int:
        """Chips in all nodes."""
        return self.nodes * self.chips_per_node

    @property
    def chips_per_node(self) -> int:
        """Chips used in one node."""
        return int(self.node["chips"]) if self.used is None else self.used

    @property
    def _share(self) -> float:
        """Share of each node that is used."""
        return self.chips_per_node / self.node["chips"]

    @property
    def racks(self) -> int:
        """Racks the nodes fill, the last perhaps in part; 0 where no rack is stated."""
        return math.ceil(self.nodes / int(self.rack["nodes"])) if self.rack else 0

    @property
    def pue(self) -> float:
        """Facility power over IT power; 1 where no site is stated."""
        return self.site["pue"] if self.site else 1.0

    @property
    def domain(self) -> int:
        """Chips that share one scale-up link domain, as numbered: not more than there are."""
        return min(int(self.node["nvlink.domain"]), self.devices)

    @property
    def host_power(self) -> float:
        """Host power of all nodes under a job, W: processors, boards, memory, disks."""
        return self.nodes * self._share * self.node["host.power"]

    @property
    def network_power(self) -> float:
        """Standing power of all adapters, switches and rack equipment, W."""
        switch = self._share * self.node["nic.count"] * self.node.get("nic.switch", 0.0)
        switch += self.site.get("switch.power", 0.0) if self.site else 0.0
        overhead = self.rack.get("overhead.power", 0.0) if self.rack else 0.0
        return self.nodes * (self._nics + switch) + self.racks * overhead

    @property
    def _nics(self) -> float:
        """Adapters of one node, W."""
        return self._share * self.node["nic.count"] * self.node["nic.power"]

    def node_power(self, chip_power: float) -> float:
        """Return what one node draws, W, with each of its chips at `chip_power` W on average."""
        load = self.chips_per_node * chip_power + self._share * self.node["host.power"] + self._nics
        return load * (1.0 + self.node["fan.fraction"])

    def parts(self, chip_power: float) -> dict[str, float]:
        """Return facility power by part, W, with each chip at `chip_power` W on average."""
        chips, fan = self.devices * chip_power, self.node["fan.fraction"]
        parts = {
            "chip": chips,
            "host": self.host_power,
            "network": self.network_power,
            "fan": fan * (chips + self.host_power + self.nodes * self._nics),
        }
        return parts | {"cooling": (self.pue - 1.0) * math.fsum(parts.values())}

    def it_power(self, chip_power: float) -> float:
        """Return what all equipment draws, W, with each chip at `chip_power` W on average."""
        return self.facility_power(chip_power) / self.pue

    def facility_power(self, chip_power: float) -> float:
        """Return what the site draws for this cluster, W, cooling and distribution included."""
        return math.fsum(self.parts(chip_power).values())

    def span(self, ranks: Iterable[int]) -> str:
        """Return what joins a group of ranks: "node" (one scale-up domain) or "fabric".

        Ranks are numbered along the nodes: rank r sits on node r // chips_per_node. Boards without
        a scale-up link still share their host's PCIe, so a node is never less than a domain.
        """
        group = sorted(set(ranks))
        if not group:
            raise InputError("a group of ranks must hold at least one, got none")
        if group[0] < 0 or group[-1] >= self.devices:
            raise InputError(f"ranks must lie in 0..{self.devices - 1}, got {group[0]}..{group[-1]}")
        size = max(self.domain, min(self.chips_per_node, self.devices))
        return "node" if group[0] // size == group[-1] // size else "fabric"

    def check(self, chip_power: float | None = None) -> None:
        """Refuse a cluster that its racks or site cannot feed at `chip_power` W a chip.

        Without `chip_power`, the chips' power limit is taken: what the feed must be ready for.
        """
        power = self.chip["power.limit"] if chip_power is None else chip_power
        if self.rack:
            self._check_rack(self.rack, power)
        if self.site and "power.limit" in self.site:
            need, limit = self.facility_power(power), self.site["power.limit"]
            if need > limit:
                raise CapacityError(
                    f"site {self.site.name} power.limit is {show(limit, 'W')}, and {self.nodes} "
                    f"nodes at {show(power, 'W')} a chip need {show(need, 'W')}; use at most "
                    f"{int(self.nodes * limit / need)} nodes or lower the chips' power limit"
                )

    def _check_rack(self, rack: Sheet, power: float) -> None:
        count = min(int(rack["nodes"]), self.nodes)
        overhead, limit = rack.get("overhead.power", 0.0), rack["power.limit"]
        need = count * self.node_power(power) + overhead
        if need > limit:
            fit = int((limit - overhead) / self.node_power(power))
            raise CapacityError(
                f"rack {rack.name} power.limit is {show(limit, 'W')}, and {count} nodes at "
                f"{show(power, 'W')} a chip need {show(need, 'W')}; put at most {fit} in a rack"
            )
