"""Tests for `wattline.measure.contain`: nothing is added twice and nothing left out, on trees of real machines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.measure import contain, find
from wattline.measure.devices.replay import ReplayMeter
from wattline.measure.monitor import Monitor
from wattline.measure.result import Part, add
from wattline.measure.track import Track

from .drive import Driver
from .machines import Tree, driven, machines


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """Only the tree is this machine."""
    monkeypatch.setenv("WATTLINE_NVML", str(tmp_path / "none.so"))
    monkeypatch.setenv("WATTLINE_SENSORS", str(tmp_path / "none.toml"))
    monkeypatch.delenv("WATTLINE_NODE", raising=False)
    monkeypatch.setattr(find, "plugins", lambda: ([], []))


@pytest.mark.parametrize("name", machines())
def test_a_machine_adds_up_to_its_power(name, tmp_path):
    """After two seconds a window's total is what the outermost sensors draw, whatever is inside or mirrored."""
    machine = machines()[name]
    tree = Tree(machine, tmp_path)
    meters, _ = find.find(tmp_path, "h")
    driven(tree, meters)
    driver = Driver(Monitor(meters, clock=tree.clock, thread=False), tree.clock)
    driver.window(2.2)
    answer = driver.window(2.0).result
    assert answer.joules == pytest.approx(2.0 * machine.total, rel=0.03)
    assert set(answer.total.scopes) == set(machine.scopes)
    assert answer.total.low <= 2.0 * machine.total <= answer.total.high * 1.001


def test_a_mirror_is_told(tmp_path):
    """The counter that moves in step is flagged and named among what is missing."""
    machine = machines()["processor whose second die shows the first's register"]
    tree = Tree(machine, tmp_path)
    meters, _ = find.find(tmp_path, "h")
    driven(tree, meters)
    monitor = Monitor(meters, clock=tree.clock, thread=False)
    driver = Driver(monitor, tree.clock)
    driver.window(3.0)
    assert any("moves in step" in missing.reason for missing in monitor.missing)
    parts = {part.uuid: part for part in driver.window(1.0).result.parts}
    assert "mirror" in parts["package-0-die-1"].flags


def test_a_rail_that_is_not_known_is_told(tmp_path):
    """It is missing with a reason, never dropped in silence."""
    rails = {"bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon0/in1_label": "VDD_NEW"}
    (tmp_path / "bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon0").mkdir(parents=True)
    for path, text in rails.items():
        (tmp_path / path).write_text(text)
    _, missing = find.find(tmp_path, "h")
    assert any(m.sensor == "ina3221:VDD_NEW" and "left out" in m.reason for m in missing)


def test_one_supply_of_two_is_not_the_machine(tmp_path):
    """Where one of two supplies cannot be read, neither stands for the node."""
    machine = machines()["EPYC with two MI250X, an ACPI meter and two supplies"]
    tree = Tree(machine, tmp_path)
    (tmp_path / "class/hwmon/hwmon4/power1_input").write_text("rubbish")
    meters, missing = find.find(tmp_path, "h")
    driven(tree, meters)
    assert not [meter for meter in meters if meter.scope == "wall"]
    assert sum("pmbus" in m.sensor for m in missing) == 2
    driver = Driver(Monitor(meters, clock=tree.clock, thread=False), tree.clock)
    assert driver.window(3.0).result.joules == pytest.approx(3900.0, rel=0.02)


def test_a_gpu_of_a_superchip_is_inside_its_module(tmp_path):
    """By the memory node that its PCI function is near to; a module that is not measured leaves it on the node."""
    gpu = ReplayMeter(300.0, "GPU-1", host="h")
    gpu.labels["pci"] = "0009:01:00.0"
    (tmp_path / "bus/pci/devices/0009:01:00.0").mkdir(parents=True)
    (tmp_path / "bus/pci/devices/0009:01:00.0/numa_node").write_text("1\n")
    modules = [ReplayMeter(600.0, f"module:{k}", "soc", host="h") for k in (0, 1)]
    for meter in modules:
        meter.element = meter.uuid
    every = [gpu, *modules]
    find.graft(every, tmp_path)
    contain.link(every)
    assert gpu.within == ("h/module:1/soc",)


def test_of_two_meters_of_one_thing_the_better_stands():
    """An ACPI meter stands for the slower management controller; both are inside the supplies."""
    acpi = ReplayMeter(1.0, "acpi", "node", host="h", method="power-integral")
    ipmi = ReplayMeter(1.0, "ipmi", "node", host="h", method="power-integral")
    ipmi.slow = True
    acpi.element = ipmi.element = "node"
    wall = ReplayMeter(1.0, "psu", "wall", host="h")
    contain.link([ipmi, acpi, wall])
    assert ipmi.within == ("h/psu/wall", "h/acpi/node")
    assert acpi.within == ("h/psu/wall",)


elements = st.lists(st.tuples(st.integers(0, 6), st.integers(-1, 6)), min_size=1, max_size=7, unique_by=lambda e: e[0])


@given(elements)
def test_a_total_counts_each_root_once(pairs):
    """Over any forest of elements the total is the sum of the outermost, and no meter is inside itself."""
    meters = []
    for child, parent in pairs:
        meter = ReplayMeter(1.0, f"m{child}", "soc", host="h")
        meter.element = f"e{child}"
        meter.fed_by = (f"e{parent}",) if 0 <= parent < child else ()
        meters.append(meter)
    contain.link(meters)
    here = {child for child, _ in pairs}
    roots = sum(1 for child, parent in pairs if not (0 <= parent < child and parent in here))
    parts = [
        Part(
            host="h",
            uuid=m.uuid,
            scope="soc",
            method="counter",
            joules=1.0,
            low=1.0,
            high=1.0,
            seconds=1.0,
            within=m.within,
        )
        for m in meters
    ]
    assert all(meter.key not in meter.within for meter in meters)
    assert add(parts).joules == pytest.approx(roots)


def test_tracks_of_one_counter_only_are_not_watched():
    """A single counter has no mirror, and unmoving counters are not told apart."""
    assert contain._pairs([{"a": 1.0, "b": 1.0}] * 20) == []
    assert Track(ReplayMeter(1.0)).raw is None
