"""Tests for `wattline.control.loops.tune`: a loop on a simulated device, through leases of a process and of a daemon."""

from __future__ import annotations

import pytest

import wattline
from wattline.control.daemon.client import Client
from wattline.control.devices.simulated import SimulatedGpu
from wattline.control.leases import local
from wattline.control.leases.actuator import ControlError
from wattline.control.leases.keeper import Keeper
from wattline.control.loops.tune import Rule, Tuning, leases, tune
from wattline.control.loops.tuner import Objective
from wattline.core.errors import InputError
from wattline.measure.devices.replay import VirtualClock
from wattline.measure.monitor import Monitor

from ..daemon.serve import serving


class Rig:
    """A simulated device with its meter in invented time, and steps on it."""

    def __init__(self, folder, *, found: float = 600.0, devices: int = 1) -> None:
        self.clock = VirtualClock(10.0)
        self.gpus = [SimulatedGpu(f"SIM-{k}", found=found, clock=self.clock) for k in range(devices)]
        self.monitor = Monitor([g.meter() for g in self.gpus], clock=self.clock, thread=False)
        self.keeper = Keeper(self.gpus, folder / "state", clock=self.clock)

    @property
    def gpu(self) -> SimulatedGpu:
        return self.gpus[0]

    def step(self, compute: float = 0.06, memory: float = 0.04) -> None:
        for gpu in self.gpus:
            gpu.busy(True)
        self.clock.advance(max(g.seconds(compute, memory) for g in self.gpus))
        for gpu in self.gpus:
            gpu.busy(False)
        self.monitor.poll()

    def truth(self, knob: str, values, compute: float = 0.06, memory: float = 0.04) -> dict[float, tuple[float, float]]:
        return {
            v: (self.gpu.seconds(compute, memory, {knob: v}), self.gpu.joules(compute, memory, {knob: v}))
            for v in values
        }


@pytest.fixture
def rig(tmp_path):
    made = Rig(tmp_path)
    local.use(made.keeper)
    yield made
    local.use(None)


RULE = Rule(seconds=0.5)


@pytest.mark.parametrize("knob", ["power_limit", "clock"])
def test_a_plain_loop_saves_energy_and_leaves_no_trace(rig, knob):
    """A loop of a known length ends at nearly the least energy its slowdown allows; the device is as it was found."""
    loop = wattline.tune(range(1200), max_slowdown=0.05, knob=knob, rule=RULE, monitor=rig.monitor)
    for _ in loop:
        rig.step()
    found = loop.report
    assert found is not None
    assert found.best is not None
    tuning = Tuning([rig.keeper.take("0")], Objective(eta=1.0), knob=knob, rule=RULE)
    truth = rig.truth(knob, tuning._tuner.values)
    slow = 1.05 * rig.gpu.seconds(0.06, 0.04, {"power_limit": 600.0, "clock": None})
    least = min(e for t, e in truth.values() if t <= slow)
    assert truth[found.best][0] <= slow * 1.001
    assert truth[found.best][1] <= 1.02 * least
    assert found.joules == pytest.approx(truth[found.best][1], rel=0.02)
    rig.keeper.close()
    assert (rig.gpu.read("power_limit"), rig.gpu.read("clock")) == (600.0, None)


def test_a_limit_above_the_one_found_is_never_tried(rig):
    """The highest setting is the administrator's limit, not the device's."""
    with tune_of(rig) as tuning:
        assert tuning._tuner.values[-1] == 600.0
        assert tuning._tuner.ask() == 600.0


def tune_of(rig, **how) -> Tuning:
    how = {"objective": Objective(eta=1.0), "rule": RULE, "monitor": rig.monitor, **how}
    return Tuning([rig.keeper.take("0")], **how)


def test_a_break_gives_the_lease_back(rig):
    """Leaving the loop early, or by an error, puts back what was found."""
    for _ in tune(range(1000), eta=1.0, rule=RULE, monitor=rig.monitor):
        rig.step()
        if rig.gpu.read("power_limit") != 600.0:
            break
    assert rig.gpu.read("power_limit") == 600.0
    assert not rig.keeper.leases


def test_several_devices_are_set_alike(tmp_path):
    """Two leases: both devices have the setting in force, and joules are of both."""
    rig = Rig(tmp_path, devices=2)
    with Tuning([rig.keeper.take("0"), rig.keeper.take("1")], Objective(eta=1.0), rule=RULE, monitor=rig.monitor) as t:
        for _ in range(300):
            rig.step()
            t.step()
            assert rig.gpus[0].read("power_limit") == rig.gpus[1].read("power_limit")
    report = t.report()
    assert report.joules == pytest.approx(2 * rig.gpu.joules(0.06, 0.04, {"power_limit": report.best}), rel=0.03)


def test_what_goes_wrong_later_ends_the_tuning_and_not_the_loop(rig):
    """Another tool takes the knob: the loop runs to its end, and the report says why it was not tuned further."""
    loop, steps = tune(range(300), eta=1.0, rule=RULE, monitor=rig.monitor), 0
    for _ in loop:
        rig.step()
        steps += 1
        if steps == 60:
            rig.gpu.write("power_limit", 222.0)
    assert steps == 300
    assert loop.report is not None
    assert "another tool set power limit 222 W" in loop.report.notes[0]
    assert rig.gpu.read("power_limit") == 222.0  # theirs


def test_without_a_sensor_it_says_so(rig):
    """No joules, no tuning: a note, and the loop runs as it would."""
    loop = tune(range(60), eta=1.0, rule=RULE, monitor=Monitor([], clock=rig.clock, thread=False))
    for _ in loop:
        rig.step()
    assert loop.report is not None
    assert "no sensor shows" in loop.report.notes[0]


def test_through_a_daemon_it_is_the_same(tmp_path):
    """A lease of the daemon is tuned as one of this process is."""
    rig = Rig(tmp_path)
    with serving(rig.gpus, tmp_path), Client(tmp_path / "daemon.sock") as client, client.take("0") as held:
        loop = tune(range(400), eta=1.0, rule=RULE, monitor=rig.monitor, held=[held])
        for _ in loop:
            rig.step()
        assert not held.over  # what was given stays the caller's
        assert loop.report is not None
        assert loop.report.best is not None
        assert rig.gpu.read("power_limit") < 600.0
    assert rig.gpu.read("power_limit") == 600.0


def test_what_cannot_be_tuned_is_refused_and_nothing_is_changed(rig):
    """Values above the limit found, a knob the device lacks, one value only: refused before the first step."""
    for how, words in (
        ({"values": [300.0, 650.0]}, "650 W is above 600 W"),
        ({"values": [150.0, 300.0]}, "the device's range"),
        ({"values": [300.0]}, "nothing to tune"),
        ({"rule": Rule(count=1)}, "2 settings or more"),
        ({"devices": ("7",)}, "no device is called '7'"),
        ({"eta": 2.0}, "eta must lie"),
    ):
        with pytest.raises((ControlError, InputError), match=words):
            next(iter(tune(range(3), monitor=rig.monitor, **{"eta": 1.0, **how})))
        assert rig.gpu.writes == 0
        assert not rig.keeper.leases
    with pytest.raises(InputError, match="a lease of each device"):
        Tuning([], Objective(eta=1.0))


def test_loaders_without_a_length_are_tuned_too(rig):
    """A generator, and a loader whose length is an error, run as they are; a loader of nothing ends at once."""

    class Stream:
        def __iter__(self):
            return iter(range(50))

        def __len__(self):
            raise TypeError("no length")

    for loader, count in ((Stream(), 50), ((k for k in range(50)), 50), ([], 0)):
        loop, steps = tune(loader, eta=1.0, rule=RULE, monitor=rig.monitor), 0
        for _ in loop:
            rig.step()
            steps += 1
        assert steps == count
        assert loop.report is not None
        assert loop.report.notes == ()
    with pytest.raises(TypeError, match="no length"):
        len(tune(Stream(), eta=1.0))
    assert len(tune(range(7), eta=1.0)) == 7


def test_leases_are_all_or_none(rig):
    """If one device cannot be had, those taken are given back."""
    with pytest.raises(ControlError):
        leases(["0", "1"])
    assert not rig.keeper.leases
