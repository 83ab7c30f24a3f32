"""`wattline apply`: the one setting of an answer, held by leases while a command runs, and put back after it."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from ...core.errors import InputError
from ...core.units import show
from ..daemon.client import Held, lease
from ..devices.simulated import SimulatedGpu
from ..leases.keeper import Keeper
from .settings_sweep import terminating

# Lines to type that an answer brings -> knob and factor to SI.
_LINES: Final = (
    (re.compile(r"nvidia-smi -lgc (?:\d+,)?(\d+)"), "clock", 1e6),
    (re.compile(r"rocm-smi --setsrange \d+ (\d+)"), "clock", 1e6),
    (re.compile(r"nvidia-smi -pl (\d+)"), "power_limit", 1.0),
    (re.compile(r"rocm-smi --setpoweroverdrive (\d+)"), "power_limit", 1.0),
)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What was typed."""

    answer: Path
    command: tuple[str, ...] = ()
    devices: tuple[str, ...] = ("0",)
    dry_run: bool = False
    simulate: bool = False


def run(asked: Asked) -> int:
    """Hold the setting until the command ends, or until interrupted; the exit code is the command's."""
    knobs: dict[str, Any] = dict(setting(read(asked.answer)))
    for line in told(knobs, asked.devices):
        print(line, flush=True)
    if asked.dry_run:
        return 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(terminating())
        for held in stack.enter_context(_leases(asked)):
            held.set(**knobs)
        if asked.command:
            return subprocess.run(asked.command, check=False).returncode
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            print("wattline: stopped; the devices are as they were found", file=sys.stderr)
    return 130


def read(path: Path) -> Mapping[str, Any]:
    """Return an answer that `wattline plan --json` wrote."""
    try:
        found = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise InputError(f"answer {str(path)!r} cannot be read: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise InputError(
            f"answer {str(path)!r} is not JSON ({error}); write one with wattline plan FILE --json"
        ) from None
    if not isinstance(found, dict) or "chosen" not in found:
        raise InputError(f"answer {str(path)!r} has no 'chosen'; write one with wattline plan FILE --json")
    return found


def setting(answer: Mapping[str, Any]) -> dict[str, float]:
    """Return the one clock (Hz) or power limit (W) of an answer: what its lines to type set, or its only clock."""
    for line in answer.get("apply", ()):
        for pattern, knob, factor in _LINES:
            if found := pattern.search(str(line)):
                return {knob: factor * float(found[1])}
    clocks = {float(k["clock_hz"]) for k in answer["chosen"].get("knobs", ()) if "clock_hz" in k}
    if len(clocks) == 1:
        return {"clock": clocks.pop()}
    if not clocks:
        raise InputError(
            "the answer sets no clock and no power limit, and says nothing to type; write it anew with "
            "wattline plan FILE --json, and for a fleet apply the answer of each job"
        )
    raise InputError(
        f"the answer sets {len(clocks)} clocks, one for each step of a schedule, and names no one setting for all; "
        "follow it from the training loop (wattline.control), or allow more time so that one clock saves"
    )


def told(knobs: Mapping[str, float], devices: Sequence[str]) -> list[str]:
    """Return what is set and the same by hand, with the undo."""
    where = f"device {', '.join(devices)}"
    if "clock" in knobs:
        by_hand = f"sudo nvidia-smi -lgc {knobs['clock'] / 1e6:.0f}  # undo: sudo nvidia-smi -rgc"
        return [f"# core clock {show(knobs['clock'], 'Hz', 4)} on {where}; by hand:", by_hand]
    watts = knobs["power_limit"]
    return [f"# power limit {show(watts, 'W')} on {where}; by hand:", f"sudo nvidia-smi -pl {watts:.0f}"]


@contextlib.contextmanager
def _leases(asked: Asked) -> Iterator[list[Held]]:
    with contextlib.ExitStack() as stack:
        if asked.simulate:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            keeper = stack.enter_context(Keeper([SimulatedGpu()], folder))
            yield [stack.enter_context(keeper.take("0"))]
        else:
            yield [stack.enter_context(lease(device)) for device in asked.devices]
