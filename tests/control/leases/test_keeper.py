"""Tests for `wattline.control.leases.keeper`: what was found comes back, whatever happens; nothing else is changed."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wattline.control.devices import nvidia
from wattline.control.devices.simulated import SimulatedGpu
from wattline.control.leases import journal, local
from wattline.control.leases.actuator import ControlError
from wattline.control.leases.keeper import Keeper

from ...waiting import until


def log(keeper: Keeper) -> list[dict]:
    return [json.loads(line) for line in keeper.audit.path.read_text().splitlines()]


def records(keeper: Keeper) -> list[Path]:
    return sorted((keeper.folder / "found").glob("*"))


def test_what_was_found_comes_back(keeper, gpu):
    """Leaving a lease puts back what was found, not a default or a maximum, and leaves nothing on the disk."""
    with keeper.take("SIM-0", power_limit=300.0, clock=1.2e9) as lease:
        assert lease.read() == {"power_limit": 300.0, "clock": 1.2e9, "memory_clock": None}
        lease.set(clock=900e6)
        assert gpu.read("clock") == 900e6
    assert (gpu.read("power_limit"), gpu.read("clock")) == (600.0, None)
    assert not records(keeper)


def test_nothing_goes_above_what_was_found(keeper, gpu):
    """The limit found is the administrator's: a higher one is refused and nothing is changed."""
    with keeper.take("0") as lease:
        with pytest.raises(ControlError, match=r"650 W is above 600 W, the limit that was found") as caught:
            lease.set(power_limit=650.0)
        assert caught.value.code == "range"
        assert gpu.writes == 0
        lease.set(power_limit=250.0)
        lease.set(power_limit=600.0)


@pytest.mark.parametrize(
    "bad", [{"power_limit": 150.0}, {"power_limit": float("nan")}, {"clock": 5e9}, {"clock": 1.207e9}]
)
def test_a_value_outside_the_range_changes_nothing(keeper, gpu, bad):
    """A setting with one bad value is refused whole."""
    with keeper.take("0") as lease, pytest.raises(ControlError) as caught:
        lease.set(**({"memory_clock": 1.593e9} | bad))
    assert caught.value.code == "range"
    assert gpu.writes == 0


def test_a_stale_lease_changes_nothing(keeper, gpu, clock):
    """A lease that was not renewed is over, what was found is back, and using it is refused with the reason."""
    lease = keeper.take("0", ttl=10.0, power_limit=300.0)
    clock.advance(9.0)
    lease.beat()
    clock.advance(9.0)
    lease.set(power_limit=310.0)
    clock.advance(10.1)
    assert keeper.expire() == [lease]
    assert gpu.read("power_limit") == 600.0
    with pytest.raises(ControlError, match=r"not renewed within 10 s; take a new one") as caught:
        lease.set(power_limit=300.0)
    assert caught.value.code == "stale"
    assert gpu.read("power_limit") == 600.0


def test_an_expired_lease_ends_when_it_is_used_too(keeper, gpu, clock):
    """Without anybody looking, the next use finds it over."""
    lease = keeper.take("0", ttl=1.0, power_limit=300.0)
    clock.advance(2.0)
    with pytest.raises(ControlError, match="over"):
        lease.set(power_limit=250.0)
    assert gpu.read("power_limit") == 600.0


def test_wall_clock_jumps_change_nothing(gpu, tmp_path, monkeypatch):
    """Leases are timed by a clock that no one sets: a year forward or back ends none and keeps none alive."""
    keeper = Keeper([gpu], tmp_path)
    lease = keeper.take("0", ttl=30.0, power_limit=300.0)
    for jump in (365 * 86400.0, -365 * 86400.0):
        now = time.time() + jump
        monkeypatch.setattr(time, "time", lambda now=now: now)
        assert keeper.expire() == []
        assert 29.0 < lease.remaining <= 30.0
        lease.set(power_limit=310.0)
    lease.close()
    assert gpu.read("power_limit") == 600.0


def test_one_lease_a_device(keeper, gpu, tmp_path):
    """A device that is held is not given to another, in this process or through another keeper."""
    with keeper.take("0", owner="alice"):
        with pytest.raises(ControlError, match="held by alice"):
            keeper.take("0")
        other = Keeper([gpu], keeper.folder)
        with pytest.raises(ControlError) as caught:
            other.take("0")
        assert caught.value.code == "busy"
    with keeper.take("0"):
        pass


def test_another_tool_wins_and_is_named(keeper, gpu):
    """A knob that someone else changed stays as they set it, the rest goes back, and the lease ends with the reason."""
    lease = keeper.take("0", power_limit=300.0, clock=1.2e9)
    gpu.write("power_limit", 250.0)
    with pytest.raises(ControlError, match="another tool set power limit 250 W") as caught:
        lease.set(clock=900e6)
    assert caught.value.code == "conflict"
    assert (gpu.read("power_limit"), gpu.read("clock")) == (250.0, None)
    assert "conflict" in [row["event"] for row in log(keeper)]


def test_an_administrator_who_sets_it_back_wins_too(keeper, gpu):
    """Set back to what was found by another hand is another hand all the same."""
    lease = keeper.take("0", power_limit=300.0)
    gpu.write("power_limit", 600.0)
    with pytest.raises(ControlError, match="another tool"):
        lease.check()


def test_a_conflict_at_the_end_is_left_alone(keeper, gpu):
    """What another tool set meanwhile is not overwritten when a lease ends."""
    lease = keeper.take("0", power_limit=300.0)
    gpu.write("power_limit", 222.0)
    assert "another tool" in lease.close()[0]
    assert gpu.read("power_limit") == 222.0


def test_a_silent_clamp_is_an_error(keeper, gpu):
    """A device that takes another value than it was asked for is set back, and the caller is told what it took."""
    with keeper.take("0", clock=1.2e9) as lease:
        gpu.fault = "clamp"
        with pytest.raises(ControlError, match=r"asked for power limit 250 W and took 350 W") as caught:
            lease.set(clock=900e6, power_limit=250.0)
        assert caught.value.code == "clamped"
        assert (gpu.read("power_limit"), gpu.read("clock")) == (600.0, 1.2e9)
    assert gpu.read("power_limit") == 600.0


def test_no_permission_changes_nothing(keeper, gpu):
    """A driver that refuses is told as such, and no lease is left behind."""
    gpu.fault = "permission"
    with pytest.raises(ControlError, match="no permission") as caught:
        keeper.take("0", power_limit=300.0)
    assert caught.value.code == "permission"
    assert not keeper.leases
    assert not records(keeper)


def test_a_lost_device_is_put_back_when_it_returns(keeper, gpu):
    """A lost device ends its lease; what was found waits on the disk until the device is there again."""
    lease = keeper.take("0", power_limit=300.0)
    gpu.fault = "lost"
    with pytest.raises(ControlError) as caught:
        lease.set(power_limit=310.0)
    assert caught.value.code == "lost"
    assert records(keeper)
    gpu.fault = ""
    assert "put back to power limit 600 W" in keeper.recover()[0]
    assert gpu.read("power_limit") == 600.0
    assert not records(keeper)


def test_a_dry_run_sets_nothing(gpu, tmp_path):
    """Everything is checked, answered and logged; the device and the disk's records are untouched."""
    keeper = Keeper([gpu], tmp_path, dry_run=True)
    with keeper.take("0", power_limit=300.0) as lease:
        assert lease.read()["power_limit"] == 300.0
        with pytest.raises(ControlError, match="range"):
            lease.set(power_limit=100.0)
    assert gpu.writes == 0
    assert not records(keeper)
    assert [row["dry_run"] for row in log(keeper) if row["event"] == "set"] == [True]


def test_every_change_is_in_the_log(keeper, gpu):
    """Each change has a line: who, what, from what, to what; so has each putting back."""
    with keeper.take("0", owner="alice", power_limit=300.0) as lease:
        lease.set(power_limit=400.0)
    rows = [(r["event"], r["owner"], r.get("before"), r.get("asked")) for r in log(keeper) if "knob" in r]
    assert rows == [
        ("set", "alice", 600.0, 300.0), ("set", "alice", 300.0, 400.0), ("restore", "alice", 400.0, 600.0),
    ]  # fmt: skip


def test_the_record_is_flushed_before_the_change(keeper, gpu, monkeypatch):
    """Before the device is touched, both the record and its name have been flushed to the disk."""
    flushed = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        flushed.append((os.path.isdir(f"/proc/self/fd/{descriptor}"), gpu.writes))
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        lease = keeper.take("0")
        assert flushed == [(False, 0), (True, 0)]  # the file at its full size, and its name
        lease.set(power_limit=300.0)
        assert flushed[2:] == [(False, 0)]
        lease.set(power_limit=310.0)
        assert len(flushed) == 3
        lease.set(clock=1.2e9)
        assert flushed[3:] == [(False, 2)]
        lease.close()


def test_a_child_that_outlives_its_killed_parent_holds_nothing(fake_nvml, tmp_path):
    """Workers forked by a program keep no lock: when the program is killed its record is free at once."""
    fake_nvml(found=450, state=tmp_path / "knobs")
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom wattline.control.devices import nvidia\n"
        "from wattline.control.leases.keeper import Keeper\n"
        "lease = Keeper(nvidia.find()[0], Path(sys.argv[1])).take('0', power_limit=300.0)\n"
        "child = os.fork()\nif child == 0:\n    signal.pause()\n    os._exit(0)\nprint(child, flush=True)\nsignal.pause()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "state")], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    try:
        device = nvidia.find()[0][0]
        # The child may not have run yet: it lets go in its first instant.
        notes: list[str] = []
        assert until(lambda: notes.extend(Keeper([device], tmp_path / "state").recover()) or notes)
        assert "was put back" in notes[0]
        assert device.read("power_limit") == 450.0
    finally:
        os.kill(child, signal.SIGKILL)
        parent.stdout.close()


@pytest.mark.parametrize("where", ["record", "fsync", "log"])
def test_a_full_disk_refuses_the_change(keeper, gpu, monkeypatch, where):
    """Where what was found, or the log line, cannot be written, nothing is changed and the reason is said."""
    lease = keeper.take("0")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    target = {"record": (os, "pwrite"), "fsync": (os, "fsync"), "log": (os, "write")}[where]
    with monkeypatch.context() as patch:
        patch.setattr(*target, full)
        with pytest.raises(ControlError, match=r"No space left on device.*nothing was changed") as caught:
            lease.set(power_limit=300.0)
    assert caught.value.code == "journal"
    assert gpu.read("power_limit") == 600.0
    lease.set(power_limit=300.0)
    with monkeypatch.context() as patch:
        patch.setattr(*target, full)
        assert lease.close() == []
    assert gpu.read("power_limit") == 600.0


def test_a_real_full_disk_refuses_the_lease(tmp_path):
    """Under a limit of no bytes for any file, as on a full disk, no lease is given and the device is untouched."""
    code = """
import resource, signal, sys
from pathlib import Path
from wattline.control.leases.actuator import ControlError
from wattline.control.leases.keeper import Keeper
from wattline.control.devices.simulated import SimulatedGpu
gpu = SimulatedGpu()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
try:
    Keeper([gpu], Path(sys.argv[1])).take("0", power_limit=300.0)
except ControlError as error:
    assert error.code == "journal", error
    assert gpu.writes == 0
    raise SystemExit(7)
"""
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 7


def test_records_that_make_no_sense_are_told_and_kept(keeper, gpu):
    """Text, nothing at all and too little are damage: told, kept aside, and nothing is set of them."""
    folder = keeper.folder / "found"
    folder.mkdir(parents=True)
    for name, text in (("a", '{"version":1,"device":"SIM-0","ow'), ("b", ""), ("c", "\0" * 2048)):
        (folder / f"{name}.json").write_text(text)
    notes = keeper.recover()
    assert sum("is damaged" in note for note in notes) == 3
    assert len(journal.kept_aside(keeper.folder)) == 3
    assert not [path for path in records(keeper) if path.suffix == ".json"]
    assert gpu.writes == 0


def test_records_of_devices_not_here_wait(keeper, tmp_path):
    """What was found on a device that is away stays on the disk."""
    other = SimulatedGpu("SIM-9", state=tmp_path / "knobs")
    lease = Keeper([other], keeper.folder).take("0", power_limit=300.0)
    lease._record.abandon()
    assert "SIM-9 is not here" in keeper.recover()[0]
    assert len(records(keeper)) == 1


CHILD = """
import os, sys
from pathlib import Path
from wattline.control.devices import nvidia
from wattline.control.leases.keeper import Keeper
keeper = Keeper(nvidia.find()[0], Path(sys.argv[1]))
lease = keeper.take("0", power_limit=300.0, clock=1.2e9)
print("held", flush=True)
while True:
    for watts in (310.0, 320.0):
        lease.set(power_limit=watts)
        print(watts, flush=True)
"""


@pytest.mark.parametrize("latency", [0.0, 0.03])
def test_a_killed_process_is_cleaned_up_after(fake_nvml, tmp_path, latency):
    """kill -9 at any instant, in the middle of a change too: the next start puts back what was found."""
    fake_nvml(found=450, state=tmp_path / "knobs", latency=latency)
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path / "state")], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    actuator = nvidia.find()[0][0]
    assert actuator.read("power_limit") < 450.0
    for _ in range(2):  # it is in the middle of changes now
        child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    keeper = Keeper([actuator], tmp_path / "state")
    assert "after its owner died" in keeper.recover()[0]
    assert actuator.read("power_limit") == 450.0
    assert actuator._running("clock") == 1.5e9
    assert keeper.recover() == []


def test_the_guard_puts_back_at_once(fake_nvml, tmp_path, monkeypatch):
    """Without a daemon a guard outlives the killed program and puts back what was found within moments."""
    fake_nvml(found=450, state=tmp_path / "knobs")
    code = (
        "import os, signal\nfrom wattline.control.leases import local\n"
        "lease = local.lease(power_limit=300.0)\nprint('held', flush=True)\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    monkeypatch.setenv("WATTLINE_STATE", str(tmp_path / "state"))
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (killed.returncode, killed.stdout) == (-signal.SIGKILL, "held\n")
    actuator = nvidia.find()[0][0]
    assert until(lambda: actuator.read("power_limit") == 450.0)


@pytest.mark.parametrize("end", ["", "raise ValueError('crash')", "import sys; sys.exit(3)", "open_ended = 1"])
def test_an_exit_or_a_crash_puts_back(fake_nvml, tmp_path, monkeypatch, end):
    """However a program ends, a lease that it never closed is closed at exit."""
    fake_nvml(found=450, state=tmp_path / "knobs")
    monkeypatch.setenv("WATTLINE_STATE", str(tmp_path / "state"))
    code = f"from wattline.control.leases import local\nlease = local.lease(power_limit=300.0)\n{end}"
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert nvidia.find()[0][0].read("power_limit") == 450.0


def test_a_forked_child_does_not_own_its_parents_leases(keeper, gpu):
    """A child cannot set its parent's device, and its end does not end the lease."""
    with keeper.take("0", power_limit=300.0) as lease:
        child = os.fork()
        if child == 0:
            code = 9
            try:
                lease.set(power_limit=310.0)
            except ControlError as error:
                code = 0 if error.code == "stale" and lease.close() == [] and gpu.read("power_limit") == 300.0 else 8
            os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert gpu.read("power_limit") == 300.0
        with pytest.raises(ControlError, match="held"):
            Keeper([gpu], keeper.folder).take("0")


def test_a_local_lease_expires(gpu, tmp_path):
    """With a ttl, a lease of this process ends by itself when it is not renewed."""
    local.use(Keeper([gpu], tmp_path))
    try:
        lease = local.lease(ttl=0.05, power_limit=300.0)
        assert until(lambda: lease.over)
        assert gpu.read("power_limit") == 600.0
    finally:
        local.use(None)


def test_a_lock_that_the_driver_does_not_tell_is_let_go(fake_nvml, tmp_path):
    """NVML cannot be asked for a clock lock; the policy states the administrator's, which is kept and put back."""
    fake_nvml()
    actuator = nvidia.find()[0][0]
    standing = {"clock": 1.41e9}
    keeper = Keeper([actuator], tmp_path, standing=lambda _, knob: standing.get(knob))
    with keeper.take("0") as lease:
        with pytest.raises(ControlError, match=r"above 1\.41 GHz"):
            lease.set(clock=1.5e9)
        lease.set(clock=1.2e9)
    assert actuator._running("clock") == 1.41e9


def test_another_tool_resetting_a_clock_lock_is_seen(fake_nvml, tmp_path):
    """A device that runs faster than its lock was reset by someone else."""
    fake_nvml(state=tmp_path / "knobs")
    actuator = nvidia.find()[0][0]
    lease = Keeper([actuator], tmp_path).take("0", clock=1.2e9)
    lease.check()
    actuator._call("nvmlDeviceResetGpuLockedClocks")
    with pytest.raises(ControlError, match="another tool"):
        lease.check()


def test_the_nvidia_faults_are_told(fake_nvml, tmp_path):
    """Permission, a silent clamp and a lost device through the real client."""
    fake_nvml(fault="noset")
    with pytest.raises(ControlError, match="no permission to set GPU-"):
        Keeper(nvidia.find()[0], tmp_path / "a").take("0", power_limit=300.0)
    fake_nvml(clamp=400)
    actuator = nvidia.find()[0][0]
    with pytest.raises(ControlError, match="took 400 W"):
        Keeper([actuator], tmp_path / "b").take("0", power_limit=300.0)
    assert actuator.read("power_limit") == 700.0
    clock = fake_nvml(fault="lost", at=200.0)
    lease = Keeper(nvidia.find()[0], tmp_path / "c").take("0", power_limit=300.0)
    clock.now = 201.0
    with pytest.raises(ControlError, match="is lost"):
        lease.set(power_limit=310.0)


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.sampled_from(["power_limit", "clock", "memory_clock"]), st.floats(0, 3e9)),
        st.tuples(st.just("power"), st.just("power_limit"), st.floats(100, 800)),
        st.tuples(st.sampled_from(["fault", "mend", "beat", "wait", "crash"]), st.just(""), st.floats(0, 8)),
    ),
    max_size=25,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ACTIONS)
def test_whatever_happens_the_device_ends_as_it_was_found(tmp_path_factory, actions):
    """Any order of settings, faults, waits and crashes: never above what was found, and afterwards as found."""
    folder = tmp_path_factory.mktemp("state")
    now = [0.0]
    gpu = SimulatedGpu(found=555.0)
    keeper = Keeper([gpu], folder, clock=lambda: now[0])
    lease = keeper.take("0", ttl=10.0)
    for action, knob, value in actions:
        try:
            if lease.over:
                lease = keeper.take("0", ttl=10.0)
            if action in ("set", "power"):
                lease.set(**{knob: value})
            elif action == "fault":
                gpu.fault = ("permission", "clamp", "lost")[int(value) % 3]
            elif action == "mend":
                gpu.fault = ""
            elif action == "beat":
                lease.beat()
            elif action == "wait":
                now[0] += value
            else:
                lease._record.abandon()
                keeper = Keeper([gpu], folder, clock=lambda: now[0])
                lease = keeper.take("0", ttl=10.0)
        except ControlError:
            pass
        assert gpu._knobs["power_limit"] <= 555.0
    gpu.fault = ""
    keeper.close()
    Keeper([gpu], folder).recover()
    assert [gpu.read(knob) for knob in ("power_limit", "clock", "memory_clock")] == [555.0, None, None]


def test_state_goes_where_it_is_told(monkeypatch, tmp_path):
    """WATTLINE_STATE names the folder of records and the log."""
    monkeypatch.setenv("WATTLINE_STATE", str(tmp_path / "x"))
    assert journal.state_folder() == tmp_path / "x"
