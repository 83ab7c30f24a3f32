"""Tests for `wattline.show.cli.top`: what the live view shows is what the devices say."""

from __future__ import annotations

import asyncio
import io
import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from wattline.measure.devices.replay import ReplayMeter, VirtualClock
from wattline.measure.meter import State
from wattline.measure.monitor import Monitor
from wattline.measure.store.database import Store
from wattline.show.cli import store as cli_store
from wattline.show.cli import top, top_app
from wattline.show.cli.top_columns import EVERY, GAP, cells, fitting, ordered, remarks

STATE = State(clock=1.98e9, temperature=61.0, power_limit=700.0, utilization=0.97, throttle=("power cap",))


def watched(*more: ReplayMeter, clock: VirtualClock) -> Monitor:
    gpu = ReplayMeter(300.0, "g", clock=clock, host="h", name="GPU 0", state=STATE, within=["h/n/node"], period=0.02)
    node = ReplayMeter(500.0, "n", "node", "Node", clock=clock, host="h", period=0.02)
    return Monitor([gpu, node, *more], clock=clock, thread=False)


def run(view: top.View, clock: VirtualClock, seconds: float) -> list[dict[str, object]]:
    rows = view.rows()
    for _ in range(round(seconds / 0.5)):
        for _ in range(10):
            clock.advance(0.05)
            view.monitor.poll()
        rows = view.rows()
    return rows


def test_rows_hold_what_the_devices_say() -> None:
    """Power, energy since the start, clock, limit, temperature and load of each device."""
    clock = VirtualClock()
    view = top.View(watched(clock=clock))
    gpu, node = run(view, clock, 10.0)
    assert gpu["power_w"] == pytest.approx(300.0, rel=0.02)
    assert gpu["energy_j"] == pytest.approx(3000.0, rel=0.01)
    assert node["energy_j"] == pytest.approx(5000.0, rel=0.01)
    names = ("clock", "limit", "heat", "load", "remarks")
    assert cells(gpu, names) == ("1.98 GHz", "700 W", "61 °C", "97%", "throttled: powe…")
    assert cells(node, names[:4]) == ("-", "-", "-", "-")


def test_the_total_counts_nothing_twice() -> None:
    """A device within another is not added, and the heading names what is."""
    clock = VirtualClock()
    view = top.View(watched(clock=clock))
    rows = run(view, clock, 4.0)
    assert view.total(rows)["energy_j"] == pytest.approx(2000.0, rel=0.02)
    assert view.total(rows)["holds"] == ["h/n/node"]
    assert top.heading(view, rows).endswith("in 4 s (node)")


def test_energy_counts_anew_from_a_restart() -> None:
    """After a restart only what came since is shown."""
    clock = VirtualClock()
    view = top.View(watched(clock=clock))
    run(view, clock, 4.0)
    view.restart()
    assert run(view, clock, 2.0)[0]["energy_j"] == pytest.approx(600.0, rel=0.03)


def test_a_device_that_is_lost_says_so() -> None:
    """It keeps its row, without power, and the reason stands beside it."""
    clock = VirtualClock()
    gone = ReplayMeter(100.0, "x", clock=clock, host="h", lost_at=2.0)
    view = top.View(watched(gone, clock=clock))
    row = run(view, clock, 4.0)[2]
    assert row["power_w"] is None
    assert "lost" in remarks(row)


def test_no_sensor_says_what_to_do() -> None:
    """An empty machine is told of `wattline doctor`."""
    view = top.View(Monitor([], thread=False))
    assert "wattline doctor" in top.heading(view, view.rows())


def test_rates_come_from_the_runs_being_recorded(tmp_path: Path) -> None:
    """A running run reports J per step and tokens per joule; one that ended does not."""
    store = Store(tmp_path / "runs.db")
    answer = {
        "name": "step",
        "start_unix_s": 0.0,
        "duration_s": 1.0,
        "total": {"energy_j": 50.0},
        "counts": {"tokens": 200.0, "steps": 2.0},
    }
    live, done = store.begin("live"), store.begin("done")
    for each in (live, done):
        store.add(each, windows=[answer], seen_unix_s=time.time())
    store.end(done)
    assert sorted(map(str, top.stored_rates(store)())) == [
        "live / step: 25 J per step",
        "live / step: 4 tokens per joule",
    ]
    assert top.stored_rates(Store(tmp_path / "none.db"))() == []


@pytest.mark.parametrize(("width", "expected"), [
    (60, ["index", "device", "power", "load", "memory", "heat"]),
    (80, ["index", "device", "power", "history", "energy", "load", "memory", "heat"]),
    (160, list(EVERY)),
])  # fmt: skip
def test_columns_fit_their_terminal(width: int, expected: list[str]) -> None:
    """What matters most is there at 60 columns, more at 80, everything at 160; nothing is wider than the terminal."""
    assert fitting(width) == expected
    clock = VirtualClock()
    view = top.View(watched(clock=clock))
    run(view, clock, 3.0)
    console = Console(width=width, file=io.StringIO())
    console.print(top.once(view, width))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(len(line) for line in lines) <= width
    assert "…" not in lines[1]


@given(st.integers(10, 300))
def test_columns_never_exceed_any_width(width: int) -> None:
    """A column is there whole or not at all."""
    names = fitting(width)
    assert sum(EVERY[name].width for name in names) + GAP * max(0, len(names) - 1) <= width
    assert set(fitting(width)) <= set(fitting(width + 40))


def test_devices_are_sorted_by_what_they_draw() -> None:
    """The most first, those without a figure last; without a choice as they were found."""
    rows = [{"power_w": 1.0}, {"power_w": None}, {"power_w": 3.0}]
    assert [row["power_w"] for row in ordered(rows, "power_w")] == [3.0, 1.0, None]
    assert ordered(rows, None) == rows


def test_a_cap_s_holder_and_history_are_shown() -> None:
    """Who holds a device is told by the daemon, and the last looks are kept."""
    clock = VirtualClock()
    view = top.View(watched(clock=clock), holders=lambda: {"g": "alice, pid 7"})
    gpu, node = run(view, clock, 10.0)
    assert (gpu["held_by"], node["held_by"]) == ("alice, pid 7", "")
    assert len(gpu["history_w"]) > 5
    assert cells(gpu, ["held"]) == ("alice, pi…",)
    assert "cap held by alice" in top_app.details(gpu)


def test_the_application_shows_updates_and_obeys_its_keys() -> None:
    """The table follows the devices and the width; s sorts, r counts anew, space holds the picture, q ends."""
    from textual.widgets import DataTable, Static

    clock = VirtualClock()
    view = top.View(watched(clock=clock), lambda: [top.Rate(run="r", window="step", what="requests", joules=12.0)])

    async def drive() -> None:
        app = top_app.app(view, interval=3600.0)
        async with app.run_test(size=(170, 24)) as pilot:
            table = app.query_one(DataTable)

            def cell(row: int, name: str) -> str:
                return str(table.get_row_at(row)[[c.key.value for c in table.ordered_columns].index(name)])

            assert [c.key.value for c in table.ordered_columns] == list(EVERY)
            run(view, clock, 4.0)
            app.refresh_rows()  # type: ignore[attr-defined]
            assert cell(0, "scope") == "gpu"
            assert cell(0, "energy").endswith("kJ")
            assert "kJ in 4 s" in str(app.query_one("#total", Static).render())
            assert "12 J per request" in str(app.query_one("#rates", Static).render())
            assert "h/g/gpu" in str(app.query_one("#details", Static).render())
            await pilot.press("down")
            assert "h/n/node" in str(app.query_one("#details", Static).render())
            await pilot.press("s")
            assert cell(0, "scope") == "node"  # 500 W before 300 W
            assert "h/n/node" in str(app.query_one("#details", Static).render())  # the selection stays
            await pilot.press(*"sssss")
            await pilot.press("r")
            assert cell(0, "energy") == "0 J"
            await pilot.press("space")
            run(view, clock, 4.0)
            app.refresh_rows()  # type: ignore[attr-defined]
            assert cell(0, "energy") == "0 J"
            await pilot.press("space")
            assert cell(0, "energy") == "1.2 kJ"
            await pilot.resize_terminal(62, 20)
            await pilot.pause()
            assert [c.key.value for c in table.ordered_columns] == [
                "index",
                "device",
                "power",
                "load",
                "memory",
                "heat",
            ]
            await pilot.press("q")
        assert app.return_code == 0

    asyncio.run(drive())


def test_once_and_json_need_no_terminal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A table for a log and an answer for a program, both after one interval."""
    monitor = Monitor([ReplayMeter(300.0, "g", period=0.02)])
    none = str(tmp_path / "none.db")
    assert cli_store.top_command(0.3, once=True, store=none, monitor=monitor) == 0
    assert "Replayed de" in capsys.readouterr().out
    assert cli_store.top_command(0.3, json=True, store=none, monitor=monitor) == 0
    answer = json.loads(capsys.readouterr().out)
    monitor.stop()
    assert answer["devices"][0]["energy_j"] == pytest.approx(300.0 * answer["total"]["duration_s"], rel=0.3)
    assert cli_store.top_command(0.0, once=True, store=none, monitor=Monitor([])) == 1
