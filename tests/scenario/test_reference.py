"""Tests for `wattline.scenario.reference`: every key a file may have can be read without the docs."""

import pytest

from wattline.core.errors import InputError
from wattline.hardware import facts
from wattline.scenario import reference, schema, schema_fleet


def test_every_key_has_a_row_with_a_form_and_a_sentence():
    """No key of a scenario, a fleet or a sheet is left out, and none is without an explanation."""
    rows = reference.rows()
    named = {(row.file, row.key) for row in rows}
    assert {("scenario", path) for path in schema.KEYS} <= named
    assert {("fleet", path) for path in schema_fleet.KEYS} <= named
    assert {("hardware", f"chip.{name}") for name in facts.keys("chip")} <= named
    assert {row.file for row in rows} == set(reference.FILES)
    assert all(row.value and row.meaning for row in rows)


def test_a_section_a_key_or_a_kind_of_file_can_be_asked_for():
    """A word is a kind of file, a section, or the path of one key."""
    assert {row.key for row in reference.rows("serve.search")} >= {"serve.search", "serve.search.chips"}
    assert [row.default for row in reference.rows("train.launch_time")] == ["5 µs"]
    assert {row.file for row in reference.rows("fleet")} == {"fleet"}
    assert {row.file for row in reference.rows("goal")} == {"scenario", "fleet"}


def test_an_unknown_word_names_the_nearest():
    """A misspelt key is answered with the one that was meant."""
    with pytest.raises(InputError, match=r"did you mean 'serve\.tpot'"):
        reference.rows("serve.tpott")
