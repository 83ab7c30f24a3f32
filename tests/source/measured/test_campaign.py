"""Tests for `wattline.source.measured.campaign` and `wattline.source.roofline.blocks`: what a trailing mean of power holds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.hardware import catalog
from wattline.source.measured import campaign
from wattline.source.measured.calibrate import predict_rows
from wattline.source.measured.campaign import Pauses, Schedule, readings, schedule
from wattline.source.roofline.blocks import compiled

NONE = Pauses(fill=(0.0, 0.0), setup=(0.0, 0.0), filling=500.0, compiling=0.0)


def cases(count: int, dtype: int = 1, first: tuple[int, ...] = ()) -> Schedule:
    """Some products of one dtype; those of index `first` are compiled."""
    side = np.full(count, 1024)
    flags = np.isin(np.arange(count), first)
    return Schedule(np.full(count, dtype), side, side, side, flags)


def test_a_steady_board_is_read_as_it_is():
    """Where nothing changes for longer than the window, the reading is the kernel's power."""
    shown = readings(cases(40), np.full(40, 1e-3), np.full(40, 400.0), NONE, 100.0)
    assert shown[-1] == pytest.approx(400.0)


def test_a_brief_kernel_is_read_as_what_ran_before():
    """A run of 30 ms on a board that drew 600 W for seconds gets one reading: 600 W."""
    time = np.array([*[2e-3] * 20, 1e-5])
    power = np.array([*[600.0] * 20, 150.0])
    assert readings(cases(21), time, power, NONE, 100.0)[-1] == pytest.approx(600.0)


def test_compiling_leaves_a_cold_board():
    """After a pause longer than the window the first reading is the waiting power."""
    slow = Pauses(NONE.fill, NONE.setup, NONE.filling, compiling=2.0)
    shown = readings(cases(5, first=(4,)), np.full(5, 1e-5), np.full(5, 600.0), slow, 100.0)
    assert shown[-1] == pytest.approx(100.0)


def test_a_second_from_cold_reads_half_way():
    """Eleven readings over a second from a waiting board average half of the step."""
    shown = readings(cases(1), np.array([1e-3]), np.array([500.0]), NONE, 100.0)
    assert shown[0] == pytest.approx(300.0, rel=0.05)


@given(st.lists(st.tuples(st.floats(2e-6, 5e-2), st.floats(120.0, 700.0)), min_size=1, max_size=30), st.integers(0, 1))
def test_readings_lie_between_the_powers_there_were(rows, dtype):
    """Law: a mean of power lies between waiting, filling and the kernels' powers."""
    time, power = (np.array(x) for x in zip(*rows, strict=True))
    pauses = Pauses(fill=(2e-10, 3e-9), setup=(4e-3, 1e-3), filling=500.0, compiling=1.0)
    shown = readings(cases(len(rows), dtype, (0,)), time, power, pauses, 100.0)
    assert np.all(shown >= 100.0 - 1e-6)
    assert np.all(shown <= max(500.0, power.max()) + 1e-6)


def test_readings_agree_with_a_fine_sum():
    """The trailing means equal sums over 20 us steps of the power that was."""
    random = np.random.default_rng(1)
    n, step = 12, 2e-5
    time, power = random.uniform(1e-5, 4e-4, n), random.uniform(150.0, 650.0, n)
    pauses = Pauses(fill=(0.0, 2e-9), setup=(0.0, 3e-3), filling=550.0, compiling=0.7)
    found = cases(n, first=(5,))
    trace = [np.full(round(1.0 / step), 100.0)]
    begins = []
    for i in range(n):
        goal = 0.3 if time[i] < 1e-4 else 1.0
        runs = min(max(int(goal / time[i]) + 1, 6), 3000)
        trace.append(np.full(round(2e-9 * 1024**2 / step), 550.0))
        trace.append(np.full(round((3e-3 + 0.7 * (i == 5)) / step), 100.0))
        begins.append(sum(map(len, trace)))
        trace.append(np.full(round(runs * time[i] / step), power[i]))
    watts, window = np.concatenate([*trace, np.zeros(10**5)]), round(1.0 / step)
    for i, shown in enumerate(readings(found, time, power, pauses, 100.0)):
        ends = [
            begins[i] + round(k * 0.1 / step) for k in range(max(1, int(np.ceil(len(trace[3 * i + 3]) * step / 0.1))))
        ]
        assert shown == pytest.approx(np.mean([watts[e - window : e].mean() for e in ends]), rel=0.01)


def test_every_case_is_found_where_it_stands():
    """`find` returns the index of each case, and -1 off the grid."""
    grid = schedule("blackwell")
    pick = np.flatnonzero(grid.dtype == 2)[::997]
    assert np.array_equal(grid.find("nvfp4", grid.m[pick], grid.n[pick], grid.k[pick]), pick)
    assert grid.find("bfloat16", np.array([18]), np.array([1024]), np.array([1024])).tolist() == [-1]
    assert grid.find("fp8", np.array([16]), np.array([1024]), np.array([1024])).tolist() == [-1]


def test_the_order_is_downwards():
    """Cases go down in m, then n, then k; bf16 before block-scaled before four-bit."""
    grid = schedule("hopper")
    key = np.stack([-grid.m, -grid.n, -grid.k, grid.dtype], axis=1)
    assert all(tuple(a) < tuple(b) for a, b in itertools.pairwise(key[:5000]))
    assert schedule("ampere") is None


def test_a_tile_met_before_is_not_compiled_again():
    """The same product twice, and one that shares its tile, are compiled once; another depth is compiled anew."""
    m, n, k = (np.array(x) for x in ([4096, 4096, 2048, 4096], [8192] * 4, [4096, 4096, 4096, 7168]))
    found = compiled("hopper", m, n, k)
    assert found[0]
    assert not found[1]
    assert found[3]


@pytest.mark.parametrize("architecture", ["hopper", "blackwell"])
def test_most_products_have_their_kernel_already(architecture):
    """On the grid, kernels are compiled for a minority of products, at the largest m for all."""
    grid = schedule(architecture)
    scaled = grid.dtype == 1
    assert 0.1 < grid.compiled[scaled].mean() < 0.45
    assert grid.compiled[scaled & (grid.m == grid.m.max())].all()
    assert not grid.compiled[~scaled].any()


def test_plans_and_other_chips_see_no_campaign():
    """Off the grid, and on a chip without a campaign, what is printed is the kernel's own power."""
    rows = {
        "op_name": ["gemm"] * 2,
        "gemm_dtype": ["bfloat16"] * 2,
        "m": [100, 256],
        "n": [1000, 1024],
        "k": [999, 1024],
    }
    h100, h200 = catalog.chip("h100-sxm"), catalog.chip("h200-sxm")
    bare, shown = (predict_rows(rows, h100, meter=m).power for m in (False, True))
    assert np.allclose(bare, shown)
    kept = campaign.read(
        {k: np.array(v) for k, v in rows.items()}, "bfloat16", _silicon(h200), np.array([1.0, 2.0]),
        lambda t: (np.full(len(t["m"]), 1e-5), np.full(len(t["m"]), 300.0)),
    )  # fmt: skip
    assert kept[0] == 1.0
    assert kept[1] != 2.0


def _silicon(sheet):
    from wattline.source.roofline.silicon import Silicon

    return Silicon.of(sheet)
