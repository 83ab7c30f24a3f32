"""A supercomputer's power as RAPS has it: what a node draws at its load, what rectifiers, switches and pumps add.

    node    cpus and gpus between idle and most by their use, with memory, network and disk, in W
    in      (node + c) / e at its converter, (nodes and their share of the switches + c) / e at the rectifier

After ExaDigiT/RAPS (Brewer et al., SC24, arXiv 2410.05133; MIT or Apache-2.0), whose configuration files are read as
they are: a loss of ``(p + c) / e`` is a part of the power tree with ``c`` W of its own and a loss of ``1 / e - 1``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from ..core.errors import InputError, nearest
from ..hardware.power_tree import PowerTree
from .replay import Table

# config/frontier.yaml and config/marconi100.yaml of ExaDigiT/RAPS, commit 6490d3a.
KNOWN: Final[Mapping[str, Mapping[str, float]]] = MappingProxyType(
    {
        "frontier": {
            "racks": 74, "chassis_per_rack": 8, "rectifiers_per_chassis": 4, "nodes_per_rectifier": 4,
            "switches_per_chassis": 4, "nics_per_node": 4, "cpus_per_node": 1, "gpus_per_node": 4,
            "power_gpu_idle": 88, "power_gpu_max": 560, "power_cpu_idle": 90, "power_cpu_max": 280,
            "power_mem": 74.26, "power_nic": 20, "power_nvme": 30, "power_switch": 250, "power_cdu": 8473.47,
            "num_cdus": 25, "sivoc_loss_constant": 13, "sivoc_efficiency": 0.98, "rectifier_loss_constant": 17,
            "rectifier_efficiency": 0.96,
        },
        "marconi100": {
            "racks": 49, "chassis_per_rack": 1, "rectifiers_per_chassis": 5, "nodes_per_rectifier": 4,
            "switches_per_chassis": 5, "nics_per_node": 2, "cpus_per_node": 2, "gpus_per_node": 4,
            "power_gpu_idle": 75, "power_gpu_max": 300, "power_cpu_idle": 47.25, "power_cpu_max": 252,
            "power_mem": 74.26, "power_nic": 21, "power_nvme": 45, "power_switch": 250, "power_cdu": 0,
            "num_cdus": 49, "sivoc_loss_constant": 0, "sivoc_efficiency": 1, "rectifier_loss_constant": 0,
            "rectifier_efficiency": 1,
        },
    }
)  # fmt: skip
_NEEDED: Final = frozenset(KNOWN["frontier"])


@dataclass(frozen=True)
class Machine:
    """One machine: watts of its parts, how many of each, and the losses on the way in.

    >>> round(machine("frontier").power(0.0, 0.0) / 1e6, 2), round(machine("frontier").power(1.0, 1.0) / 1e6, 2)
    (7.31, 28.23)
    """

    name: str
    facts: Mapping[str, float]

    @property
    def nodes(self) -> int:
        """Nodes in all."""
        f = self.facts
        return int(f["racks"] * f["chassis_per_rack"] * f["rectifiers_per_chassis"] * f["nodes_per_rectifier"])

    def node(self, cpu: float, gpu: float) -> float:
        """Return the W of one node before its converter, at shares of its processors' and accelerators' range."""
        f = self.facts
        cpus = f["power_cpu_idle"] + cpu * (f["power_cpu_max"] - f["power_cpu_idle"])
        gpus = f["power_gpu_idle"] + gpu * (f["power_gpu_max"] - f["power_gpu_idle"])
        rest = f["power_mem"] + f["nics_per_node"] * f["power_nic"] + f["power_nvme"]
        return f["cpus_per_node"] * cpus + f["gpus_per_node"] * gpus + rest

    def tree(self) -> PowerTree:
        """Return the machine as a power tree: one rectifier stands for all; loads are W of nodes."""
        f = self.facts
        rectifiers = self.nodes / f["nodes_per_rectifier"]
        switches = self.nodes / f["nodes_per_rectifier"] / f["rectifiers_per_chassis"] * f["switches_per_chassis"]
        return PowerTree.read([
            {"name": self.name, "standing": f["num_cdus"] * f["power_cdu"]},
            {
                "name": "rectifiers", "on": self.name, "loss": 1 / f["rectifier_efficiency"] - 1,
                "standing": rectifiers * f["rectifier_loss_constant"] + switches * f["power_switch"],
            },
            {
                "name": "nodes", "on": "rectifiers", "loss": 1 / f["sivoc_efficiency"] - 1,
                "standing": self.nodes * f["sivoc_loss_constant"],
            },
        ])  # fmt: skip

    def power(self, cpu: float, gpu: float) -> float:
        """Return the W at the machine's feed with all nodes at such a load."""
        tree = self.tree()
        load = np.zeros(len(tree))
        load[tree.index("nodes")] = self.nodes * self.node(cpu, gpu)
        return float(tree.flows(load)[tree.root])

    @property
    def standing(self) -> float:
        """W at the feed that belong to no node: switches and pumps."""
        return self.power(0.0, 0.0) - self.nodes * self.table(1.0, 1.0).idle

    def table(self, cpu: float, gpu: float) -> Table:
        """Return what a busy and an idle node take from the feed, converters' and rectifiers' constants included."""
        f = self.facts
        tree = self.tree()
        up = float(tree.up[tree.index("nodes")])
        fixed = f["sivoc_loss_constant"] * up
        fixed += f["rectifier_loss_constant"] / f["nodes_per_rectifier"] / f["rectifier_efficiency"]
        busy, idle = (self.node(*at) * up + fixed for at in ((cpu, gpu), (0.0, 0.0)))
        return Table(np.array([1.0]), np.array([busy]), idle)


def machine(name: str) -> Machine:
    """Return a known machine, or one from a configuration file of RAPS (JSON).

    Raises
    ------
    InputError : no machine is called so and no file lies there, or facts are missing from it.
    """
    if name in KNOWN:
        return Machine(name, KNOWN[name])
    path = Path(name)
    if path.suffix != ".json" or not path.is_file():
        raise InputError(
            f"no machine is called {name!r}; {nearest(name, KNOWN)}, or give a configuration of RAPS as a .json file"
        )
    try:
        facts = _flat(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no JSON that can be read: {error}") from None
    facts.setdefault("racks", facts.get("num_cdus", 0) * facts.get("racks_per_cdu", 0) - facts.get("missing", 0))
    if missing := sorted(_NEEDED - set(facts)):
        raise InputError(f"{path} is no whole configuration of RAPS: it lacks {', '.join(missing[:5])}")
    if not all(facts[key] > 0 for key in ("racks", "nodes_per_rectifier", "sivoc_efficiency", "rectifier_efficiency")):
        raise InputError(f"{path}: racks, nodes_per_rectifier and both efficiencies must be > 0")
    return Machine(path.stem, {key: facts[key] for key in _NEEDED})


def _flat(data: Any) -> dict[str, float]:
    """Return the numbers of a configuration by their names in small letters, sections put together."""
    out: dict[str, float] = {}
    for key, value in data.items() if isinstance(data, Mapping) else ():
        name = str(key).lower()
        if isinstance(value, Mapping):
            out |= _flat(value)
        elif name == "missing_racks" and isinstance(value, list):
            out["missing"] = float(len(value))
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            out[name] = float(value)
    return out
