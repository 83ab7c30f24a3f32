"""Tests for `wattline.hardware.facts`."""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import pytest

from wattline.core.errors import InputError, UnitError
from wattline.core.units import parse
from wattline.hardware import catalog
from wattline.hardware.facts import KINDS, Sheet, keys, load, sheet

ALL = [(kind, name) for kind in KINDS for name in catalog.names(kind)]
FIND = {"chip": catalog.chip, "node": catalog.node, "rack": catalog.rack, "site": catalog.site}


def site(**facts: object) -> Sheet:
    return sheet("site", {"name": "here", "pue": ["1.2", "a meter"]} | facts)


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_every_shipped_fact_has_a_unit_a_source_and_a_place(kind: str, name: str) -> None:
    """Each number of the catalog says its unit and where it comes from, and each required one is there."""
    found, known = FIND[kind](name), keys(kind)
    assert found.name == name
    assert found.title
    assert {k for k, rule in known.items() if rule.required} <= set(found)
    for key in found:
        fact = found.facts[key]
        assert fact.unit == known[key].unit
        assert len(fact.source) > 10
        assert math.isfinite(fact.value)
        assert known[key].low <= fact.value <= known[key].high


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_an_estimate_says_how_far_it_may_be_off(kind: str, name: str) -> None:
    """What no source states carries an uncertainty; nothing is invented silently."""
    found = FIND[kind](name)
    bare = [k for k in found if "estimate" in found.facts[k].source and not found.facts[k].uncertainty]
    assert bare == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_is_described_and_its_unit_can_be_read(kind: str) -> None:
    """The table of keys is itself in order: units that parse, bounds the right way round, a sentence."""
    for rule in keys(kind).values():
        assert parse(f"1 {rule.unit}", rule.unit) == 1.0
        assert rule.low < rule.high
        assert rule.description


@pytest.mark.parametrize(
    ("key", "leaf", "words"),
    [
        ("power.limit", ["5", "a meter"], "power.limit: '5' has no unit"),
        ("power.limit", [5.0e6, "a meter"], "has no unit"),
        ("power.limit", ["5 MWh", "a meter"], "expected W"),
        ("power.limit", ["nan W", "a meter"], "not a number"),
        ("power.limit", ["5 MW", ""], "no source"),
        ("power.limit", ["5 MW", "  "], "no source"),
        ("power.limit", ["5 MW"], "must be"),
        ("power.limit", "5 MW", "must be"),
        ("power.limit", ["5 MW", "a meter", "-5 %"], "0 or more"),
        ("power.limit", ["5 MW", "a meter", "5 W"], "uncertainty"),
        ("power.limit", ["0 W", "a meter"], "must lie between"),
        ("power.limit", ["-5 MW", "a meter"], "must lie between"),
        ("pue", ["0.9", "a meter"], "must lie between 1 and 5"),
        ("pue", [math.nan, "a meter"], "not a finite number"),
        ("pue", 1.2, "must be"),
        ("puee", ["1.2", "a meter"], "did you mean 'pue'"),
        ("power.limits", ["5 MW", "a meter"], "did you mean 'power.limit'"),
        ("titel", "A place", "did you mean 'title'"),
        ("title", 5, "must be text"),
    ],
)
def test_a_bad_fact_is_refused_by_name(key: str, leaf: object, words: str) -> None:
    """A number without unit, source or known key raises a sentence that names sheet and key."""
    with pytest.raises(InputError, match=words) as caught:
        site(**{key: leaf})
    assert str(caught.value).startswith("site here: ")


def test_a_required_key_cannot_be_left_out() -> None:
    """A sheet without what every sheet of its kind needs says what is missing."""
    with pytest.raises(InputError, match=r"rack r must state power.limit, and does not"):
        sheet("rack", {"name": "r", "nodes": ["4", "a plan"]})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"clock.min": "3 GHz"}, "clock.min must not exceed clock.max, got 3 GHz and 1.98 GHz"),
        ({"voltage.knee": "2.5 GHz"}, "voltage.knee must not exceed clock.max"),
        ({"voltage.min": "1.5 V"}, "voltage.min must not exceed voltage.max"),
        ({"power.idle": "900 W"}, "power.idle must not exceed power.limit"),
        ({"power.waiting": "900 W"}, "power.waiting must not exceed power.limit"),
        ({"power.limit": "150 W"}, "power.limit_min must not exceed power.limit"),
    ],
)
def test_facts_that_contradict_each_other_are_refused(changes: dict[str, str], words: str) -> None:
    """A pair of facts in the wrong order raises, naming both keys and values."""
    with pytest.raises(InputError, match=words):
        catalog.chip("h100-sxm").with_(changes)


def test_a_variant_leaves_the_original_alone() -> None:
    """`with_` returns a copy that says it was set by hand; text and SI floats mean the same."""
    h100 = catalog.chip("h100-sxm")
    text = h100.with_({"memory.hbm.bandwidth": "4 TB/s"})
    assert text["memory.hbm.bandwidth"] == h100.with_({"memory.hbm.bandwidth": 4e12})["memory.hbm.bandwidth"]
    assert text.facts["memory.hbm.bandwidth"].source == "set by hand"
    assert h100["memory.hbm.bandwidth"] == 3.35e12


def test_a_variant_is_checked_like_a_file() -> None:
    """A change without unit, out of bounds, not a number or of no known key raises."""
    h100 = catalog.chip("h100-sxm")
    with pytest.raises(UnitError, match="has no unit"):
        h100.with_({"power.limit": "500"})
    with pytest.raises(InputError, match="must lie between"):
        h100.with_({"power.limit": math.nan})
    with pytest.raises(InputError, match=r"did you mean 'power.limit'"):
        h100.with_({"power.limt": "500 W"})


def test_a_fact_that_is_not_stated_is_not_guessed() -> None:
    """Asking a V100 for a bf16 rate raises; `get` takes the caller's word instead."""
    v100 = catalog.chip("v100-sxm")
    with pytest.raises(InputError, match=r"states no compute.rate.bf16; did you mean"):
        v100["compute.rate.bf16"]
    assert "compute.rate.bf16" not in v100
    assert v100.get("compute.rate.bf16", 1.0) == 1.0


def test_a_file_is_named_in_the_message(tmp_path: Path) -> None:
    """What is wrong in a file is reported with the file's path."""
    path = tmp_path / "here.toml"
    with pytest.raises(InputError, match=r"here.toml: cannot be read \(No such file"):
        load("site", path)
    path.write_text("pue = [")
    with pytest.raises(InputError, match=r"here.toml: not valid TOML"):
        load("site", path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"here.toml: not valid TOML"):
        load("site", path)
    path.write_text('pue = ["9", "a meter"]')
    with pytest.raises(InputError, match=r"here.toml: site here: pue must lie"):
        load("site", path)


def test_an_unknown_kind_is_refused() -> None:
    """There are four kinds of sheet; a fifth is answered with the nearest."""
    with pytest.raises(InputError, match="did you mean 'chip'"):
        keys("chips")


def test_a_sheet_travels_to_another_process() -> None:
    """Sheets are plain data: a pickled copy is equal."""
    h100 = catalog.chip("h100-sxm")
    assert pickle.loads(pickle.dumps(h100)) == h100
