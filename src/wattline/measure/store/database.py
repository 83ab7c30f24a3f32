"""Runs, windows and samples in a database: SQLite in a file by default, PostgreSQL by URL.

    run       one program: when, where, how it ended, what it used         (schema version `VERSION`)
    device    a sensor of a run: what it is and what it lies within
    window    an answer of a run, whole, as it was given
    sample    a device at an instant

Rows go in and out as plain dictionaries with SI units in the key names, so this layer knows nothing of
meters. `Store` does as it is told and raises; `Writer` is what a measured program holds: it never raises,
never waits for the database, commits every second, and keeps the reason when something could not be kept.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ...core.errors import InputError, WattlineError
from .sql import SAMPLE_KEYS, Connection, Postgres, Row, Sqlite, statements, written

# Version of the schema; a database of an earlier one is brought up to date, one of a later one is refused.
VERSION: Final = 2
# Statements that bring a database from version i + 1 to i + 2.
UPGRADES: tuple[tuple[str, ...], ...] = (
    tuple(f"ALTER TABLE wattline_samples ADD COLUMN power_{end}_w DOUBLE PRECISION" for end in ("low", "high")),
)
# Seconds between commits, and after which a run that has not been heard of is taken for lost.
COMMIT_SECONDS: Final = 1.0
LOST_SECONDS: Final = 15.0
# Rows kept in memory while the database cannot be written; the oldest samples go first.
MOST_ROWS: Final = 100_000
MOST_SECONDS: Final = 30.0
_BATCH: Final = 1000

_KINDS: Final = ("samples", "windows", "devices")


class StoreError(WattlineError):
    """A store that cannot be opened, read or written: which, why, and what to do."""


def default_url() -> str:
    """Where runs are kept: ``WATTLINE_STORE`` if set, else ``$XDG_DATA_HOME/wattline/runs.db``."""
    given = os.environ.get("WATTLINE_STORE", "")
    if given:
        return given
    base = os.environ.get("XDG_DATA_HOME", "")
    folder = Path(base) if base.startswith("/") else Path.home() / ".local" / "share"
    return f"sqlite:///{folder / 'wattline' / 'runs.db'}"


class Store:
    """A database of runs. Constructing it touches nothing; the first use opens it and makes its tables.

    url : "sqlite:///PATH", a plain path, or "postgresql://user:password@host/name"; `default_url()` if None.
    """

    def __init__(self, url: str | Path | None = None) -> None:
        text = str(url) if url is not None else default_url()
        self._url = text if "://" in text else f"sqlite:///{text}"
        self._database: Sqlite | Postgres | None = None
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """The address, its password left out."""
        return re.sub(r"(://[^:/@]*):[^/]*@", r"\1:***@", self._url)

    @property
    def exists(self) -> bool:
        """Whether there is a database to read; a file is looked for, a server is taken for granted."""
        file = self._url.removeprefix("sqlite:///")
        return file == self._url or Path(file.partition("?")[0]).expanduser().exists()

    def open(self) -> Sqlite | Postgres:
        """Make or upgrade the tables, and return the database; done once."""
        with self._lock:
            if self._database is None:
                found = self._named()
                with _reasons(self.url, found):
                    self._prepare(found)
                self._database = found
            return self._database

    def _named(self) -> Sqlite | Postgres:
        kind, _, rest = self._url.partition("://")
        if kind == "sqlite":
            if rest and not rest.startswith("/"):
                raise InputError(
                    f"{self.url}: a file is named sqlite:///PATH, with three slashes; or give its plain path"
                )
            return Sqlite(rest.removeprefix("/"))
        if kind in ("postgresql", "postgres", "postgresql+psycopg"):
            return Postgres(f"postgresql://{rest}")
        raise InputError(
            f"a store is kept in SQLite or PostgreSQL, got {kind!r}; "
            "give a path or sqlite:/// or postgresql:// and an address"
        )

    def _prepare(self, database: Sqlite | Postgres) -> None:
        """Make the tables, or bring them to this version."""
        # Two programs may begin with an empty database at once; the second finds what the first made.
        for attempt in range(3):
            try:
                with database.connect() as connection:
                    for statement in statements(database.types):
                        connection.run(statement)
                    known = next(connection.rows("SELECT MAX(version) AS version FROM wattline_meta"))["version"]
                    if known is None:
                        connection.run("INSERT INTO wattline_meta (version) VALUES (?)", [VERSION])
                break
            except database.errors:
                if attempt == 2:
                    raise
                time.sleep(0.1)
        if known is not None and known > VERSION:
            raise StoreError(
                f"{self.url} was written by a newer Wattline (schema {known}, this one knows {VERSION}); "
                "update Wattline or give another store"
            )
        for step in range(known or VERSION, VERSION):
            self._upgrade(database, step)

    @staticmethod
    def _upgrade(database: Sqlite | Postgres, step: int) -> None:
        """Bring the tables from version `step` to the next, unless another program does so meanwhile."""
        try:
            with database.connect() as connection:
                for statement in UPGRADES[step - 1]:
                    connection.run(statement)
                connection.run("INSERT INTO wattline_meta (version) VALUES (?)", [step + 1])
        except database.errors:
            with database.connect() as connection:
                known = next(connection.rows("SELECT MAX(version) AS version FROM wattline_meta"))["version"]
            if known <= step:
                raise

    # ---- in ----

    def begin(
        self,
        name: str,
        *,
        host: str = "",
        process: int = 0,
        command: Sequence[str] = (),
        tags: Mapping[str, Any] | None = None,
        start_unix_s: float | None = None,
        run: str | None = None,
    ) -> str:
        """Begin a run and return its id, which sorts by time."""
        start = time.time() if start_unix_s is None else start_unix_s
        row = {
            "run": run or new_id(start),
            "name": name,
            "host": host,
            "process": process,
            "command": list(command),
            "tags": dict(tags or {}),
            "start_unix_s": start,
            "seen_unix_s": start,
            "notes": [],
        }
        with self._writing() as connection:
            connection.insert("runs", [_clean(row)])
        return str(row["run"])

    def add(
        self,
        run: str,
        *,
        samples: Iterable[Mapping[str, Any]] = (),
        windows: Iterable[Mapping[str, Any]] = (),
        devices: Iterable[Mapping[str, Any]] = (),
        seen_unix_s: float | None = None,
    ) -> None:
        """Add rows to a run, all or none.

        samples : dictionaries of `SAMPLE_KEYS`; a key left out is not known.
        windows : answers as plain data (name, start_unix_s, duration_s, total, counts and whatever else).
        devices : device, scope, name, method, within.
        """
        many = [{**dict.fromkeys(SAMPLE_KEYS), **_known(row, SAMPLE_KEYS, "a sample"), "run": run} for row in samples]
        answers = [{**window_row(row), "run": run} for row in windows]
        facts = ("device", "scope", "name", "method", "within")
        kinds = [{**_known(row, facts, "a device"), "run": run} for row in devices]
        with self._writing() as connection:
            if kinds:
                found = connection.rows("SELECT device FROM wattline_devices WHERE run = ?", [run])
                known = {row["device"] for row in found}
                if fresh := [_clean(row) for row in kinds if row["device"] not in known]:
                    connection.insert("devices", fresh)
            if many:
                connection.insert("samples", [_clean(row) for row in many])
            if answers:
                connection.insert("windows", [_clean(row) for row in answers])
            if seen_unix_s is not None:
                connection.run("UPDATE wattline_runs SET seen_unix_s = ? WHERE run = ?", [seen_unix_s, run])

    def end(
        self,
        run: str,
        *,
        measurement: Mapping[str, Any] | None = None,
        exit_code: int | None = None,
        notes: Iterable[str] = (),
        end_unix_s: float | None = None,
    ) -> None:
        """End a run, with its answer as a whole if there is one."""
        now = time.time() if end_unix_s is None else end_unix_s
        row: Row = {"end_unix_s": now, "seen_unix_s": now, "exit_code": exit_code, "notes": list(notes)}
        if measurement is not None:
            answer = window_row(measurement)
            row.update({key: answer[key] for key in ("energy_j", "low_j", "high_j", "measurement")})
        names = ", ".join(f"{name} = ?" for name in row)
        values = [written(name, value) for name, value in _clean(row).items()]
        with self._writing() as connection:
            changed = connection.run(f"UPDATE wattline_runs SET {names} WHERE run = ?", [*values, run])
        if changed == 0:
            raise InputError(f"no run {run!r} is in {self.url}")

    def delete(self, run: str) -> None:
        """Remove a run and everything in it."""
        with self._writing() as connection:
            connection.run("DELETE FROM wattline_runs WHERE run = ?", [run])

    # ---- out ----

    def runs(self, limit: int | None = None) -> list[Row]:
        """Every run, the latest first, with its ``state``: running, done, failed or lost."""
        if not self.exists:
            return []
        query = "SELECT * FROM wattline_runs ORDER BY start_unix_s DESC, run"
        with self._reading() as connection:
            found = connection.rows(query) if limit is None else connection.rows(f"{query} LIMIT ?", [limit])
            return [_stated(row) for row in found]

    def run(self, name: str) -> Row:
        """One run by its id, the beginning of one, or "last"."""
        query = "SELECT * FROM wattline_runs ORDER BY start_unix_s DESC LIMIT 1"
        if name != "last":
            query = "SELECT * FROM wattline_runs WHERE SUBSTR(run, 1, ?) = ? ORDER BY start_unix_s DESC LIMIT 5"
        with self._reading() as connection:
            found = list(connection.rows(query, () if name == "last" else (len(name), name)))
        exact = [row for row in found if row["run"] == name]
        if len(found) != 1 and not exact:
            which = "more than one run begins" if found else "no run begins"
            names = ", ".join(row["run"] for row in found) or "`wattline runs list` shows them"
            raise InputError(f"{which} with {name!r} in {self.url}: {names}")
        return _stated((exact or found)[0])

    def devices(self, run: str) -> list[Row]:
        """The devices of a run."""
        return list(self._rows("devices", run, "device"))

    def windows(self, run: str, last: int | None = None) -> list[Row]:
        """The windows of a run in the order they ended, or only the last so many."""
        if last is None:
            return list(self._rows("windows", run, "id"))
        query = "SELECT * FROM wattline_windows WHERE run = ? ORDER BY id DESC LIMIT ?"
        with self._reading() as connection:
            found = list(connection.rows(query, [run, last]))
        return [_outside(row) for row in reversed(found)]

    def samples(self, run: str) -> Iterator[Row]:
        """The samples of a run in order of time, a few thousand in memory at once."""
        return self._rows("samples", run, "time_unix_s", "id")

    def _rows(self, table: str, run: str, *order: str) -> Iterator[Row]:
        query = f"SELECT * FROM wattline_{table} WHERE run = ? ORDER BY {', '.join(order)}"
        with self._reading() as connection:
            for row in connection.rows(query, [run]):
                yield _outside(row)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Connection]:
        database = self.open()
        with _reasons(self.url, database), database.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Connection]:
        # Looking must not leave an empty database behind.
        if not self.exists:
            raise InputError(f"{self.url} is not there yet; record a run to make it")
        database = self.open()
        with _reasons(self.url, database), database.connect() as connection:
            yield connection


class Writer:
    """What a measured program holds: rows go in at once and are committed every second by a thread.

    **Never raises, never waits.** A store that cannot be opened or written is tried again, less and less often;
    meanwhile up to `MOST_ROWS` rows wait in memory. `reason` says what is wrong now, `lost` how many rows were
    given up.
    """

    def __init__(self, store: Store | str | Path | None, name: str, *, seconds: float = COMMIT_SECONDS, **run: Any):
        self.store = store if isinstance(store, Store) else Store(store)
        self.seconds = seconds
        self.reason = ""
        self.lost = 0
        self.run = new_id(time.time())
        self._begin: Row = {"name": name, "start_unix_s": time.time(), "process": os.getpid(), **run}
        self._begun = False
        self._process = os.getpid()
        self._waiting: dict[str, deque[Mapping[str, Any]]] = {kind: deque() for kind in _KINDS}
        self._held: dict[str, list[Mapping[str, Any]]] = {kind: [] for kind in _KINDS}
        self._wake = threading.Event()
        self._closing = False
        self._committing = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> Writer:
        """Begin the run in the store and commit from now on."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="wattline-store", daemon=True)
            self._thread.start()
            atexit.register(self.close)
        return self

    def add(self, kind: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Hand over rows of "samples", "windows" or "devices"."""
        # A child after fork has neither the thread nor the right to the parent's connections.
        if os.getpid() != self._process or self._closing:
            return
        self._waiting[kind].extend(rows)

    def flush(self) -> None:
        """Have the thread commit now, and not wait for its second; a store that fails is left to its own pace."""
        if not self.reason:
            self._wake.set()

    def commit(self) -> bool:
        """Write what waits, now; False if it could not be, with the `reason`."""
        with self._committing:
            for kind, held in self._held.items():
                waiting = self._waiting[kind]
                held.extend(waiting.popleft() for _ in range(len(waiting)))
                over = max(0, len(held) - MOST_ROWS)
                del held[:over]
                self.lost += over
            while True:
                # A few rows at a time, so that trying a store that is broken costs little.
                batch = {kind: held[:_BATCH] for kind, held in self._held.items()}
                try:
                    if not self._begun:
                        self.store.begin(run=self.run, **self._begin)
                        self._begun = True
                    self.store.add(self.run, seen_unix_s=time.time(), **batch)
                    self.reason = ""
                except InputError as error:
                    # Rows that no store can take are not tried again.
                    self.reason = str(error)
                    self.lost += sum(map(len, batch.values()))
                except Exception as error:
                    self.reason = str(error) or type(error).__name__
                    return False
                for held in self._held.values():
                    del held[:_BATCH]
                if not any(self._held.values()):
                    return True

    def close(
        self, measurement: Mapping[str, Any] | None = None, exit_code: int | None = None, notes: Iterable[str] = ()
    ) -> str:
        """Write what is left and end the run; returns the reason if anything could not be kept, else ""."""
        if self._closing or os.getpid() != self._process:
            return self.reason
        self._closing = True
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=5.0)
        atexit.unregister(self.close)
        if self._thread is None or not self._thread.is_alive():
            written = self.commit()
            lost = [f"{self.lost} rows could not be kept"] if self.lost else []
            try:
                if written:
                    self.store.end(self.run, measurement=measurement, exit_code=exit_code, notes=[*notes, *lost])
            except Exception as error:
                self.reason = str(error)
        return self.reason

    def _loop(self) -> None:
        wait = self.seconds
        while not self._closing:
            # A store that fails is asked less and less often, every half minute in the end.
            wait = self.seconds if self.commit() else min(2 * wait, MOST_SECONDS)
            self._wake.wait(wait)
            self._wake.clear()


def new_id(start_unix_s: float) -> str:
    """An id that sorts by time: 20260101T000000-1a2b3c, in UTC."""
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(start_unix_s))}-{secrets.token_hex(3)}"


def window_row(answer: Mapping[str, Any]) -> Row:
    """The row of a window out of an answer as plain data."""
    total = answer.get("total") or {}
    try:
        return {
            "name": str(answer["name"]),
            "start_unix_s": float(answer["start_unix_s"]),
            "duration_s": float(answer["duration_s"]),
            "energy_j": total.get("energy_j"),
            "low_j": total.get("low_j"),
            "high_j": total.get("high_j"),
            "counts": dict(answer.get("counts") or {}),
            "measurement": dict(answer),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"a window needs a name, start_unix_s and duration_s, got {sorted(answer)}: {error!r}"
        ) from None


def _known(row: Mapping[str, Any], keys: Sequence[str], what: str) -> Row:
    if unknown := set(row) - set(keys):
        raise InputError(f"{what} has no {', '.join(sorted(unknown))}; it has {', '.join(keys)}")
    return dict(row)


def _outside(row: Mapping[Any, Any]) -> Row:
    """A row without what only the database needs."""
    return {str(key): value for key, value in row.items() if key not in ("run", "id")}


def _stated(row: Row) -> Row:
    """A run with its state, as seen from now."""
    if row["end_unix_s"] is not None:
        row["state"] = "done" if row["exit_code"] in (None, 0) else "failed"
    else:
        row["state"] = "running" if time.time() - row["seen_unix_s"] < LOST_SECONDS else "lost"
    return row


def _clean(value: Any) -> Any:
    """The value with what no database takes left out: NaN and infinities become None, NUL characters nothing."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, Mapping):
        return {str(key).replace("\0", ""): _clean(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(each) for each in value]
    return value


@contextlib.contextmanager
def _reasons(what: str, database: Sqlite | Postgres) -> Iterator[None]:
    """Say which store failed and why, in one sentence."""
    try:
        yield
    except (database.errors, OSError) as error:
        raise StoreError(f"{what} cannot be used: {' '.join(str(error).split())}") from None
