"""What a replica is asked: requests with an arrival time, a prompt and an output, read from traces."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

# Layouts read directly: our own, and the Azure LLM inference trace (Azure/AzurePublicDataset, CC BY 4.0).
_LAYOUTS: Final = (
    ("arrival_s", "prompt_tokens", "output_tokens"),
    ("TIMESTAMP", "ContextTokens", "GeneratedTokens"),
)


@dataclass(frozen=True)
class Requests:
    """A trace of n requests: `arrival` (n,) s from the first, ascending; `prompt`, `output` (n,) tokens."""

    arrival: NDArray[np.float64]
    prompt: NDArray[np.int64]
    output: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.arrival)

    @property
    def rate(self) -> float:
        """Mean requests per second over the span of the trace."""
        span = float(self.arrival[-1] - self.arrival[0])
        if span <= 0:
            raise InputError("a trace must span more than 0 s to have a rate; state serve.rate")
        return (len(self) - 1) / span


def read_requests(path: Path) -> Requests:
    """Read a CSV trace, plain or gzip; every broken row is refused with its number."""
    try:
        with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="") as file:
            return _parse(csv.reader(file), path)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"requests {path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


def _parse(rows: Iterator[list[str]], path: Path) -> Requests:
    header = next(rows, [])
    layout = next((names for names in _LAYOUTS if set(names) <= set(header)), None)
    if layout is None:
        wanted = " or ".join(", ".join(names) for names in _LAYOUTS)
        raise InputError(
            f"requests {path}: the first line must name the columns {wanted}; got {', '.join(header) or 'nothing'}"
        )
    columns = [header.index(name) for name in layout]
    values = [_row(row, columns, path, number) for number, row in enumerate(rows, 2) if row]
    if not values:
        raise InputError(f"requests {path}: the trace holds no request")
    table = np.array(values)
    arrival = table[:, 0] - table[0, 0]
    back = np.flatnonzero(np.diff(arrival) < 0)
    if back.size:
        raise InputError(
            f"requests {path}: arrivals must be sorted, but request {back[0] + 2} comes before the one above it"
        )
    return Requests(arrival, table[:, 1].astype(np.int64), table[:, 2].astype(np.int64))


def _row(row: list[str], columns: list[int], path: Path, number: int) -> tuple[float, int, int]:
    try:
        when, prompt, output = (row[c] for c in columns)
        values = _seconds(when), int(float(prompt)), int(float(output))
    except (ValueError, IndexError):
        raise InputError(f"requests {path}, line {number}: not a request: {','.join(row)!r}") from None
    if not (np.isfinite(values[0]) and values[1] >= 1 and values[2] >= 1):
        raise InputError(
            f"requests {path}, line {number}: a request needs a time, at least 1 prompt token and 1 output token, "
            f"got {','.join(row)!r}"
        )
    return values


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        # Python reads at most microseconds; the Azure trace has a seventh digit.
        head, _, fraction = text.partition(".")
        return datetime.fromisoformat(head + "+00:00").timestamp() + float(f"0.{fraction or 0}")
