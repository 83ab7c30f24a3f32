"""Tests for `wattline.source.roofline.stack`: when many devices can be looked at as one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wattline.hardware import catalog
from wattline.source.base import Device
from wattline.source.roofline import stack
from wattline.source.roofline.silicon import Silicon
from wattline.source.roofline.source import Roofline
from wattline.workload.operator import Collective, Elementwise, Gemm

SHEET = catalog.chip("h100-sxm")
NODE = catalog.default_node(SHEET)
WORK = [
    Gemm(name="g", m=512, n=4096, k=4096),
    Elementwise(name="e", read=1e8, write=1e8),
    Collective(name="c", op="all_reduce", size=1e8, ranks=16, span="fabric", local=8),
]


def test_stacked_devices_answer_as_each_alone() -> None:
    """Bandwidth, leakage and the network's speed made arrays give the very points of each device."""
    devices = [
        Device(SHEET, NODE),
        Device(SHEET.scaled("memory.hbm.bandwidth", 1.2), NODE),
        Device(SHEET.scaled("power.leakage", 0.8), NODE.scaled("nic.bandwidth", 1.5)),
    ]
    source, at = Roofline(residual=False), np.array([8e8, 1.98e9])
    found = source.stacks([WORK, WORK[:1]], devices, at)
    assert found is not None
    for table, device in zip(found, devices, strict=True):
        alone = source.tables([WORK, WORK[:1]], device, at)
        assert table.time == pytest.approx(alone.time, rel=1e-9)
        for name, joules in alone.parts.items():
            assert table.parts[name] == pytest.approx(joules, rel=1e-9)


def test_a_number_that_is_zero_on_some_does_not_stack_in_either_order() -> None:
    """Zero may decide the form of the work, so such devices are looked at one by one."""
    some = [Silicon.of(SHEET), replace(Silicon.of(SHEET), link={**Silicon.of(SHEET).link, "link.nvlink.energy": 0.0})]
    assert stack.silicon(some) is None
    assert stack.silicon(some[::-1]) is None
    double = {**some[0].link, "link.nvlink.energy": 2 * some[0].link["link.nvlink.energy"]}
    joined = stack.silicon([some[0], replace(some[0], link=double)])
    assert joined is not None
    assert np.ravel(joined.link["link.nvlink.energy"]).tolist() == [
        some[0].link["link.nvlink.energy"],
        double["link.nvlink.energy"],
    ]


def test_chips_of_other_names_or_clocks_do_not_stack() -> None:
    """Which constants and corrections apply, and which clocks can be asked for, must be the same."""
    one = Silicon.of(SHEET)
    for change in ({"name": "x"}, {"architecture": "ampere"}, {"clock_max": 1e9}, {"clock_min": 3e8}):
        assert stack.silicon([one, replace(one, **change)]) is None  # type: ignore[arg-type]
    assert stack.node([NODE, NODE]) is NODE


def test_chips_whose_numbers_differ_in_being_zero_are_not_stacked() -> None:
    """A number that is zero on one chip alone turns a part of the model off there; others become columns."""
    assert stack._mapping([{"a": 0.0}, {"a": 5.0}]) is None
    assert stack._mapping([{"a": 5.0}, {"a": 0.0}]) is None
    assert stack._mapping([{"a": 5.0}, {"b": 5.0}]) is None
    found = stack._mapping([{"a": 5.0, "b": 1.0}, {"a": 6.0, "b": 1.0}])
    assert found is not None
    assert found["a"].ravel().tolist() == [5.0, 6.0]
    assert found["b"] == 1.0
