"""Tests for `wattline.show.cli.main`."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import wattline
from tests.answers import serving, training
from tests.hardware.test_importing import ZIGZAG
from wattline import GoalError
from wattline.hardware.architectures import architecture
from wattline.scenario import scenario
from wattline.show.cli import main as cli
from wattline.show.cli import output as cli_output

SCENARIO = """
[model]
name = "llama-3.1-8b"
[hardware]
chip = "h100-sxm"
[train]
tokens = "1B"
global_batch = 64
[goal]
max_slowdown = "5 %"
"""

KERNELS = """row_id,device,op_name,gemm_dtype,m,n,k
a,NVIDIA H200,gemm,bfloat16,4096,4096,4096
b,NVIDIA H200,gemm,fp8,1024,8192,4096
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A scenario file."""
    path = tmp_path / "job.toml"
    path.write_text(SCENARIO, "utf-8")
    return path


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Answer every scenario by hand; the list holds the scenarios asked for."""
    asked: list[Any] = []

    def solve(stated: Any, *, detail: bool = True) -> Any:
        asked.append(stated)
        return training()

    monkeypatch.setattr(scenario, "solve", solve)
    return asked


def run(*words: object) -> int:
    """Run a command line in this process."""
    return cli.main([str(w) for w in words])


# ---- every command -------------------------------------------------------------------------------

COMMANDS = ("plan", "whatif", "catalog", "schema", "validate operators", "calibrate", "calibrate serving")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command, capsys):
    """Every command's help ends 0 and shows a line to copy."""
    assert run(*command.split(), "--help") == 0
    assert f"Example: wattline {command}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_speaks_json(command, capsys):
    """--json is an option of every command."""
    run(*command.split(), "--help")
    assert "--json" in capsys.readouterr().out


def test_version(capsys):
    """--version prints the version and nothing else."""
    assert run("--version") == 0
    assert capsys.readouterr().out.strip() == wattline.__version__


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["pln"], 'Did you mean "plan"'),
        (["plan"], "requires an argument"),
        (["plan", "x.toml", "--sett", "a=b"], "Did you mean --set"),
        (["plan", "missing.toml"], "missing.toml: cannot be read"),
        (["plan", "FILE", "--set", "hardware.chip"], "must be key=value"),
        (["plan", "FILE", "--set", "a.b="], "must be key=value"),
        (["plan", "FILE", "--set", "site.pue=1.1", "--set", "site.pue=1.2"], "gives site.pue twice"),
        (["plan", "FILE", "--set", "hardware.chp=h100-sxm"], "did you mean 'chip'"),
        (["plan", "FILE", "--set", "goal.deadline=5"], "has no unit"),
        (["plan", "FILE", "--html", "/nowhere/at/all/report.html"], "there is no folder"),
        (["plan", "FILE", "--html", "/"], "is a folder"),
        (["plan", "FILE", "--csv", "/nowhere/knobs.csv"], "there is no folder"),
        (["plan", "FILE", "--charts", "FILE"], "cannot be made a folder"),
        (["whatif", "FILE"], "needs a change"),
        (["whatif", "FILE", "--grid", "site.pue=,"], "gives site.pue no value"),
        (["whatif", "FILE", "--grid", "site.pue=1.1", "--engine", "moon"], "moon"),
        (["whatif", "FILE", "--grid", "site.pue=1.1", "--jobs", "0"], "jobs must be 1 or more"),
        (["catalog", "chip"], "did you mean 'chips'"),
        (["catalog", "chips", "h101"], "did you mean 'h100'"),
        (["catalog", "models", "llama-3.1-71b"], "did you mean"),
        (["schema", "srve"], "did you mean 'serve'"),
        (["validate", "operators", "missing.csv"], "missing.csv: cannot be read"),
        (["calibrate", "h200-sxm", "missing.csv"], "missing.csv: cannot be read"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence(words, text, file, capsys):
    """Bad input ends 2 with one sentence on stderr that says what is wrong, and nothing on stdout."""
    assert run(*[file if w == "FILE" else w for w in words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("wattline: error: ")
    assert err.count("\n") == 1
    assert text in err


def test_a_goal_out_of_reach_ends_1(file, capsys, monkeypatch):
    """A goal that nothing can meet is no bad input: it ends 1."""

    def refuse(stated: Any) -> Any:
        raise GoalError("goal.deadline = 1 s cannot be met")

    monkeypatch.setattr(scenario, "solve", refuse)
    assert run("plan", file) == 1
    assert capsys.readouterr().err == "wattline: error: goal.deadline = 1 s cannot be met\n"


def test_an_interrupt_is_quiet(file, capsys, monkeypatch):
    """Ctrl-C ends 130 without a word."""

    def interrupt(stated: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(scenario, "solve", interrupt)
    assert run("plan", file) == 130
    assert capsys.readouterr() == ("", "")


def test_a_mistake_of_ours_is_not_hidden(file, monkeypatch):
    """An unexpected exception is raised, not dressed up as bad input."""

    def fail(stated: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(scenario, "solve", fail)
    with pytest.raises(ZeroDivisionError):
        run("plan", file)


# ---- plan ----------------------------------------------------------------------------------------


def test_plan_prints_tables(file, planned, capsys):
    """The plan's headline and its parts are printed in 80 columns."""
    assert run("plan", file) == 0
    out = capsys.readouterr().out
    assert "takes 76.3 MWh" in out
    assert max(map(len, out.splitlines())) <= 80


def test_plan_prints_json_with_stable_keys(file, planned, capsys):
    """JSON holds the documented keys and nothing stands around it."""
    assert run("plan", file, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    wanted = {"frontier", "chosen", "baseline", "savings", "breakdown_j", "elasticity", "provenance", "uncertainty"}
    assert wanted <= found.keys()
    assert found["frontier"][0].keys() == {"time_s", "energy_j", "average_power_w"}
    assert {"time_s", "energy_j", "knobs"} <= found["chosen"].keys()
    assert found["savings"].keys() == {"energy", "time"}


def test_plan_hands_changes_on(file, planned):
    """--set reaches the scenario, at any layer and with spaces in its value."""
    assert (
        run("plan", file, "--set", "hardware.chip=a100-sxm-80gb", "--set", "chip.memory.hbm.energy=2 pJ/bit", "--json")
        == 0
    )
    (asked,) = planned
    assert asked["hardware.chip"] == "a100-sxm-80gb"
    assert asked.chip == {"memory.hbm.energy": "2 pJ/bit"}


def test_plan_writes_its_files(file, planned, tmp_path, capsys):
    """Report, charts and knobs are written, and the report says how to make it again."""
    html, knobs = tmp_path / "report.html", tmp_path / "knobs.csv"
    assert (
        run("plan", file, "--set", "site.pue=1.1", "--html", html, "--charts", tmp_path / "charts", "--csv", knobs) == 0
    )
    text = html.read_text("utf-8")
    assert f"wattline plan {file} --set site.pue=1.1 --html {html}" in text
    assert "global_batch = 64" in text
    assert (tmp_path / "charts" / "frontier.svg").stat().st_size > 1000
    assert len(knobs.read_text("utf-8").splitlines()) == 1 + len(training().chosen.knobs)


def test_nothing_is_planned_before_paths_are_checked(file, planned):
    """A path that cannot be written is refused before the work, not after."""
    assert run("plan", file, "--html", "/nowhere/report.html") == 2
    assert planned == []


def test_json_has_no_nan(capsys):
    """What is no number in JSON is null there."""
    cli_output.print_json({"a": float("nan"), "b": float("inf"), "c": 1.5})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": None, "c": 1.5}


# ---- what-if -------------------------------------------------------------------------------------


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer points by hand: energy follows the PUE, and a PUE of 5 has no answer."""

    def summary(stated: Any, changes: Any) -> dict[str, Any]:
        pue = float(changes.get("site.pue", 1.0))
        if pue == 5.0:
            return {**changes, "error": "too warm"}
        return {**changes, "time_s": 10.0, "energy_j": 100.0 * pue, "saving_energy": 0.1}

    from wattline.scenario import sweep

    monkeypatch.setattr(sweep.sweep, "__kwdefaults__", {**(sweep.sweep.__kwdefaults__ or {}), "evaluate": summary})


def test_whatif_of_bad_input_alone_exits_as_plan_does(capsys):
    """Where no point has an answer, the exit code says why: 2 for bad input, 1 for a goal out of reach."""
    example = Path(__file__).parents[3] / "examples" / "llama-8b-serving.toml"
    assert run("whatif", example, "--set", "serve.tensr=2") == 2
    assert "did you mean 'tensor'" in capsys.readouterr().err
    assert run("whatif", example, "--set", "serve.tpot=1us") == 1
    assert "serve.tpot = 1 µs cannot be met" in capsys.readouterr().err
    with_train = scenario.load(example)
    with pytest.raises(wattline.ScenarioError, match="not both"):
        with_train.with_({"train.tokens": "1T"})


def test_whatif_compares_with_the_unchanged_scenario(file, answered, capsys):
    """Rows come in the order of the grid, each with its saving against the base."""
    assert run("whatif", file, "--grid", "site.pue=1.1,1.5", "--jobs", 1, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["base"]["energy_j"] == 100.0
    assert [row["site.pue"] for row in found["rows"]] == ["1.1", "1.5"]
    assert [row["saving_energy_vs_base"] for row in found["rows"]] == pytest.approx([-0.1, -0.5])


def test_whatif_sets_and_sweeps_together(file, answered, capsys):
    """A grid stands on top of what is set."""
    assert run("whatif", file, "--set", "train.microbatch=2", "--grid", "site.pue=1.1,1.2", "--jobs", 1, "--json") == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["train.microbatch"], row["site.pue"]) for row in rows] == [("2", "1.1"), ("2", "1.2")]


def test_whatif_reports_points_without_an_answer(file, answered, capsys):
    """A failed point keeps its error, the count goes to stderr, and the rest still counts as done."""
    assert run("whatif", file, "--grid", "site.pue=1.1,5", "--jobs", 1) == 0
    out, err = capsys.readouterr()
    assert "no answer" in out
    assert "1 of 2 points have no answer; the first: too warm" in err


def test_whatif_ends_1_when_every_point_fails(file, answered, capsys, monkeypatch):
    """No answer at all is a failure."""
    monkeypatch.setattr(scenario, "solve", lambda stated, detail: None)
    assert run("whatif", file, "--set", "site.pue=5", "--json") == 1
    assert json.loads(capsys.readouterr().out)["rows"] == [{"site.pue": "5", "error": "too warm"}]


def test_whatif_writes_csv(file, answered, tmp_path, capsys):
    """The CSV has one line per point, failures with an empty energy."""
    path = tmp_path / "rows.csv"
    assert run("whatif", file, "--grid", "site.pue=1.1,5", "--jobs", 1, "--csv", path) == 0
    rows = list(csv.DictReader(path.read_text("utf-8").splitlines()))
    assert [row["energy_j"] for row in rows] == [str(100.0 * 1.1), ""]
    assert rows[1]["error"] == "too warm"


def test_a_long_table_is_cut(file, answered, capsys):
    """A grid of hundreds prints its first rows and says where the others are."""
    values = ",".join(f"1.{n:03d}" for n in range(200))
    assert run("whatif", file, "--grid", f"site.pue={values}", "--jobs", 1) == 0
    assert "160 more rows" in capsys.readouterr().out


# ---- catalog -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["chips", "architectures", "nodes", "racks", "sites", "models"])
def test_catalog_lists_every_name(kind, capsys):
    """A list holds every name whole, in tables and in JSON."""
    assert run("catalog", kind, "--json") == 0
    names = [row["name"] for row in json.loads(capsys.readouterr().out)]
    assert names
    assert run("catalog", kind) == 0
    assert set(names) <= set(capsys.readouterr().out.split())


def test_schema_prints_the_keys_of_a_section(capsys):
    """A key is shown with its unit, its default and its meaning; without a word the kinds of file are."""
    assert run("schema", "train.launch_time") == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "train.launch_time quantity in s 5 µs Host time per kernel launch" in told
    assert run("schema") == 0
    assert "fleet" in capsys.readouterr().out


def test_catalog_shows_a_chip_with_its_sources(capsys):
    """Every fact of a chip has a value, a unit and a source."""
    assert run("catalog", "chips", "H100", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["name"] == "h100-sxm"
    assert found["facts"]["memory.hbm.bandwidth"]["value"] == 3.35e12
    assert all(fact["source"] for fact in found["facts"].values())


def test_catalog_shows_a_chip_description_and_imports_one(tmp_path, capsys):
    """Every number of a description has a source; another tool's YAML comes out as TOML that loads."""
    assert run("catalog", "architectures", "eyeriss", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["technology"] == "65nm"
    assert found["facts"]["fanout.rows.size"]["source"]
    assert run("catalog", "architectures", "eyeriss") == 0
    assert "level.buffer.capacity" in capsys.readouterr().out
    theirs, ours = tmp_path / "theirs.yaml", tmp_path / "ours.toml"
    theirs.write_text(ZIGZAG)
    assert run("catalog", "architectures", "--import", str(theirs)) == 0
    ours.write_text(capsys.readouterr().out)
    assert architecture(str(ours)).levels[1].name == "sram"
    assert run("catalog", "chips", "--import", str(theirs)) == 2
    assert "wattline catalog architectures --import FILE" in capsys.readouterr().err


def test_catalog_alone_lists_all_kinds(capsys):
    """Without a kind, the names of every kind are listed."""
    assert run("catalog", "--json") == 0
    assert {"chips", "architectures", "nodes", "racks", "sites", "models"} == json.loads(capsys.readouterr().out).keys()


# ---- measurements --------------------------------------------------------------------------------


def test_validate_predicts_rows_by_their_id(tmp_path, capsys):
    """Rows without measurements are predicted, by row_id, and no error is claimed."""
    path = tmp_path / "kernels.csv"
    path.write_text(KERNELS, "utf-8")
    assert run("validate", "operators", path, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"] == 2
    assert found["metrics"] == {}
    assert [p["row_id"] for p in found["predictions"]] == ["a", "b"]
    assert all(p["latency"] > 0 and p["power"] > 0 for p in found["predictions"])


def test_validate_joins_targets_by_row_id(tmp_path, capsys):
    """Targets in another order are matched by row_id: predictions as targets have no error."""
    path, targets = tmp_path / "kernels.csv", tmp_path / "targets.csv"
    path.write_text(KERNELS, "utf-8")
    run("validate", "operators", path, "--json")
    found = json.loads(capsys.readouterr().out)["predictions"]
    lines = [f"{p['row_id']},{p['latency']!r},{p['power']!r}" for p in reversed(found)]
    targets.write_text("\n".join(["row_id,latency,power", *lines]), "utf-8")
    assert run("validate", "operators", path, "--targets", targets, "--json") == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    assert metrics.keys() == {"latency", "power", "energy_j"}
    assert all(abs(m["mape"]) < 1e-9 for m in metrics.values())
    assert metrics["power"].keys() == {"mape", "median_ape", "p90_ape", "bias"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("row_id,latency\na,1\n", "lacks row_id 'b'"),
        ("latency\n1\n", "has 1 rows and no row_id"),
        ("a,b\n1\n", "row 2 has 1 cells, expected 2"),
        ("latency\n", "holds no rows"),
    ],
)
def test_bad_targets_are_sentences(text, message, tmp_path, capsys):
    """Targets that do not fit the inputs are refused with the reason."""
    path, targets = tmp_path / "kernels.csv", tmp_path / "targets.csv"
    path.write_text(KERNELS, "utf-8")
    targets.write_text(text, "utf-8")
    assert run("validate", "operators", path, "--targets", targets) == 2
    assert message in capsys.readouterr().err


def test_validate_says_intervals_groups_and_coverage(tmp_path, capsys):
    """Each prediction has its interval; errors are given by operator and dtype too."""
    path = tmp_path / "kernels.csv"
    path.write_text(KERNELS.replace("k\n", "k,latency,power\n").replace("4096\n", "4096,0.3,500\n"), "utf-8")
    assert run("validate", "operators", path, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    for row in told["predictions"]:
        low, high = row["latency_interval"]
        assert low < row["latency"] < high
        assert row["measured"]["energy_j"] == pytest.approx(0.15)
    assert told["coverage_90"].keys() == {"latency", "energy_j"}
    assert sum(g["rows"] for g in told["groups"].values()) == 2


def test_validate_draws_predicted_against_measured(tmp_path, capsys):
    """--chart writes a picture; without measurements, or with an unknown ending, it says why not."""
    path, chart = tmp_path / "kernels.csv", tmp_path / "chart.svg"
    path.write_text(KERNELS.replace("k\n", "k,latency,power\n").replace("4096\n", "4096,0.3,500\n"), "utf-8")
    assert run("validate", "operators", path, "--chart", chart) == 0
    assert "<svg" in chart.read_text("utf-8")
    path.write_text(KERNELS, "utf-8")
    assert run("validate", "operators", path, "--chart", chart) == 2
    assert "nothing measured" in capsys.readouterr().err


@pytest.mark.parametrize("cell", ["-2", "x"])
def test_a_bad_measurement_costs_its_row_alone(cell, tmp_path, capsys):
    """A measured cell that is no positive number is named and not compared; the other rows are."""
    path, targets = tmp_path / "kernels.csv", tmp_path / "targets.csv"
    path.write_text(KERNELS, "utf-8")
    targets.write_text(f"latency\n1\n{cell}\n", "utf-8")
    assert run("validate", "operators", path, "--targets", targets, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["notes"] == [f"column latency must hold a positive number, got {cell} in row 3; not compared there"]
    assert [("measured" in p) for p in told["predictions"]] == [True, False]


def test_no_file_is_lost_for_a_row(tmp_path, capsys):
    """Unknown operators, dtypes, devices and dimensions mark their row with a reason; drivers' names are chips."""
    head, first = KERNELS.splitlines()[:2]
    cells = dict(zip(head.split(","), first.split(","), strict=True))
    changes = [
        {"device": "NVIDIA H100 80GB HBM3"}, {"device": "NVIDIA Z9"}, {"op_name": "matmul"}, {"gemm_dtype": "bf17"},
        {"k": "-5"}, {"device": "NVIDIA A100-SXM4-40GB"},
    ]  # fmt: skip
    rows = [",".join(str(v) for v in {**cells, "row_id": str(i), **c}.values()) for i, c in enumerate(changes)]
    path = tmp_path / "kernels.csv"
    path.write_text("\n".join([head, *rows]), "utf-8")
    assert run("validate", "operators", path, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [p["row_id"] for p in told["predictions"]] == [0, 5]
    assert [r["row_id"] for r in told["refused"]] == [1, 2, 3, 4]
    assert all(
        word in r["reason"].lower() for word, r in zip(("z9", "matmul", "bf17", "-5"), told["refused"], strict=True)
    )
    assert run("validate", "operators", path) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("gemm_dtype,", "dtype,"), "the table lacks column(s) gemm_dtype"),
        ((",bfloat16,", ",bf17,"), "gemm_dtype 'bf17' is not known; "),
        (("gemm,", "matmul,"), "op_name 'matmul' is not known; "),
        (("H200", "H9000"), "H9000"),
        ((",4096\n", ",-5\n"), "row 2: column k of gemm must hold a whole number of at least 1, got -5"),
        ((",4096\n", ",\n"), "row 2: column k of gemm must hold a whole number of at least 1, got nan"),
        ((",4096\n", ",1.5\n"), "row 2: column k of gemm must hold a whole number of at least 1, got 1.5"),
    ],
)
def test_bad_kernels_are_sentences(change, message, tmp_path, capsys):
    """A missing column, an unknown name or a dimension that cannot be is told, naming what is known or the row: as the
    reason of a row, or as the error where no row is left."""
    path = tmp_path / "kernels.csv"
    changed = KERNELS.replace(*change)
    assert changed != KERNELS
    path.write_text(changed, "utf-8")
    code = run("validate", "operators", path, "--json")
    told = capsys.readouterr()
    error = told.err if code else json.loads(told.out)["refused"][0]["reason"]
    assert code in (0, 2)
    assert message.lower() in error.lower()
    assert "Traceback" not in error


def test_calibrate_writes_a_chip_that_can_be_read(tmp_path, capsys):
    """The written sheet stands on the chip it was fitted from and can be used in its place."""
    rows, output = tmp_path / "rows.csv", tmp_path / "mine.toml"
    lines = KERNELS.replace("k\n", "k,latency,power\n").replace("4096\n", "4096,0.3,500\n")
    rows.write_text(lines, "utf-8")
    assert run("calibrate", "h200-sxm", rows, "--output", output, "--json") == 0
    assert json.loads(capsys.readouterr().out).keys() == {"changes", "before", "after", "sheet"}
    assert run("catalog", "chips", output) == 0
    assert "fitted to rows.csv" in capsys.readouterr().out


# ---- as a process --------------------------------------------------------------------------------


def _process(*words: object, **more: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "wattline.show.cli.main", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


def test_a_reader_that_leaves_is_no_error():
    """A pipe closed early (`| head -1`) ends without a traceback."""
    process = _process("catalog", "models", "--json")
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == ""
    assert process.wait(30) == 141


@pytest.mark.skipif(os.name == "nt", reason="signals differ")
def test_an_interrupted_process_is_quiet():
    """Ctrl-C while a process works ends 130 and prints no traceback."""
    code = """
import signal, sys, wattline.show.cli.main, wattline.scenario.listing
wattline.scenario.listing.names = lambda kind: print("go", flush=True) or signal.pause()
sys.exit(wattline.show.cli.main.main(["catalog", "chips"]))
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "go\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == ""


def test_serving_answers_print_too(file, monkeypatch, capsys):
    """Both kinds of work print."""
    monkeypatch.setattr(scenario, "solve", lambda stated: serving())
    assert run("plan", file) == 0
    assert "for one output" in capsys.readouterr().out


def test_pictures_without_what_draws_them_are_refused_at_once(planned, file, tmp_path, capsys, monkeypatch):
    """Nothing is planned where a picture is wanted that cannot be drawn; the message names the extra."""
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    assert run("plan", file, "--charts", tmp_path / "charts") == 2
    assert "pip install 'wattline[charts]'" in " ".join(capsys.readouterr().err.split())
    assert planned == []
