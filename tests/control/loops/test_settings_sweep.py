"""Tests for `wattline.control.loops.settings_sweep`, `rounds`, `settle` and `live`: a sweep finds the device's own frontier."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import random
import signal
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.control.devices.simulated import SimulatedGpu
from wattline.control.leases import local
from wattline.control.leases.actuator import ControlError
from wattline.control.leases.keeper import Keeper
from wattline.control.loops.live import picture, plot, progress, watching
from wattline.control.loops.rounds import Rounds, count, half_widths, student
from wattline.control.loops.settings_sweep import Profiler, Task, profile, settings
from wattline.control.loops.settle import Settle
from wattline.core.errors import InputError
from wattline.measure.devices.replay import VirtualClock
from wattline.measure.monitor import Monitor, use
from wattline.measure.store.database import Store
from wattline.show.cli.main import main
from wattline.source.measured import profiled as measured
from wattline.source.measured.profiled import Trial

CLOCKS = (600e6, 900e6, 1.2e9, 1.5e9, 1.98e9)


class Rig:
    """A simulated device under virtual time, its meter, its keeper and a store; `work` is what is profiled."""

    def __init__(self, folder, noise=0.0, found=700.0):
        self.clock = VirtualClock(100.0)
        self.gpu = SimulatedGpu(found=found, clock=self.clock)
        self.monitor = Monitor([self.gpu.meter()], clock=self.clock, thread=False)
        self.keeper = Keeper([self.gpu], folder / "state", clock=self.clock)
        self.store = Store(folder / "runs.db")
        self.random = random.Random(3)
        self.noise, self.done, self.seen = noise, 0, []
        self.stop_at = None

    def work(self):
        self.done += 1
        if self.done == self.stop_at:
            raise KeyboardInterrupt
        self.seen.append(self.gpu.read("clock"))
        stretch = 1 + self.noise * self.random.gauss(0, 1)
        self.gpu.work(3.0 * stretch, 1.0 * stretch, self.clock.advance)

    def sleep(self, seconds):
        self.clock.advance(seconds)

    def profiler(self, lease, rounds, **more):
        task = Task(work=self.work, name="step", knob="clock", rounds=rounds, waiting_power=100.0)
        more.setdefault("settle", Settle(0.0, clock=self.clock, sleep=self.sleep))
        return Profiler(task, [lease], self.store, monitor=self.monitor, **more)

    def run(self, rounds, again=False, **more):
        with self.keeper.take("0") as lease:
            return self.profiler(lease, rounds, **more).run(again=again)


def test_a_sweep_finds_the_devices_frontier(tmp_path):
    """Each setting's time and energy are the truth, the frontier is the true one, and the device is as it was."""
    rig = Rig(tmp_path)
    found = rig.run(Rounds(values=CLOCKS))
    assert found.done
    assert count(found.trials) == dict.fromkeys(CLOCKS, 3)
    for clock in CLOCKS:
        time_s, energy_j = found.at(clock)
        assert time_s == pytest.approx(rig.gpu.seconds(3.0, 1.0, {"clock": clock}))
        assert energy_j == pytest.approx(rig.gpu.joules(3.0, 1.0, {"clock": clock}), abs=0.01)
    assert rig.gpu.read("clock") is None
    assert found.frontier.fastest.plan[0].knobs == {"label": "step", "clock_hz": 1.98e9}
    assert {p["clock_hz"] for k in range(len(found.frontier)) for p in [found.frontier.plan(k)[0].knobs]} <= set(CLOCKS)
    assert measured.read(rig.store, "step") == found
    assert measured.read(rig.store) == found
    points = found.points()
    assert points.provenance == "measured"
    np.testing.assert_allclose(points.energy, [rig.gpu.joules(3.0, 1.0, {"clock": c}) for c in CLOCKS], rtol=1e-4)


def test_the_order_is_random_and_the_same_for_the_same_seed(tmp_path):
    """Rounds are shuffled, each in its own order, so that drift falls on all settings alike."""
    orders = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / folder).mkdir()
        rig = Rig(tmp_path / folder)
        found = rig.run(Rounds(values=CLOCKS, seed=seed))
        orders.append([t.value for t in found.trials])
    assert orders[0] == orders[1] != orders[2]
    for order in orders:
        rounds = [order[k : k + 5] for k in (0, 5, 10)]
        assert all(sorted(r) == sorted(CLOCKS) for r in rounds)
        assert len({tuple(r) for r in rounds}) > 1


def test_repeats_go_on_until_intervals_are_small(tmp_path):
    """With noise, settings are repeated until their 95 % intervals are as narrow as asked, within the most repeats."""
    rig = Rig(tmp_path, noise=0.02)
    found = rig.run(Rounds(values=CLOCKS, interval=0.02, most=12))
    widths, counts = half_widths(found.trials), count(found.trials)
    assert all(widths[v] <= 0.02 or counts[v] == 12 for v in CLOCKS)
    assert sum(counts.values()) > 15
    for clock in CLOCKS:
        assert found.at(clock)[0] == pytest.approx(rig.gpu.seconds(3.0, 1.0, {"clock": clock}), rel=0.03)
    assert found.fitted.uncertainty < 0.02


@pytest.mark.parametrize("stop", [1, 2, 7, 14])
def test_an_interrupted_sweep_goes_on(tmp_path, stop):
    """Stopped at any trial, the same sweep goes on: the same trials in the same order as if it had not been."""
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole = Rig(tmp_path / "whole").run(Rounds(values=CLOCKS))
    rig = Rig(tmp_path / "cut")
    rig.stop_at = stop
    with pytest.raises(KeyboardInterrupt):
        rig.run(Rounds(values=CLOCKS))
    assert rig.gpu.read("clock") is None
    kept = measured.of_key(rig.store, whole_key(rig))
    assert kept is not None
    assert not kept.done
    assert len(kept.trials) == max(0, stop - 2)  # the warm-up is not kept
    rig.stop_at = None
    found = rig.run(Rounds(values=CLOCKS))
    assert [t.value for t in found.trials] == [t.value for t in whole.trials]
    assert found.run == kept.run
    assert len(rig.store.runs()) == 1


def whole_key(rig):
    return Task(work=rig.work, name="step", knob="clock", rounds=Rounds(values=CLOCKS)).key(["SIM-0"])


def test_a_finished_sweep_is_not_measured_again(tmp_path):
    """Asked for again, it answers from the store; `again`, another seed or another setting measures anew."""
    rig = Rig(tmp_path)
    first = rig.run(Rounds(values=CLOCKS))
    done = rig.done
    assert rig.run(Rounds(values=CLOCKS)) == first
    assert rig.done == done
    assert rig.run(Rounds(values=CLOCKS), again=True).run != first.run
    assert rig.run(Rounds(values=CLOCKS[:3])).run != first.run
    assert rig.done > done
    # Wanting narrower intervals of the same sweep begins a new run: a finished one is not written to.
    rig.noise = 0.05
    assert rig.run(Rounds(values=CLOCKS, interval=1e-9, most=4)).run != first.run


def test_settings_that_cannot_be_set_are_refused_before_anything_is(tmp_path):
    """A clock outside the range, or a device without a meter, is said before the first change."""
    rig = Rig(tmp_path)
    with pytest.raises(ControlError, match="device's range"):
        rig.run(Rounds(values=(1.2e9, 5e9)))
    assert rig.gpu.writes == rig.done == 0
    rig.monitor = Monitor([], clock=rig.clock, thread=False)
    with pytest.raises(InputError, match="energy of SIM-0 cannot be read"):
        rig.run(Rounds(values=CLOCKS))
    assert rig.gpu.writes == rig.done == 0


def test_another_tool_ends_a_sweep_and_what_was_measured_is_kept(tmp_path):
    """A knob changed by someone else stops the sweep with the reason; its trials stay."""
    rig = Rig(tmp_path)
    rounds = Rounds(values=CLOCKS)

    def meddle(found, _rounds, _doing):
        if len(found.trials) == 4:
            rig.gpu.write("clock", 1.1e9 + 10e6)

    with pytest.raises(ControlError, match="another tool"):
        rig.run(rounds, tell=meddle)
    kept = measured.of_key(rig.store, whole_key(rig))
    assert kept is not None
    assert len(kept.trials) == 4
    assert rig.gpu.read("clock") == 1.11e9


def test_a_trial_that_was_meddled_with_is_not_kept(tmp_path):
    """A knob that changes while the work runs spoils that trial: it is not kept, and the sweep says why."""
    rig = Rig(tmp_path)
    plain = rig.work

    def meddled():
        plain()
        if rig.done == 4:
            rig.gpu.write("clock", 1.11e9)

    rig.work = meddled
    with pytest.raises(ControlError, match="another tool"):
        rig.run(Rounds(values=CLOCKS))
    kept = measured.read(rig.store)
    assert len(kept.trials) == 2  # after the warm-up


def test_spoilt_trials_are_measured_anew(tmp_path):
    """A trial whose meter was reset is not kept; three in a row end the sweep with the reason."""
    rig = Rig(tmp_path)
    rounds = Rounds(values=CLOCKS[:2])
    with rig.keeper.take("0") as lease:
        work = rig.profiler(lease, rounds)
        sound = work._energy
        spoil = {2, 4, 5}
        calls = []

        def energy(answer):
            calls.append(1)
            return (None, None, None, "reset") if len(calls) in spoil else sound(answer)

        work._energy = energy  # type: ignore[method-assign]
        found = work.run()
        assert count(found.trials) == {CLOCKS[0]: 3, CLOCKS[1]: 3}
        assert len(calls) == 9
        work._energy = lambda answer: (None, None, None, "reset")  # type: ignore[method-assign]
        with pytest.raises(InputError, match="3 trials in a row could not be measured: reset"):
            work.run(again=True)


def test_too_short_for_the_meter_is_said(tmp_path):
    """Work shorter than its meter can tell is refused with how long it should take."""
    rig = Rig(tmp_path)
    rig.work = lambda: rig.gpu.work(0.004, 0.0, rig.clock.advance)
    for track in rig.monitor.tracks or rig.monitor.prepare() or rig.monitor.tracks:
        track.period = 0.1
    with pytest.raises(InputError, match="too short for its meter; let the work take 2 s"):
        rig.run(Rounds(values=CLOCKS))


def test_settling_waits_for_a_steady_temperature():
    """It waits until the temperature stands still, no longer than allowed, and not at all where none is told."""
    clock = VirtualClock()
    heats = iter([70.0, 66.0, 63.0, 61.0, 60.5, 60.2, 60.1, 60.0])
    settle = Settle(30.0, clock=clock, sleep=clock.advance)
    assert settle(lambda: next(heats)) == 60.1
    assert clock.now == 6.0
    falling = iter(range(1000, 0, -5))
    assert settle(lambda: float(next(falling))) is not None
    assert clock.now <= 36.0
    assert settle.in_vain == 1
    assert settle(lambda: None) is None
    never = Settle(0.0, clock=clock, sleep=clock.advance)
    before = clock.now
    assert never(lambda: 50.0) == 50.0
    assert clock.now == before


trials_of = st.lists(st.tuples(st.sampled_from(CLOCKS), st.floats(0.5, 2.0), st.floats(50.0, 200.0)), max_size=40).map(
    lambda rows: [Trial(*row) for row in rows]
)


@given(trials_of, st.integers(0, 5))
def test_what_is_next_is_open_and_the_fewest_measured(trials, seed):
    """The next setting is one that is not known yet, and none that is has fewer repeats than it."""
    rounds = Rounds(values=CLOCKS, seed=seed, most=6)
    value, open_, counts = rounds.next(trials), rounds.open(trials), count(trials)
    assert (value is None) == (not open_)
    if value is not None:
        assert value in open_
        assert all(counts.get(value, 0) <= counts.get(v, 0) for v in open_)
        assert rounds.expected(trials) >= len(trials)
    assert all(counts.get(v, 0) < 6 for v in open_)


def test_intervals_hold_the_truth():
    """Of intervals meant to hold the mean 95 times in 100, about that many do, with few repeats and with many."""
    rng = random.Random(5)
    for n in (3, 8):
        inside = 0
        for _ in range(400):
            trials = [Trial(v, 1 + 0.03 * rng.gauss(0, 1), 100.0) for v in CLOCKS for _ in range(n)]
            widths = half_widths(trials)
            for v in CLOCKS:
                mean = np.mean([t.seconds for t in trials if t.value == v])
                inside += abs(mean - 1) <= widths[v] * mean
        assert 0.93 < inside / (400 * len(CLOCKS)) < 0.97
    assert student(1) == 12.706
    assert student(1000) == pytest.approx(1.962, abs=2e-3)


def test_half_widths_need_a_repeat():
    """One trial of each tells nothing of their noise."""
    assert half_widths([]) == {}
    assert half_widths([Trial(1.0, 1.0, 1.0), Trial(2.0, 1.0, 1.0)]) == {1.0: np.inf, 2.0: np.inf}


def test_settings_from_numbers_and_lists(tmp_path):
    """A number spreads settings over what may be set; limits stay below what was found; lists are taken as they are."""
    keeper = Keeper([SimulatedGpu(found=500.0)], tmp_path)
    with keeper.take("0") as lease:
        knob, values = settings([lease], 5, None)
        assert (knob, len(values), values[-1]) == ("clock", 5, 1.98e9)
        knob, values = settings([lease], None, 4)
        assert (knob, values) == ("power_limit", (200.0, 300.0, 400.0, 500.0))
        assert settings([lease], [1.5e9, 1.2e9, 1.2e9], None) == ("clock", (1.2e9, 1.5e9))
        assert len(settings([lease], None, None)[1]) == 8
        with pytest.raises(InputError, match="not both"):
            settings([lease], 3, 3)
        with pytest.raises(InputError, match="at least 2"):
            settings([lease], 1, None)


def test_a_function_is_profiled_in_one_call(tmp_path):
    """`profile(function)` leases, measures and keeps; what was found is back afterwards."""
    gpu = SimulatedGpu()
    local.use(Keeper([gpu], tmp_path / "state"))
    before = use(Monitor([gpu.meter()]))
    try:
        found = profile(
            lambda: gpu.work(0.01, 0.01), clocks=3, name="tiny", store=tmp_path / "runs.db", most=3,
            waiting_power=100.0, settle=Settle(0.0),
        )  # fmt: skip
    finally:
        made = use(before)
        assert made is not None
        made.stop()
        local.use(None)
    assert len(found.trials) == 9
    assert gpu.read("clock") is None
    assert found.frontier.fastest.plan[0].leaf.provenance == "measured"


# ---- what a person sees --------------------------------------------------------------------------


def test_the_plot_is_text():
    """Points lie where they belong: fast and dear at the top left, slow and cheap at the bottom right."""
    lines = plot([(1.0, 10.0, "a"), (2.0, 5.0, "b"), (1.5, 5.0, "c")], 9, 3)
    assert lines[0] == "   10 J |a"
    assert lines[2] == "    5 J |    c   b"
    assert lines[-1].strip() == "1 s to 2 s"
    assert plot([]) == []
    assert plot([(1.0, 1.0, "x")], 3, 2)[0].endswith("|x")


def test_progress_goes_to_a_terminal_or_to_lines(tmp_path):
    """A stream that is no terminal gets a line a trial; a terminal a picture that is redrawn."""
    rig = Rig(tmp_path)
    plain = io.StringIO()
    with watching(plain) as tell:
        found = rig.run(Rounds(values=CLOCKS[:2]), tell=tell)
    lines = plain.getvalue().splitlines()
    assert len(lines) == 6
    assert lines[0].startswith("1/6 ")
    assert "J" in lines[0]

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    shown = Terminal()
    with watching(shown) as tell:
        rig.run(Rounds(values=CLOCKS[:3]), tell=tell)
    assert "9 of about 9 trials" in shown.getvalue()
    assert "●" in shown.getvalue()
    assert "warming up" in progress(dataclasses.replace(found, trials=()), Rounds(values=CLOCKS), "warming up")
    assert picture(dataclasses.replace(found, trials=())) == []


PROGRAM = ["sleep", "0.06"]
QUICK = ["--simulate", "--settle", "0 s", "--waiting-power", "100 W", "--least", "2", "--most", "2"]


def test_the_command_profiles_and_plan_uses_it(tmp_path, capsys):
    """From `wattline profile` to `wattline plan` without a step between."""
    store = str(tmp_path / "runs.db")
    code = main(["profile", *QUICK, "--clocks", "3", "--name", "demo", "--store", store, "--json", "--", *PROGRAM])
    assert code == 0
    told = json.loads(capsys.readouterr().out)
    assert told["done"]
    assert len(told["settings"]) == 3
    assert told["provenance"] == "measured"
    scenario = tmp_path / "s.toml"
    scenario.write_text('[measured]\nprofile = "demo"\nstore = "runs.db"\ntimes = 10\n[goal]\nleast_energy = true\n')
    assert main(["plan", str(scenario), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    least = min(told["settings"], key=lambda row: row["energy_j"])
    assert answer["chosen"]["energy_j"] == pytest.approx(10 * least["energy_j"])
    assert answer["chosen"]["knobs"] == [{"label": "demo", "clock_hz": least["clock_hz"]}]
    assert answer["provenance"]["kind"] == "measured"
    assert main(["whatif", str(scenario), "--grid", "measured.times=1,2", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert rows[1]["energy_j"] == pytest.approx(2 * rows[0]["energy_j"])


def test_the_command_refuses_what_it_cannot_do(tmp_path, capsys):
    """No command, a failing one, settings out of range, units left out: one sentence, exit code 2."""
    store = ["--store", str(tmp_path / "runs.db")]
    for words, said in (
        (["--clocks", "3"], "needs a command"),
        (["--simulate", *store, "--least", "30", "--", "true"], "got 30 and 10"),
        ([*QUICK, *store, "--interval", "0 %", "--", "true"], "--interval lies between"),
        ([*QUICK, *store, "--clocks", "1.2", "--", "true"], "no unit"),
        ([*QUICK, *store, "--clocks", "100MHz,1.2GHz", "--", "true"], "device's range"),
        ([*QUICK, *store, "--clocks", "3", "--", "sh", "-c", "echo alas; exit 3"], "code 3, saying: ...alas"),
        ([*QUICK, *store, "--clocks", "3", "--", "no-such-program"], "was not found"),
    ):
        assert main(["profile", *words]) == 2
        assert said in capsys.readouterr().err
    assert main(["profile", *QUICK, *store, "--clocks", "3", "--dry-run", "--", "true"]) == 0
    assert "clock of SIM-0 to" in capsys.readouterr().out


def test_a_real_interrupt_is_resumed(tmp_path):
    """SIGINT to the running command and its profiler ends both with 130; run again, it goes on and finishes."""
    command = [
        sys.executable, "-c", "import sys; from wattline.show.cli.main import main; sys.exit(main(sys.argv[1:]))", "profile",
        *QUICK, "--clocks", "3", "--name", "demo", "--store", str(tmp_path / "runs.db"), "--json", "--", *PROGRAM,
    ]  # fmt: skip
    first = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert first.stderr is not None
    for _ in range(2):
        first.stderr.readline()
    os.killpg(first.pid, signal.SIGINT)
    _, err = first.communicate(timeout=30)
    assert first.returncode == 130, err
    assert "goes on where demo stopped" in err
    kept = measured.Store(tmp_path / "runs.db").runs()
    assert len(kept) == 1
    second = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    told = json.loads(second.stdout)
    assert told["run"] == kept[0]["run"]
    assert len(second.stderr.splitlines()) < 6
    assert told["trials"] == 6
