"""The simulated NVIDIA library and sysfs trees that the tests of `wattline.measure` run against."""

from __future__ import annotations

import ctypes
import importlib
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from mmap import mmap
from pathlib import Path
from typing import Any

import pytest

from wattline.measure import monitor as monitors

SOURCE = Path(__file__).parent.parent / "fakenvml" / "fakenvml.c"


@pytest.fixture(scope="session")
def fake_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The simulated libnvidia-ml.so.1, built once; tests that need it skip where there is no C compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler: the simulated NVIDIA library cannot be built")
    path = tmp_path_factory.mktemp("fakenvml") / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", str(path), str(SOURCE), "-lm"], check=True)
    return path


class FakeNvml:
    """The simulated library under virtual time: set `now`, ask `energy` for the truth."""

    def __init__(self, library: Path, folder: Path, **settings: object) -> None:
        self.library = library
        clock = folder / "clock"
        clock.write_bytes(struct.pack("d", 0.0))
        with clock.open("r+b") as file:
            self._map = mmap(file.fileno(), 8)
        self.config = folder / "fakenvml.cfg"
        lines = {"clock": clock, **settings}
        self.config.write_text("".join(f"{key}={value}\n" for key, value in lines.items()))
        self._library = ctypes.CDLL(str(library))
        self._library.fake_energy.restype = ctypes.c_double
        self._library.fake_energy.argtypes = [ctypes.c_uint, ctypes.c_double]
        self.now = 100.0

    def __call__(self) -> float:
        return self._now

    @property
    def now(self) -> float:
        return self._now

    @now.setter
    def now(self, value: float) -> None:
        self._now = value
        self._map[:] = struct.pack("d", value)

    def energy(self, start: float, stop: float, device: int = 0) -> float:
        """True J of a device between two instants."""
        return float(self._library.fake_energy(device, stop) - self._library.fake_energy(device, start))


@pytest.fixture
def fake_nvml(fake_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., FakeNvml]]:
    """Make a simulated library with these settings, and have the real client load it."""
    client: Any = importlib.import_module("pynvml")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def make(**settings: object) -> FakeNvml:
        fake = FakeNvml(fake_library, tmp_path, **settings)
        monkeypatch.setenv("FAKENVML", str(fake.config))
        monkeypatch.setenv("WATTLINE_NVML", str(fake_library))
        client.nvmlLib = None
        client._nvmlGetFunctionPointer_cache.clear()
        return fake

    yield make
    client.nvmlLib = None
    client._nvmlGetFunctionPointer_cache.clear()


@pytest.fixture(autouse=True)
def no_default_monitor() -> Iterator[None]:
    """Each test starts without the monitor of the process."""
    before = monitors.use(None)
    yield
    made = monitors.use(before)
    if made is not None:
        made.stop()
