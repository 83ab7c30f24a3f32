"""The simulated devices that the tests of `wattline.control` set."""

from __future__ import annotations

import pytest

from wattline.control.devices.simulated import SimulatedGpu
from wattline.control.leases.keeper import Keeper
from wattline.measure.devices.replay import VirtualClock

from ..measure.conftest import fake_library, fake_nvml

__all__ = ["fake_library", "fake_nvml"]


@pytest.fixture
def clock():
    """Time that moves when told to."""
    return VirtualClock(1000.0)


@pytest.fixture
def gpu():
    """A simulated device, its administrator's limit below its range."""
    return SimulatedGpu(found=600.0)


@pytest.fixture
def keeper(gpu, clock, tmp_path):
    """A keeper of that device."""
    return Keeper([gpu], tmp_path / "state", clock=clock)
