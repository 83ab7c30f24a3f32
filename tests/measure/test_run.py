"""Tests for `wattline.measure.run`, `doctor` and `cli_measure`: a command measured from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from wattline.measure.devices.replay import ReplayMeter
from wattline.measure.doctor import examine
from wattline.measure.monitor import Monitor
from wattline.measure.run import run
from wattline.show.cli.measure import doctor_command, run_command

PROGRAM = "import sys; from wattline.show.cli.measure import run_command; sys.exit(run_command(sys.argv[1:]))"


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -15 $$", 143)])
def test_the_exit_code_is_the_command_s(script, code):
    """A command's own code, or 128 and its signal."""
    assert run(["sh", "-c", script], Monitor([])).code == code


def test_a_command_that_does_not_start(tmp_path):
    """Not found is 127, not executable 126, nothing given 2; each with a sentence."""
    assert (run(["no-such-command"], Monitor([])).code, run([], Monitor([])).code) == (127, 2)
    text = tmp_path / "text"
    text.write_text("x")
    ran = run([str(text)], Monitor([]))
    assert ran.code == 126
    assert "could not be started" in ran.error


def test_a_run_is_measured_with_its_children():
    """Joules cover the whole run; the summary says that devices are whole."""
    ran = run(["sh", "-c", "sleep 0.3 & wait"], Monitor([ReplayMeter(100.0, update=0.002, limit=200.0)]))
    assert ran.measurement.joules == pytest.approx(100.0 * ran.measurement.seconds, rel=0.05)
    assert any("whole devices" in note for note in ran.measurement.notes)


def test_output_is_untouched_and_json_is_written(tmp_path, capfd):
    """Standard output is the command's alone; the summary is on stderr, the answer in the file."""
    answer = tmp_path / "answer.json"
    assert run_command(["echo", "hi"], str(answer), Monitor([ReplayMeter(100.0)])) == 0
    out, err = capfd.readouterr()
    assert out == "hi\n"
    assert "echo" in err
    data = json.loads(answer.read_text())
    assert (data["exit_code"], data["command"]) == (0, ["echo", "hi"])
    assert run_command(["true"], "-", Monitor([])) == 0
    assert json.loads(capfd.readouterr().out)["total"]["energy_j"] is None


def test_an_unwritable_answer_does_not_change_the_code(tmp_path, capfd):
    """The command's code stands although its answer could not be kept."""
    assert run_command(["sh", "-c", "exit 4"], str(tmp_path / "no" / "where.json"), Monitor([])) == 4
    assert "could not be written" in capfd.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_reach_the_command(number):
    """A signal ends the command, which may clean up, and then we report and give its code."""
    script = "trap 'echo cleaned; exit 9' INT TERM; echo ready; while :; do sleep 0.05; done"
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "sh", "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (9, "cleaned\n")
    assert "Traceback" not in err


def test_signal_handlers_are_put_back():
    """After a run, signals do what they did before."""
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    run(["true"], Monitor([]))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_doctor_says_what_works(capfd):
    """A working counter has its period and the shortest sound window; the exit code is 0."""
    monitor = Monitor([ReplayMeter(100.0, update=0.02, limit=200.0)])
    assert doctor_command(json=True, monitor=monitor) == 0
    data = json.loads(capfd.readouterr().out)
    check = data["sensors"][0]
    assert check["verdict"] == "works"
    assert check["period_s"] == pytest.approx(0.02, rel=0.15)
    assert check["shortest_window_s"] == pytest.approx(20 * check["period_s"])


def test_doctor_says_what_is_missing(capfd, monkeypatch, tmp_path):
    """With nothing the exit code is 1 and every line has a reason."""
    monkeypatch.setenv("WATTLINE_NVML", str(tmp_path / "none.so"))
    from wattline.measure.find import find

    report = examine(Monitor(lambda: find(tmp_path)), seconds=0.1)
    assert not report.usable
    assert all(check.reason for check in report.checks)
    assert doctor_command(monitor=Monitor([])) == 1
    assert "nothing can be measured" in capfd.readouterr().out
