"""Tests for `wattline.core.provenance`."""

import pytest

from wattline import Frontier, InputError
from wattline.core.provenance import Provenance


def test_the_weakest_holds_for_all():
    """What one part only models, the whole only models."""
    assert Provenance.weakest(["measured", "modelled", "calibrated"]) == "modelled"
    assert Provenance.weakest(["measured", "calibrated"]) is Provenance.CALIBRATED


def test_another_word_is_refused():
    """A frontier says one of three words."""
    with pytest.raises(InputError, match="one of modelled, calibrated, measured, got 'guessed'"):
        Frontier.of([1.0], [1.0], provenance="guessed")
