"""NVIDIA Jetson boards: INA3221 monitors on the supply rails, as volts times amperes.

Labels of the rails are those of NVIDIA's developer guide (Jetson Linux, "Platform power and performance"):
VDD_IN feeds the whole board and contains the others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from ..meter import Meter, MeterError, Missing
from ..result import Scope
from .files import NumberFile, word

ROOT: Final = Path("/sys/bus/i2c/drivers/ina3221")
RAILS: Final[dict[str, Scope]] = {
    "VDD_IN": "node",
    "POM_5V_IN": "node",
    "VDD_GPU_SOC": "soc",
    "VDD_CPU_GPU_CV": "soc",
    "VDD_SOC": "soc",
    "VDD_GPU": "gpu",
    "VDD_CPU_CV": "cpu",
    "VDD_CPU": "cpu",
    "POM_5V_GPU": "gpu",
    "POM_5V_CPU": "cpu",
    "VDDQ_VDD2_1V8AO": "dram",
    "VDDRQ": "dram",
}


class RailMeter(Meter):
    """One rail: W from its voltage (mV) and current (mA)."""

    method = "power-integral"
    kind = "ina3221"

    def __init__(self, folder: Path, channel: int, label: str, scope: Scope, **facts: Any) -> None:
        super().__init__(f"ina3221:{label}", scope, label, reason="rail power is read and added up", **facts)
        self._volts = NumberFile(folder / f"in{channel}_input")
        self._amperes = NumberFile(folder / f"curr{channel}_input")

    def read(self) -> float:
        return self._volts.read() * self._amperes.read() * 1e-6

    def close(self) -> None:
        self._volts.close()
        self._amperes.close()


def find(root: Path = ROOT, host: str | None = None) -> tuple[list[Meter], list[Missing]]:
    """Every rail whose scope is known."""
    meters: list[Meter] = []
    missing: list[Missing] = []
    for labels in sorted(root.glob("*/hwmon/hwmon*/in*_label")):
        label = word(labels)
        if label not in RAILS:
            continue
        channel = int("".join(c for c in labels.name if c.isdigit()))
        meter: Meter = RailMeter(labels.parent, channel, label, RAILS[label], host=host)
        try:
            meter.read()
        except MeterError as error:
            missing.append(Missing(meter.uuid, error.reason, error.fix))
        else:
            meters.append(meter)
    board = [meter.key for meter in meters if meter.scope == "node"]
    for rail in meters:
        if rail.scope != "node":
            rail.within = tuple(board)
    return meters, missing
