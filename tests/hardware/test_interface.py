"""Tests for `wattline.hardware.interface`: links as parts of a chip, each figure with its source."""

from __future__ import annotations

import pytest

from wattline.core.errors import InputError
from wattline.hardware.architectures import architecture
from wattline.hardware.interface import interface, interfaces


def test_every_kind_states_its_energy_and_rate_with_sources() -> None:
    """Joules lie between a short wire's and a module's; nearer links cost less."""
    for kind in interfaces().values():
        assert 1e-14 < kind.energy < 1e-10
        assert 1e9 < kind.bandwidth < 1e12
        assert all(len(source) > 5 for source in kind.sources.values())
        assert 0 < kind.uncertainty < 1
    order = ("ucie-advanced", "ucie-standard", "nvlink-c2c", "nvlink4", "nvlink4-switch", "optics-pluggable")
    energies = [interface(name).energy for name in order]
    assert energies == sorted(energies)


def test_a_chip_names_the_interface_of_its_link() -> None:
    """Ports and kind bring bandwidth and energy; other ports bring others; what is stated by hand stands."""
    chip = architecture("h100-like")
    ported = chip.with_({"link.nvlink.interface": "nvlink4", "link.nvlink.ports": 18})
    link = next(x for x in ported.links if x.name == "nvlink")
    assert link.bandwidth == pytest.approx(450e9)
    assert link.energy == pytest.approx(5.5e-12)
    optical = ported.with_({"link.nvlink.interface": "optics-copackaged", "link.nvlink.ports": 4})
    assert next(x for x in optical.links if x.name == "nvlink").bandwidth == pytest.approx(800e9)
    stated = ported.with_({"link.nvlink.energy": "1 pJ/bit"})
    assert next(x for x in stated.links if x.name == "nvlink").energy == pytest.approx(1e-12)


def test_an_unknown_kind_names_the_nearest() -> None:
    """A wrong name is one sentence, in a chip too."""
    with pytest.raises(InputError, match="did you mean 'ucie-advanced'"):
        interface("ucie-advance")
    with pytest.raises(InputError, match="interface"):
        architecture("h100-like").with_({"link.nvlink.interface": "nvlink9"})
