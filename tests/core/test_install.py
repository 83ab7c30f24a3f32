"""Tests for an installed package: files that are not written to, no home, no library."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import wattline
from wattline.core.kernels import build

EXAMPLE = Path(__file__).parents[2] / "examples" / "llama-8b-serving.toml"
ENTRY = "import sys; from wattline.show.cli.main import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The package as an install has it: outside a checkout, its library built."""
    build.build()
    shutil.copytree(Path(wattline.__file__).parent, tmp_path / "site" / "wattline", ignore=_caches)
    return tmp_path / "site"


def _caches(_folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name == "__pycache__" or name.startswith(".build")}


def run(site: Path, *words: str) -> str:
    """Run the command without a home or any other word of the environment."""
    env = {"PYTHONPATH": str(site), "PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", ENTRY, *words], env=env, cwd=site, capture_output=True, text=True, timeout=120
    )
    assert done.stderr == ""
    return done.stdout


def files(site: Path) -> dict[str, int]:
    """Every file and when it was written."""
    return {str(p.relative_to(site)): p.stat().st_mtime_ns for p in site.rglob("*")}


def test_an_install_answers_and_is_not_written_to(installed: Path) -> None:
    """A plan with its page leaves the package as it was; without the library it is the same plan, and none is built."""
    before = files(installed)
    page = installed.parent / "page.html"
    fast = run(installed, "plan", str(EXAMPLE), "--html", str(page))
    assert page.stat().st_size > 10_000
    assert files(installed) == before
    for library in installed.rglob("kernels_*.so"):
        library.unlink()
    before = files(installed)
    assert run(installed, "plan", str(EXAMPLE)) == fast
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
