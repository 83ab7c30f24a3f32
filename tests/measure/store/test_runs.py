"""Tests for `wattline.measure.store.runs` and `wattline.show.cli.store`: runs listed, shown, compared, priced and exported."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from wattline.core.errors import InputError
from wattline.measure.carbon.series import Series
from wattline.measure.store import runs
from wattline.measure.store.database import Store, StoreError
from wattline.show.cli import store as cli_store


def answer(name: str, joules: float | None, width: float = 1.0, tokens: float = 100.0) -> dict[str, object]:
    bounds = (None, None) if joules is None else (joules - width, joules + width)
    total = {"energy_j": joules, "low_j": bounds[0], "high_j": bounds[1]}
    return {"name": name, "start_unix_s": 0.0, "duration_s": 2.0, "total": total, "counts": {"tokens": tokens}}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Three runs: a base, one that uses less, and one that was lost."""
    kept = Store(tmp_path / "runs.db")
    for i, (name, joules) in enumerate((("base", 500.0), ("better", 400.0))):
        run = kept.begin(name, run=f"2026010{i + 1}T000000-aa", start_unix_s=1000.0 * i)
        kept.add(run, windows=[answer("step", joules / 2), answer("step", joules / 2), answer("odd", None)])
        kept.end(run, measurement=answer("whole", joules), end_unix_s=1000.0 * i + 10)
    lost = kept.begin("lost", run="20260103T000000-aa", start_unix_s=2000.0)
    node = {"device": "h/n/node", "scope": "node", "name": "n", "method": "counter", "within": []}
    gpu = {"device": "h/g/gpu", "scope": "gpu", "name": "g", "method": "counter", "within": ["h/n/node"]}
    rows = [
        {"time_unix_s": 2000.0 + t, "device": device, "energy_j": joules}
        for t, pair in enumerate(((10.0, 5.0), (110.0, 65.0), (20.0, 70.0), (120.0, 80.0)))
        for device, joules in zip(("h/n/node", "h/g/gpu"), pair, strict=True)
    ]
    kept.add(lost, devices=[node, gpu], samples=rows, seen_unix_s=2003.0)
    return kept


def test_runs_are_listed_the_newest_first(store: Store) -> None:
    """A run has its answer; a lost one has what its samples show, of the outermost devices, and says so."""
    rows = runs.listing(store)
    assert [(row["name"], row["state"], row["method"]) for row in rows] == [
        ("lost", "lost", "samples"),
        ("better", "done", "measured"),
        ("base", "done", "measured"),
    ]
    # 100 J, then a counter that went back, then 100 J; the GPU lies within the node.
    assert rows[0]["energy_j"] == 200.0
    assert rows[0]["low_j"] is None
    assert rows[0]["duration_s"] == 3.0


def test_windows_of_one_name_are_shown_together(store: Store) -> None:
    """Energy and time add up, per token too; where a figure is missing there is none per token."""
    step, odd = runs.show(store, "20260101")["windows"]
    assert (step["windows"], step["energy_j"], step["low_j"], step["high_j"]) == (2, 500.0, 498.0, 502.0)
    assert step["energy_per_count_j"] == {"tokens": 2.5}
    assert (odd["without_figure"], odd["energy_j"], odd["energy_per_count_j"]) == (1, None, {})


def test_runs_compare_by_their_intervals(store: Store) -> None:
    """Less, more, or not told apart: never a difference that the sensors cannot show."""
    rows = runs.compare(store, ["20260101", "20260102", "20260103"])
    by = {(row["run"][:8], row["window"]): row for row in rows}
    better = by["20260102", ""]
    assert (round(better["energy_change"], 9), better["verdict"]) == (-0.2, "less")
    assert by["20260102", "step"]["verdict"] == "less"
    assert by["20260102", "odd"]["verdict"] == "not told apart"
    assert by["20260101", ""]["verdict"] == ""
    assert by["20260103", ""]["verdict"] == "not told apart"
    assert runs.compare(store, ["20260102", "20260101"])[3]["verdict"] == "more"
    near = store.begin("near", run="20260104T000000-aa")
    store.end(near, measurement=answer("whole", 498.5, 1.0))
    (close,) = [row for row in runs.compare(store, ["20260101", "20260104"]) if row["run"] == near]
    assert (round(close["energy_change"], 9), close["verdict"]) == (-0.003, "not told apart")
    with pytest.raises(InputError, match="two or more"):
        runs.compare(store, ["last"])


def test_a_run_costs_what_the_hour_cost(store: Store) -> None:
    """Energy meets the series where it was used, and a series that does not cover it is refused."""
    hour = Series((2000.0, 2002.0, 2003.0), (1.0, 3.0), "g/J", "test")
    assert runs.cost(store, "20260103", hour) == 100.0 * 1.0 + 0.0 + 100.0 * 3.0
    with pytest.raises(InputError, match="covers"):
        runs.cost(store, "20260103", Series((0.0, 2001.0), (1.0,), "g/J", "test"))
    with pytest.raises(InputError, match="no samples"):
        runs.cost(store, "20260101", hour)


def test_tables_are_exported_as_csv(store: Store, tmp_path: Path) -> None:
    """Every row is there, with the counts of windows as columns."""
    assert runs.export(store, tmp_path / "s.csv") == 8
    assert runs.export(store, tmp_path / "w.csv", "windows", ["20260101"]) == 3
    assert runs.export(store, tmp_path / "r.csv", "runs") == 3
    rows = list(csv.DictReader((tmp_path / "w.csv").read_text().splitlines()))
    assert [row["energy_j"] for row in rows] == ["250.0", "250.0", ""]
    assert rows[0]["count_tokens"] == "100.0"
    assert next(csv.DictReader((tmp_path / "r.csv").read_text().splitlines()))["name"] == "base"


def test_parquet_holds_what_csv_holds(store: Store, tmp_path: Path) -> None:
    """Both formats have the same rows, and Parquet keeps numbers as numbers."""
    from pyarrow import parquet as pq

    for table in ("runs", "windows", "samples"):
        runs.export(store, tmp_path / "t.csv", table)
        runs.export(store, tmp_path / "t.parquet", table)
        found = pq.read_table(tmp_path / "t.parquet").to_pylist()
        expected = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
        assert [{k: "" if v is None else str(v) for k, v in row.items()} for row in found] == expected


def test_an_export_is_whole_or_not_there(store: Store, tmp_path: Path) -> None:
    """A wrong suffix, table or folder is said, and no file is left behind."""
    with pytest.raises(InputError, match=r"\.csv or \.parquet"):
        runs.export(store, tmp_path / "t.xls")
    with pytest.raises(InputError, match="runs, windows or samples"):
        runs.export(store, tmp_path / "t.csv", "nothing")  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="could not be written"):
        runs.export(store, tmp_path / "no" / "t.csv")
    assert not list(tmp_path.glob("*t.csv*"))


def test_commands_print_for_people_and_for_programs(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command has a table and an answer as JSON."""
    url = store.url
    assert cli_store.runs_list(url) == 0
    assert "better" in capsys.readouterr().out
    assert cli_store.runs_list(url, json=True) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)["runs"]] == ["lost", "better", "base"]
    assert cli_store.runs_show("20260101", url) == 0
    assert "2.5 J per token" in capsys.readouterr().out
    assert cli_store.runs_show("last", url, json=True) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "lost"
    assert cli_store.runs_compare(["20260101", "20260102"], url) == 0
    assert "-20.0%" in capsys.readouterr().out
    assert cli_store.runs_compare(["20260101", "20260102"], url, json=True) == 0
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 6


def test_an_export_says_how_many_rows(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command writes the file and counts its rows."""
    path = str(tmp_path / "t.csv")
    assert cli_store.runs_export(path, (), "runs", store.url, json=True) == 0
    assert json.loads(capsys.readouterr().out) == {"path": path, "rows": 3}


def test_no_runs_is_an_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty store is not an error; it says how to fill it."""
    assert cli_store.runs_list(str(tmp_path / "none.db")) == 0
    assert "no runs in" in capsys.readouterr().out
