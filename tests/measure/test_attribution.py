"""Tests for `wattline.measure.attribution`: a trace and a power curve become joules per name, none made, none lost."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.core.errors import InputError
from wattline.measure.attribution import Work, attribute, load, origin, work

BASE = 1_700_000_000


def span(cat: str, name: str, ts: float, dur: float, tid: int = 1, **args: object) -> dict[str, object]:
    return {"ph": "X", "cat": cat, "name": name, "ts": ts, "dur": dur, "pid": 7, "tid": tid, "args": args}


def recorded() -> dict[str, object]:
    """A step as Kineto writes it: two modules launch a gemm and a norm, which run later on stream 7."""
    return {
        "schemaVersion": 1,
        "baseTimeNanoseconds": BASE * 10**9,
        "traceEvents": [
            {"ph": "M", "name": "process_name", "pid": 7, "args": {"name": "python"}},
            span("python_function", "nn.Module: Model_0", 0, 1000),
            span("python_function", "nn.Module: Linear_0", 0, 400),
            span("cpu_op", "aten::linear", 10, 300, **{"External id": 1}),
            span("cpu_op", "aten::addmm", 20, 250, **{"External id": 2}),
            span("cuda_runtime", "cudaLaunchKernel", 30, 5, correlation=11),
            span("python_function", "nn.Module: LayerNorm_0", 400, 500),
            span("cpu_op", "aten::layer_norm", 410, 300, **{"External id": 3}),
            span("cuda_runtime", "cudaLaunchKernel", 420, 5, correlation=12),
            span("kernel", "gemm", 1000, 600, 70, correlation=11, device=0, stream=7),
            span("kernel", "norm", 1600, 200, 70, correlation=12, device=0, stream=7),
            span("gpu_memcpy", "Memcpy HtoD", 1900, 100, 70, device=0),
            span("kernel", "elsewhere", 1000, 500, 71, device=1),
            {"ph": "i", "name": "marker", "ts": 0},
        ],
    }


def test_kernels_are_traced_back_to_operators_and_modules() -> None:
    """Each piece of work knows when it ran in wall-clock time, for which operator and in which modules."""
    gemm, norm, copy = work(recorded(), device=0)
    assert (gemm.kernel, gemm.operator, gemm.modules) == ("gemm", "aten::addmm", ("Model_0", "Linear_0"))
    assert (norm.operator, norm.modules) == ("aten::layer_norm", ("Model_0", "LayerNorm_0"))
    assert (copy.operator, copy.modules) == ("(Memcpy HtoD)", ())
    assert (gemm.start, origin(recorded())) == (pytest.approx(1e-3), BASE)
    assert len(work(recorded())) == 4


def test_joules_follow_time_and_power() -> None:
    """600 us at 400 W, 200 us at 100 W, and the rest idle, as by hand."""
    times = [BASE + t for t in (0.0, 1e-3, 1.6e-3, 2e-3)]
    answer = attribute(work(recorded(), device=0), times, [50.0, 400.0, 100.0], origin=BASE, low=0.3, high=0.35)
    by = {share.name: share for share in answer.operators}
    assert by["aten::addmm"].joules == pytest.approx(0.24, rel=1e-3)
    assert by["aten::layer_norm"].joules == pytest.approx(0.02, rel=1e-3)
    assert answer.idle.joules == pytest.approx(0.05 + 0.01, rel=1e-3)
    modules = {share.name: share for share in answer.modules}
    assert modules["Model_0"].joules == pytest.approx(0.26, rel=1e-3)
    assert modules["Model_0.Linear_0"].joules == pytest.approx(0.24, rel=1e-3)
    assert modules["(no module)"].joules == pytest.approx(0.01, rel=1e-3)
    assert modules["Model_0"].calls == 2
    assert answer.estimated
    assert answer.to_dict()["operators"][0]["name"] == "aten::addmm"


def test_a_sensor_slower_than_the_work_widens_the_bounds() -> None:
    """Two halves of one reading could have drawn anything between the lowest and highest power."""
    halves = [Work(0.0, 0.5, "a", "a"), Work(0.5, 1.0, "b", "b")]
    answer = attribute(halves, [0.0, 1.0], [100.0], floor=50.0, most=180.0, low=100.0, high=100.0)
    assert [s.joules for s in answer.kernels] == [50.0, 50.0]
    assert [(s.low, s.high) for s in answer.kernels] == [(25.0, 75.0)] * 2
    alone = attribute(halves[:1], [0.0, 0.5], [100.0], floor=50.0, most=180.0, low=49.0, high=52.0)
    assert (alone.kernels[0].low, alone.kernels[0].high) == (49.0, 52.0)


def test_work_beside_other_work_shares_the_power() -> None:
    """Two kernels at once get half each, and either could have had all but the floor."""
    both = [Work(0.0, 1.0, "a", "a"), Work(0.0, 1.0, "b", "b")]
    answer = attribute(both, [0.0, 1.0], [100.0])
    assert [s.joules for s in answer.kernels] == [50.0, 50.0]
    assert [(s.low, s.high) for s in answer.kernels] == [(0.0, 100.0)] * 2
    same = attribute([Work(0.0, 1.0, "a", "a"), Work(0.0, 1.0, "a", "a")], [0.0, 1.0], [100.0])
    assert (same.kernels[0].joules, same.kernels[0].low) == (100.0, 100.0)


def test_without_kernels_operators_have_their_own_time() -> None:
    """On a CPU an operator gets what it did not spend in others, and its pieces are one call."""
    trace = {
        "traceEvents": [
            span("cpu_op", "outer", 0, 100),
            span("cpu_op", "inner", 20, 30),
            span("cpu_op", "outer", 200, 100),
        ]
    }
    answer = attribute(work(trace), [0.0, 300e-6], [10.0])
    by = {share.name: (round(share.seconds * 1e6), share.calls) for share in answer.operators}
    assert by == {"outer": (170, 2), "inner": (30, 1)}
    assert answer.idle.seconds == pytest.approx(100e-6)


@given(
    pieces=st.lists(st.tuples(st.floats(-1, 9), st.floats(0.01, 5), st.sampled_from("abc")), max_size=12),
    watts=st.lists(st.floats(0, 1000), min_size=1, max_size=6),
    joules=st.floats(0.1, 1e4),
)
def test_every_joule_goes_somewhere(pieces: list, watts: list[float], joules: float) -> None:
    """Kernels and idleness add up to the total, and so do operators; figures lie within their bounds."""
    if not sum(watts):
        watts = [1.0, *watts]
    done = [Work(a, a + n, name, name.upper(), (name,)) for a, n, name in pieces]
    times = [8.0 * i / len(watts) for i in range(len(watts) + 1)]
    answer = attribute(done, times, watts, joules=joules, low=0.9 * joules, high=1.2 * joules)
    for view in (answer.kernels, answer.operators, answer.modules):
        assert math.isclose(math.fsum(s.joules for s in (*view, answer.idle)), joules, rel_tol=1e-6)
        assert all(s.low <= s.joules * (1 + 1e-9) and s.joules <= s.high * (1 + 1e-9) for s in view)
    seconds = math.fsum(s.seconds for s in (*answer.kernels, answer.idle))
    assert math.isclose(seconds, 8.0, rel_tol=1e-9)


def test_clocks_that_do_not_meet_are_said() -> None:
    """Power of another time leaves everything idle, with a note, and not an error."""
    answer = attribute(work(recorded()), [0.0, 1.0], [100.0], origin=BASE)
    assert answer.idle.joules == 100.0
    assert any("one clock" in note for note in answer.notes)


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    """Edges and watts that do not fit, times that go back, and files that are no trace."""
    with pytest.raises(InputError, match="one entry more"):
        attribute([], [0.0, 1.0], [])
    with pytest.raises(InputError, match="increase"):
        attribute([], [1.0, 0.0], [1.0])
    with pytest.raises(InputError, match=">= 0"):
        attribute([], [0.0, 1.0], [math.nan])
    with pytest.raises(InputError, match="traceEvents"):
        work({})
    (tmp_path / "t.json").write_text("{")
    with pytest.raises(InputError, match="not a trace"):
        load(tmp_path / "t.json")


def test_a_trace_is_read_plain_or_packed(tmp_path: Path) -> None:
    """Both files that export_chrome_trace writes give the same."""
    text = json.dumps(recorded()).encode()
    (tmp_path / "t.json").write_bytes(text)
    (tmp_path / "t.json.gz").write_bytes(gzip.compress(text))
    assert work(load(tmp_path / "t.json")) == work(load(tmp_path / "t.json.gz"))


def test_a_trace_of_torch_itself_is_understood(tmp_path: Path) -> None:
    """A profile of a small model on the CPU gives joules to its modules and conserves the total."""
    torch = pytest.importorskip("torch", reason="no torch here; pip install torch")
    import time

    model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 64))
    x = torch.randn(256, 64)
    verbose = torch._C._profiler._ExperimentalConfig(verbose=True)
    start = time.time()
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, with_stack=True, experimental_config=verbose) as profile:
        for _ in range(3):
            model(x)
    stop = time.time()
    profile.export_chrome_trace(str(tmp_path / "t.json"))
    trace = load(tmp_path / "t.json")
    answer = attribute(work(trace), [start, stop], [100.0], origin=origin(trace), joules=42.0)
    names = {share.name for share in answer.modules}
    assert {"Sequential_0", "Sequential_0.Linear_0", "Sequential_0.ReLU_0"} <= names
    assert math.fsum(s.joules for s in (*answer.operators, answer.idle)) == pytest.approx(42.0)
    assert "aten::addmm" in {share.name for share in answer.operators}
