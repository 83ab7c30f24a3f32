"""Whole-machine power from its management controller: IPMI (DCMI) or Redfish, only where the user asks for it.

    WATTLINE_NODE=ipmi                                        ipmitool dcmi power reading, on this machine
    WATTLINE_NODE=https://user:password@bmc/redfish/v1/Chassis/1/Power

Both are slow and coarse (a second or more), so they are read beside the windows, never at their ends.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Sequence
from typing import Any, Final

from ..meter import Meter, MeterError, Missing

IPMI: Final = ("ipmitool", "dcmi", "power", "reading")
_WATTS: Final = re.compile(r"Instantaneous power reading:\s*([0-9.]+)\s*Watts")
TIMEOUT: Final = 5.0


class IpmiMeter(Meter):
    """Node power through ipmitool."""

    method = "power-integral"

    def __init__(self, command: Sequence[str] = IPMI, **facts: Any) -> None:
        super().__init__(
            "ipmi", "node", "IPMI node power", period=1.0, averaging=1.0, slow=True, element="node", **facts
        )
        self._command = list(command)

    def read(self) -> float:
        try:
            done = subprocess.run(self._command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        except FileNotFoundError as error:
            raise MeterError(f"{self._command[0]} is not installed", fix="sudo apt install ipmitool") from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise MeterError(f"ipmitool: {error}") from error
        if done.returncode != 0:
            why = (done.stderr.strip().splitlines() or ["no message"])[-1]
            fix = "sudo chmod a+rw /dev/ipmi0" if "open device" in done.stderr else ""
            raise MeterError(f"ipmitool failed: {why}", fix=fix)
        return parse_ipmi(done.stdout)


class RedfishMeter(Meter):
    """Node power through a Redfish Power or EnvironmentMetrics resource."""

    method = "power-integral"

    def __init__(self, url: str, **facts: Any) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise MeterError(f"{url!r} is not an http(s) address")
        super().__init__(
            f"redfish:{parts.hostname}",
            "node",
            "Redfish node power",
            period=1.0,
            averaging=1.0,
            slow=True,
            element="node",
            **facts,
        )
        place = parts.hostname + (f":{parts.port}" if parts.port else "")
        self._request = urllib.request.Request(
            urllib.parse.urlunsplit((parts.scheme, place, parts.path, parts.query, ""))
        )
        self._request.add_header("Accept", "application/json")
        if parts.username:
            pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
            self._request.add_header("Authorization", "Basic " + base64.b64encode(pair.encode()).decode())

    def read(self) -> float:
        try:
            with urllib.request.urlopen(self._request, timeout=TIMEOUT) as answer:
                return parse_redfish(json.load(answer))
        except MeterError:
            raise
        except (OSError, ValueError) as error:
            raise MeterError(f"redfish: {error}") from error


def parse_ipmi(text: str) -> float:
    """W out of the answer of ``ipmitool dcmi power reading``.

    >>> parse_ipmi("    Instantaneous power reading:                   220 Watts")
    220.0
    """
    found = _WATTS.search(text)
    if not found:
        raise MeterError("the answer of ipmitool holds no power reading; the controller may not support DCMI")
    return float(found[1])


def parse_redfish(data: Any) -> float:
    """W out of a Redfish Power (DSP0268: PowerControl[].PowerConsumedWatts) or EnvironmentMetrics (PowerWatts).

    >>> parse_redfish({"PowerControl": [{"PowerConsumedWatts": 340}]})
    340.0
    """
    if isinstance(data, dict):
        for row in data.get("PowerControl") or []:
            if isinstance(row, dict) and isinstance(row.get("PowerConsumedWatts"), (int, float)):
                return float(row["PowerConsumedWatts"])
        watts = data.get("PowerWatts")
        if isinstance(watts, dict) and isinstance(watts.get("Reading"), (int, float)):
            return float(watts["Reading"])
    raise MeterError("the answer holds neither PowerControl[].PowerConsumedWatts nor PowerWatts.Reading")


def find(configured: str, host: str | None = None) -> tuple[list[Meter], list[Missing]]:
    """The meter that `configured` names: "", "ipmi" or a Redfish address."""
    if not configured:
        return [], []
    try:
        meter: Meter = IpmiMeter(host=host) if configured == "ipmi" else RedfishMeter(configured, host=host)
        meter.read()
    except MeterError as error:
        return [], [Missing("node", error.reason, error.fix)]
    return [meter], []
