"""Every sensor of this machine, behind one call; what is not there is listed with the reason."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

from ..core.errors import InputError
from . import sensor as sensors
from .contain import link
from .devices import amd, apple, cpu, estimated, hwmon, jetson, node, nvidia
from .devices.files import number
from .meter import Meter, Missing

# A package adds meters with an entry point of this group: a function of no arguments that returns a list of Meter.
GROUP: Final = "wattline.meters"

Found = tuple[list[Meter], list[Missing]]


def find(system: Path = Path("/sys"), host: str | None = None) -> Found:
    """All meters and all that is missing. `system` is where sysfs is mounted."""
    meters: list[Meter] = []
    missing: list[Missing] = []
    sources: list[tuple[str, Callable[[], Found]]] = [
        ("nvidia", nvidia.find),
        ("rapl", lambda: cpu.find(system / "class/powercap", host)),
        ("amd", lambda: amd.find(system / "class/hwmon", host)),
        ("hwmon", lambda: hwmon.find(system / "class/hwmon", host, leave=("amdgpu",))),
        ("jetson", lambda: jetson.find(system / "bus/i2c/drivers/ina3221", host)),
        ("apple", apple.find),
        ("node", lambda: node.find(os.environ.get("WATTLINE_NODE", ""), host)),
        ("plug-ins", plugins),
        ("estimate", lambda: estimated.find(os.environ.get("WATTLINE_ESTIMATE", ""), host=host)),
    ]
    for name, source in sources:
        try:
            found, lacking = source()
        except Exception as error:
            missing.append(Missing(name, f"the search failed: {type(error).__name__}: {error}"))
            continue
        meters.extend(found)
        missing.extend(lacking)
    measured = {meter.scope for meter in meters if meter.kind != "estimate"}
    meters = [meter for meter in meters if meter.kind != "estimate" or meter.scope not in measured]
    graft(meters, system)
    link(meters)
    missing.extend(behave(meters))
    return meters, missing


def graft(meters: list[Meter], system: Path) -> None:
    """Hang GPUs of a superchip on its module: the one of the memory node that the GPU's PCI function is near to."""
    modules = {meter.element for meter in meters if meter.element.startswith("module:")}
    for meter in meters:
        address = meter.labels.get("pci", "").lower()
        if modules and address and meter.scope == "gpu":
            near = number(system / "bus/pci/devices" / address / "numa_node")
            module = f"module:{int(near)}" if near is not None and near >= 0 else ""
            if module in modules or len(modules) == 1:
                meter.fed_by = (module if module in modules else next(iter(modules)),)


def behave(meters: list[Meter]) -> list[Missing]:
    """Give every meter what is known of its kind of sensor; a file of learnt ones that cannot be read is told."""
    missing: list[Missing] = []
    learnt: list[sensors.Row] = []
    try:
        learnt = sensors.read(sensors.learnt_file())
    except InputError as error:
        missing.append(Missing("learnt sensors", str(error), f"rm {sensors.learnt_file()}, then probe again"))
    for meter in meters:
        found = sensors.known(meter.kind, meter.name, learnt)
        if found is not None:
            meter.behaves(found)
    return missing


def plugins() -> Found:
    """Meters of installed packages."""
    meters: list[Meter] = []
    missing: list[Missing] = []
    for entry in entry_points(group=GROUP):
        try:
            meters.extend(entry.load()())
        except Exception as error:
            missing.append(Missing(f"plug-in {entry.name}", f"{type(error).__name__}: {error}"))
    return meters, missing
