"""Processors and their memory through RAPL, as Linux shows it under /sys/class/powercap (Intel and AMD).

A zone is a counter in microjoules that wraps at ``max_energy_range_uj``. `package` holds `core` and `uncore`;
`dram` is beside the package, not in it; `psys` is the whole platform and holds them all (Intel SDM vol. 3B,
section 15.10). The same counter can appear twice: through ``intel-rapl-mmio``, which is left out by its interface,
or as a die that shows its package's register, which moves in step and is found by `contain.Mirrors`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from ..meter import Meter, MeterError, Missing
from ..result import Scope
from .files import NumberFile, number, word

ROOT: Final = Path("/sys/class/powercap")
# Two zones of one name whose counters agree to this many J at the same instant may be one counter: they are watched.
MIRROR: Final = 1.0
# Processors go above their long-term limit for a while (PL2 of Intel is commonly 1.25 to 2 times PL1).
EXCURSION: Final = 2.0
# A limit above this is the register's "no limit", W.
NO_LIMIT: Final = 4000.0


class RaplMeter(Meter):
    """One RAPL zone."""

    kind = "rapl"

    def __init__(self, zone: Path, uuid: str, scope: Scope, fix: str, **facts: Any) -> None:
        super().__init__(uuid, scope, uuid, **facts)
        self.zone = zone
        self._file = NumberFile(zone / "energy_uj", fix)

    def read(self) -> float:
        return self._file.read() * 1e-6

    def close(self) -> None:
        self._file.close()


def find(root: Path = ROOT, host: str | None = None) -> tuple[list[Meter], list[Missing]]:
    """Every readable zone under `root`, each once, with what contains it; and why the others are missing."""
    fix = f"sudo chmod a+r {root}/intel-rapl*/energy_uj"
    try:
        zones = sorted(p for p in root.iterdir() if (p / "energy_uj").exists() or (p / "name").exists())
    except OSError:
        return [], [Missing("rapl", f"{root} is not there: no RAPL on this machine, or a container hides it")]
    zones = [z for z in zones if ":" in z.name and (z / "name").exists()]
    # The register interface first, so that its mirror through memory is the one left out.
    zones.sort(key=lambda z: ("mmio" in z.name, z.name.count(":"), z.name))
    meters: list[Meter] = []
    missing: list[Missing] = []
    taken: dict[str, list[RaplMeter]] = {}
    uuid_of: dict[str, str] = {}
    for zone in zones:
        name = word(zone / "name")
        parent = uuid_of.get(zone.name.rsplit(":", 1)[0], "") if zone.name.count(":") > 1 else ""
        uuid = f"{parent}/{name}" if parent else name
        uuid_of[zone.name] = uuid
        scope: Scope = "dram" if name == "dram" else "soc" if name.startswith("psys") else "cpu"
        meter = RaplMeter(zone, uuid, scope, fix, host=host, wrap=_wrap(zone), limit=_limit(zone))
        try:
            value = meter.read()
        except MeterError as error:
            if not (taken.get(uuid) or "mmio" in zone.name):
                missing.append(Missing(f"rapl:{uuid}", error.reason, error.fix))
            continue
        twins = taken.setdefault(uuid, [])
        if any("mmio" in zone.name or abs(twin.read() - value) <= MIRROR for twin in twins):
            missing.append(Missing(f"rapl:{zone.name}", f"mirrors {uuid}, which is used once"))
            meter.close()
            continue
        if twins:
            meter.uuid = uuid_of[zone.name] = f"{uuid}#{len(twins) + 1}"
            meter.name = meter.uuid
        twins.append(meter)
        meter.element = meter.uuid
        # Cores and graphics are inside their package; memory is beside it.
        meter.fed_by = (parent,) if parent and scope == "cpu" else ()
        meters.append(meter)
    platforms = tuple(found.element for found in meters if found.scope == "soc")
    for found in meters:
        if found.scope != "soc" and not found.fed_by:
            found.fed_by = platforms
    if not zones:
        missing.append(Missing("rapl", f"{root} holds no zone", "sudo modprobe intel_rapl_msr"))
    return meters, missing


def _wrap(zone: Path) -> float | None:
    most = number(zone / "max_energy_range_uj")
    return most * 1e-6 if most else None


def _limit(zone: Path) -> float | None:
    """A bound on the zone's power from its constraints, W; None if it states none."""
    found = [
        number(path) or 0.0 for kind in ("power_limit", "max_power") for path in zone.glob(f"constraint_*_{kind}_uw")
    ]
    found = [watts * 1e-6 for watts in found]
    found = [w for w in found if 0 < w < NO_LIMIT]
    return max(found) * EXCURSION if found else None
