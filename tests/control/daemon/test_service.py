"""Tests for `wattline.control.daemon.service` and `protocol`: any message gets one answer, and only allowed ones change anything."""

from __future__ import annotations

import contextlib
import json

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wattline.control.daemon import protocol
from wattline.control.daemon.metrics import render
from wattline.control.daemon.policy import Peer, read
from wattline.control.daemon.server import answer
from wattline.control.daemon.service import Service
from wattline.control.devices.simulated import SimulatedGpu
from wattline.control.leases.actuator import ControlError
from wattline.control.leases.keeper import Keeper
from wattline.measure.exporters.served import parse

from .serve import ALL

ME = Peer(name="me", kind="unix", names=frozenset({"me"}), pid=7)
YOU = Peer(name="you", kind="unix", names=frozenset({"you"}), pid=8)


@pytest.fixture
def gpus():
    return [SimulatedGpu(f"SIM-{k}", found=600.0) for k in range(3)]


@pytest.fixture
def service(gpus, clock, tmp_path):
    return Service(Keeper(gpus, tmp_path, clock=clock), read(ALL))


def say(service, session, op, **fields):
    """One message through the wire's form; the result, or the error's code."""
    line = protocol.encode({"v": 1, "id": 3, "op": op, **fields})
    try:
        message = protocol.decode(line[:-1])
    except ControlError as error:
        return error.code
    told = json.loads(answer(service, session, message))
    assert told["id"] == 3
    return told["result"] if told["ok"] else told["error"]["code"]


def test_a_lease_over_the_wire(service, gpus):
    """Take, set, read, renew and release, with what was found back at the end."""
    me = service.open(ME)
    taken = say(service, me, "take", device="SIM-1", settings={"power_limit_w": 300})
    assert taken["settings"] == {"power_limit_w": 300.0}
    name = taken["lease"]
    assert say(service, me, "set", lease=name, settings={"clock_hz": 1.2e9})["settings"] == {"clock_hz": 1.2e9}
    assert say(service, me, "read", lease=name)["settings"]["power_limit_w"] == 300.0
    assert say(service, me, "beat", lease=name) == {}
    assert say(service, me, "set", lease=name, settings={"clock_hz": None})["settings"] == {"clock_hz": None}
    assert say(service, me, "release", lease=name) == {"notes": []}
    assert gpus[1].read("power_limit") == 600.0
    assert say(service, me, "set", lease=name, settings={"clock_hz": 1.2e9}) == "unknown"


def test_a_lease_is_its_connections_own(service, gpus):
    """Another connection, of the same user too, can neither use a lease nor take the device."""
    name = say(service, service.open(ME), "take", device="SIM-0", settings={"power_limit_w": 300})["lease"]
    for peer in (ME, YOU):
        other = service.open(peer)
        for op in ("beat", "read", "release"):
            assert say(service, other, op, lease=name) == "unknown"
        assert say(service, other, "set", lease=name, settings={"power_limit_w": 200}) == "unknown"
        assert say(service, other, "take", device="SIM-0") == "busy"
    assert gpus[0].read("power_limit") == 300.0


def test_a_lost_client_gives_back(service, gpus):
    """When a session closes, what its leases found is back and its devices are free."""
    me = service.open(ME)
    for k in range(3):
        say(service, me, "take", device=f"SIM-{k}", settings={"power_limit_w": 250})
    service.close(me)
    assert [g.read("power_limit") for g in gpus] == [600.0] * 3
    assert service.budget.used == 0.0
    assert say(service, service.open(YOU), "take", device="SIM-2")["lease"]


def test_a_lease_made_for_a_client_that_left_is_given_back(service, gpus):
    """A client that hangs up while its lease is being made leaves nothing held."""
    me = service.open(ME)
    me.over = True
    say(service, me, "take", device="SIM-0", settings={"power_limit_w": 250})
    assert gpus[0].read("power_limit") == 600.0
    assert not service.keeper.leases


def test_leases_expire(service, gpus, clock):
    """A lease that is not renewed ends by the monotonic clock; its device is free again."""
    me = service.open(ME)
    name = say(service, me, "take", device="SIM-0", ttl_s=5, settings={"power_limit_w": 250})["lease"]
    assert not service.late()
    clock.advance(5.5)
    assert service.late()
    assert service.expire() == 1
    assert gpus[0].read("power_limit") == 600.0
    assert say(service, me, "beat", lease=name) == "unknown"


def test_a_ttl_is_never_longer_than_the_policys(service):
    """Whatever a client asks for, the policy bounds how long it may be silent."""
    assert say(service, service.open(ME), "take", device="SIM-0", ttl_s=80000)["ttl_s"] == 30.0


def test_default_denies(gpus, tmp_path):
    """Without a policy a client learns who it is, sees no device, and may set none."""
    service = Service(Keeper(gpus, tmp_path))
    me = service.open(ME)
    assert say(service, me, "hello")["you"] == "me"
    assert say(service, me, "devices") == {"devices": []}
    assert say(service, me, "take", device="SIM-0") == "denied"
    assert say(service, me, "take", device="SIM-77") == "denied"
    assert gpus[0].writes == 0


def test_devices_lists_what_one_may_set(gpus, tmp_path):
    """A user sees the devices and the knobs that a rule allows, and no others."""
    policy = read('[[allow]]\nusers = ["me"]\ndevices = ["SIM-1"]\nclock = true')
    service = Service(Keeper(gpus, tmp_path), policy)
    rows = say(service, service.open(ME), "devices")["devices"]
    assert [(row["device"], list(row["ranges"]), row["held"]) for row in rows] == [("SIM-1", ["clock"], False)]
    assert say(service, service.open(ME), "take", device="SIM-0") == "unknown"
    assert say(service, service.open(YOU), "devices") == {"devices": []}


def test_the_first_setting_is_held_to_the_policy_too(gpus, tmp_path):
    """A setting that comes with a lease is checked as any other, and no lease is given."""
    policy = read('[[allow]]\nusers = ["me"]\ndevices = ["*"]\npower_limit = ["300 W", "400 W"]')
    service = Service(Keeper(gpus, tmp_path), policy)
    me = service.open(ME)
    assert say(service, me, "take", device="SIM-0", settings={"power_limit_w": 250}) == "denied"
    assert say(service, me, "take", device="SIM-0", settings={"clock_hz": 1.2e9}) == "denied"
    assert gpus[0].writes == 0
    assert not service.keeper.leases
    assert say(service, me, "take", device="SIM-0", settings={"power_limit_w": 350})["lease"]


def test_the_budget_is_shared(gpus, tmp_path):
    """A client that would exceed the budget is refused with what is left, and nothing is changed or held."""
    policy = read(ALL.replace("[limits]", '[limits]\nbudget = "1000 W"'))
    service = Service(Keeper(gpus, tmp_path), policy)
    me, you = service.open(ME), service.open(YOU)
    first = say(service, me, "take", device="SIM-0", settings={"power_limit_w": 500})["lease"]
    assert say(service, you, "take", device="SIM-1") == "budget"  # it would hold the 600 W found
    assert say(service, you, "take", device="SIM-1", settings={"power_limit_w": 501}) == "budget"
    assert gpus[1].writes == 0
    second = say(service, you, "take", device="SIM-1", settings={"power_limit_w": 500})["lease"]
    assert say(service, you, "set", lease=second, settings={"power_limit_w": 510}) == "budget"
    say(service, me, "set", lease=first, settings={"power_limit_w": 300})
    assert say(service, you, "set", lease=second, settings={"power_limit_w": 600})["settings"]
    assert say(service, me, "set", lease=first, settings={"power_limit_w": None}) == "budget"
    service.close(you)
    assert service.budget.used == 300.0


def test_a_failed_change_holds_what_it_held(service, gpus):
    """A change that the device refuses leaves the budget as it was."""
    me = service.open(ME)
    name = say(service, me, "take", device="SIM-0", settings={"power_limit_w": 400})["lease"]
    gpus[0].fault = "clamp"
    assert say(service, me, "set", lease=name, settings={"power_limit_w": 250}) == "clamped"
    assert service.budget.used == 400.0
    gpus[0].fault = "lost"
    assert say(service, me, "set", lease=name, settings={"power_limit_w": 250}) == "lost"
    assert service.budget.used == 0.0
    assert say(service, me, "set", lease=name, settings={"power_limit_w": 250}) == "stale"


def test_rates_and_numbers_are_limited(gpus, clock, tmp_path):
    """A user makes no more changes, holds no more devices and opens no more connections than the policy says."""
    text = '[limits]\nconnections_per_user = 2\n[[allow]]\nusers=["me"]\ndevices=["*"]\nclock=true\nrate=3\nleases=1'
    service = Service(Keeper(gpus, tmp_path, clock=clock), read(text))
    me = service.open(ME)
    name = say(service, me, "take", device="SIM-0")["lease"]
    assert say(service, me, "take", device="SIM-1") == "busy"
    for _ in range(2):
        assert say(service, me, "set", lease=name, settings={"clock_hz": 1.2e9})["settings"]
    assert say(service, me, "set", lease=name, settings={"clock_hz": 900e6}) == "rate"
    assert gpus[0].read("clock") == 1.2e9
    clock.advance(0.34)
    assert say(service, me, "set", lease=name, settings={"clock_hz": 900e6})["settings"]
    service.open(ME)
    with pytest.raises(ControlError, match="as many connections"):
        service.open(ME)


def test_refusals_are_logged_but_not_without_end(gpus, clock, tmp_path):
    """What a policy refuses is in the log, a line a second for each user; the log cannot be filled with refusals."""
    service = Service(Keeper(gpus, tmp_path, clock=clock), read('[[allow]]\nusers=["you"]\ndevices=["*"]\nclock=true'))
    me = service.open(ME)
    for _ in range(20):
        assert say(service, me, "take", device="SIM-0", settings={"clock_hz": 1.2e9}) == "denied"
    clock.advance(1.0)
    say(service, me, "take", device="SIM-0")
    rows = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [(row["event"], row["owner"], row["code"]) for row in rows] == [("refused", "me", "denied")] * 2


def test_a_new_policy_holds_from_now_on(service, gpus):
    """A policy read anew decides the next change; what is set stays until then."""
    me = service.open(ME)
    name = say(service, me, "take", device="SIM-0", settings={"power_limit_w": 250})["lease"]
    service.use(read('[[allow]]\nusers=["you"]\ndevices=["*"]\nclock=true'))
    assert say(service, me, "set", lease=name, settings={"power_limit_w": 260}) == "denied"
    assert gpus[0].read("power_limit") == 250.0
    assert say(service, me, "release", lease=name) == {"notes": []}


GOOD = {"v": 1, "id": 1, "op": "take", "device": "SIM-0", "ttl_s": 5, "settings": {"power_limit_w": 300}}


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2}, {"v": "1"}, {"id": -1}, {"id": 2**60}, {"id": None}, {"op": "destroy"}, {"op": None},
        {"device": ""}, {"device": "x" * 129}, {"device": 3}, {"ttl_s": 0}, {"ttl_s": -1}, {"ttl_s": 1e6},
        {"ttl_s": "5"}, {"settings": {"power_limit": 300}}, {"settings": {"power_limit_w": "300"}},
        {"settings": {"power_limit_w": True}}, {"settings": []}, {"more": 1},
    ],
)  # fmt: skip
def test_a_message_that_bends_a_rule_is_refused(change):
    """Wrong versions, kinds, names, sizes and extra fields are all refused before anything is done."""
    protocol.decode(json.dumps(GOOD).encode())
    with pytest.raises(ControlError) as caught:
        protocol.decode(json.dumps(GOOD | change).encode())
    assert caught.value.code == ("version" if change == {"v": 2} else "malformed")


@pytest.mark.parametrize(
    "line",
    [
        b"", b"{", b"null", b"[]", b"\xff\xfe", b"{}" * 100, b'{"v":1}', b"[" * 4000, b'{"a":' * 500,
        b'{"v":1,"id":1,"op":"take","device":"SIM-0","settings":{"power_limit_w":NaN}}',
        b'{"v":1,"id":1,"op":"take","device":"SIM-0","settings":{"power_limit_w":1e999}}',
        b'{"v":1,"id":1e400,"op":"hello"}', b'{"v":1,"id":1,"op":"hello"}\x00',
    ],
)  # fmt: skip
def test_hostile_lines_are_malformed(line):
    """Deep nesting, numbers that are none, bad text and half messages are refused and nothing more."""
    with pytest.raises(ControlError) as caught:
        protocol.decode(line)
    assert caught.value.code == "malformed"


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_refused(line):
    """There are no bytes that make the reader fail in another way."""
    with contextlib.suppress(ControlError):
        protocol.decode(line)


values = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20))
numbers = st.one_of(st.none(), st.floats(150, 800), st.floats(), st.integers(-5, 3_000_000_000))
messages = st.one_of(
    st.fixed_dictionaries({"op": st.just("take"), "device": st.sampled_from(["SIM-0", "0", "SIM", "?"])},
        optional={"ttl_s": numbers, "settings": st.dictionaries(st.sampled_from(["power_limit_w", "clock_hz", "x"]), numbers)}),
    st.fixed_dictionaries({"op": st.sampled_from(["set", "read", "beat", "release"]), "lease": st.sampled_from(["LAST", "", "x"])},
        optional={"settings": st.dictionaries(st.sampled_from(["power_limit_w", "clock_hz", "memory_clock_hz"]), numbers)}),
    st.fixed_dictionaries({"op": st.sampled_from(["hello", "devices"])}),
    st.dictionaries(st.text(max_size=8), values, max_size=5),
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(messages, max_size=20))
def test_any_conversation_leaves_the_device_as_it_was_found(tmp_path_factory, conversation):
    """Whatever is said in whatever order: never above what was found, one answer each, and in the end as found."""
    gpu = SimulatedGpu("SIM-0", found=600.0)
    service = Service(Keeper([gpu], tmp_path_factory.mktemp("state")), read(ALL))
    session, last = service.open(ME), "none"
    for number, fields in enumerate(conversation):
        if fields.get("lease") == "LAST":
            fields = {**fields, "lease": last}
        line = msgspec.json.encode({"v": 1, "id": number, **fields})
        try:
            message = protocol.decode(line)
        except ControlError:
            continue
        told = json.loads(answer(service, session, message))
        assert set(told) == {"v", "id", "ok", "result"} or set(told) == {"v", "id", "ok", "error"}
        if told["ok"] and "lease" in told["result"]:
            last = told["result"]["lease"]
        assert gpu.read("power_limit") <= 600.0
    service.close(session)
    assert [gpu.read(k) for k in ("power_limit", "clock", "memory_clock")] == [600.0, None, None]
    assert service.budget.used == 0.0


def test_metrics(service):
    """Prometheus learns of sessions, leases, messages by outcome, and watts held."""
    me = service.open(ME)
    say(service, me, "take", device="SIM-0", settings={"power_limit_w": 300})
    say(service, me, "take", device="SIM-0")
    found = parse(render(service))
    assert found["wattline_daemon_leases"] == 1.0
    assert found["wattline_daemon_held_watts"] == 300.0
    assert found["wattline_daemon_messages_total"] == 2.0
    assert 'op="take",code="busy"' in render(service)
    assert "budget_watts" not in render(service)
