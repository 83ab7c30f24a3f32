"""Tests for `wattline.core.errors`."""

from __future__ import annotations

import pytest

from wattline.core import errors
from wattline.core.errors import GoalError, InputError, WattlineError, nearest

KINDS = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, WattlineError)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_names_an_exit_code_of_the_command_line(kind: type[WattlineError]) -> None:
    """A goal out of reach exits 1; everything else that is raised on purpose exits 2."""
    assert kind.exit_code == (1 if issubclass(kind, GoalError) else 2)


@pytest.mark.parametrize("kind", [errors.UnitError, errors.ScenarioError, errors.CapacityError])
def test_bad_input_is_one_except_clause(kind: type[WattlineError]) -> None:
    """A unit, a scenario key and a model too large are all input that cannot be used."""
    assert issubclass(kind, InputError)


def test_nearest_offers_the_closest_word() -> None:
    """A slip of the finger is answered with the word that was meant."""
    assert nearest("pipelin", ["tensor", "pipeline"]) == "did you mean 'pipeline'?"


def test_nearest_offers_several_on_request() -> None:
    """More than one close word can be asked for, the closest first."""
    assert nearest("h100", ["h100-sxm", "h100-pcie"], 2) in (
        "did you mean 'h100-sxm' or 'h100-pcie'?",
        "did you mean 'h100-pcie' or 'h100-sxm'?",
    )


def test_nearest_lists_what_is_known_when_nothing_is_close() -> None:
    """A word like no other is answered with the whole list, sorted and without repeats."""
    assert nearest("zzz", ["b", "a", "b"]) == "known: a, b"
