"""The two databases a store is kept in, SQLite and PostgreSQL, behind the few calls that it makes.

Both are spoken to through Python's database interface (PEP 249): `sqlite3`, which Python has, and `psycopg`, an extra.
Statements are written once, with `?` for a value; what differs is said here. A connection lives as long as one use:
nothing is held open across a second, a fork or a failure.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ...core.errors import InputError, MissingExtraError

Row = dict[str, Any]

# Column -> its type; JSON is kept as text that each database knows to be JSON.
TEXT, WHOLE, NUMBER, DATA, KEY = "TEXT", "INTEGER", "NUMBER", "JSON", "KEY"
SAMPLE_KEYS: Final = (
    "time_unix_s", "device", "power_w", "energy_j", "clock_hz", "memory_clock_hz", "temperature_c", "power_limit_w",
    "utilization", "power_low_w", "power_high_w",
)  # fmt: skip
_RUN: Final = f"{TEXT} NOT NULL REFERENCES wattline_runs (run) ON DELETE CASCADE"
_SAMPLES: Final = {"time_unix_s": f"{NUMBER} NOT NULL", "device": f"{TEXT} NOT NULL"}
TABLES: Final[Mapping[str, Mapping[str, str]]] = {
    "meta": {"version": f"{WHOLE} PRIMARY KEY"},
    "runs": {
        "run": f"{TEXT} PRIMARY KEY", "name": f"{TEXT} NOT NULL", "host": f"{TEXT} NOT NULL",
        "process": f"{WHOLE} NOT NULL", "command": f"{DATA} NOT NULL", "tags": f"{DATA} NOT NULL",
        "start_unix_s": f"{NUMBER} NOT NULL", "seen_unix_s": f"{NUMBER} NOT NULL", "end_unix_s": NUMBER,
        "exit_code": WHOLE, "energy_j": NUMBER, "low_j": NUMBER, "high_j": NUMBER, "measurement": DATA,
        "notes": f"{DATA} NOT NULL",
    },
    "devices": {
        "run": _RUN, "device": f"{TEXT} NOT NULL", "scope": f"{TEXT} NOT NULL", "name": f"{TEXT} NOT NULL",
        "method": f"{TEXT} NOT NULL", "within": f"{DATA} NOT NULL", "PRIMARY KEY": "(run, device)",
    },
    "windows": {
        "id": KEY, "run": _RUN, "name": f"{TEXT} NOT NULL", "start_unix_s": f"{NUMBER} NOT NULL",
        "duration_s": f"{NUMBER} NOT NULL", "energy_j": NUMBER, "low_j": NUMBER, "high_j": NUMBER,
        "counts": f"{DATA} NOT NULL", "measurement": f"{DATA} NOT NULL",
    },
    "samples": {"id": KEY, "run": _RUN, **{key: _SAMPLES.get(key, NUMBER) for key in SAMPLE_KEYS}},
}  # fmt: skip
INDEXES: Final = (
    "ix_wattline_runs_start_unix_s ON wattline_runs (start_unix_s)",
    "ix_wattline_windows_run ON wattline_windows (run)",
    "wattline_samples_when ON wattline_samples (run, time_unix_s)",
)
_DATA: Final = {name for table in TABLES.values() for name, kind in table.items() if kind.startswith(DATA)}
_FETCHED: Final = 4096


class Connection:
    """One use of a database: everything done with it is kept together, or none of it."""

    def __init__(self, raw: Any, mark: str, opened: Callable[[], Any]) -> None:
        self._raw, self._mark, self._opened = raw, mark, opened

    def run(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Run a statement; return how many rows it changed."""
        cursor = self._raw.cursor()
        try:
            cursor.execute(statement.replace("?", self._mark), tuple(values))
            return int(cursor.rowcount)
        finally:
            cursor.close()

    def insert(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows of the same keys."""
        names = list(rows[0])
        places = ", ".join([self._mark] * len(names))
        cursor = self._raw.cursor()
        try:
            cursor.executemany(
                f"INSERT INTO wattline_{table} ({', '.join(names)}) VALUES ({places})",
                [tuple(written(name, row[name]) for name in names) for row in rows],
            )
        finally:
            cursor.close()

    def rows(self, statement: str, values: Sequence[Any] = ()) -> Iterator[Row]:
        """Yield the rows of a query by name, some thousands in memory at once."""
        # The cursor is closed by name: a reader that stops half way must not leave one behind.
        with contextlib.closing(self._opened()) as cursor:
            cursor.execute(statement.replace("?", self._mark), tuple(values))
            names = [column[0] for column in cursor.description]
            while found := cursor.fetchmany(_FETCHED):
                for row in found:
                    yield {name: _read(name, value) for name, value in zip(names, row, strict=True)}


def written(name: str, value: Any) -> Any:
    """Return a value as it is kept in the column of this name."""
    return json.dumps(value) if name in _DATA and value is not None else value


def _read(name: str, value: Any) -> Any:
    return json.loads(value) if name in _DATA and isinstance(value, str) else value


class Sqlite:
    """A file. A log survives a killed process, readers do not wait for the writer, writers wait for 5 s."""

    errors: type[Exception] = sqlite3.Error
    types: Mapping[str, str] = {NUMBER: "DOUBLE", KEY: "INTEGER PRIMARY KEY"}

    def __init__(self, path: str) -> None:
        if path in ("", ":memory:"):
            raise InputError("a store in SQLite is a file; give its path, such as sqlite:///runs.db")
        self.file, _, self.how = path.partition("?")
        self.path = Path(self.file).expanduser()

    @contextlib.contextmanager
    def connect(self) -> Iterator[Connection]:
        """Open the file, made with its folder where missing; commit at the end, or nothing if it fails."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        where = f"{self.path.absolute().as_uri()}?{self.how}" if self.how else str(self.path)
        raw = sqlite3.connect(where, timeout=5.0, check_same_thread=False, uri=bool(self.how))
        with contextlib.closing(raw):
            for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
                raw.execute(f"PRAGMA {pragma}")
            with raw:
                yield Connection(raw, "?", raw.cursor)


class Postgres:
    """A server, reached through psycopg by its address."""

    types: Mapping[str, str] = {
        NUMBER: "DOUBLE PRECISION", KEY: "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY",
    }  # fmt: skip

    def __init__(self, address: str) -> None:
        try:
            import psycopg
        except ImportError:
            raise MissingExtraError("PostgreSQL needs psycopg; pip install 'wattline[postgres]'") from None
        self._connect = psycopg.connect
        self.errors: type[Exception] = psycopg.Error
        self.address = address

    @contextlib.contextmanager
    def connect(self) -> Iterator[Connection]:
        """Connect within 5 s; commit at the end, or nothing if it fails."""
        with self._connect(self.address, connect_timeout=5) as raw:
            yield Connection(raw, "%s", lambda: raw.cursor(name="wattline"))


def statements(types: Mapping[str, str]) -> Iterable[str]:
    """Return what makes the tables and their indexes where they are missing."""
    for table, columns in TABLES.items():
        lines = []
        for name, kind in columns.items():
            first, _, rest = kind.partition(" ")
            lines.append(f"{name} {types.get(first, first)} {rest}".rstrip())
        yield f"CREATE TABLE IF NOT EXISTS wattline_{table} ({', '.join(lines)})"
    for index in INDEXES:
        yield f"CREATE INDEX IF NOT EXISTS {index}"
