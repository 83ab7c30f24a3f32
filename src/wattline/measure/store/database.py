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
from typing import TYPE_CHECKING, Any, Final

from ...core.errors import InputError, MissingExtraError, WattlineError

if TYPE_CHECKING:
    import sqlalchemy as sa

Row = dict[str, Any]

# Version of the schema; a database of an earlier one is brought up to date, one of a later one is refused.
VERSION: Final = 1
# Statements that bring a database from version i + 1 to i + 2.
UPGRADES: tuple[tuple[str, ...], ...] = ()
# Seconds between commits, and after which a run that has not been heard of is taken for lost.
COMMIT_SECONDS: Final = 1.0
LOST_SECONDS: Final = 15.0
# Rows kept in memory while the database cannot be written; the oldest samples go first.
MOST_ROWS: Final = 100_000
MOST_SECONDS: Final = 30.0
_BATCH: Final = 1000

SAMPLE_KEYS: Final = (
    "time_unix_s",
    "device",
    "power_w",
    "energy_j",
    "clock_hz",
    "memory_clock_hz",
    "temperature_c",
    "power_limit_w",
    "utilization",
)


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


def _tables() -> dict[str, sa.Table]:
    """The tables of this version; built at first use, so that importing this module costs nothing."""
    if not _CACHE:
        import sqlalchemy as sa

        meta = sa.MetaData()
        number, text, data = sa.Double, sa.Text, sa.JSON
        key = sa.BigInteger().with_variant(sa.Integer, "sqlite")
        _CACHE["meta"] = sa.Table("wattline_meta", meta, sa.Column("version", sa.Integer, primary_key=True))
        _CACHE["runs"] = sa.Table(
            "wattline_runs",
            meta,
            sa.Column("run", text, primary_key=True),
            sa.Column("name", text, nullable=False),
            sa.Column("host", text, nullable=False),
            sa.Column("process", sa.Integer, nullable=False),
            sa.Column("command", data, nullable=False),
            sa.Column("tags", data, nullable=False),
            sa.Column("start_unix_s", number, nullable=False, index=True),
            sa.Column("seen_unix_s", number, nullable=False),
            sa.Column("end_unix_s", number),
            sa.Column("exit_code", sa.Integer),
            sa.Column("energy_j", number),
            sa.Column("low_j", number),
            sa.Column("high_j", number),
            sa.Column("measurement", data),
            sa.Column("notes", data, nullable=False),
        )
        run = "wattline_runs.run"
        _CACHE["devices"] = sa.Table(
            "wattline_devices",
            meta,
            sa.Column("run", text, sa.ForeignKey(run, ondelete="CASCADE"), primary_key=True),
            sa.Column("device", text, primary_key=True),
            sa.Column("scope", text, nullable=False),
            sa.Column("name", text, nullable=False),
            sa.Column("method", text, nullable=False),
            sa.Column("within", data, nullable=False),
        )
        _CACHE["windows"] = sa.Table(
            "wattline_windows",
            meta,
            sa.Column("id", key, primary_key=True, autoincrement=True),
            sa.Column("run", text, sa.ForeignKey(run, ondelete="CASCADE"), nullable=False, index=True),
            sa.Column("name", text, nullable=False),
            sa.Column("start_unix_s", number, nullable=False),
            sa.Column("duration_s", number, nullable=False),
            sa.Column("energy_j", number),
            sa.Column("low_j", number),
            sa.Column("high_j", number),
            sa.Column("counts", data, nullable=False),
            sa.Column("measurement", data, nullable=False),
        )
        kinds = {"time_unix_s": number, "device": text}
        _CACHE["samples"] = sa.Table(
            "wattline_samples",
            meta,
            sa.Column("id", key, primary_key=True, autoincrement=True),
            sa.Column("run", text, sa.ForeignKey(run, ondelete="CASCADE"), nullable=False),
            *(sa.Column(name, kinds.get(name, number), nullable=name not in kinds) for name in SAMPLE_KEYS),
            sa.Index("wattline_samples_when", "run", "time_unix_s"),
        )
    return _CACHE


_CACHE: dict[str, Any] = {}


class Store:
    """A database of runs. Constructing it touches nothing; the first use opens it and makes its tables.

    url : "sqlite:///PATH", a plain path, or "postgresql://user:password@host/name"; `default_url()` if None.
    """

    def __init__(self, url: str | Path | None = None) -> None:
        text = str(url) if url is not None else default_url()
        if "://" not in text:
            text = f"sqlite:///{text}"
        for plain in ("postgresql://", "postgres://"):
            if text.startswith(plain):
                text = "postgresql+psycopg://" + text.removeprefix(plain)
        self._url = text
        self._engine: sa.Engine | None = None
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

    def open(self) -> sa.Engine:
        """Connect, make or upgrade the tables, and return the engine; done once."""
        with self._lock:
            if self._engine is None:
                self._engine = self._connect()
            return self._engine

    def _connect(self) -> sa.Engine:
        try:
            import sqlalchemy as sa
        except ImportError:
            raise MissingExtraError("the store needs SQLAlchemy; pip install sqlalchemy") from None
        with _reasons("the store"):
            url = sa.make_url(self._url)
            kind = url.get_backend_name()
        if kind not in ("sqlite", "postgresql"):
            raise InputError(f"a store is kept in SQLite or PostgreSQL, got {kind!r}")
        if kind == "sqlite" and url.database in (None, "", ":memory:"):
            raise InputError("a store in SQLite is a file; give its path, such as sqlite:///runs.db")
        with _reasons(self.url):
            if kind == "sqlite" and url.database:
                Path(url.database).expanduser().parent.mkdir(parents=True, exist_ok=True)
                url = url.set(database=str(Path(url.database).expanduser()))
            try:
                # A file is opened by several threads and processes; a writer waits for another up to 5 s.
                arguments = {"timeout": 5.0} if kind == "sqlite" else {"connect_timeout": 5}
                # A connection lives as long as one use: nothing is held open across a second, a fork or a failure.
                engine = sa.create_engine(url, connect_args=arguments, poolclass=sa.pool.NullPool)
            except ImportError:
                raise MissingExtraError("PostgreSQL needs psycopg; pip install 'wattline[postgres]'") from None
            if kind == "sqlite":
                sa.event.listen(engine, "connect", _pragmas)
            self._prepare(engine)
        return engine

    def _prepare(self, engine: sa.Engine) -> None:
        """Make the tables, or bring them to this version."""
        import sqlalchemy as sa

        tables = _tables()
        # Two programs may begin with an empty database at once; the second finds what the first made.
        for attempt in range(3):
            try:
                tables["meta"].metadata.create_all(engine)
                break
            except (sa.exc.OperationalError, sa.exc.ProgrammingError, sa.exc.IntegrityError):
                if attempt == 2:
                    raise
                time.sleep(0.1)
        with engine.begin() as connection:
            version = connection.execute(sa.select(sa.func.max(tables["meta"].c.version))).scalar()
            if version is not None and version > VERSION:
                raise StoreError(
                    f"{self.url} was written by a newer Wattline (schema {version}, this one knows {VERSION}); "
                    "update Wattline or give another store"
                )
            if version is None:
                with contextlib.suppress(sa.exc.IntegrityError), connection.begin_nested():
                    connection.execute(tables["meta"].insert().values(version=VERSION))
            else:
                for step in range(version, VERSION):
                    for statement in UPGRADES[step - 1]:
                        connection.execute(sa.text(statement))
                    connection.execute(tables["meta"].insert().values(version=step + 1))

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
            connection.execute(_tables()["runs"].insert(), [_clean(row)])
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
        import sqlalchemy as sa

        tables = _tables()
        many = [{**dict.fromkeys(SAMPLE_KEYS), **_known(row, SAMPLE_KEYS, "a sample"), "run": run} for row in samples]
        answers = [{**window_row(row), "run": run} for row in windows]
        facts = ("device", "scope", "name", "method", "within")
        kinds = [{**_known(row, facts, "a device"), "run": run} for row in devices]
        with self._writing() as connection:
            if kinds:
                known = set(connection.scalars(sa.select(tables["devices"].c.device).filter_by(run=run)))
                if fresh := [_clean(row) for row in kinds if row["device"] not in known]:
                    connection.execute(tables["devices"].insert(), fresh)
            if many:
                connection.execute(tables["samples"].insert(), [_clean(row) for row in many])
            if answers:
                connection.execute(tables["windows"].insert(), [_clean(row) for row in answers])
            if seen_unix_s is not None:
                connection.execute(tables["runs"].update().filter_by(run=run).values(seen_unix_s=seen_unix_s))

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
        with self._writing() as connection:
            changed = connection.execute(_tables()["runs"].update().filter_by(run=run).values(_clean(row)))
        if changed.rowcount == 0:
            raise InputError(f"no run {run!r} is in {self.url}")

    def delete(self, run: str) -> None:
        """Remove a run and everything in it."""
        with self._writing() as connection:
            connection.execute(_tables()["runs"].delete().filter_by(run=run))

    # ---- out ----

    def runs(self, limit: int | None = None) -> list[Row]:
        """Every run, the latest first, with its ``state``: running, done, failed or lost."""
        if not self.exists:
            return []
        runs = _tables()["runs"]
        with self._reading() as connection:
            found = connection.execute(runs.select().order_by(runs.c.start_unix_s.desc(), runs.c.run).limit(limit))
            return [_stated(dict(row)) for row in found.mappings()]

    def run(self, name: str) -> Row:
        """One run by its id, the beginning of one, or "last"."""
        runs = _tables()["runs"]
        query = runs.select().order_by(runs.c.start_unix_s.desc())
        if name != "last":
            query = query.where(runs.c.run.startswith(name, autoescape=True))
        with self._reading() as connection:
            found = [dict(row) for row in connection.execute(query.limit(1 if name == "last" else 5)).mappings()]
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
        windows = _tables()["windows"]
        query = windows.select().filter_by(run=run).order_by(windows.c.id.desc()).limit(last)
        with self._reading() as connection:
            found = connection.execute(query).mappings().all()
        return [_outside(row) for row in reversed(found)]

    def samples(self, run: str) -> Iterator[Row]:
        """The samples of a run in order of time, a few thousand in memory at once."""
        return self._rows("samples", run, "time_unix_s", "id")

    def _rows(self, table: str, run: str, *order: str) -> Iterator[Row]:
        source = _tables()[table]
        query = source.select().filter_by(run=run).order_by(*(source.c[name] for name in order))
        # The result is closed by name: a reader that stops half way must not leave a cursor behind.
        with self._reading() as connection, connection.execution_options(yield_per=4096).execute(query) as found:
            for row in found.mappings():
                yield _outside(row)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        engine = self.open()
        with _reasons(self.url), engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        # Looking must not leave an empty database behind.
        if not self.exists:
            raise InputError(f"{self.url} is not there yet; record a run to make it")
        engine = self.open()
        with _reasons(self.url), engine.connect() as connection:
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


def _pragmas(connection: Any, _record: Any) -> None:
    """How SQLite writes: a log that survives a killed process, and readers that do not wait for the writer."""
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


@contextlib.contextmanager
def _reasons(what: str) -> Iterator[None]:
    """Say which store failed and why, in one sentence."""
    import sqlalchemy as sa

    try:
        yield
    except sa.exc.ArgumentError as error:
        raise InputError(f"{what}: {error}; give a path or sqlite:/// or postgresql:// and an address") from None
    except sa.exc.SQLAlchemyError as error:
        cause = " ".join(str(getattr(error, "orig", None) or error).split())
        raise StoreError(f"{what} cannot be used: {cause}") from None
    except OSError as error:
        raise StoreError(f"{what} cannot be used: {error}") from None
