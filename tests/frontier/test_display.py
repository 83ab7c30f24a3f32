"""Tests for `wattline.frontier.display`: what a notebook shows."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
from hypothesis import given

from tests.strategies import exact_frontiers
from wattline import NEVER, ZERO, Frontier
from wattline.frontier import display


@given(exact_frontiers(edge=True))
def test_every_frontier_shows_as_well_formed_html(frontier: Frontier):
    """Chart and table are XML that parses, whatever the frontier; no script is in it."""
    shown = frontier._repr_html_()
    ET.fromstring(f"<div>{shown}</div>")
    assert "<script" not in shown


def test_the_chart_holds_a_mark_for_every_choice():
    """Three choices are three dots and three rows."""
    shown = Frontier.of([1, 2, 3], [9, 5, 4], waiting_power=10)._repr_html_()
    assert shown.count("<circle") == 3
    assert shown.count("<tr>") == 4
    assert "19 J" in shown  # 9 J above waiting and 10 W for 1 s


def test_long_frontiers_are_thinned_and_say_so():
    """A thousand choices are a few hundred dots and a dozen rows."""
    time = np.arange(1.0, 1001.0)
    shown = Frontier.of(time, 1e6 / time)._repr_html_()
    assert shown.count("<circle") <= 200
    assert "1000 choices" in shown


def test_nothing_and_never_say_that_there_is_nothing_to_draw():
    """The identities have no curve."""
    assert "no choice" in NEVER._repr_html_()
    assert "<svg" in ZERO._repr_html_()


def test_texts_are_escaped():
    """A name with an angle bracket stays a name."""
    assert "&lt;b&gt;" in display.table(["<b>"], [["x"]])


def test_an_answer_shows_what_it_saves():
    """The plan of an example: its title, its two marks, and its largest component."""
    from wattline.scenario import scenario

    answer = scenario.solve(
        scenario.load(Path(__file__).parents[2] / "examples" / "llama-8b-serving.toml"), detail=False
    )
    shown = answer._repr_html_()
    ET.fromstring(f"<div>{shown}</div>")
    assert answer.title in shown
    assert "maximum clocks" in shown
    assert "Saved" in shown
