"""NVIDIA Jetson boards: INA3221 monitors on the supply rails, as volts times amperes.

Labels of the rails are those of NVIDIA's developer guide (Jetson Linux, "Platform power and performance"): an input
rail feeds the whole module and contains the others. AGX modules have none; the sum of their rails is the module's.
A rail whose label is not known is told, not dropped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from ..meter import Meter, MeterError, Missing
from ..result import Scope
from .files import NumberFile, word

ROOT: Final = Path("/sys/bus/i2c/drivers/ina3221")
RAILS: Final[dict[str, Scope]] = {
    # whole modules: Nano, TX1, TX2, Xavier NX, Orin NX and Nano
    "VDD_IN": "node",
    "POM_5V_IN": "node",
    # AGX Xavier (design guide DG-09840, figure 5-14: six supplies from the module's inputs, none inside another)
    "GPU": "gpu",
    "CPU": "cpu",
    "SOC": "soc",
    "CV": "soc",
    "VDDRQ": "dram",
    "SYS5V": "soc",
    # AGX Orin and Thor
    "VDD_GPU_SOC": "soc",
    "VDD_CPU_CV": "cpu",
    "VIN_SYS_5V0": "soc",
    "VDDQ_VDD2_1V8AO": "dram",
    "VDD_CPU_SOC_MSS": "soc",
    "VIN": "node",
    # TX1 and TX2, Nano, NX
    "VDD_CPU_GPU_CV": "soc",
    "VDD_SOC": "soc",
    "VDD_GPU": "gpu",
    "VDD_CPU": "cpu",
    "VDD_SYS_GPU": "gpu",
    "VDD_SYS_SOC": "soc",
    "VDD_SYS_CPU": "cpu",
    "VDD_SYS_DDR": "dram",
    "VDD_4V0_WIFI": "soc",
    "POM_5V_GPU": "gpu",
    "POM_5V_CPU": "cpu",
}
# A rail inside another: on AGX Orin the memory is fed from the 5 V input.
INSIDE: Final = {"VDDQ_VDD2_1V8AO": "VIN_SYS_5V0"}
# Channels that feed nothing, or add up others.
_NONE: Final = ("", "NC", "sum of shunt voltages", "sum")


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
        if label in _NONE:
            continue
        if label not in RAILS:
            missing.append(Missing(f"ina3221:{label}", "it is not known what this rail feeds, so it is left out"))
            continue
        channel = int("".join(c for c in labels.name if c.isdigit()))
        inside = (f"rail:{INSIDE[label]}",) if label in INSIDE else ()
        meter: Meter = RailMeter(
            labels.parent, channel, label, RAILS[label], host=host, element=f"rail:{label}", fed_by=inside
        )
        try:
            meter.read()
        except MeterError as error:
            missing.append(Missing(meter.uuid, error.reason, error.fix))
        else:
            meters.append(meter)
    return meters, missing
