"""Tests for `wattline.scenario.pipeline`, `wattline.show.report.plans` and the command `wattline pipeline`."""

import csv
import json
from pathlib import Path

import pytest

from wattline.core.errors import InputError
from wattline.scenario.pipeline import Request, run, steps, tables
from wattline.show.cli.main import main

from ..training.profiles import text


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Search little: what is tested here holds of every plan."""
    monkeypatch.setattr("wattline.training.pipeline.MOVES", 50)


SHAPE = ("--stages", "3", "--microbatches", "4", "--points", "3")
WAITS = ("--waiting-power", "75 W")


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "profile.csv"
    path.write_text(text(stages=3), "utf-8")
    return path


def asked(profile: Path, capsys, *words: str) -> dict:
    assert main(["pipeline", str(profile), *SHAPE, *WAITS, *words, "--json"]) == 0
    captured = capsys.readouterr()
    assert not captured.err
    return json.loads(captured.out)


def refused(profile: Path, capsys, code: int, *words: str) -> str:
    assert main(["pipeline", str(profile), *SHAPE, *words]) == code
    captured = capsys.readouterr()
    assert not captured.out
    assert captured.err.startswith("wattline: error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_json_has_the_stable_keys(profile: Path, capsys) -> None:
    """The frontier, realised plans with their gaps, and what they rest on, with nothing else on stdout."""
    found = asked(profile, capsys)
    assert found["exact"] is True
    assert found["solve_s"] > 0
    assert set(found["frontier"][0]) == {"time_s", "energy_j"}
    assert {"time_s", "energy_j", "gap_to_bound"} <= set(found["realized"][0])
    first, base = found["realized"][0], found["baseline"]
    assert first["time_s"] <= base["time_s"] * (1 + 1e-9)
    assert first["energy_j"] < base["energy_j"]
    assert found["chosen"] == first
    assert found["breakpoints"] == len(found["frontier"])
    assert len(found["realized"]) == 3
    times = [p["time_s"] for p in found["frontier"]]
    energies = [p["energy_j"] for p in found["frontier"]]
    assert times == sorted(times)
    assert energies == sorted(energies, reverse=True)


def test_everything_that_may_be_added_is_told(profile: Path, capsys) -> None:
    """Comparison, switching once, regression and straggler each add a key."""
    found = asked(profile, capsys, "--max-slowdown", "5 %", "--compare", "--switch-once", "--regress")
    assert list(found["granularities"]) == ["microbatch", "instruction", "stage"]
    assert found["switch_once"]["gap_to_bound"] == pytest.approx(0, abs=1e-9)
    assert found["regressed"]["bound_j"] > 0
    late = asked(profile, capsys, "--straggler", "2 s")["straggler"]
    assert late["answer_s"] < 1e-3
    assert late["energy_j"] < late["baseline_energy_j"]
    assert late["scope"] == "one pipeline"


def test_a_plan_is_written_for_a_runtime(profile: Path, capsys, tmp_path: Path) -> None:
    """CSV and JSON hold one row per computation, with a clock of the profile, none before its device is free."""
    for name in ("plan.csv", "plan.json"):
        asked(profile, capsys, "--plan", str(tmp_path / name))
    rows = list(csv.DictReader((tmp_path / "plan.csv").read_text("utf-8").splitlines()))
    other = json.loads((tmp_path / "plan.json").read_text("utf-8"))
    assert len(rows) == len(other["rows"]) == 3 * 4 * 2
    assert other["chosen"]["gap_to_bound"] >= 0
    free: dict[str, float] = {}
    for row in rows:
        assert float(row["clock_hz"]) in (1.4e9, 1.2e9, 1.0e9, 0.8e9)
        assert float(row["start_s"]) >= free.get(row["stage"], 0.0) - 1e-9
        free[row["stage"]] = float(row["start_s"]) + float(row["time_s"])


@pytest.mark.parametrize("name", ["plan.svg", "plan.png", "plan.html"])
def test_a_picture_is_drawn(profile: Path, capsys, tmp_path: Path, name: str) -> None:
    """The timeline as SVG or PNG, the report as HTML."""
    asked(profile, capsys, "--picture", str(tmp_path / name))
    start = {"svg": b"<svg", "png": b"\x89PNG", "html": b"<!doctype html>"}[name.rpartition(".")[2]]
    assert (tmp_path / name).read_bytes().startswith(start)


def test_tables_say_what_was_found(profile: Path, capsys) -> None:
    """Without --json the plan is told in tables, the realised plans among them."""
    words = ("--compare", "--regress", "--switch-once", "--straggler", "2 s")
    assert main(["pipeline", str(profile), *SHAPE, *WAITS, *words]) == 0
    out = capsys.readouterr().out
    for word in (
        "realised plans",
        "one clock per",
        "one switch inside",
        "beside the straggler",
        "regression",
        "Clocks",
    ):
        assert word in out


def test_warnings_stand_on_stderr(profile: Path, capsys) -> None:
    """Rows below waiting are warned of there, and the plan is made all the same."""
    assert main(["pipeline", str(profile), *SHAPE, "--waiting-power", "300 W", "--json"]) == 0
    captured = capsys.readouterr()
    assert "wattline: warning: profile.csv line" in captured.err
    assert json.loads(captured.out)["warnings"]


@pytest.mark.parametrize(
    ("code", "words", "message"),
    [
        (2, (), "the waiting power is not known"),
        (2, ("--waiting-power", "75"), "has no unit"),
        (2, (*WAITS, "--deadline", "2 s", "--straggler", "3 s"), "--deadline and --straggler both limit the time"),
        (2, (*WAITS, "--max-slowdown=-2 %"), "--max-slowdown must be at least 0 %"),
        (2, (*WAITS, "--plan", "plan.txt"), "a plan is written as .csv, .json"),
        (2, (*WAITS, "--picture", "plan.gif"), "a picture is written as .html, .svg, .png"),
        (2, (*WAITS, "--plan", "/nowhere/plan.csv"), "there is no folder"),
        (2, (*WAITS, "--schedule", "zb-h1"), "no rows of backward_input"),
        (2, (*WAITS, "--schedule", "1f2b"), "schedule '1f2b' is not known"),
        (2, ("--chip", "a1000"), "a1000"),
        (1, (*WAITS, "--deadline", "10 ms"), "cannot be reached"),
        (1, (*WAITS, "--straggler", "10 ms"), "is none"),
        (1, (*WAITS, "--power-cap", "100 W"), "cannot be kept"),
    ],
)
def test_bad_requests_are_one_sentence(profile: Path, capsys, code: int, words: tuple[str, ...], message: str) -> None:
    """Bad input exits 2, an impossible goal 1, each with one sentence."""
    assert message in refused(profile, capsys, code, *words)


def test_a_chip_of_the_catalog_lends_its_waiting_power(profile: Path, capsys) -> None:
    """The figure is marked as an assumption with its source."""
    assert main(["pipeline", str(profile), *SHAPE, "--chip", "a100-sxm-80gb", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert any(text.startswith("waiting power assumed from a100-sxm-80gb") for text in found["assumptions"])


def test_a_power_cap_takes_the_time_it_needs(profile: Path, capsys) -> None:
    """Alone it gives the fastest plan within it; a limit on time is kept where both can be."""
    free = asked(profile, capsys)["chosen"]
    cap = f"{0.9 * free['average_power_w']:.3f} W"
    found = asked(profile, capsys, "--power-cap", cap)["chosen"]
    assert found["average_power_w"] <= 0.9 * free["average_power_w"] * (1 + 1e-6)
    assert found["time_s"] > free["time_s"]
    both = asked(profile, capsys, "--power-cap", cap, "--max-slowdown", "30 %")["chosen"]
    assert both["average_power_w"] <= 0.9 * free["average_power_w"] * (1 + 1e-6)
    assert "both" not in refused(profile, capsys, 1, *WAITS, "--power-cap", cap, "--max-slowdown", "0 %")


def test_progress_is_told_as_often_as_promised(profile: Path) -> None:
    """A bar that counts the steps comes to its end."""
    request = Request(profile, 3, 4, waiting_power="75 W", points=4)
    done: list[int] = []
    found = run(request, done.append)
    assert sum(done) == steps(request)
    assert [heads[0] for heads, _ in tables(found)] == ["realised plans"]


def test_no_point_at_all_is_refused(profile: Path) -> None:
    """At least one plan is realised."""
    with pytest.raises(InputError, match="--points must be at least 1, got 0"):
        run(Request(profile, 3, 4, waiting_power="75 W", points=0))


def test_switching_inside_partitions_is_refused(tmp_path: Path) -> None:
    """One switch inside a sequence of partitions has no single place; that is said."""
    path = tmp_path / "parts.csv"
    head, *lines = text(stages=2).splitlines()
    rows = [f"{line},{part}" for line in lines for part in ("one", "two")]
    path.write_text("\n".join([head + ",partition", *rows]), "utf-8")
    with pytest.raises(InputError, match="without partitions"):
        run(Request(path, 2, 3, waiting_power="75 W", points=1, switch_once=True))
