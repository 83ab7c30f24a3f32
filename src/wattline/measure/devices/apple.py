"""Apple silicon: powermetrics prints the mean power of each interval; here it is parsed and added up.

``powermetrics`` needs root, so it is started only as root, and anything else is an honest "none".
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from typing import Any, Final

from ..meter import Meter, MeterError, Missing
from ..result import Scope

COMMAND: Final = ("powermetrics", "--samplers", "cpu_power,gpu_power", "-i", "200")
_ELAPSED: Final = re.compile(r"\(([0-9.]+)ms elapsed\)")
_POWER: Final = re.compile(r"^(CPU|GPU|ANE|Combined) Power(?: \([^)]*\))?: ([0-9.]+) mW")
_SCOPE: Final[dict[str, Scope]] = {"CPU": "cpu", "GPU": "gpu", "ANE": "soc", "Combined": "soc"}


class Reader:
    """Adds up the joules of each unit from the lines of powermetrics."""

    def __init__(self) -> None:
        self.joules: dict[str, float] = {}
        self._elapsed = 0.0

    def feed(self, line: str) -> None:
        """Take one line; a sample's length comes before its powers.

        >>> reader = Reader()
        >>> for line in ("*** Sampled (500.00ms elapsed) ***", "CPU Power: 2000 mW"):
        ...     reader.feed(line)
        >>> reader.joules
        {'CPU': 1.0}
        """
        if found := _ELAPSED.search(line):
            self._elapsed = float(found[1]) * 1e-3
        elif found := _POWER.match(line.strip()):
            unit = found[1]
            self.joules[unit] = self.joules.get(unit, 0.0) + float(found[2]) * 1e-3 * self._elapsed

    def feed_all(self, lines: Iterable[str]) -> None:
        """Take lines until they end."""
        for line in lines:
            self.feed(line)


class AppleMeter(Meter):
    """One unit of the chip, from the shared reader."""

    def __init__(self, reader: Reader, unit: str, **facts: Any) -> None:
        uuid = "apple" if unit == "Combined" else f"apple:{unit}"
        super().__init__(uuid, _SCOPE[unit], f"Apple {unit}", period=0.2, **facts)
        self._reader, self._unit = reader, unit

    def read(self) -> float:
        if self._unit not in self._reader.joules:
            raise MeterError("powermetrics has not printed a sample yet")
        return self._reader.joules[self._unit]


def find(command: Sequence[str] = COMMAND, force: bool = False) -> tuple[list[Meter], list[Missing]]:
    """The units of an Apple chip; on other machines nothing. `force` skips the checks, for a test."""
    if not force and sys.platform != "darwin":
        return [], []
    if not force and os.geteuid() != 0:
        return [], [Missing("apple", "powermetrics needs root", "run under sudo")]
    reader = Reader()
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except OSError as error:
        return [], [Missing("apple", f"powermetrics could not be started: {error}")]

    def pump() -> None:
        assert process.stdout is not None
        with contextlib.suppress(ValueError), process.stdout:
            reader.feed_all(process.stdout)
        process.wait()

    threading.Thread(target=pump, name="wattline-powermetrics", daemon=True).start()
    whole = AppleMeter(reader, "Combined")
    return [whole, *(AppleMeter(reader, unit, within=(whole.key,)) for unit in ("CPU", "GPU"))], []
