"""Every device of this machine whose knobs can be set, behind one call; what is not there is listed with the reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...measure.meter import Missing
from ..leases.actuator import Actuator
from . import amd, nvidia, rapl

Found = tuple[list[Actuator], list[Missing]]


def find(system: Path = Path("/sys")) -> Found:
    """All actuators and what is missing. Looking sets nothing. `system` is where sysfs is mounted."""
    actuators: list[Actuator] = []
    missing: list[Missing] = []
    sources: tuple[tuple[str, Callable[[], Found]], ...] = (
        ("nvidia", nvidia.find),
        ("amd", lambda: amd.find(system / "class/hwmon")),
        ("rapl", lambda: rapl.find(system / "class/powercap")),
    )
    for name, source in sources:
        try:
            found, lacking = source()
        except Exception as error:
            missing.append(Missing(name, f"the search failed: {type(error).__name__}: {error}"))
            continue
        actuators += found
        missing += lacking
    return actuators, missing
