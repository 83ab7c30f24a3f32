"""What a replica is asked: requests with an arrival time, a prompt and an output, read from traces.

Layouts are known by their columns, plain or gzip:

    CSV    arrival_s, prompt_tokens, output_tokens                     our own; seconds
           TIMESTAMP, ContextTokens, GeneratedTokens                   Azure LLM inference trace, 2023 and 2024
           Timestamp, Request tokens, Response tokens                  BurstGPT; seconds
    JSONL  timestamp, input_length, output_length, hash_ids            Mooncake; milliseconds, prefixes in 512 tokens
"""

from __future__ import annotations

import csv
import gzip
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TextIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError

# Columns of each layout: arrival, prompt, output. Sources: Azure/AzurePublicDataset (CC BY 4.0), HPMLL/BurstGPT.
_LAYOUTS: Final = (
    ("arrival_s", "prompt_tokens", "output_tokens"),
    ("TIMESTAMP", "ContextTokens", "GeneratedTokens"),
    ("Timestamp", "Request tokens", "Response tokens"),
)
# kvcache-ai/Mooncake, FAST25-release/arxiv-trace: keys, and tokens of a block that a hash stands for.
_MOONCAKE: Final = ("timestamp", "input_length", "output_length")
_MOONCAKE_BLOCK: Final = 512

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def _none() -> Ints:
    return np.zeros(0, np.int64)


@dataclass(frozen=True)
class Requests:
    """A trace of n requests.

    Attributes
    ----------
    arrival : (n,) s from the first, ascending. prompt, output : (n,) tokens.
    page : tokens of a prefix page; 0 where nothing is known of shared prefixes.
    first, pages : request i starts with the pages `pages[first[i] : first[i + 1]]`, numbered from 0; equal numbers
        are equal text after equal text.
    """

    arrival: Floats
    prompt: Ints
    output: Ints
    page: int = 0
    first: Ints = field(default_factory=_none)
    pages: Ints = field(default_factory=_none)

    def __post_init__(self) -> None:
        n = len(self.arrival)
        if not n:
            raise InputError("a trace holds at least one request")
        if len(self.prompt) != n or len(self.output) != n:
            raise InputError(f"a trace has as many prompts and outputs as arrivals ({n})")
        if not np.isfinite(self.arrival).all() or self.arrival[0] < 0 or (np.diff(self.arrival) < 0).any():
            raise InputError("arrivals must be finite seconds from 0 on, ascending")
        if (self.prompt < 1).any() or (self.output < 1).any():
            raise InputError("a request has at least 1 prompt token and 1 output token")
        if len(self.first) != n + 1:
            object.__setattr__(self, "first", np.zeros(n + 1, np.int64))

    def __len__(self) -> int:
        return len(self.arrival)

    @property
    def rate(self) -> float:
        """Mean requests per second over the span of the trace."""
        span = float(self.arrival[-1] - self.arrival[0])
        if span <= 0:
            raise InputError("a trace must span more than 0 s to have a rate; state serve.rate")
        return (len(self) - 1) / span

    def at_rate(self, rate: float) -> Requests:
        """Return the same requests, squeezed or stretched in time to a mean rate (requests/s)."""
        if not rate > 0 or not math.isfinite(rate):
            raise InputError(f"a rate must be above 0 requests/s, got {rate:g}")
        return replace(self, arrival=self.arrival * (self.rate / rate))

    def between(self, start: float = 0.0, stop: float = math.inf) -> Requests:
        """Return the requests that arrive in [start, stop) seconds, counted from the first of them."""
        return self._picked(
            np.flatnonzero((self.arrival >= start) & (self.arrival < stop)), f"in {start:g} to {stop:g} s"
        )

    def head(self, count: int) -> Requests:
        """Return the first `count` requests."""
        return self._picked(np.arange(min(max(count, 0), len(self))), f"among the first {count}")

    def every(self, step: int) -> Requests:
        """Return every `step`-th request, without what is known of prefixes: a fair share of the load."""
        some = slice(None, None, max(step, 1))
        arrival = self.arrival[some]
        return Requests(arrival - arrival[0], self.prompt[some], self.output[some])

    def _picked(self, pick: Ints, where: str) -> Requests:
        if not len(pick):
            raise InputError(f"the trace holds no request {where}; it spans 0 to {self.arrival[-1]:g} s")
        a, z = self.first[pick[0]], self.first[pick[-1] + 1]  # picks are contiguous
        return replace(
            self, arrival=self.arrival[pick] - self.arrival[pick[0]], prompt=self.prompt[pick],
            output=self.output[pick], first=self.first[pick[0] : pick[-1] + 2] - a, pages=self.pages[a:z],
        )  # fmt: skip


# ---- reading -------------------------------------------------------------------------------------


def read_requests(path: Path) -> Requests:
    """Read a trace, CSV or JSONL, plain or gzip; every broken row is refused with its number."""
    try:
        with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="") as file:
            return _read(file, path)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"requests {path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


def _read(file: TextIO, path: Path) -> Requests:
    start = file.readline()
    if start.lstrip().startswith("{"):
        return _mooncake(start, file, path)
    return _parse(csv.reader(_again(start, file)), path)


def _again(start: str, file: TextIO) -> Iterator[str]:
    if start:
        yield start
    yield from file


def _parse(rows: Iterator[list[str]], path: Path) -> Requests:
    header = [name.strip().lstrip("\ufeff") for name in next(rows, [])]
    layout = next((names for names in _LAYOUTS if set(names) <= set(header)), None)
    if layout is None:
        wanted = " or ".join(", ".join(names) for names in _LAYOUTS)
        raise InputError(
            f"requests {path}, line 1: the first line must name the columns {wanted}; "
            f"got {', '.join(header) or 'nothing'}"
        )
    columns = [header.index(name) for name in layout]
    values: list[tuple[float, int, int]] = []
    for number, row in enumerate(rows, 2):
        if row:
            _append(values, _row(row, columns, path, number), path, number)
    return _made(values, path)


def _append(values: list[tuple[float, int, int]], one: tuple[float, int, int], path: Path, number: int) -> None:
    if values and one[0] < values[-1][0]:
        raise InputError(
            f"requests {path}, line {number}: arrivals must be sorted, but request {len(values) + 1} comes before "
            "the one above it"
        )
    values.append(one)


def _made(values: list[tuple[float, int, int]], path: Path, **pages: Any) -> Requests:
    if not values:
        raise InputError(f"requests {path}: the trace holds no request")
    table = np.array(values)
    lengths = table[:, 1:].astype(np.int64)
    return Requests(table[:, 0] - table[0, 0], lengths[:, 0], lengths[:, 1], **pages)


def _row(row: list[str], columns: list[int], path: Path, number: int) -> tuple[float, int, int]:
    try:
        when, prompt, output = (row[c] for c in columns)
        values = _seconds(when), int(float(prompt)), int(float(output))
    except (ValueError, IndexError, OverflowError):
        raise InputError(f"requests {path}, line {number}: not a request: {','.join(row)!r}") from None
    _checked(values, path, number, ",".join(row))
    return values


def _checked(values: tuple[float, int, int], path: Path, number: int, text: str) -> None:
    if not (math.isfinite(values[0]) and values[1] >= 1 and values[2] >= 1):
        raise InputError(
            f"requests {path}, line {number}: a request needs a time, at least 1 prompt token and 1 output token, "
            f"got {text!r}"
        )
    if values[0] < 0:
        raise InputError(f"requests {path}, line {number}: an arrival must be 0 s or later, got {text!r}")


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        # Python reads at most microseconds; the Azure trace of 2023 has a seventh digit, that of 2024 a time zone.
        head, _, tail = text.strip().partition(".")
        fraction = tail.partition("+")[0].rstrip("Z")
        plain = head.partition("+")[0].rstrip("Z")
        return datetime.fromisoformat(plain + "+00:00").timestamp() + float(f"0.{fraction or 0}")


def _mooncake(start: str, lines: Iterable[str], path: Path) -> Requests:
    values: list[tuple[float, int, int]] = []
    known: dict[Any, int] = {}
    pages: list[int] = []
    first = [0]
    for number, line in enumerate(_again(start, lines), 1):  # type: ignore[arg-type]
        if not line.strip():
            continue
        entry = _entry(line, path, number)
        one = float(entry["timestamp"]) / 1e3, int(entry["input_length"]), int(entry["output_length"])
        _checked(one, path, number, line.strip()[:80])
        _append(values, one, path, number)
        # A hash stands for its block and all before it; the last block may be cut short and is not shared whole.
        whole = entry.get("hash_ids", ())[: one[1] // _MOONCAKE_BLOCK]
        pages += [known.setdefault(h, len(known)) for h in whole]
        first.append(len(pages))
    shared: dict[str, Any] = {}
    if pages:
        shared = {"page": _MOONCAKE_BLOCK, "first": np.array(first, np.int64), "pages": np.array(pages, np.int64)}
    return _made(values, path, **shared)


def _entry(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        entry = msgspec.json.decode(line)
        missing = [key for key in _MOONCAKE if key not in entry]
        if not missing and all(isinstance(entry[key], (int, float)) for key in _MOONCAKE):
            return dict(entry)
    except (msgspec.DecodeError, TypeError):
        missing = []
    lacks = f"lacks {', '.join(missing)}" if missing else "is not a JSON object with numbers"
    raise InputError(f"requests {path}, line {number}: {lacks}; a line needs {', '.join(_MOONCAKE)}")
