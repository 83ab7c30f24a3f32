"""Tests for an installed package: files that are not written to, no home, no library."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import wattline
from wattline.core.kernels import build

EXAMPLE = Path(__file__).parents[2] / "examples" / "llama-8b-serving.toml"
ENTRY = "import sys; from wattline.show.cli.main import main; sys.exit(main(sys.argv[1:]))"

GRAPH = """
import numpy as np
from wattline.frontier.graph import Dag, solve
hull = np.array([1.0, 2.0, 4.0]), np.array([9.0, 5.0, 3.0])
found = solve(Dag(np.zeros(4, int), np.array([(0, 1), (0, 2), (1, 3), (2, 3)])), [hull], 0.5)
print(found.time.tolist(), found.energy.tolist(), found.schedule(5.0).price.tolist())
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The package as an install has it: outside a checkout, its library built."""
    build.build()
    shutil.copytree(Path(wattline.__file__).parent, tmp_path / "site" / "wattline", ignore=_caches)
    return tmp_path / "site"


def _caches(_folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name == "__pycache__" or name.startswith(".build")}


def run(site: Path, code: str, *words: str) -> str:
    """Run a program without a home or any other word of the environment."""
    env = {"PYTHONPATH": str(site), "PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, *words], env=env, cwd=site, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout


def files(site: Path) -> dict[str, int]:
    """Every file and when it was written."""
    return {str(p.relative_to(site)): p.stat().st_mtime_ns for p in site.rglob("*")}


def test_an_install_answers_and_is_not_written_to(installed: Path) -> None:
    """A plan with its page leaves the package as it was."""
    before = files(installed)
    page = installed.parent / "page.html"
    assert "Energy" in run(installed, ENTRY, "plan", str(EXAMPLE), "--html", str(page))
    assert page.stat().st_size > 10_000
    assert files(installed) == before


def test_an_install_without_its_library_answers_the_same(installed: Path) -> None:
    """The frontier of a graph is the same, and no library is built into the install."""
    fast = run(installed, GRAPH)
    for library in installed.rglob("kernels_*.so"):
        library.unlink()
    before = files(installed)
    assert run(installed, GRAPH) == fast
    assert files(installed) == before


def test_doctor_says_where_kernels_are_python(installed: Path) -> None:
    """Without the library one line says that kernels are slow, and why."""
    for library in installed.rglob("kernels_*.so"):
        library.unlink()
    said = subprocess.run(
        [sys.executable, "-c", "from wattline.core import kernels; print(kernels.status())"],
        env={"PYTHONPATH": str(installed), "PATH": os.defpath}, cwd=installed, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert said.startswith("(False, 'this install came without a compiled library")


def test_answers_are_the_same_on_another_processor() -> None:
    """Examples give what stands beside them with the BLAS kernels of an old processor too."""
    shipped = ("placement", "curtailment", "carbon-week", "site-20mw", "llama-70b-training", "gpt3-1024-a100")
    root = EXAMPLE.parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests/test_examples.py", "-k",
         f"stands_beside and ({' or '.join(shipped)})"],
        env={**os.environ, "OPENBLAS_CORETYPE": "Prescott", "PYTHONPATH": str(Path(wattline.__file__).parents[1])},
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]


def test_the_version_is_said_once() -> None:
    """The package, its metadata and the changelog agree: a version in work has "Unreleased" on top, a released one its number."""
    root = EXAMPLE.parents[1]
    stated = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert stated == wattline.__version__
    top = re.findall(r"^## (\S+)", (root / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)[0]
    assert top == ("Unreleased" if ".dev" in stated else stated)
