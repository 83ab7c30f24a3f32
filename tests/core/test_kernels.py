"""Tests for `wattline.core.kernels`: C and Python agree on names, and a call finds whichever there is."""

from __future__ import annotations

import ctypes
import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from wattline.core import kernels
from wattline.core.kernels import build, prototypes
from wattline.core.kernels.prototypes import declarations, size_of

SOURCE = Path(kernels.__file__).parents[2]
MODULES = sorted(
    ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)
    for path in SOURCE.rglob("*.py")
    if re.search(r"^\w+ = Source\(", path.read_text(), re.MULTILINE)
)


@pytest.mark.parametrize("module", MODULES)
def test_c_and_python_bear_the_same_names(module):
    """Every function marked has a C function that takes the same parameters, arrays with their lengths."""
    importlib.import_module(module)
    mine = [kernel for kernel in kernels.registry if kernel.python.__module__ == module]
    assert mine
    for kernel in mine:
        prototype = declarations(kernel.source.file).kernels[kernel.name]
        arrays = {p.name for p in prototype.parameters if p.pointer}
        names = {p.name for p in prototype.parameters if not size_of(p.name, arrays)}
        assert names == set(inspect.signature(kernel.python).parameters), kernel.name


def test_no_c_function_is_without_its_python():
    """What C offers has an obviously correct twin."""
    for module in MODULES:
        importlib.import_module(module)
    offered = {name for path in build.sources() for name in declarations(path.name).kernels}
    assert offered == {kernel.name for kernel in kernels.registry}


def test_this_machine_runs_compiled():
    """Where the tests run there is a compiler, so they test C."""
    compiled, said = kernels.status()
    assert compiled, said


def _python(code: str, **environment: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(SOURCE.parent), **environment}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_plain_can_be_asked_for():
    """WATTLINE_KERNELS=plain keeps to Python, and says so."""
    said = _python("from wattline.core import kernels; print(kernels.status())", WATTLINE_KERNELS="plain")
    assert said.startswith("(False, 'WATTLINE_KERNELS=plain")


def test_nothing_to_build_with_is_no_error(monkeypatch, tmp_path):
    """Without a compiler there is no library and one reason why."""
    monkeypatch.setattr(build, "HERE", tmp_path)
    monkeypatch.setattr(build, "COMPILERS", ())
    monkeypatch.delenv("CC", raising=False)
    path, why = build.build()
    assert path is None
    assert "no C compiler" in why


def test_a_compiler_that_fails_is_told(monkeypatch, tmp_path):
    """What the compiler said is the reason given; nothing half-built is left."""
    (tmp_path / "wrong.c").write_text("int x = ;")
    monkeypatch.setattr(build, "HERE", tmp_path)
    path, why = build.build()
    assert path is None
    assert "wrong.c" in why
    assert [p.name for p in tmp_path.iterdir()] == ["wrong.c"]


def test_a_new_library_replaces_the_old(monkeypatch, tmp_path):
    """The name tells the sources: changed sources are built anew, and what was built of others goes."""
    monkeypatch.setattr(build, "HERE", tmp_path)
    (tmp_path / "one.c").write_text("int one(void) { return 1; }")
    first, _ = build.build()
    assert build.build() == (first, "built before")
    (tmp_path / "one.c").write_text("int one(void) { return 2; }")
    second, _ = build.build()
    assert second != first
    assert [p.name for p in tmp_path.glob("*.so")] == [second.name]


def _starts(**change):
    from wattline.frontier import path

    given = {
        "order": np.arange(2), "pointer": np.array([0, 1, 1]), "head": np.array([1]), "duration": np.array([2.0, 1.0]),
        "start": np.zeros(2),
    } | change  # fmt: skip
    path._starts(**given)
    return given["start"].tolist()


def test_arrays_that_are_read_are_converted():
    """A strided array, or whole numbers of another width, give what their plain copies give."""
    assert _starts() == [0.0, 2.0]
    assert _starts(duration=np.array([2.0, 9.0, 1.0, 9.0])[::2]) == [0.0, 2.0]
    assert _starts(head=np.array([1], np.int32)) == [0.0, 2.0]


def test_arrays_that_are_written_are_refused():
    """Writing into a copy would be lost without a word."""
    with pytest.raises(TypeError, match="path_starts: start must be a contiguous, writeable array of float64"):
        _starts(start=np.zeros(4)[::2])
    with pytest.raises(TypeError, match="start must be"):
        _starts(start=np.zeros(2, np.float32))


class Tank(NamedTuple):
    """Arrays and scalars as simulators keep them."""

    level: np.ndarray
    name: str
    valves: np.ndarray
    rate: float
    open: bool


DEMO = """
#include "kernels.h"
typedef struct {
    double rate, *level; /* in another order than the tuple, and without its name */
    i64 level_n, level_m;
    const i32 *valves;
    bool open;
} Tank;
KERNEL double demo_fill(const Tank *t, Random *random, i64 turns) {
    for (i64 i = 0; i < t->level_n; i++)
        for (i64 j = 0; j < t->level_m; j++)
            if (t->open) t->level[i * t->level_m + j] += (double)turns * t->rate * (double)t->valves[j];
    return draw(random);
}
"""


@pytest.fixture
def fill(monkeypatch, tmp_path):
    """A kernel of a library made for the test, and its source."""
    header = build.HERE / "kernels.h"
    (tmp_path / header.name).write_text(header.read_text())
    (tmp_path / "demo.c").write_text(DEMO)
    monkeypatch.setattr(build, "HERE", tmp_path)
    monkeypatch.setattr(prototypes, "HERE", tmp_path)
    monkeypatch.setattr(kernels, "registry", [])
    path, why = build.build()
    assert path is not None, why
    monkeypatch.setattr(kernels, "_load", lambda: (ctypes.CDLL(str(path)), str(path)))
    source = kernels.Source("demo.c")

    @source
    def fill(t: Tank, random: np.random.Generator, turns: int) -> float:
        if t.open:
            t.level[:] += turns * t.rate * t.valves
        return random.random()

    return source, fill


def test_a_named_tuple_goes_as_a_struct(fill):
    """C sees arrays, their shapes and scalars of a NamedTuple, and the random numbers NumPy would draw."""
    source, function = fill
    level = np.zeros((2, 3))
    tank = Tank(level, "north", np.array([1, 2, 3], np.int32), np.float64(0.5), np.bool_(True))
    assert function(tank, np.random.default_rng(4), np.int64(2)) == np.random.default_rng(4).random()
    assert level.tolist() == [[1.0, 2.0, 3.0]] * 2
    function(source.pack(tank), np.random.default_rng(4), turns=1)
    with kernels.plain():
        function(source.pack(tank), np.random.default_rng(4), 1)
    assert level.tolist() == [[2.0, 4.0, 6.0]] * 2
    with pytest.raises(TypeError, match=r"Tank\.level must be"):
        function(tank._replace(level=np.zeros((2, 6))[:, ::2]), np.random.default_rng(4), 1)
