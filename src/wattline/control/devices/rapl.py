"""The long-term power limit of processors through RAPL, as Linux shows it under /sys/class/powercap.

Constraint 0 of a package is its long-term limit (PL1; kernel document power/powercap). The kernel tells no least
limit, and one near zero makes a machine unusable, so none is set below a quarter of what was found.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ...measure.devices.cpu import NO_LIMIT, ROOT
from ...measure.devices.files import number, word
from ...measure.meter import Missing
from ..leases.actuator import Actuator, Knob, Range
from .files import read_number, write_text

FLOOR: Final = 0.25
# RAPL keeps limits in units of 1/8 W by default (Intel SDM vol. 3B, MSR_RAPL_POWER_UNIT).
STEP: Final = 0.125


class RaplActuator(Actuator):
    """One package's long-term power limit."""

    def __init__(self, zone: Path, uuid: str) -> None:
        super().__init__(uuid, f"{uuid} (RAPL)", scope="cpu")
        self._file = zone / "constraint_0_power_limit_uw"
        most = number(zone / "constraint_0_max_power_uw") or 0.0
        found = number(self._file) or 0.0
        # A register that holds no limit reads as something absurd; then the package's maximum is what counts.
        top = most * 1e-6 if 0 < most * 1e-6 < NO_LIMIT else found * 1e-6
        top = max(top, found * 1e-6) if found * 1e-6 < NO_LIMIT else top
        self._range = Range(low=FLOOR * top, high=top, step=STEP)

    def knobs(self) -> Mapping[Knob, Range]:
        return {"power_limit": self._range}

    def read(self, knob: Knob) -> float | None:
        self.range(knob)
        return read_number(self._file, self.uuid) * 1e-6

    def write(self, knob: Knob, value: float | None) -> None:
        self.range(knob)
        write_text(self._file, str(round((self._range.high if value is None else value) * 1e6)), self.uuid)

    def ceiling(self, knob: Knob) -> float:
        return min(super().ceiling(knob), self._range.high)


def find(root: Path = ROOT) -> tuple[list[Actuator], list[Missing]]:
    """Every package with a long-term limit; the mirror through memory (mmio) is left out."""
    found: list[Actuator] = []
    try:
        zones = sorted(root.iterdir())
    except OSError:
        return [], []
    for zone in zones:
        label = word(zone / "name")
        if "mmio" in zone.name or not label.startswith("package-"):
            continue
        limit = number(zone / "constraint_0_power_limit_uw")
        if limit is None:
            continue
        if limit <= 0:
            return found, [Missing(f"rapl:{label}", "its long-term limit reads 0, so it cannot be put back")]
        found.append(RaplActuator(zone, label))
    return found, []
