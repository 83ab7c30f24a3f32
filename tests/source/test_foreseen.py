"""Tests for `wattline.source.roofline.stack` and `wattline.source.foreseen`: many devices at once answer as each alone."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattline.hardware.catalog import chip, node
from wattline.hardware.chip import pinned
from wattline.source.base import Device, PointsTable, tables
from wattline.source.foreseen import Listener, foresee
from wattline.source.roofline import stack
from wattline.source.roofline.silicon import Silicon
from wattline.source.roofline.source import Roofline
from wattline.workload.operator import Attention, Collective, Elementwise, Gemm, GroupedGemm

DEVICE = Device(pinned(chip("h100-sxm")), node("hgx-h100"))
SHARED = Gemm(name="a", m=4096, n=4096, k=4096, repeat=3.0)
PIECES = (
    (SHARED, Elementwise(name="n", read=1e8, write=1e8)),
    (
        Gemm(name="b", m=64, n=8192, k=8192),
        SHARED,
        Attention(name="t", batch=8.0, query=1.0, context=900.0, heads=32.0, kv_heads=8.0, head_dim=128.0,
                  value_dim=128.0, phase="decode"),
    ),
    (
        Collective(name="c", op="all_reduce", size=1e8, ranks=8.0),
        Collective(name="d", op="all_gather", size=1e8, ranks=64.0, span="fabric"),
        GroupedGemm(name="m", tokens=256.0, top_k=2.0, experts=8.0, local_experts=8.0, n=4096.0, k=4096.0, active=8.0),
    ),
)  # fmt: skip
# Facts that move times, energies, tile choices, learned corrections and the throttle.
CHIP_FACTS = (
    "memory.hbm.bandwidth", "memory.hbm.energy", "compute.rate.bf16", "compute.energy.bf16", "compute.units",
    "memory.l2.energy", "memory.l2.capacity", "power.waiting", "power.leakage", "power.clock_tree", "power.limit",
    "voltage.max", "voltage.min", "voltage.knee", "voltage.reference", "overhead.launch", "link.nvlink.bandwidth", "link.nvlink.energy",
)  # fmt: skip
NODE_FACTS = ("nic.bandwidth", "nic.latency", "nic.power")
CHANGES = st.dictionaries(st.sampled_from(CHIP_FACTS + NODE_FACTS), st.floats(0.5, 1.5), max_size=4)


def changed(changes: dict[str, float]) -> Device:
    device = DEVICE
    for key, factor in changes.items():
        if key in NODE_FACTS:
            device = replace(device, node=device.node.scaled(key, factor))
        else:
            device = replace(device, chip=device.chip.scaled(key, factor))
    return device


def same(one: PointsTable, two: PointsTable) -> None:
    assert len(one) == len(two) == len(PIECES)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a.time, b.time, rtol=1e-12)
        assert a.parts.keys() == b.parts.keys()
        for name in a.parts:
            np.testing.assert_allclose(a.parts[name], b.parts[name], rtol=1e-12)
        assert a.waiting_power == b.waiting_power
        assert (a.provenance, a.source, a.extrapolated) == (b.provenance, b.source, b.extrapolated)
        assert a.uncertainty == pytest.approx(b.uncertainty, rel=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.lists(CHANGES, min_size=2, max_size=5), st.booleans())
def test_a_stack_of_devices_answers_as_each_alone(several: list[dict[str, float]], sustained: bool) -> None:
    """Whatever constants differ, throttled or not, arrays over devices hold the numbers of one device at a time."""
    source, devices = Roofline(sustained=sustained), [changed(changes) for changes in several]
    clocks = Silicon.of(DEVICE.chip).clocks()[::8]
    found = source.stacks(PIECES, devices, clocks)
    assert found is not None
    for device, table in zip(devices, found, strict=True):
        same(table, source.tables(PIECES, device, clocks))


def test_every_number_of_a_chip_may_differ() -> None:
    """A stack over all facts that elasticities walk, one changed in each device."""
    keys = [key for key in DEVICE.chip if not key.startswith(("clock.", "area."))]
    devices = [replace(DEVICE, chip=DEVICE.chip.scaled(key, 1.01)) for key in keys]
    source, clocks = Roofline(), np.array([8e8, 1.4e9, 1.98e9])
    found = source.stacks(PIECES, devices, clocks)
    assert found is not None
    for device, table in zip(devices, found, strict=True):
        same(table, source.tables(PIECES, device, clocks))


def test_devices_of_another_form_are_not_stacked() -> None:
    """Other clocks, another link in use or another chip change the form of the work, not only its numbers."""
    source = Roofline()
    for other in (
        replace(DEVICE, chip=DEVICE.chip.with_({"clock.max": "1.8 GHz"})),
        replace(DEVICE, node=DEVICE.node.with_({"nvlink.domain": "1"})),
        Device(chip("h200-sxm"), node("hgx-h200")),
    ):
        assert source.stacks(PIECES, [DEVICE, other]) is None
    assert stack.silicon([Silicon.of(DEVICE.chip)] * 2) == Silicon.of(DEVICE.chip)


class Counting:
    """A source that counts what it is asked."""

    def __init__(self) -> None:
        self.inner, self.asked = Roofline(), 0

    def points(self, operators, device, clocks=None):
        return self.tables([operators], device, clocks)[0]

    def tables(self, pieces, device, clocks=None):
        self.asked += 1
        return self.inner.tables(pieces, device, clocks)

    def stacks(self, pieces, devices, clocks=None):
        return self.inner.stacks(pieces, devices, clocks)


def test_foreseen_questions_are_answered_from_memory_and_others_by_the_source() -> None:
    """A hit needs the same work, clocks and facts of the device; anything else is asked anew, and right."""
    source, clocks = Counting(), np.array([1.2e9, 1.7e9])
    listener = Listener(source, DEVICE)
    free = {"power.limit": "100 kW"}
    listener.tables(PIECES, replace(DEVICE, chip=DEVICE.chip.with_(free)), clocks)
    assert source.asked == 1
    devices = [changed({"memory.hbm.energy": 1.2}), changed({"power.waiting": 0.8})]
    first, second = foresee(source, listener.questions, devices)
    lifted = [replace(d, chip=d.chip.with_(free)) for d in devices]
    same(first.tables(PIECES, lifted[0], clocks), Roofline().tables(PIECES, lifted[0], clocks))
    assert source.asked == 1
    for asked in (
        lambda: first.tables(PIECES, devices[0], clocks),  # with the limit in place
        lambda: first.tables(PIECES, lifted[1], clocks),  # the other device
        lambda: second.tables(PIECES, lifted[1], clocks[:1]),  # other clocks
        lambda: second.tables(PIECES[::-1], lifted[1], clocks),  # other work
    ):
        before = source.asked
        asked()
        assert source.asked == before + 1


def test_a_source_without_stacks_answers_by_itself() -> None:
    """Nothing can be foreseen of a source that answers one device at a time."""

    class Plain:
        def points(self, operators, device, clocks=None):
            return Roofline().points(operators, device, clocks)

    class Listed(Plain):
        def tables(self, pieces, device, clocks=None):
            return list(Roofline().tables(pieces, device, clocks))

    same(tables(Listed(), PIECES, DEVICE, np.array([1.7e9])), Roofline().tables(PIECES, DEVICE, np.array([1.7e9])))
    known = [replace(p, provenance=w, source=w) for p, w in zip(Roofline().tables(PIECES, DEVICE),
             ("measured", "modelled", "measured"), strict=True)]  # fmt: skip
    assert (PointsTable.of(known).provenance, PointsTable.of(known).source) == ("modelled", "measured; modelled")
    listener = Listener(Plain(), DEVICE)
    found = listener.tables(PIECES, DEVICE, np.array([1.7e9]))
    same(found, Roofline().tables(PIECES, DEVICE, np.array([1.7e9])))
    assert foresee(listener.source, listener.questions, [DEVICE]) == [listener.source]
