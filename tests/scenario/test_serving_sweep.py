"""Tests for `wattline.scenario.serving_sweep` and `wattline simulate --sweep`: one service at many loads."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from wattline.core.errors import ScenarioError
from wattline.scenario import scenario
from wattline.scenario.serving_sweep import CLOSE, rows_of, sweep
from wattline.show.cli import main as cli
from wattline.show.report.loads import chart

EXAMPLE = Path(__file__).parents[2] / "examples" / "llama-8b-simulated.toml"


def stated(**changes: object) -> scenario.Scenario:
    named = {f"serve.{key}": value for key, value in changes.items()}
    return scenario.load(EXAMPLE).with_({"serve.count": 300, "serve.policy": "fixed", **named})


def test_the_largest_rate_that_keeps_the_promise_is_found() -> None:
    """The best load is kept, a load two percent above it is not, and more load is more for the chip, less for a user."""
    found = sweep(stated(), "rate")
    best = found.best
    assert best is not None
    above = min(p.load for p in found.points if p.load > best.load)
    assert above / best.load <= 1.0 + 2 * CLOSE
    assert not next(p for p in found.points if p.load == above).kept
    kept = [p for p in found.points if p.kept]
    assert all(b.user <= 1.01 * a.user for a, b in pairwise(kept))  # loads a percent apart draw other requests
    assert all(b.energy_j <= 1.06 * a.energy_j for a, b in pairwise(kept))  # 300 requests: the tail of a run weighs


@pytest.mark.parametrize("start", ["1 req/s", "90 req/s"])
def test_where_the_search_begins_does_not_decide(start: str) -> None:
    """From far below and from far above, nearly the same rate."""
    best = sweep(stated(rate=start), "rate").best
    usual = sweep(stated(), "rate").best
    assert best is not None
    assert usual is not None
    assert best.load == pytest.approx(usual.load, rel=0.1)  # 300 requests: late ones come and go by chance


def test_a_closed_loop_doubles_its_clients() -> None:
    """1, 2, 4, ... at once on each of two replicas; by Little's law tokens/s are clients times a user's."""
    found = sweep(stated(max_batch=64), "concurrency")
    assert [p.load for p in found.points] == [2.0 * 2**k for k in range(7)]
    for point in found.points[1:5]:
        assert point.chip * 2 == pytest.approx(point.load * point.user, rel=0.25)


def test_without_a_promise_the_rate_goes_to_what_the_service_carries() -> None:
    """Nothing is promised: the sweep ends where tokens fall behind the load."""
    one = stated(count=800, max_batch=32)
    values = {key: value for key, value in one.values.items() if key not in ("serve.ttft", "serve.tpot")}
    free = sweep(replace(one, values=values), "rate")
    assert not free.promised
    assert free.best is not None
    most = max(p.chip for p in free.points)
    assert most == pytest.approx(max(p.chip for p in sweep(one, "concurrency").points), rel=0.2)


def test_the_command_draws_and_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table, a line, a chart in every form; a promise that nothing keeps exits 1; a load that is none is refused."""
    base = ["simulate", str(EXAMPLE), "--set", "serve.count=150", "--set", "serve.policy=fixed", "--sweep"]
    svg, html = tmp_path / "a.svg", tmp_path / "a.html"
    assert cli.main([*base, "rate", "--chart", str(svg), "--html", str(html)]) == 0
    assert "requests/s keep the promise" in capsys.readouterr().out
    assert svg.read_text("utf-8").startswith("<svg")
    assert "Output tokens/s of a user" in html.read_text("utf-8")
    assert cli.main([*base, "concurrency", "--set", "serve.tpot=1 ms", "--set", "serve.max_batch=4", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["best"] is None
    assert told["points"][0]["tokens_per_s_per_user"] > 50
    assert cli.main([*base, "load"]) == 2
    assert cli.main(["simulate", str(EXAMPLE), "--chart", str(svg)]) == 2


def test_colours_are_joules_and_hollow_points_missed() -> None:
    """Five classes of joules at most; kept and missed loads are marks of their own."""
    found = sweep(stated(), "rate")
    told = chart(found).to_dict()
    marks = [layer["mark"]["type"] for layer in told["layer"]]
    assert marks == ["line", "circle", "point"]
    assert len(told["layer"][1]["encoding"]["color"]["scale"]["domain"]) == 5
    assert len(rows_of(found)[1]) == len(found.points)


def test_what_cannot_be_swept_is_refused() -> None:
    """Training, and a closed loop of pools apart or of a trace."""
    with pytest.raises(ScenarioError, match="needs a \\[serve\\] section"):
        sweep(scenario.load(EXAMPLE.with_name("llama-70b-training.toml")), "rate")
    with pytest.raises(ScenarioError, match="whole replicas"):
        sweep(stated(prefill_replicas=1), "concurrency")
