"""Tests for `wattline.core.plugins`: sources, policies and chips of other packages."""

from __future__ import annotations

import sys
import types
from importlib.metadata import EntryPoint

import pytest

from wattline.core import plugins
from wattline.core.errors import InputError, ScenarioError
from wattline.hardware import catalog
from wattline.scenario import scenario
from wattline.source.roofline.source import Roofline

SERVE = {
    "model": {"name": "llama-3.2-1b"},
    "hardware": {"chip": "h100-sxm", "chips_per_node": 1, "source": "double"},
    "serve": {"rate": "1 req/s", "prompt": 100, "output": 50},
}


@pytest.fixture
def package(monkeypatch, tmp_path):
    """A package that adds one thing to every group."""
    module = types.ModuleType("added")
    module.source = Roofline
    module.broken = lambda: 1 / 0
    (tmp_path / "my-h100.toml").write_text('base = "h100-sxm"\n[power]\nlimit = ["650 W", "mine"]\n')
    module.chips = lambda: str(tmp_path)
    monkeypatch.setitem(sys.modules, "added", module)
    points = {
        "wattline.sources": {n: EntryPoint(n, f"added:{w}", "") for n, w in (("double", "source"), ("bad", "broken"))},
        "wattline.chips": {"mine": EntryPoint("mine", "added:chips", "")},
    }
    monkeypatch.setattr(plugins, "named", lambda group: points.get(group, {}))
    catalog._added.cache_clear()
    yield
    catalog._added.cache_clear()


def test_a_source_is_chosen_by_name(package):
    """hardware.source takes the name of another package's source, and only names that exist."""
    assert isinstance(scenario.source_of(scenario.parse(SERVE)), Roofline)
    with pytest.raises(ScenarioError, match=r"hardware\.source = 'dubble' is not known; did you mean 'double'"):
        scenario.parse(SERVE).with_({"hardware.source": "dubble"})


def test_a_source_that_fails_is_one_sentence(package):
    """What another package raises is told with its name."""
    with pytest.raises(InputError, match=r"wattline\.sources 'bad' \(added:broken\) cannot be used: ZeroDivisionError"):
        scenario.source_of(scenario.parse(SERVE).with_({"hardware.source": "bad"}))


def test_a_chip_is_found_by_name(package):
    """A folder of chips of another package answers beside the catalog."""
    assert catalog.chip("my-h100")["power.limit"] == 650.0
