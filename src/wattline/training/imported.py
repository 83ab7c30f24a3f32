"""A profile from what people have: ranges of a profiler at locked clocks, and a log of power beside them.

    Kineto / torch profiler JSON  --+
    nsys stats ... nvtx_gpu_proj_trace --+--> Range(stage, instruction, start, seconds) --power log--> rows of a profile
    Zeus' log of windows (their own joules) ------------------------------------------------------> rows of a profile

Ranges are named as PyTorch names them, `PP:0F1` (stage 0, forward of microbatch 1; B, I, W), or `stage0/forward`. Power
samples are seconds apart what computations last, so the watts of each instruction are what explains all samples
together best (least squares over the shares of time in each sample), not what was read while it ran.
"""

from __future__ import annotations

import csv
import json
import math
import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np

from ..core.errors import InputError
from .instructions import BACKWARD, BACKWARD_INPUT, BACKWARD_WEIGHT, FORWARD
from .profile import COLUMNS, INSTRUCTIONS, Floats

_TORCH: Final = re.compile(r"(?:PP:)?(\d+)([FBIW])(\d+)")
_PLAIN: Final = re.compile(rf"stage[ _]?(\d+)[/ :_-]({'|'.join(sorted(INSTRUCTIONS, key=len, reverse=True))})\b.*")
_WHAT: Final = {"F": FORWARD, "B": BACKWARD, "I": BACKWARD_INPUT, "W": BACKWARD_WEIGHT}


@dataclass(frozen=True)
class Range:
    """One computation that ran: its stage and instruction, when (s since 1970) and how long (s)."""

    stage: int
    instruction: str
    start: float
    seconds: float
    joules: float = math.nan


@dataclass(frozen=True)
class Power:
    """A log of one device's power: (n,) s since 1970, ascending, and mean W since the sample before."""

    time: Floats
    watts: Floats


def named(text: str) -> tuple[int, str] | None:
    """Return stage and instruction of a range's name; None where it names no computation.

    >>> named("PP:2F0"), named("stage1/backward"), named("optimizer")
    ((2, 'forward'), (1, 'backward'), None)
    """
    if found := _TORCH.fullmatch(text.strip()):
        return int(found[1]), _WHAT[found[2]]
    if found := _PLAIN.fullmatch(text.strip()):
        return int(found[1]), found[2]
    return None


# ---- ranges --------------------------------------------------------------------------------------


def kineto(path: Path) -> list[Range]:
    """Return the ranges of a torch profiler's trace; those of the GPU's own time line where it has them."""
    data = _json(path)
    events = data.get("traceEvents") if isinstance(data, dict) else data
    if not isinstance(events, list):
        raise InputError(f"{path}: has no traceEvents; write it with torch.profiler's export_chrome_trace")
    base = float(data.get("baseTimeNanoseconds", 0)) / 1e9 if isinstance(data, dict) else 0.0
    out: dict[str, list[Range]] = {"gpu_user_annotation": [], "user_annotation": []}
    for event in events:
        place = out.get(str(event.get("cat"))) if isinstance(event, dict) and event.get("ph") == "X" else None
        name = named(str(event["name"])) if place is not None and "name" in event else None
        if place is not None and name is not None:
            place.append(Range(*name, base + float(event["ts"]) / 1e6, float(event.get("dur", 0.0)) / 1e6))
    return _found(out["gpu_user_annotation"] or out["user_annotation"], path)


def nsys(path: Path, start: float = 0.0) -> list[Range]:
    """Return the ranges of `nsys stats --report nvtx_gpu_proj_trace`; `start`: of the session, s since 1970."""
    out = []
    for row in _rows(path, ("Name", "Projected Start (ns)", "Projected Duration (ns)")):
        if name := named(row["Name"].lstrip(":")):
            began, seconds = (float(row[k]) / 1e9 for k in ("Projected Start (ns)", "Projected Duration (ns)"))
            out.append(Range(*name, start + began, seconds))
    return _found(out, path)


def zeus(path: Path, gpu: int = 0) -> list[Range]:
    """Return the windows of ZeusMonitor's log file, each with its own joules of one GPU."""
    column = f"gpu{gpu}_energy"
    out = [
        Range(*name, float(row["start_time"]), float(row["elapsed_time"]), float(row[column]))
        for row in _rows(path, ("window_name", "start_time", "elapsed_time", column))
        if (name := named(row["window_name"]))
    ]
    return _found(out, path)


def _found(ranges: list[Range], path: Path) -> list[Range]:
    if not ranges:
        raise InputError(
            f"{path}: no range is named like PP:0F1, as torch's pipelining names them, or stage0/forward; wrap "
            'each computation in torch.profiler.record_function("stage0/forward")'
        )
    return ranges


# ---- power ---------------------------------------------------------------------------------------


def power_log(path: Path, zone: str = "UTC", gpu: int | None = None) -> Power:
    """Return a log of power: columns `timestamp` (or time), `power.draw [W]` (or power), and `index` of the device.

    As `nvidia-smi --query-gpu=timestamp,index,power.draw --format=csv -lms 20` writes it; seconds since 1970 or
    dates, those without offset in `zone`. `gpu`: which device, where the log has several.
    """
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = [{k.strip(): (v or "").strip() for k, v in row.items() if k} for row in csv.DictReader(stream)]
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: is no CSV ({error})") from None
    heads = list(rows[0]) if rows else []
    when = next((h for h in heads if h.lower() in ("timestamp", "time", "time_s")), None)
    watts = next((h for h in heads if h.lower().startswith("power") and "limit" not in h.lower()), None)
    if when is None or watts is None:
        raise InputError(f"{path}: needs the columns timestamp and power.draw, has {', '.join(heads) or 'none'}")
    if gpu is not None and "index" in heads:
        rows = [row for row in rows if row["index"] == str(gpu)]
    pairs = []
    for row in rows:
        try:
            pairs.append((_time(row[when], zone), float(row[watts].split()[0])))
        except (ValueError, IndexError):
            continue  # "[N/A]" while a device resets
    if len(pairs) < 2:
        raise InputError(f"{path}: has fewer than two samples of power" + (f" of GPU {gpu}" if gpu is not None else ""))
    told = np.array(sorted(dict(pairs).items()))
    return Power(told[:, 0], told[:, 1])


def _time(text: str, zone: str) -> float:
    try:
        return float(text)
    except ValueError:
        pass
    made = datetime.fromisoformat(text.replace("/", "-"))
    return (made if made.tzinfo else made.replace(tzinfo=ZoneInfo(zone))).timestamp()


def watts_of(ranges: Sequence[Range], power: Power) -> tuple[dict[tuple[int, str], float], float]:
    """Return the watts of each (stage, instruction) of one device, and those between computations.

    Raises InputError where the log does not cover the ranges, or too few samples tell instructions apart.
    """
    keys = sorted({(r.stage, r.instruction) for r in ranges})
    edges = power.time
    inside = [r for r in ranges if r.start >= edges[0] and r.start + r.seconds <= edges[-1]]
    if not inside:
        raise InputError(
            "the log of power and the ranges do not overlap in time; state its time zone (--zone), or when the session "
            "began (--start)"
        )
    share = np.zeros((len(edges) - 1, len(keys) + 1))
    for r in inside:
        first = int(np.searchsorted(edges, r.start, side="right")) - 1
        last = int(np.searchsorted(edges, r.start + r.seconds, side="left"))
        for k in range(max(first, 0), min(last, len(edges) - 1)):
            overlap = min(edges[k + 1], r.start + r.seconds) - max(edges[k], r.start)
            share[k, keys.index((r.stage, r.instruction))] += max(overlap, 0.0) / (edges[k + 1] - edges[k])
    share[:, -1] = np.clip(1.0 - share[:, :-1].sum(axis=1), 0.0, 1.0)
    used = (share[:, :-1].sum(axis=1) > 0) | (np.arange(len(share)) % 8 == 0)
    some, seen = share[used], power.watts[1:][used]
    shown = some.sum(axis=0) > 1e-9
    if np.linalg.matrix_rank(some[:, shown], tol=1e-6) < int(shown.sum()):
        raise InputError(
            f"{int(used.sum())} samples of power do not tell {len(keys)} instructions apart; log faster, or longer"
        )
    found = np.zeros(len(keys) + 1)
    found[shown] = np.linalg.lstsq(some[:, shown], seen, rcond=None)[0]
    return dict(zip(keys, np.maximum(found[:-1], 0.0).tolist(), strict=True)), float(found[-1])


# ---- rows ----------------------------------------------------------------------------------------


def rows_of(ranges: Sequence[Range], megahertz: float, power: Power | None) -> list[dict[str, Any]]:
    """Return a profile's rows of ranges at one clock: the median time, and joules of the ranges or of the log."""
    by: dict[tuple[int, str], list[Range]] = defaultdict(list)
    for r in ranges:
        by[r.stage, r.instruction].append(r)
    own = all(math.isfinite(r.joules) for r in ranges)
    if not own and power is None:
        raise InputError("the ranges have no energy: give a log of power (--power)")
    watts = {} if own or power is None else watts_of(ranges, power)[0]
    out = []
    for (stage, what), some in sorted(by.items()):
        seconds = statistics.median(r.seconds for r in some)
        joules = statistics.fmean(r.joules for r in some) if own else watts[stage, what] * seconds
        out.append({"stage": stage, "instruction": what, "frequency": megahertz, "time": seconds, "energy": joules})
    return out


def write_rows(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write a profile: the columns that `wattline pipeline` reads, and Zeus' Perseus and lowtime too."""
    try:
        with path.open("w", encoding="utf-8", newline="") as stream:
            out = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
            out.writeheader()
            out.writerows(rows)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None


def _json(path: Path) -> Any:
    import gzip

    try:
        data = path.read_bytes()
        return json.loads(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise InputError(f"{path}: is no JSON ({error})") from None


def _rows(path: Path, wanted: Sequence[str]) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            lines = stream.read().splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no CSV ({error})") from None
    head = next((k for k, line in enumerate(lines) if wanted[0] in line), None)
    if head is None:
        raise InputError(f"{path}: has no column {wanted[0]}; it needs {', '.join(wanted)}")
    rows = list(csv.DictReader(lines[head:]))
    if rows and (missing := [name for name in wanted if name not in rows[0]]):
        raise InputError(f"{path}: has no column {missing[0]}; it needs {', '.join(wanted)}")
    return [row for row in rows if all(row[name] not in (None, "") for name in wanted)]
