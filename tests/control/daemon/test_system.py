"""Tests for `wattline.control.daemon.system` and draining: the daemon takes away nothing that is not its own."""

from __future__ import annotations

import socket

import pytest

from wattline.control.daemon.policy import Peer, load, read
from wattline.control.daemon.protocol import Take
from wattline.control.daemon.service import Service
from wattline.control.daemon.system import bind, private, unbind
from wattline.control.devices.simulated import SimulatedGpu
from wattline.control.leases.actuator import ControlError
from wattline.control.leases.keeper import Keeper
from wattline.core.errors import InputError


@pytest.mark.parametrize("kind", ["file", "link", "folder", "dangling link"])
def test_what_is_no_socket_is_never_removed(tmp_path, kind):
    """A file, a folder or a link at --socket is told and stays as it is, byte for byte."""
    path, target = tmp_path / "daemon.sock", tmp_path / "target"
    target.write_text("precious")
    if kind == "file":
        path.write_text("precious")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(target if kind == "link" else tmp_path / "nothing")
    with pytest.raises(InputError, match="no socket"):
        bind(path, None)
    assert path.is_symlink() or path.exists()
    assert target.read_text() == "precious"
    if kind == "file":
        assert path.read_text() == "precious"


def test_only_its_own_socket_is_removed_at_the_end(tmp_path):
    """What has come to its place since, another daemon's socket or a file, stays."""
    path = tmp_path / "s"
    with bind(path, None):
        facts = path.lstat()
        own = facts.st_dev, facts.st_ino
        path.unlink()
        path.write_text("another's")
        unbind(path, own)
        assert path.read_text() == "another's"
        path.unlink()
    with bind(path, None):
        facts = path.lstat()
        unbind(path, (facts.st_dev, facts.st_ino))
        assert not path.exists()


def test_a_dead_daemon_s_socket_is_replaced(tmp_path):
    """Nobody answers there, and it is ours."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with bind(path, None) as made:
        assert made.getsockname() == str(path)


def test_folders_that_others_can_write_are_refused(tmp_path):
    """For the group, for all, and where a folder above could be swapped; a sticky one above is fine."""
    assert private(tmp_path / "a" / "b", "the state folder") == tmp_path / "a" / "b"
    for mode in (0o770, 0o777, 0o702):
        (tmp_path / "a" / "b").chmod(mode)
        with pytest.raises(InputError, match="others can write"):
            private(tmp_path / "a" / "b", "the state folder")
    (tmp_path / "a" / "b").chmod(0o700)
    (tmp_path / "a").chmod(0o777)
    with pytest.raises(InputError, match="chmod go-w"):
        private(tmp_path / "a" / "b", "the state folder")
    (tmp_path / "a").chmod(0o1777)
    private(tmp_path / "a" / "b", "the state folder")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="no folder"):
        private(tmp_path / "file", "the state folder")


def test_a_policy_in_a_folder_that_others_can_write_is_refused(tmp_path):
    """Whoever can write the folder can replace the file."""
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "policy.toml").write_text("[limits]\n")
    (folder / "policy.toml").chmod(0o600)
    assert load(folder / "policy.toml").rules == ()
    folder.chmod(0o777)
    with pytest.raises(InputError, match="others can write"):
        load(folder / "policy.toml")


def test_a_drained_daemon_holds_nothing_and_comes_back(tmp_path):
    """Leases end as found, new ones are refused with the reason, and devices are looked for anew afterwards."""
    first, second = SimulatedGpu("SIM-0", found=600.0), SimulatedGpu("SIM-0", found=500.0)
    closed: list[str] = []
    first.close = lambda: closed.append("first")  # type: ignore[method-assign]
    policy = read('[[allow]]\nusers = ["*"]\ndevices = ["SIM-*"]\npower_limit = true\n')
    service = Service(Keeper([first], tmp_path), policy, lambda: [second])
    session = service.open(Peer(name="alice", kind="unix", names=frozenset({"alice"})))
    take = Take(v=1, id=1, device="0")
    service.do(session, take)
    next(iter(session.leases.values())).set(power_limit=300.0)
    assert service.drain() == []
    assert first.read("power_limit") == 600.0
    assert closed == ["first"]
    with pytest.raises(ControlError, match="for a reset"):
        service.do(session, take)
    assert service.resume() == []
    assert service.do(session, take)["device"] == "SIM-0"
    assert service.keeper.actuators["SIM-0"] is second
    service.close(session)


def test_knobs_without_a_unit_are_bare_numbers_in_a_policy():
    """Profiles are allowed by number; a word is refused with an example."""
    text = '[[allow]]\nusers = ["*"]\ndevices = ["*"]\npower_profile = ["2", "7"]\n'
    policy = read(text)
    peer = Peer(name="a", kind="unix", names=frozenset({"a"}))
    policy.check(peer, "GPU-1", {"power_profile": 6.0})
    with pytest.raises(ControlError, match="2 to 7, got 9"):
        policy.check(peer, "GPU-1", {"power_profile": 9.0})
    with pytest.raises(InputError, match="is a number"):
        read(text.replace('"7"', '"many"'))
