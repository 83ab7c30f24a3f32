"""`wattline govern`: from what was typed to a governor that looks until it is told to stop."""

from __future__ import annotations

import contextlib
import math
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from ...core.errors import InputError
from ...core.units import parse
from ..daemon.client import Held, lease
from ..devices.simulated import SimulatedGpu
from ..leases.actuator import ControlError
from ..leases.keeper import Keeper
from .governor import Governor, Look, Promise, govern, told
from .scrape import Scraper
from .settings_sweep import terminating


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What was typed."""

    metrics: str
    tpot: str | None = None
    ttft: str | None = None
    percentile: float = 99.0
    devices: tuple[str, ...] = ("0",)
    interval: str = "1 s"
    floor: str = "40 %"
    notches: int = 12
    looks: int = 0
    dry_run: bool = False
    simulate: bool = False
    json: bool = False


def run(asked: Asked) -> int:
    """Govern until interrupted, or for so many looks; a line for each look that changes something, or each in JSON."""
    promise = Promise(
        tpot=None if asked.tpot is None else parse(asked.tpot, "s", key="--tpot"),
        ttft=None if asked.ttft is None else parse(asked.ttft, "s", key="--ttft"),
        percentile=asked.percentile,
    )
    interval, floor = parse(asked.interval, "s", key="--interval"), parse(asked.floor, "", key="--floor")
    if asked.looks < 0:
        raise InputError(f"--looks is at least 0 (for never stopping), got {asked.looks}")
    scraper = Scraper(asked.metrics, timeout=max(0.5, min(2.0, interval)))
    seen: list[Look] = []

    def tell(look: Look) -> None:
        changed = not seen or (look.move, look.clock) != (seen[-1].move, seen[-1].clock)
        seen[:] = [look]
        if asked.json:
            print(msgspec.json.encode(plain(look)).decode(), flush=True)
        elif changed:
            print(told(look), flush=True)

    with contextlib.ExitStack() as stack:
        stack.enter_context(terminating())
        held = stack.enter_context(_leases(asked))
        governor = Governor(held, promise, scraper.read, notches=asked.notches, floor=floor, interval=interval)
        try:
            govern(
                governor,
                tell=tell,
                stop=lambda: bool(asked.looks) and governor.looks >= asked.looks,
            )
        except KeyboardInterrupt:
            print("wattline: stopped; the devices run at their own clocks", file=sys.stderr)
            return 130
        except ControlError:
            for note in governor.notes:
                print(f"wattline: {note}", file=sys.stderr)
            raise
    return 0


def plain(look: Look) -> dict[str, Any]:
    """A look under stable keys; what is not known is null."""

    def known(value: float) -> float | None:
        return value if math.isfinite(value) else None

    return {
        "move": look.move,
        "clock_hz": look.clock,
        "strain": known(look.strain),
        "running": known(look.running),
        "waiting": known(look.waiting),
        "why": look.why,
    }


@contextlib.contextmanager
def _leases(asked: Asked) -> Iterator[list[Held]]:
    with contextlib.ExitStack() as stack:
        if asked.simulate:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            keeper = stack.enter_context(Keeper([SimulatedGpu()], folder, dry_run=asked.dry_run))
            yield [stack.enter_context(keeper.take("0"))]
        else:
            yield [stack.enter_context(lease(device, dry_run=asked.dry_run)) for device in asked.devices]
