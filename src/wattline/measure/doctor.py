"""What can be measured here: per sensor whether it works, how well, why not, and the command that would fix it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

import msgspec

from ..core.units import show
from .devices.estimated import hypervisor
from .devices.files import word
from .live import power
from .monitor import PROBE_SECONDS, Monitor, default
from .result import FEWEST_PERIODS
from .track import Track

Verdict = Literal["works", "limited", "missing"]


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One sensor: what it is, its verdict, and what to do about it."""

    sensor: str
    verdict: Verdict
    scope: str = ""
    method: str = "none"
    period: float | None = None
    read: float | None = None
    watts: float | None = None
    reason: str = ""
    fix: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data with SI units in the key names."""
        return {
            "sensor": self.sensor,
            "verdict": self.verdict,
            "scope": self.scope,
            "method": self.method,
            "period_s": self.period,
            "shortest_window_s": None if self.period is None else FEWEST_PERIODS * self.period,
            "read_s": self.read,
            "power_w": self.watts,
            "reason": self.reason,
            "fix": self.fix,
        }


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Every sensor of this machine, and those that were looked for and not found."""

    host: str
    checks: tuple[Check, ...]
    hints: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether anything at all can be measured."""
        return any(check.verdict != "missing" for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Plain data with stable keys."""
        rows = [check.to_dict() for check in self.checks]
        return {"host": self.host, "usable": self.usable, "sensors": rows, "hints": list(self.hints)}

    def __rich__(self) -> Any:
        from rich.text import Text

        text = Text()
        style = {"works": "green", "limited": "yellow", "missing": "red"}
        for check in self.checks:
            text.append(f"{check.verdict:8}", style[check.verdict]).append(check.sensor, "bold")
            facts = [check.scope, check.method if check.verdict != "missing" else ""]
            if check.period:
                facts.append(f"updates every {show(check.period, 's', 2)}")
                facts.append(f"sound from {show(FEWEST_PERIODS * check.period, 's', 2)}")
            if check.watts is not None:
                facts.append(f"now {show(check.watts, 'W')}")
            text.append("".join(f", {fact}" for fact in facts if fact) + "\n")
            if check.reason:
                text.append(f"        {check.reason}\n", "dim")
            if check.fix:
                text.append(f"        fix: {check.fix}\n")
        if not self.usable:
            text.append("nothing can be measured here\n", "yellow")
        for hint in self.hints:
            text.append(f"        {hint}\n")
        text.rstrip()
        return text


def examine(monitor: Monitor | None = None, seconds: float = PROBE_SECONDS + 0.3) -> Report:
    """Watch every sensor for a while and say how each does; `seconds` is how long, s."""
    from .meter import this_host

    monitor = monitor or default()
    with monitor.watch():
        until = time.monotonic() + seconds
        while time.monotonic() < until and monitor.tracks:
            time.sleep(0.05)
    checks = [_check(track) for track in monitor.tracks]
    checks += [Check(sensor=m.sensor, verdict="missing", reason=m.reason, fix=m.fix) for m in monitor.missing]
    usable = any(check.verdict != "missing" for check in checks)
    return Report(host=this_host(), checks=tuple(checks), hints=() if usable else hints())


def hints(proc: Path = Path("/proc"), root: Path = Path("/")) -> tuple[str, ...]:
    """What would work where nothing can be measured, the best first."""
    found = []
    if hypervisor(proc):
        found.append(
            "this is a virtual machine: its host keeps the processor's counters; a bare-metal instance has them"
        )
    if (root / ".dockerenv").exists() or word(proc / "1/cgroup").count("/") > 1:
        found.append("in a container, mount the node's counters: -v /sys/class/powercap:/sys/class/powercap:ro")
    found += [
        "a management controller: WATTLINE_NODE=https://user:password@bmc/redfish/v1/Chassis/1/Power",
        "a power strip or wall meter: a function in a package with an entry point of the group wattline.meters",
        "a rough estimate from load, flagged and in no total: wattline run --estimate parts -- CMD",
        "to try everything without a sensor: wattline.measure.devices.replay plays a device",
    ]
    return tuple(found)


def _check(track: Track) -> Check:
    track.drain()
    meter = track.meter
    remarks = [meter.reason] if meter.reason else []
    verdict: Verdict = "works" if meter.method == "counter" and not meter.flags else "limited"
    remarks.extend(dict.fromkeys(event.text for event in track.events))
    if track.lost or track.error:
        verdict = "missing"
        remarks.append(track.lost or track.error)
    elif meter.method == "counter" and track.changed == 0:
        verdict = "limited"
        remarks.append("the counter did not move while it was watched: idle, or stuck")
    elif track.events:
        verdict = "limited"
    now = power(track)
    began = time.perf_counter()
    try:
        meter.read()
        took: float | None = time.perf_counter() - began
    except Exception:
        took = None
    return Check(
        sensor=meter.name if meter.name == meter.uuid else f"{meter.name} ({meter.uuid})",
        verdict=verdict,
        scope=meter.scope,
        method=meter.method,
        period=track.period,
        read=took,
        watts=None if verdict == "missing" or now is None else now.watts,
        reason="; ".join(dict.fromkeys(remarks)),
        fix=track.fix,
    )
