"""Tests for `wattline.control.daemon.policy` and `budget`: what is not allowed is denied, and says what would be."""

from __future__ import annotations

import math
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.control.daemon.peers import tls_peer, unix_peer
from wattline.control.daemon.policy import Peer, Policy, load, read
from wattline.control.devices.simulated import SimulatedGpu
from wattline.control.leases.actuator import ControlError
from wattline.control.leases.budget import Bucket, Budget
from wattline.core.errors import InputError

TEXT = """
[limits]
budget = "1.5 kW"
ttl = "1 min"
[[allow]]
users = ["alice", "group:ml"]
devices = ["GPU-1*"]
power_limit = ["200 W", "400 W"]
clock = true
rate = 50
[[allow]]
users = ["cert:trainer-*"]
devices = ["*"]
memory_clock = ["1 GHz", "2 GHz"]
[[standing]]
devices = ["SIM-*"]
clock = "1.41 GHz"
"""
ALICE = Peer(name="alice", kind="unix", names=frozenset({"alice", "uid:1000", "group:users"}))
BOB = Peer(name="bob", kind="unix", names=frozenset({"bob", "group:ml"}))
EVE = Peer(name="eve", kind="unix", names=frozenset({"eve", "uid:1002"}))
TRAINER = Peer(name="cert:trainer-7", kind="tls", names=frozenset({"cert:trainer-7"}))


def denied(policy, peer, device, **setting):
    with pytest.raises(ControlError) as caught:
        policy.check(peer, device, setting)
    assert caught.value.code == "denied"
    return caught.value.reason


def test_the_empty_policy_denies():
    """Without a policy nobody may set anything, root included."""
    for peer in (ALICE, TRAINER, unix_peer(1, 0, 0)):
        denied(Policy(), peer, "GPU-1", clock=1e9)
    assert Policy().rate(ALICE) == 0.0


def test_a_rule_allows_what_it_says_and_no_more():
    """User, group, device, knob and bounds must all fit."""
    policy = read(TEXT)
    for peer in (ALICE, BOB):
        policy.check(peer, "GPU-12", {"power_limit": 200.0, "clock": 1.2e9})
    assert "200 W to 400 W" in denied(policy, ALICE, "GPU-12", power_limit=401.0)
    denied(policy, ALICE, "GPU-12", power_limit=300.0, memory_clock=1.5e9)
    denied(policy, ALICE, "GPU-2", power_limit=300.0)
    denied(policy, EVE, "GPU-12", clock=1.2e9)
    policy.check(TRAINER, "GPU-2", {"memory_clock": 1.5e9})
    assert (policy.budget, policy.ttl, policy.rate(ALICE), policy.rate(EVE)) == (1500.0, 60.0, 50.0, 0.0)


def test_names_of_one_kind_do_not_pass_for_another():
    """A certificate called like a user is no user, and "*" means local users alone."""
    everyone = read('[[allow]]\nusers = ["*", "alice"]\ndevices = ["*"]\nclock = true')
    alice_abroad = tls_peer({"subject": ((("commonName", "alice"),),)})
    assert alice_abroad.name == "cert:alice"
    denied(everyone, alice_abroad, "GPU-1", clock=1e9)
    everyone.check(EVE, "GPU-1", {"clock": 1e9})
    sneaky = Peer(name="cert:x", kind="unix", names=frozenset({"cert:x"}))
    denied(read('[[allow]]\nusers = ["cert:y"]\ndevices = ["*"]\nclock = true'), sneaky, "GPU-1", clock=1e9)
    with pytest.raises(ControlError, match="names no one"):
        tls_peer({"subject": ()})


def test_the_kernel_says_who_a_process_is():
    """Credentials become a name, a number and groups."""
    me = unix_peer(os.getpid(), os.getuid(), os.getgid())
    assert f"uid:{os.getuid()}" in me.names
    assert me.pid == os.getpid()
    assert unix_peer(1, 4_000_000, 4_000_000).name == "uid:4000000"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[alow]]\n", "alow"),
        ('[[allow]]\nusers=["a"]\ndevices=["*"]\nclok=true', "clok"),
        ('[[allow]]\nusers=["a"]\ndevices=["*"]', "allows nothing"),
        ('[[allow]]\nusers=["a"]\ndevices=["*"]\npower_limit=["1 W"]', "two bounds"),
        ('[[allow]]\nusers=["a"]\ndevices=["*"]\npower_limit=["9 W","1 W"]', "lower to the higher"),
        ('[[allow]]\nusers=["a"]\ndevices=["*"]\npower_limit=["1","2"]', "no unit"),
        ('[[allow]]\nusers=["a"]\ndevices=["*"]\nclock=true\nrate=0', "above 0"),
        ('[limits]\nbudget="5"', "budget"),
        ("[limits]\nconnections=0", "at least 1"),
        ("users = [", "policy"),
    ],
)
def test_a_mistake_in_a_policy_is_an_error(text, said):
    """Nothing is guessed: a policy with a mistake is no policy, and the message says where."""
    with pytest.raises(InputError, match=said):
        read(text)


def test_a_policy_that_others_may_write_is_refused(tmp_path):
    """Who can write the policy decides; it must be its owner alone."""
    path = tmp_path / "policy.toml"
    path.write_text(TEXT)
    path.chmod(0o644)
    assert load(path).budget == 1500.0
    for mode in (0o664, 0o646):
        path.chmod(mode)
        with pytest.raises(InputError, match="others may write"):
            load(path)
    with pytest.raises(InputError, match="cannot be read"):
        load(tmp_path / "none.toml")
    path.chmod(0o600)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not a text file"):
        load(path)


def test_standing_values():
    """What the administrator states of a device that cannot be asked."""
    policy = read(TEXT)
    assert policy.stands(SimulatedGpu("SIM-3"), "clock") == 1.41e9
    assert policy.stands(SimulatedGpu("SIM-3"), "power_limit") is None
    assert policy.stands(SimulatedGpu("GPU-1"), "clock") is None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.one_of(st.none(), st.floats(0, 900))), max_size=30))
def test_a_budget_is_never_exceeded(asks):
    """Whoever asks and releases in whatever order, the sum stays within the budget, and a refusal names what is left."""
    budget, plain = Budget(1000.0), dict[str, float]()
    for device, watts in asks:
        if watts is None:
            budget.release(device)
            plain.pop(device, None)
            continue
        fits = sum(plain.values()) - plain.get(device, 0.0) + watts <= 1000.0 + 1e-6
        try:
            budget.hold(device, watts)
        except ControlError:
            assert not fits
        else:
            plain[device] = watts
            assert fits or watts <= plain.get(device, 0.0)
        assert budget.used == pytest.approx(sum(plain.values()))
        assert budget.used <= 1000.0 * (1 + 1e-9)


@given(st.floats(0.5, 100), st.lists(st.floats(0, 2), min_size=1, max_size=100))
def test_a_bucket_keeps_its_rate(rate, waits):
    """Over any stretch no more changes pass than its rate allows beyond one burst."""
    now = [0.0]
    bucket, passed = Bucket(rate, lambda: now[0]), 0
    for wait in waits:
        now[0] += wait
        try:
            bucket.take("alice")
        except ControlError:
            continue
        passed += 1
    assert passed <= max(1.0, rate) + rate * now[0] + 1e-6
    assert passed >= 1


def test_no_rate_no_change():
    """Whom no rule names may make no change at all after the first is refused by policy."""
    bucket = Bucket(0.0, lambda: 0.0)
    bucket.take("eve")
    with pytest.raises(ControlError, match="another policy"):
        bucket.take("eve")
    assert math.isinf(Budget().left)
