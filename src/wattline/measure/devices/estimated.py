"""Where nothing can be measured: processors and memory from their load and a published model, only where asked for.

    watts = threads * (idle + load * (full - idle))          memory = gigabytes * watts per gigabyte

The figures are of ``data/estimates.toml``. A figure is flagged "model" and its interval holds every microarchitecture
that the processor may be; where its name tells which, the spread of servers of that one. It is in no total unless that
was asked for too: a model added to measurements looks like one.
"""

from __future__ import annotations

import fnmatch
import tomllib
from pathlib import Path
from typing import Any, Final

from ...core.errors import InputError
from ..meter import Meter, MeterError, Missing
from .files import word

MODES: Final = ("", "parts", "total")
FLAG: Final = "model"


class EstimateMeter(Meter):
    """Watts by a model: processors from /proc/stat, or memory that is there."""

    method = "power-integral"
    kind = "estimate"

    def __init__(self, uuid: str, scope: Any, name: str, idle: float, full: float, proc: Path, **facts: Any) -> None:
        super().__init__(uuid, scope, name, period=0.01, **facts)
        self.idle, self.full = idle, full
        self._stat = proc / "stat"
        self._last: tuple[float, float] | None = None
        self._load = 0.0

    def read(self) -> float:
        if self.full > self.idle:
            busy, every = ticks(self._stat)
            if self._last is None:
                self._last = busy, every
            elif every > self._last[1]:
                # Ticks are of 10 ms; between two of them the load is as it was.
                self._load = (busy - self._last[0]) / (every - self._last[1])
                self._last = busy, every
        return self.idle + min(1.0, max(0.0, self._load)) * (self.full - self.idle)


def ticks(stat: Path) -> tuple[float, float]:
    """(busy, all) ticks of every thread since the machine began (proc_stat(5)); stolen time is not ours."""
    try:
        words = stat.read_text().split("\n", 1)[0].split()
        numbers = [float(number) for number in words[1:9]]
        user, nice, system, idle, wait, hard, soft, _stolen = numbers
    except (OSError, ValueError) as error:
        raise MeterError(f"{stat} cannot be read: {error}") from error
    busy = user + nice + system + hard + soft
    return busy, busy + idle + wait


def find(mode: str, proc: Path = Path("/proc"), host: str | None = None) -> tuple[list[Meter], list[Missing]]:
    """The estimates that were asked for: none, "parts" (in no total), or "total".

    Raises
    ------
    InputError : another mode.
    """
    if mode not in MODES:
        raise InputError(f"WATTLINE_ESTIMATE must be parts or total, got {mode!r}")
    if not mode:
        return [], []
    facts = tomllib.loads((Path(__file__).parents[1] / "data" / "estimates.toml").read_text("utf-8"))
    name, threads = processor(proc)
    flags = (FLAG,) if mode == "parts" else ()
    meters: list[Meter] = []
    if threads:
        row, low, high = _of(name, facts)
        source = f"{row['name']}, {threads} threads" if row else f"{threads} threads of an unknown microarchitecture"
        idle, full = _mean(facts, "idle"), _mean(facts, "full")
        if row:
            idle, full = row["idle"], row["full"]
        meters.append(
            EstimateMeter(
                "estimate:cpu", "cpu", f"estimate of {name or 'processors'}", threads * idle, threads * full, proc,
                host=host, flags=flags, share=(low, 1.0, high),
                reason=f"not measured: from the load and SPECpower results ({source}; Cloud Carbon Footprint)",
            )
        )  # fmt: skip
    gigabytes = memory(proc)
    if gigabytes:
        m = facts["memory"]
        watts = gigabytes * m["watts_per_gb"]
        meters.append(
            EstimateMeter(
                "estimate:dram", "dram", "estimate of memory", watts, watts, proc, host=host, flags=flags,
                share=(m["least"] / m["watts_per_gb"], 1.0, m["most"] / m["watts_per_gb"]),
                reason=f"not measured: {gigabytes:.0f} GB at {m['watts_per_gb']} W/GB (Cloud Carbon Footprint)",
            )
        )  # fmt: skip
    if not meters:
        return [], [Missing("estimate", f"{proc} tells neither processors nor memory")]
    return meters, []


def _of(name: str, facts: dict[str, Any]) -> tuple[dict[str, Any] | None, float, float]:
    """The row of a processor by its name, and the least and the most of the estimate as shares of it."""
    for row in facts["cpu"]:
        if any(fnmatch.fnmatch(name, f"*{pattern}*") for pattern in row["match"]):
            return row, facts["spread"]["least"], facts["spread"]["most"]
    # Any of them, idle or full, whichever is further from the mean.
    ratios = [row[key] / _mean(facts, key) for row in facts["cpu"] for key in ("idle", "full")]
    return None, min(ratios) * facts["spread"]["least"], max(ratios) * facts["spread"]["most"]


def _mean(facts: dict[str, Any], key: str) -> float:
    return float(sum(row[key] for row in facts["cpu"]) / len(facts["cpu"]))


def processor(proc: Path) -> tuple[str, int]:
    """The processor's name and how many threads there are."""
    lines = word(proc / "cpuinfo").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    threads = sum(line.startswith("processor") for line in lines)
    return (names[0] if names else ""), threads


def memory(proc: Path) -> float:
    """Gigabytes of memory."""
    for line in word(proc / "meminfo").splitlines():
        if line.startswith("MemTotal:"):
            return float(line.split()[1]) * 1024 / 1e9
    return 0.0


def hypervisor(proc: Path = Path("/proc")) -> bool:
    """Whether this is a virtual machine, by its processor's flags."""
    return any(line.startswith("flags") and " hypervisor" in line for line in word(proc / "cpuinfo").splitlines())
