"""Tests for `wattline.measure.store.database`: both databases keep the same promises, and none of them harms the program."""

from __future__ import annotations

import contextlib
import math
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from wattline.core.errors import InputError
from wattline.measure.store import database as module
from wattline.measure.store.database import Store, StoreError, Writer, default_url

from ...waiting import until
from . import postgres

ANSWER = {
    "name": "step",
    "start_unix_s": 100.0,
    "duration_s": 2.0,
    "total": {"energy_j": 500.0, "low_j": 490.0, "high_j": 510.0},
    "counts": {"tokens": 1000.0},
    "parts": [{"uuid": "gpu-0", "energy_j": 500.0}],
}


@pytest.fixture(scope="session")
def server() -> Iterator[postgres.Server]:
    if postgres.binaries() is None:
        pytest.skip("no PostgreSQL here; apt-get install postgresql")
    with postgres.server() as made:
        yield made


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'runs.db'}"
    import psycopg

    address: str = request.getfixturevalue("server").url
    name = f"w{time.time_ns()}"
    with psycopg.connect(address.format("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
    return address.format(name)


@pytest.fixture
def store(url: str) -> Store:
    return Store(url)


def sample(at: float, joules: float = 0.0, **what: float) -> dict[str, object]:
    return {"time_unix_s": at, "device": "h/g/gpu", "energy_j": joules, **what}


# ---- what goes in comes out ----


def test_a_run_comes_back_as_it_went_in(url: str) -> None:
    """A run, its devices, windows and samples are the same after a reopening."""
    store = Store(url)
    run = store.begin("train", host="h", process=7, command=["python", "t.py"], tags={"lr": 0.1}, start_unix_s=100.0)
    device = {"device": "h/g/gpu", "scope": "gpu", "name": "A GPU", "method": "counter", "within": ["h/n/node"]}
    store.add(
        run,
        devices=[device, device | {"device": "other"}],
        samples=[sample(101.0, 5.0, power_w=250.0)],
        windows=[ANSWER],
    )
    store.end(run, measurement=ANSWER, exit_code=0, notes=["fine"], end_unix_s=103.0)
    store = Store(url)
    row = store.run(run)
    assert (row["name"], row["host"], row["process"], row["command"]) == ("train", "h", 7, ["python", "t.py"])
    assert (row["tags"], row["notes"], row["state"], row["energy_j"]) == ({"lr": 0.1}, ["fine"], "done", 500.0)
    assert row["measurement"] == ANSWER
    assert store.devices(run)[0] == device
    assert list(store.samples(run)) == [
        dict.fromkeys(module.SAMPLE_KEYS)
        | {"time_unix_s": 101.0, "device": "h/g/gpu", "power_w": 250.0, "energy_j": 5.0}
    ]
    (window,) = store.windows(run)
    assert (window["energy_j"], window["counts"], window["measurement"]) == (500.0, {"tokens": 1000.0}, ANSWER)


def test_samples_come_out_in_order_of_time(store: Store) -> None:
    """Many samples are read back sorted and complete."""
    run = store.begin("r")
    store.add(run, samples=[sample(float(t)) for t in range(9999, -1, -1)])
    assert [row["time_unix_s"] for row in store.samples(run)] == list(range(10000))


def test_the_last_windows_are_read_alone(store: Store) -> None:
    """The last few come in the order they ended, without the rest being read."""
    run = store.begin("r")
    store.add(run, windows=[ANSWER | {"name": str(i)} for i in range(9)])
    assert [row["name"] for row in store.windows(run, 3)] == ["6", "7", "8"]
    assert store.windows(run, 3) == store.windows(run)[-3:]


def test_a_device_is_kept_once(store: Store) -> None:
    """A device that is handed over again stays as it was."""
    run = store.begin("r")
    device = {"device": "d", "scope": "gpu", "name": "first", "method": "counter", "within": []}
    store.add(run, devices=[device])
    store.add(run, devices=[device | {"name": "second"}])
    assert [row["name"] for row in store.devices(run)] == ["first"]


def test_what_no_database_takes_is_left_out(store: Store) -> None:
    """NaN and infinities become unknown, and NUL characters are dropped."""
    run = store.begin("a\0b", tags={"x": math.nan})
    store.add(run, samples=[sample(1.0, math.inf)], windows=[ANSWER | {"note": math.nan}])
    assert store.run(run)["name"] == "ab"
    assert store.run(run)["tags"] == {"x": None}
    assert next(iter(store.samples(run)))["energy_j"] is None
    assert store.windows(run)[0]["measurement"]["note"] is None


def test_deleting_a_run_takes_all_of_it(store: Store) -> None:
    """Nothing of a deleted run is left."""
    run = store.begin("r")
    store.add(run, samples=[sample(1.0)], windows=[ANSWER])
    store.delete(run)
    assert not store.runs()
    assert not list(store.samples(run))
    assert not store.windows(run)


def test_rows_that_are_wrong_are_refused_whole(store: Store) -> None:
    """A batch with one wrong row leaves nothing behind, and the message names the key."""
    run = store.begin("r")
    with pytest.raises(InputError, match="has no watts"):
        store.add(run, samples=[sample(1.0), sample(2.0) | {"watts": 3.0}])
    with pytest.raises(InputError, match="duration_s"):
        store.add(run, samples=[sample(1.0)], windows=[{"name": "w"}])
    assert not list(store.samples(run))


# ---- finding runs ----


def test_a_run_is_found_by_the_beginning_of_its_id(store: Store) -> None:
    """A prefix, the whole id or "last" names a run; none and many are errors that say so."""
    store.begin("a", run="20260101T000000-aa", start_unix_s=1.0)
    store.begin("b", run="20260102T000000-bb", start_unix_s=2.0)
    assert store.run("20260101")["name"] == "a"
    assert store.run("last")["name"] == "b"
    with pytest.raises(InputError, match="more than one"):
        store.run("2026")
    with pytest.raises(InputError, match="no run begins with '%'"):
        store.run("%")


def test_a_run_says_whether_it_lives(store: Store) -> None:
    """A run is running while it is heard of, lost when it is not, and failed with a code."""
    live = store.begin("r")
    assert store.run(live)["state"] == "running"
    store.add(live, seen_unix_s=time.time() - 100)
    assert store.run(live)["state"] == "lost"
    store.end(live, exit_code=3)
    assert store.run(live)["state"] == "failed"
    with pytest.raises(InputError, match="no run"):
        store.end("nothing")


def test_looking_makes_no_database(tmp_path: Path) -> None:
    """Asking a file that is not there for its runs answers none and does not make it."""
    path = tmp_path / "no" / "runs.db"
    assert Store(path).runs() == []
    with pytest.raises(InputError, match="not there yet"):
        Store(path).run("last")
    assert not path.parent.exists()


# ---- the schema ----


def test_many_programs_may_begin_at_once(url: str) -> None:
    """Eight that find an empty database together all begin their run."""
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda i: Store(url).begin(f"r{i}"), range(8)))
    assert len(set(runs)) == 8
    assert len(Store(url).runs()) == 8


def test_a_newer_schema_is_refused(store: Store) -> None:
    """A database of a later version is not touched, and the message says what to do."""
    store.begin("r")
    with store._writing() as connection:
        connection.insert("meta", [{"version": module.VERSION + 1}])
    with pytest.raises(StoreError, match="newer Wattline"):
        Store(store._url).runs()


def test_an_older_schema_is_brought_up_to_date(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The statements between two versions run once, and the version is noted."""
    run = store.begin("before")
    monkeypatch.setattr(module, "VERSION", module.VERSION + 1)
    monkeypatch.setattr(module, "UPGRADES", (*module.UPGRADES, ("UPDATE wattline_runs SET name = name || '+'",)))
    for _ in range(2):
        assert Store(store._url).run(run)["name"] == "before+"


def test_samples_of_the_first_schema_get_their_bounds(store: Store) -> None:
    """A store of version 1 has no least and most power of a sample; both come when it is opened, empty."""
    run = store.begin("before")
    store.add(run, samples=[sample(1.0, power_w=300.0)])
    with store._writing() as connection:
        for end in ("low", "high"):
            connection.run(f"ALTER TABLE wattline_samples DROP COLUMN power_{end}_w")
        connection.run("UPDATE wattline_meta SET version = 1")
    again = Store(store._url)
    again.add(run, samples=[sample(2.0, power_w=300.0, power_low_w=290.0, power_high_w=310.0)])
    found = [(row["power_low_w"], row["power_high_w"]) for row in again.samples(run)]
    assert found == [(None, None), (290.0, 310.0)]


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_server_stopped_and_started_in_a_run_loses_nothing(url: str, server: postgres.Server) -> None:
    """Rows handed over while it is away are in the store afterwards, each once, in order; the reason goes."""
    kept = Writer(url, "train", seconds=0.02).start()
    assert until(lambda: Store(url).exists and bool(Store(url).runs()))
    kept.add("samples", [sample(float(i)) for i in range(100)])
    assert until(lambda: len(list(Store(url).samples(kept.run))) == 100)
    server.stop()
    kept.add("samples", [sample(float(i)) for i in range(100, 300)])
    assert until(lambda: bool(kept.reason))
    server.start()
    kept.add("samples", [sample(float(i)) for i in range(300, 400)])
    assert kept.close() == ""
    store = Store(url)
    assert [row["time_unix_s"] for row in store.samples(kept.run)] == [float(i) for i in range(400)]
    assert store.run(kept.run)["state"] == "done"
    assert kept.lost == 0


# ---- addresses ----


def test_the_default_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """$WATTLINE_STORE, then $XDG_DATA_HOME, then the home folder."""
    monkeypatch.setenv("WATTLINE_STORE", "postgresql://db/x")
    assert default_url() == "postgresql://db/x"
    monkeypatch.delenv("WATTLINE_STORE")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_url() == "sqlite:////data/wattline/runs.db"
    monkeypatch.setenv("XDG_DATA_HOME", "")
    assert default_url().endswith("/.local/share/wattline/runs.db")


def test_a_password_is_never_shown() -> None:
    """Neither the address nor an error holds the password."""
    kept = Store("postgresql://me:secret@127.0.0.1:1/x")
    assert "secret" not in kept.url
    with pytest.raises(StoreError) as caught:
        kept.begin("r")
    assert "secret" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)


@pytest.mark.parametrize("wrong", ["mysql://h/x", "nonsense://", "://"])
def test_an_address_of_another_kind_is_refused(wrong: str) -> None:
    """Only SQLite and PostgreSQL are taken, and the message says so."""
    with pytest.raises(InputError):
        Store(wrong).begin("r")


# ---- the writer ----


def test_the_writer_keeps_what_it_is_given(url: str) -> None:
    """Rows handed over are in the store after a close, with the run's answer."""
    writer = Writer(url, "train", host="h").start()
    writer.add("samples", [sample(1.0), sample(2.0)])
    writer.add("windows", [ANSWER])
    assert writer.close(ANSWER, 0, ["a note"]) == ""
    store = Store(url)
    assert len(list(store.samples(writer.run))) == 2
    row = store.run(writer.run)
    assert (row["state"], row["energy_j"], row["notes"]) == ("done", 500.0, ["a note"])


def test_a_writer_that_is_never_closed_ends_with_the_program(tmp_path: Path) -> None:
    """What was handed over is kept even if the program forgets to close."""
    path = tmp_path / "runs.db"
    code = f"""
    from wattline.measure.store.database import Writer
    Writer({str(path)!r}, "forgot", seconds=60).start().add("samples", [{{"time_unix_s": 1.0, "device": "d"}}])
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=60)
    store = Store(path)
    assert store.run("last")["state"] == "done"
    assert len(list(store.samples(store.run("last")["run"]))) == 1


KILLED = """
import sys
import wattline.measure.store.recorder
from wattline.measure.monitor import Monitor
from wattline.measure.devices.replay import ReplayMeter
from wattline.measure.window import measure

monitor = Monitor([ReplayMeter(200.0)])
recorder = wattline.measure.store.recorder.Recorder("killed", sys.argv[1], monitor=monitor, interval=0.05).start()
for number, _ in enumerate(sys.stdin, 1):
    with measure("step", monitor=monitor) as m:
        m.count(number=number)
"""


def test_a_killed_program_loses_only_what_was_not_committed_yet(url: str) -> None:
    """After kill -9 everything that was ever seen in the store is there, without a hole, and the run is lost."""
    with subprocess.Popen([sys.executable, "-c", KILLED, url], stdin=subprocess.PIPE, text=True) as program:
        assert program.stdin is not None
        store = Store(url)

        def seen() -> tuple[str, list[float]]:
            rows = store.runs() if store.exists else []
            found = [row["run"] for row in rows if row["name"] == "killed"]
            if not found:
                return "", []
            return found[0], sorted(w["counts"]["number"] for w in store.windows(found[0]))

        run, before = "", []

        def enough() -> bool:
            nonlocal run, before
            program.stdin.write("step\n" * 3)
            program.stdin.flush()
            with contextlib.suppress(StoreError):
                run, before = seen()
            return len(before) >= 20 and list(store.samples(run))

        assert until(enough)
        os.kill(program.pid, signal.SIGKILL)
    run, after = seen()
    assert len(before) >= 20
    assert after[: len(before)] == before
    assert after == [float(n + 1) for n in range(len(after))]
    assert store.run("last")["end_unix_s"] is None
    assert list(store.samples(run))


def test_an_unwritable_store_costs_the_program_nothing(tmp_path: Path) -> None:
    """Where no file can be made the writer says why and the rows are dropped at the end."""
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    writer = Writer(blocked / "runs.db", "r").start()
    writer.add("samples", [sample(1.0)])
    reason = writer.close()
    assert "cannot be used" in reason
    assert str(blocked) in reason


def test_a_store_that_comes_back_gets_what_waited(tmp_path: Path) -> None:
    """Rows wait while the store cannot be written, and go in when it can."""
    place = tmp_path / "place"
    place.write_text("in the way")
    writer = Writer(place / "runs.db", "r")
    writer.add("samples", [sample(1.0)])
    assert not writer.commit()
    assert writer.reason
    place.unlink()
    writer.add("samples", [sample(2.0)])
    assert writer.commit()
    assert writer.reason == ""
    assert [row["time_unix_s"] for row in Store(place / "runs.db").samples(writer.run)] == [1.0, 2.0]


def test_rows_that_wait_too_long_are_given_up_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest rows go first, memory stays bounded, and the run says how many were lost."""
    monkeypatch.setattr(module, "MOST_ROWS", 10)
    place = tmp_path / "place"
    place.write_text("in the way")
    writer = Writer(place / "runs.db", "r")
    writer.add("samples", [sample(float(t)) for t in range(25)])
    assert not writer.commit()
    assert writer.lost == 15
    place.unlink()
    assert writer.close() == ""
    store = Store(place / "runs.db")
    assert [row["time_unix_s"] for row in store.samples(writer.run)] == list(range(15, 25))
    assert store.run("last")["notes"] == ["15 rows could not be kept"]


def test_a_row_that_no_store_can_take_does_not_block_the_rest(tmp_path: Path) -> None:
    """A wrong row is given up with its batch, and the next batch is kept."""
    writer = Writer(tmp_path / "runs.db", "r")
    writer.add("samples", [{"nonsense": 1}])
    writer.commit()
    assert "nonsense" in writer.reason
    writer.add("samples", [sample(2.0)])
    assert writer.commit()
    assert len(list(Store(tmp_path / "runs.db").samples(writer.run))) == 1


FULL = """
import resource, sys
from wattline.measure.store.database import Store, Writer

Store(sys.argv[1]).begin("before")
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
writer = Writer(sys.argv[1], "full").start()
for i in range(50):
    writer.add("samples", [{"time_unix_s": float(i), "device": "d" * 1000} for _ in range(100)])
    writer.commit()
reason = writer.close()
print("the program went on:", reason)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit on file size here")
def test_a_full_disk_costs_the_program_nothing(tmp_path: Path) -> None:
    """When the file can grow no more the program ends well, knows why, and what was kept can be read."""
    path = tmp_path / "runs.db"
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, timeout=60, check=True
    )
    assert "the program went on:" in done.stdout
    assert "cannot be used" in done.stdout
    assert done.stderr == ""
    assert {row["name"] for row in Store(path).runs()} >= {"before"}


def test_a_forked_child_leaves_the_parents_store_alone(tmp_path: Path) -> None:
    """A child neither writes through the parent's connection nor ends its run."""
    code = f"""
    import os
    from wattline.measure.store.database import Writer
    writer = Writer({str(tmp_path / "runs.db")!r}, "parent").start()
    writer.commit()
    child = os.fork()
    writer.add("samples", [{{"time_unix_s": float(child == 0), "device": "d"}}])
    if child == 0:
        writer.close()
        os._exit(0)
    os.waitpid(child, 0)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=60, capture_output=True, text=True
    )
    assert done.stderr == "" or "fork" in done.stderr
    store = Store(tmp_path / "runs.db")
    assert [row["time_unix_s"] for row in store.samples(store.run("last")["run"])] == [0.0]
