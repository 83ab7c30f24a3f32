"""Tests for `wattline.measure.sensor`, `probe` and `learning`: what is known of sensors, learnt and reckoned with."""

from __future__ import annotations

import json

import pytest

from wattline.core.errors import InputError
from wattline.measure import sensor as sensors
from wattline.measure.devices.replay import Recording, ReplayMeter, VirtualClock
from wattline.measure.devices.simulated import SENSORS
from wattline.measure.learning import load_of, probe
from wattline.measure.monitor import Monitor
from wattline.measure.probe import Learnt, pulses
from wattline.measure.sensor import Row, Sensor
from wattline.show.cli.measure import probe_command

from .cover import learnt, windows


def test_shipped_sensors_name_their_source():
    """Every shipped row says where it is from, and known parts of time lie between nothing and all."""
    assert sensors.shipped()
    for row in sensors.shipped():
        assert len(row.source) > 20
        assert 0 < row.duty[0] <= row.duty[1] <= 1
        assert 0 <= row.lag[0] <= row.lag[1]


def test_the_first_row_that_fits_is_taken():
    """What was learnt here comes before what is shipped; a kind that no one knows has nothing."""
    mine = Row(kind="nvidia:energy", name="NVIDIA A100*", lag=(0.01, 0.02), source="learnt")
    assert sensors.known("nvidia:energy", "NVIDIA A100-SXM4-80GB", [mine]) is mine
    shipped = sensors.known("nvidia:energy", "NVIDIA A100-SXM4-80GB")
    assert shipped is not None
    assert shipped.unknown == ("lag", "duty")
    assert sensors.known("a kind of its own", "x") is None


def test_learnt_sensors_are_kept_and_read(tmp_path):
    """Rows are written whole, a newer one in place of the older, and a broken file is one clear sentence."""
    path = tmp_path / "a" / "sensors.toml"
    sensors.keep([Row(kind="k", name="n", period=0.1), Row(kind="k", name="m")], path)
    sensors.keep([Row(kind="k", name="n", period=0.2)], path)
    assert {(row.name, row.period) for row in sensors.read(path)} == {("n", 0.2), ("m", None)}
    assert sensors.read(tmp_path / "none") == []
    path.write_text("[[sensor]]\nkind = 3\n")
    with pytest.raises(InputError, match="must hold"):
        sensors.read(path)


@pytest.mark.parametrize("name", [n for n in SENSORS if 0.02 <= SENSORS[n]["update"] < 1.0])
def test_a_probe_learns_each_sensor(name):
    """Period, lag, averaging and the share looked at are found within a few per cent of the truth."""
    truth, found = SENSORS[name], learnt(name, seconds=30.0)
    sensor = found.sensor
    assert sensor.period == pytest.approx(truth["update"], rel=0.06)
    assert sensor.jitter >= truth.get("jitter", 0.0)
    assert sensor.lag[0] - 0.002 <= truth.get("lag", 0.0) <= sensor.lag[1] + 0.002
    assert sensor.lag[1] - sensor.lag[0] < 0.03
    assert sensor.duty[0] - 0.02 <= truth.get("duty", 1.0) <= sensor.duty[1] + 0.02
    assert sensor.averaging == pytest.approx(
        truth.get("averaging", truth.get("duty", 0.0) * truth["update"] if "method" in truth else 0.0), abs=0.02
    )


@pytest.mark.parametrize("name", SENSORS)
def test_the_truth_is_inside_on_every_kind_of_sensor(name):
    """With what a probe learns, windows of 50 ms to 20 s hold the truth (16,000 of them are in bench/measure.py)."""
    update = SENSORS[name]["update"]
    known = learnt(name, seconds=8.0 if update < 0.02 else 30.0).sensor if update < 1.0 else Sensor(period=1.0)
    looks = windows(name, known, 4, spans=(0.05, 0.3, 1.0, 4.0))
    assert sum(look.inside for look in looks) >= 0.94 * len(looks)


def test_what_is_not_known_is_named_and_reckoned_with():
    """A lag that may be up to 100 ms widens the interval, and the answer says that it is not known."""
    name = "counter, 100 ms, late by 100 ms"
    told = Sensor(period=0.1, lag=(0.0, 0.1), source="assumed")
    assert all(look.inside for look in windows(name, told, 5, loads=("steps", "bursts"), spans=(0.2, 1.0)))
    clock = VirtualClock()
    meter = ReplayMeter(100.0, clock=clock, limit=700.0)
    meter.behaves(told)
    from .drive import Driver

    driver = Driver(Monitor([meter], clock=clock, thread=False), clock)
    part = driver.window(2.0).result.parts[0]
    assert part.unknown == ("lag",)
    assert part.to_dict()["unknown"] == ["lag"]


def test_nothing_is_learnt_of_the_lag_where_the_load_is_not_seen():
    """A sensor that does not rise with the load gives its period and keeps the rest, and the note says so."""
    from .cover import _Told

    clock = VirtualClock()
    meter = ReplayMeter(
        Recording.of(lambda t: 100 + 50 * ((t * 7) % 1), 3.0), name="far", clock=clock, update=0.05, limit=700.0
    )
    found = probe([meter], _Told(), seconds=6.0, path=None, clock=clock, sleep=clock.advance)
    assert found.sensors[0].learnt.sensor.period == pytest.approx(0.05, rel=0.05)
    assert "not learnt" in found.sensors[0].learnt.notes[0]


def test_a_probe_that_is_too_short_is_refused():
    """Five seconds at least; an unknown load is refused with the loads there are."""
    with pytest.raises(InputError, match="5 s or more"):
        probe([], None, seconds=1.0)
    with pytest.raises(InputError, match="auto, cpu, gpu, none"):
        load_of("gas", [])


def test_the_probe_s_command_prints_and_keeps(monkeypatch, capfd, tmp_path):
    """`doctor --probe` without a load learns periods from the device's own gaps and says where they are kept."""
    import wattline.measure.learning as learning

    monkeypatch.setenv("WATTLINE_SENSORS", str(tmp_path / "s.toml"))
    clock = VirtualClock()
    monkeypatch.setitem(learning.probe.__kwdefaults__, "clock", clock)
    monkeypatch.setitem(learning.probe.__kwdefaults__, "sleep", clock.advance)
    meter = ReplayMeter(100.0, clock=clock, update=0.02, limit=700.0)
    monitor = Monitor([meter], clock=clock, thread=False)
    assert probe_command("none", 6.0, json=True, monitor=monitor) == 0
    answer = json.loads(capfd.readouterr().out)
    assert answer["sensors"][0]["period_s"] == pytest.approx(0.02, rel=0.06)
    assert sensors.read(tmp_path / "s.toml")[0].kind == "replay"
    assert probe_command("none", 6.0, monitor=monitor) == 0
    assert "updates every" in capfd.readouterr().out


def test_pulses_are_the_same_for_a_seed():
    """The plan of a probe is deterministic, in order, and of lengths between 30 ms and 1.5 s."""
    assert pulses(20.0, 1) == pulses(20.0, 1) != pulses(20.0, 2)
    spans = [off - on for on, off in pulses(20.0, 1)[:-1]]
    assert all(0.03 <= span <= 1.5 for span in spans)


def test_a_sensor_that_hardly_updates_teaches_nothing():
    """Fewer than sixteen updates leave everything as it was."""
    from wattline.measure.probe import Seen, learn

    start = Sensor(lag=(0.0, 0.1))
    found = learn(Seen(error="gone"), [], counter=True, start=start, source="learnt")
    assert found == Learnt(sensor=start, notes=("gone",))
