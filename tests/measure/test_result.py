"""Tests for `wattline.measure.result` and `union`: sums that never count twice."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline import InputError
from wattline.measure.result import Factor, Measurement, Part, add
from wattline.measure.union import merge


def part(uuid: str, scope: str, joules: float | None, within: tuple[str, ...] = (), **more) -> Part:
    """A part of host h, its interval one joule either way."""
    low = None if joules is None else max(0.0, joules - 1.0)
    high = None if joules is None else joules + 1.0
    facts = {"host": "h", "method": "counter", "low": low, "high": high, "seconds": 10.0, **more}
    return Part(uuid=uuid, scope=scope, joules=joules, within=within, **facts)


PSYS = part("psys", "soc", 100.0)
PACKAGE = part("package-0", "cpu", 60.0, (PSYS.key,))
CORE = part("package-0/core", "cpu", 40.0, (PACKAGE.key, PSYS.key))
DRAM = part("package-0/dram", "dram", 10.0, (PSYS.key,))
GPU = part("GPU-1", "gpu", 500.0)


def test_a_container_stands_for_its_contents():
    """The platform's counter holds package, core and memory: they are inside, not added."""
    total = add([CORE, DRAM, PACKAGE, GPU, PSYS])
    assert total.joules == 600.0
    assert total.scopes == ("gpu", "soc")
    assert set(total.inside) == {PACKAGE.key, CORE.key, DRAM.key}


def test_contents_stand_in_for_a_container_without_a_sound_figure():
    """A container that is missing, or too coarse for the window, gives way to its contents."""
    gone = msgspec.structs.replace(PSYS, joules=None)
    assert add([CORE, DRAM, PACKAGE, gone]).joules == 70.0
    coarse = msgspec.structs.replace(PSYS, flags=("insufficient_resolution",))
    total = add([CORE, DRAM, PACKAGE, coarse])
    assert total.joules == 70.0
    assert add([coarse]).joules == 100.0


def test_what_has_no_figure_is_named():
    """A part without joules is missing from the total, by key."""
    total = add([GPU, part("GPU-2", "gpu", None)])
    assert (total.joules, total.missing) == (500.0, ("h/GPU-2/gpu",))
    assert add([]).joules is None


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_no_chain_is_counted_twice(values, random):
    """However parts nest in a chain, the total is the outermost one's, in any order."""
    parts: list[Part] = []
    for i, joules in enumerate(values):
        parts.append(part(f"d{i}", "cpu", joules, tuple(p.key for p in parts)))
    random.shuffle(parts)
    assert add(parts).joules == values[0]


def measurement(start: float, *parts: Part, seconds: float = 10.0, process: int = 1, **counts: float) -> Measurement:
    """A measurement of host h."""
    held = tuple(msgspec.structs.replace(p, seconds=seconds) for p in parts)
    return Measurement(
        name="step", start=start, seconds=seconds, host="h", process=process, parts=held, counts=dict(counts)
    )


def test_ranks_on_one_device_are_merged():
    """Eight ranks that each saw the same GPU used its joules once; their tokens add up."""
    merged = merge(measurement(0.0, GPU, process=i, tokens=100) for i in range(8))
    assert merged.joules == 500.0
    assert merged.counts == {"tokens": 800.0}


def test_a_merge_of_real_times_is_exact():
    """Seconds since 1970 lose digits; a window merged with itself is still itself, its interval too."""
    one = measurement(1.795e9 + 0.123456, GPU, seconds=0.2)
    assert merge([one, one]).total == one.total


def test_different_devices_and_hosts_add():
    """Another UUID, or the same UUID of another host, is another device."""
    other_host = msgspec.structs.replace(GPU, host="i")
    merged = merge([measurement(0.0, GPU), measurement(0.0, part("GPU-2", "gpu", 300.0), other_host)])
    assert merged.joules == 1300.0


def test_windows_one_after_the_other_add():
    """The same device at different times used the sum."""
    assert merge([measurement(0.0, GPU), measurement(20.0, GPU)]).joules == 1000.0


@given(st.floats(0.0, 10.0), st.floats(1.0, 20.0))
def test_partly_overlapping_windows_hold_the_truth(shift, seconds):
    """A device at constant power: the union's interval holds power times the length of the union."""
    watts = 50.0
    a = measurement(0.0, part("g", "gpu", watts * 10.0))
    b = measurement(shift, part("g", "gpu", watts * seconds), seconds=seconds)
    total = merge([a, b]).total
    union = max(10.0, shift + seconds)
    assert total.low - 1e-6 <= watts * union + watts * 0.01 * seconds
    assert total.high + watts * 0.01 * seconds >= watts * union - 1e-6


def test_merging_nothing_and_different_factors():
    """Nothing merges to an empty answer; different multipliers are refused."""
    assert merge([]).joules is None
    with pytest.raises(InputError, match="factors"):
        merge([measurement(0.0, GPU), measurement(0.0, GPU).times(pue=1.2)])


def test_every_multiplier_has_a_name():
    """A factor scales the total and its interval and is kept by name; scopes stay as measured."""
    m = measurement(0.0, GPU).times(Factor("pue", 1.2, "contract"), share=0.5)
    assert m.joules == pytest.approx(300.0)
    assert m.to_dict()["total"]["factors"][0] == {"name": "pue", "value": 1.2, "source": "contract"}
    assert m.scope("gpu").joules == 500.0
    with pytest.raises(InputError, match="pue"):
        m.times(pue=-1.0)


def test_no_location_no_carbon():
    """Carbon needs an intensity from the caller, in g/J."""
    m = measurement(0.0, GPU)
    assert "carbon" not in str(m.to_dict())
    assert m.carbon(400 / 3.6e6) == pytest.approx(500 * 400 / 3.6e6)
    with pytest.raises(InputError):
        m.carbon(float("nan"))


def test_a_measurement_survives_json():
    """`to_dict` is plain JSON, and `from_dict` its inverse."""
    m = measurement(5.0, PACKAGE, CORE, part("GPU-2", "gpu", None), tokens=7).times(pue=1.1)
    assert Measurement.from_dict(msgspec.json.decode(msgspec.json.encode(m.to_dict()))) == m
