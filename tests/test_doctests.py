"""Tests of the examples in docstrings: each module's run and print what they say."""

import doctest
import importlib

import pytest

MODULES = ["wattline.core.errors", "wattline.core.units", "wattline.frontier.algebra", "wattline.frontier.fit"]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name):
    """Every example is executed and its output compared; a module listed here has at least one."""
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0
    assert result.attempted > 0
