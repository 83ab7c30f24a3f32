"""Traces of requests as they are published, read into one form.

    CSV    arrival_s, prompt_tokens, output_tokens                our own; seconds
           TIMESTAMP, ContextTokens, GeneratedTokens              Azure LLM inference trace, 2023 and 2024
           Timestamp, Request tokens, Response tokens             BurstGPT; seconds; failed requests have no response
           arrived_at, num_prefill_tokens, num_decode_tokens      Vidur; seconds; also without arrived_at
    JSONL  timestamp, input_length, output_length, hash_ids       Mooncake; milliseconds, prefixes in 512 tokens
           prompt, output_tokens                                  a custom data set of vllm bench, its outputs stated
    JSON   conversations (ShareGPT), conversation (LMSYS)         text; the first question and answer of each, as vLLM's
           input_lens, output_lens                                a result of vllm bench serve --save-detailed

All plain or gzip. Rows out of order are sorted, failed ones left out, and `Requests.notes` says so. Where a file has no
arrivals, `timed` is false; where it has text, four characters are taken for a token (OpenAI's rule for English).
"""

from __future__ import annotations

import csv
import gzip
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TextIO

import msgspec
import numpy as np

from ..core.errors import InputError
from .traffic import Ints, Requests

# Columns of each layout: arrival (None where there is none), prompt, output. Sources: Azure/AzurePublicDataset (CC BY
# 4.0), HPMLL/BurstGPT, microsoft/vidur.
_LAYOUTS: Final = (
    ("arrival_s", "prompt_tokens", "output_tokens"),
    ("TIMESTAMP", "ContextTokens", "GeneratedTokens"),
    ("Timestamp", "Request tokens", "Response tokens"),
    ("arrived_at", "num_prefill_tokens", "num_decode_tokens"),
    (None, "num_prefill_tokens", "num_decode_tokens"),
)
# "BurstGPT_1.csv contains all of our trace ... with some failure that Response tokens are 0s" (its README).
_FAILED: Final = "Response tokens"
# kvcache-ai/Mooncake, FAST25-release/arxiv-trace: keys, and tokens of a block that a hash stands for.
_MOONCAKE: Final = ("timestamp", "input_length", "output_length")
_MOONCAKE_BLOCK: Final = 512
_CHARACTERS: Final = 4  # of a token
_TEXT: Final = f"token counts are characters / {_CHARACTERS}: the file holds text"
_UNTIMED: Final = "the file has no arrivals: they are made up (serve.arrivals) at serve.rate"


@dataclass
class _Rows:
    """Rows as they are read: seconds, prompt, output; prefix pages of each; how many were left out as failed."""

    path: Path
    values: list[tuple[float, int, int]] = field(default_factory=list)
    pages: list[list[int]] = field(default_factory=list)
    failed: int = 0
    timed: bool = True
    notes: list[str] = field(default_factory=list)

    def add(self, number: int, text: str, when: float, prompt: float, output: float) -> None:
        """Take a request, or refuse the line."""
        try:
            one = float(when), int(float(prompt)), int(float(output))
        except (ValueError, TypeError, OverflowError):
            raise self.refusal(number, f"not a request: {text!r}") from None
        if not (math.isfinite(one[0]) and one[1] >= 1 and one[2] >= 1):
            raise self.refusal(
                number, f"a request needs a time, at least 1 prompt token and 1 output token, got {text!r}"
            )
        if one[0] < 0:
            raise self.refusal(number, f"an arrival must be 0 s or later, got {text!r}")
        self.values.append(one)

    def refusal(self, number: int, why: str) -> InputError:
        return InputError(f"requests {self.path}, line {number}: {why}")

    def made(self) -> Requests:
        """Return all rows as requests, by arrival."""
        notes = list(self.notes)
        if self.failed:
            notes.append(f"{self.failed:,} failed requests of the trace (no response) are left out")
        if not self.values:
            raise InputError(f"requests {self.path}: the trace holds no request" + (f"; {notes[-1]}" if notes else ""))
        table = np.array(self.values)
        late = int((np.diff(table[:, 0]) < 0).sum())
        order = np.argsort(table[:, 0], kind="stable")
        if late:
            notes.append(f"{late:,} rows of the trace come before the one above them: sorted by arrival")
        table = table[order]
        lengths = table[:, 1:].astype(np.int64)
        if not self.timed:
            notes.append(_UNTIMED)
        shared: dict[str, Any] = {}
        if any(self.pages):
            rows = [self.pages[i] for i in order]
            first = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
            flat: Ints = np.array([page for row in rows for page in row], np.int64)
            shared = {"page": _MOONCAKE_BLOCK, "first": first, "pages": flat}
        return Requests(
            table[:, 0] - table[0, 0], lengths[:, 0], lengths[:, 1], timed=self.timed, notes=tuple(notes), **shared
        )


def read_requests(path: Path) -> Requests:
    """Read a trace, CSV, JSON or JSONL, plain or gzip; a broken row is refused with its number."""
    try:
        with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="") as file:
            return _read(file, path)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"requests {path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


def _read(file: TextIO, path: Path) -> Requests:
    start = file.readline()
    rows = _Rows(path)
    if not start.lstrip("\ufeff \t").startswith(("{", "[")):
        _csv(csv.reader(_again(start, file)), rows)
        return rows.made()
    whole = _whole(start, file)
    if whole is None:
        _lines(start, file, rows)
    else:
        _results(whole, rows)
    return rows.made()


def _again(start: str, file: TextIO) -> Iterator[str]:
    if start:
        yield start
    yield from file


def _whole(start: str, file: TextIO) -> Any:
    """Return a file that is one JSON value over one or several lines; None where lines are values of their own."""
    try:
        first = json.loads(start)
    except ValueError:
        try:
            return json.loads(start + file.read())
        except ValueError:
            file.seek(0)
            file.readline()
            return None
    return first if isinstance(first, list) or "input_lens" in first else None


# ---- CSV -----------------------------------------------------------------------------------------


def _csv(lines: Iterator[list[str]], rows: _Rows) -> None:
    header = [name.strip().lstrip("\ufeff") for name in next(lines, [])]
    layout = next((names for names in _LAYOUTS if {n for n in names if n} <= set(header)), None)
    if layout is None:
        wanted = " or ".join(", ".join(n for n in names if n) for names in _LAYOUTS)
        raise rows.refusal(1, f"the first line must name the columns {wanted}; got {', '.join(header) or 'nothing'}")
    when, prompt, output = (None if name is None else header.index(name) for name in layout)
    rows.timed = when is not None
    for number, row in enumerate(lines, 2):
        if not row:
            continue
        text = ",".join(row)
        try:
            cells = ("0" if when is None else row[when], row[prompt], row[output])  # type: ignore[index]
            if layout[2] == _FAILED and float(cells[2]) == 0:
                rows.failed += 1
                continue
            rows.add(number, text, _seconds(cells[0]), float(cells[1]), float(cells[2]))
        except (ValueError, IndexError, OverflowError):
            raise rows.refusal(number, f"not a request: {text!r}") from None


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        # Python reads at most microseconds; the Azure trace of 2023 has a seventh digit, that of 2024 a time zone.
        head, _, tail = text.strip().partition(".")
        fraction = tail.partition("+")[0].rstrip("Z")
        plain = head.partition("+")[0].rstrip("Z")
        return datetime.fromisoformat(plain + "+00:00").timestamp() + float(f"0.{fraction or 0}")


# ---- JSON ----------------------------------------------------------------------------------------


def _lines(start: str, file: TextIO, rows: _Rows) -> None:
    """Take JSON lines: Mooncake's, conversations, or prompts with the length of their output."""
    known: dict[Any, int] = {}
    for number, line in enumerate(_again(start, file), 1):
        if not line.strip():
            continue
        try:
            entry = msgspec.json.decode(line)
        except msgspec.DecodeError:
            entry = None
        if not isinstance(entry, dict):
            raise rows.refusal(number, "is not a JSON object with numbers; a line needs " + ", ".join(_MOONCAKE))
        text = line.strip()[:80]
        taken = next((take for key, take in _ENTRIES.items() if key in entry), _mooncake)
        taken(rows, number, text, entry, known)


def _mooncake(rows: _Rows, number: int, text: str, entry: Mapping[str, Any], known: dict[Any, int]) -> None:
    missing = [key for key in _MOONCAKE if not isinstance(entry.get(key), int | float)]
    if missing:
        raise rows.refusal(number, f"lacks {', '.join(missing)}; a line needs {', '.join(_MOONCAKE)}")
    rows.add(number, text, float(entry["timestamp"]) / 1e3, entry["input_length"], entry["output_length"])
    # A hash stands for its block and all before it; the last block may be cut short and is not shared whole.
    whole = (entry.get("hash_ids") or ())[: int(entry["input_length"]) // _MOONCAKE_BLOCK]
    rows.pages.append([known.setdefault(h, len(known)) for h in whole])


def _conversation(rows: _Rows, number: int, text: str, entry: Mapping[str, Any], _: dict[Any, int]) -> None:
    """Take the first question and its answer; conversations without either are left out and counted."""
    turns = entry.get("conversations") or entry.get("conversation") or []
    said = [str(turn.get("value", turn.get("content", ""))) for turn in turns if isinstance(turn, Mapping)]
    _untimed(rows, text=True)
    if len(said) < 2 or min(len(said[0]), len(said[1])) < _CHARACTERS:
        rows.failed += 1
        return
    rows.add(number, text, 0.0, len(said[0]) / _CHARACTERS, len(said[1]) / _CHARACTERS)


def _prompt(rows: _Rows, number: int, text: str, entry: Mapping[str, Any], _: dict[Any, int]) -> None:
    output = next((entry[key] for key in ("output_tokens", "output_len", "max_tokens") if key in entry), None)
    if output is None:
        raise rows.refusal(number, "has a prompt and no output_tokens; state how many tokens answer it")
    _untimed(rows, text=True)
    rows.add(number, text, 0.0, max(len(str(entry["prompt"])) / _CHARACTERS, 1.0), output)


_ENTRIES: Final[Mapping[str, Callable[[_Rows, int, str, Mapping[str, Any], dict[Any, int]], None]]] = {
    "conversations": _conversation, "conversation": _conversation, "prompt": _prompt,
}  # fmt: skip


def _untimed(rows: _Rows, *, text: bool) -> None:
    rows.timed = False
    if text and _TEXT not in rows.notes:
        rows.notes.append(_TEXT)


def _results(whole: Any, rows: _Rows) -> None:
    """Take a JSON file: a list of conversations, or a detailed result of vllm bench serve."""
    if isinstance(whole, list):
        for number, entry in enumerate(whole, 1):
            if not isinstance(entry, dict) or not ({"conversations", "conversation"} & set(entry)):
                raise rows.refusal(number, "a JSON list must hold conversations, as ShareGPT and LMSYS have them")
            _conversation(rows, number, str(entry)[:80], entry, {})
        return
    if not isinstance(whole, dict) or not {"input_lens", "output_lens"} <= set(whole):
        raise rows.refusal(1, "a JSON file must be a list of conversations or hold input_lens and output_lens")
    starts = whole.get("start_times")
    rows.timed = starts is not None
    prompts, outputs = whole["input_lens"], whole["output_lens"]
    times = starts or [0.0] * len(prompts)
    if not len(prompts) == len(outputs) == len(times):
        raise rows.refusal(1, f"has {len(prompts)} input_lens and {len(outputs)} output_lens")
    for number, (when, prompt, output) in enumerate(zip(times, prompts, outputs, strict=True), 1):
        if output == 0:
            rows.failed += 1
        else:
            rows.add(number, f"{prompt}, {output}", when, prompt, output)
