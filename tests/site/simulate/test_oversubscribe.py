"""Tests for site/simulate/oversubscribe.py: chances against the binomial and simulation, and the regime that POLCA reports."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattline.core.errors import InputError
from wattline.hardware.power_tree import PowerTree
from wattline.site.simulate.controllers import Prices, Thresholds, Uncapped
from wattline.site.simulate.model import Crew, Physics, Site
from wattline.site.simulate.oversubscribe import Draw, Row, breach, carried, most_servers, study
from wattline.site.simulate.play import play

from .sites import node

BENCH = Path(__file__).parents[3] / "bench" / "oversubscription.py"


def coin(chance: float) -> Draw:
    """A server that draws 1 kW with a chance and 0 W else."""
    return Draw(np.array([0.0, 1000.0]), np.array([[1 - chance, chance]]))


@given(n=st.integers(1, 60), chance=st.floats(0.01, 0.99), data=st.data())
@settings(max_examples=25, deadline=None)
def test_two_valued_servers_breach_as_the_binomial_says(n: int, chance: float, data: st.DataObject) -> None:
    """The chance that more than k of n are on, from binomial coefficients."""
    k = data.draw(st.integers(1, n))
    exact = math.fsum(math.comb(n, j) * chance**j * (1 - chance) ** (n - j) for j in range(k + 1, n + 1))
    # A limit between two counts, so that the grid decides nothing.
    assert breach([(coin(chance), n)], (k + 0.5) * 1000.0) == pytest.approx(exact, rel=1e-6, abs=1e-9)


def test_kinds_and_hours_mix() -> None:
    """Two kinds convolve, and hours average: half the day on, half the day off, breaches half the time."""
    assert breach([(coin(0.5), 1), (coin(0.25), 1)], 1500.0) == pytest.approx(0.125)
    daily = Draw(np.array([0.0, 1000.0]), np.array([[1.0, 0.0], [0.0, 1.0]]))
    assert breach([(daily, 3)], 2500.0) == pytest.approx(0.5)
    assert breach([(daily, 3)], 3000.0) == 0.0
    with pytest.raises(InputError, match="the same hours"):
        breach([(daily, 1), (coin(0.5), 1)], 100.0)


def test_most_servers_is_the_last_count_that_keeps_the_chance() -> None:
    """One more would exceed it; a chance of 0 leaves what fits at full power."""
    most = most_servers(coin(0.3), 20_500.0, 1e-3)
    assert breach([(coin(0.3), most)], 20_500.0) <= 1e-3 < breach([(coin(0.3), most + 1)], 20_500.0)
    assert most_servers(coin(0.3), 20_500.0, 0.0) == 20


def test_samples_are_their_own_distribution() -> None:
    """Measured watts count as often as they occur; bad ones are refused."""
    draw = Draw.of_samples([100.0, 300.0, 300.0, 100.0, 300.0])
    assert (draw.watts.tolist(), draw.chance.tolist()) == ([100.0, 300.0], [[0.4, 0.6]])
    for bad in ([], [1.0, math.nan], [-1.0]):
        with pytest.raises(InputError, match="finite watts"):
            Draw.of_samples(bad)
    with pytest.raises(InputError, match="sum to 1"):
        Draw(np.array([1.0]), np.array([[0.5]]))
    with pytest.raises(InputError, match="0 to 1"):
        most_servers(draw, 1e3, 1.0)


def test_the_convolution_agrees_with_the_simulator() -> None:
    """Seconds above the limit of nodes with phases, played for a day, are those of the distribution of one node."""
    tree = PowerTree.read([{"name": "feed", "limit": 21.5e3}])
    crew = Crew("serve", node(), [("feed", 30)], load=0.8, swing=0.2, quiet=0.5, lasts=(2.0, 4.0))
    site = Site(tree, (crew,), Physics(margin=9.0))
    run = play(site, Uncapped(), lasts=86_400.0)
    expected = breach([(Draw.of_crew(crew), 30)], 21.5e3)
    assert 0.005 < expected < 0.2
    assert run.over[0, 0] / 86_400 == pytest.approx(expected, rel=0.15)


def test_carried_stops_at_the_first_count_that_fails() -> None:
    """A later count that happens to pass does not help; a controller that never passes carries none."""

    def row(n: int, slow: float, who: str = "a") -> Row:
        return Row(n, who, {"x": slow}, 0.0, 0, 0, 0.9)

    rows = [row(12, 0.0), row(10, 0.01), row(11, 0.5), row(10, 0.9, "b")]
    assert carried(rows, slowdown=0.02, chance=0.0) == {"a": 10, "b": 0}


def test_thirty_percent_more_servers_in_the_regime_that_polca_reports() -> None:
    """On the mix of bench/oversubscription.py, over a day: 52 servers where 40 are provisioned lose
    less than 2 % and never breach, under thresholds as under prices; high priority loses less than 0.5 %."""
    spec = importlib.util.spec_from_file_location("oversubscription", BENCH)
    assert spec is not None
    assert spec.loader is not None
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)

    def site_of(servers: int) -> Site:
        return bench.site_of(servers, 0.8, 0.2, 40.0)

    assert 0.76 < study(site_of, [40], [Uncapped], lasts=86_400.0)[0].peak < 0.82
    rows = study(site_of, [52], [Thresholds, Prices], lasts=86_400.0)
    for row in rows:
        assert row.worst < 0.02
        assert row.slowdown["high"] < 0.005
        assert row.breach == 0
        assert row.trips == row.brakes == 0
        assert row.slowdown["low"] > 0.002  # it does cost something
