"""Tests of `deploy/`: the chart rendered by Helm and checked, Slurm's scripts run under a shell, the agent's unit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml

from wattline.measure.devices.replay import ReplayMeter, VirtualClock
from wattline.measure.monitor import Monitor
from wattline.measure.owners.jobs import Jobs

DEPLOY = Path(__file__).parents[2] / "deploy"
CHART = DEPLOY / "helm" / "wattline"
SHELLS = [shell for shell in ("dash", "bash", "sh") if shutil.which(shell)]

RENDER = """
import json, sys
from helm_python.chart import Chart
values = json.loads(sys.argv[2])
print(json.dumps(Chart.load(sys.argv[1]).render(values=values)))
"""


def rendered(**values: object) -> list[dict]:
    """Every object of the chart, by Helm: its command line, or its library in WATTLINE_HELM_PYTHON; else skipped."""
    helm, python = shutil.which("helm"), os.environ.get("WATTLINE_HELM_PYTHON", "")
    if helm:
        command = [helm, "template", "test", str(CHART), "--values", "/dev/stdin"]
        done = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return [each for each in yaml.safe_load_all(done.stdout) if each]
    if not python:
        pytest.skip("no helm here (install it, or set WATTLINE_HELM_PYTHON to a Python that has helm-python-sdk)")
    done = subprocess.run(
        [python, "-c", RENDER, str(CHART), json.dumps(values)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answer = json.loads(done.stdout)
    texts = answer.values() if isinstance(answer, dict) else [each.get("content", "") for each in answer]
    return [
        each for text in texts if isinstance(text, str) for each in yaml.safe_load_all(text) if isinstance(each, dict)
    ]


def test_values_fit_their_schema():
    """The defaults pass, an unknown key and a port that is none do not."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(values, schema)
    for wrong in ({"ports": 1}, {"port": 0}, {"image": {"repository": ""}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**values, **wrong}, schema)


def test_the_chart_renders_a_daemonset_that_only_reads():
    """Everything of the node is mounted read-only, no privilege is left but the one that reads counters."""
    every = {each["kind"]: each for each in rendered()}
    assert set(every) == {"DaemonSet", "Service", "ServiceAccount"}
    spec = every["DaemonSet"]["spec"]["template"]["spec"]
    agent = spec["containers"][0]
    assert all(mount["readOnly"] for mount in agent["volumeMounts"])
    security = agent["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"], "add": ["DAC_READ_SEARCH"]}
    assert security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"]
    assert agent["args"] == [
        "agent", "--host", "0.0.0.0", "--port", "9469", "--pods", "/pod-resources/kubelet.sock",
    ]  # fmt: skip
    assert agent["ports"][0]["containerPort"] == 9469
    labels = every["DaemonSet"]["spec"]["template"]["metadata"]["labels"]
    assert every["DaemonSet"]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert every["Service"]["spec"]["selector"].items() <= labels.items()


def test_the_chart_follows_its_values():
    """Without RAPL and pods neither the capability nor the socket is there; a monitor and a class where asked for."""
    every = {
        each["kind"]: each
        for each in rendered(
            rapl=False,
            podResources={"enabled": False, "path": "/x"},
            nvidia={"enabled": True, "runtimeClassName": "nvidia"},
            serviceMonitor={"enabled": True, "interval": "5s", "labels": {"release": "prom"}},
            podLabels={"team": "ml"},
        )
    }
    spec = every["DaemonSet"]["spec"]["template"]["spec"]
    assert "add" not in spec["containers"][0]["securityContext"]["capabilities"]
    assert "--pods" not in spec["containers"][0]["args"]
    assert spec["runtimeClassName"] == "nvidia"
    assert every["ServiceMonitor"]["spec"]["endpoints"][0] == {"port": "metrics", "interval": "5s", "honorLabels": True}
    assert every["DaemonSet"]["spec"]["template"]["metadata"]["labels"]["team"] == "ml"


def test_the_command_of_the_chart_and_the_unit_is_one_that_there_is():
    """Every option that they give to `wattline agent` is one of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "wattline.show.cli.main", "agent", "--help"], capture_output=True, text=True, check=False
    )
    told = done.stdout or subprocess.run(
        [sys.executable, "-c", "from wattline.show.cli.main import main; main(['agent', '--help'])"],
        capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    words = (CHART / "templates" / "daemonset.yaml").read_text() + (
        DEPLOY / "systemd" / "wattline-agent.service"
    ).read_text()
    for option in ("--host", "--port", "--pods", "--jobs"):
        assert option in words
        assert option in told


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
def test_the_unit_is_one_that_systemd_takes(tmp_path):
    """`systemd-analyze verify` finds nothing."""
    unit = tmp_path / "wattline-agent.service"
    text = (DEPLOY / "systemd" / "wattline-agent.service").read_text()
    unit.write_text(text.replace("/usr/local/bin/wattline", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert "wattline-agent" not in done.stderr, done.stderr


def slurm(script: str, shell: str, folder: Path, **environment: str) -> int:
    """Run a script of Slurm's as slurmd does: as a program with its environment and nothing else."""
    own = {
        "PATH": os.environ["PATH"], "WATTLINE_JOBS": str(folder / "jobs"), "WATTLINE_ENERGY": str(folder / "energy"),
        "WATTLINE_TRIES": "0", **environment,
    }  # fmt: skip
    return subprocess.run([shell, str(DEPLOY / "slurm" / script)], env=own, check=False).returncode


@pytest.mark.parametrize("shell", SHELLS)
def test_a_job_of_slurm_is_measured_from_prolog_to_epilog(tmp_path, shell):
    """The prolog names the devices, the agent's window over them gives the job's energy, the epilog ends it."""
    clock = VirtualClock()
    meters = [ReplayMeter(watts, f"GPU-{k}", clock=clock, limit=900.0) for k, watts in enumerate((100.0, 200.0, 300.0))]
    monitor = Monitor(meters, clock=clock, thread=False)
    jobs = Jobs(monitor, tmp_path / "jobs", tmp_path / "energy")

    def run(seconds: float) -> None:
        for _ in range(round(seconds / 0.05)):
            clock.advance(0.05)
            monitor.poll()

    assert slurm("prolog.sh", shell, tmp_path, SLURM_JOB_ID="4711", SLURM_JOB_USER="ada", SLURM_JOB_GPUS="0,2") == 0
    written = tomllib.loads((tmp_path / "jobs" / "4711.toml").read_text())
    assert written == {"job": "4711", "user": "ada", "scheduler": "slurm", "devices": ["0", "2"]}
    assert jobs.poll() == []
    run(10.0)
    assert slurm("epilog.sh", shell, tmp_path, SLURM_JOB_ID="4711") == 0
    assert not list((tmp_path / "jobs").iterdir())
    (answer,) = jobs.poll()
    assert answer["total"]["energy_j"] == pytest.approx(4000.0, rel=0.02)
    kept = json.loads((tmp_path / "energy" / "4711.json").read_text())
    assert (kept["job"], kept["user"]) == ("4711", "ada")


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_of_slurm_never_fail_a_job(tmp_path, shell):
    """Hostile ids and names, ranges of devices, a folder that cannot be written: exit 0, and nothing escapes."""
    assert slurm("prolog.sh", shell, tmp_path) == 0
    assert slurm("prolog.sh", shell, tmp_path, SLURM_JOB_ID="../../etc/x") == 0
    assert slurm("epilog.sh", shell, tmp_path, SLURM_JOB_ID="../../etc/x") == 0
    assert not (tmp_path / "jobs").exists()
    user = 'a"; rm -rf /; $(touch hacked)'
    assert slurm("prolog.sh", shell, tmp_path, SLURM_JOB_ID="7_3", SLURM_JOB_USER=user, SLURM_JOB_GPUS="0-3,6,x") == 0
    written = tomllib.loads((tmp_path / "jobs" / "7_3.toml").read_text())
    assert written["devices"] == ["0", "1", "2", "3", "6"]
    assert written["user"] == "arm-rftouchhacked"
    (tmp_path / "file").write_text("")
    assert slurm("prolog.sh", shell, tmp_path / "file", SLURM_JOB_ID="8") == 0


def test_the_agent_runs_as_a_program(tmp_path):
    """Started, scraped and ended by a signal; without a sensor it serves what it knows, and ends with 0."""
    environment = {**os.environ, "WATTLINE_HOST": "node-7", "WATTLINE_NVML": str(tmp_path / "none")}
    program = "import sys; from wattline.show.cli.main import main; sys.exit(main(sys.argv[1:]))"
    words = [
        "agent",
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--jobs",
        str(tmp_path / "jobs"),
        "--energy",
        str(tmp_path / "e"),
    ]
    agent = subprocess.Popen(
        [sys.executable, "-c", program, *words], stderr=subprocess.PIPE, text=True, env=environment
    )
    assert agent.stderr is not None
    address = agent.stderr.readline().split()[-1]
    from urllib.request import Request, urlopen

    with urlopen(Request(address, headers={"Accept": "application/openmetrics-text"}), timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        assert answer.read().decode().endswith("# EOF\n")
    agent.terminate()
    assert agent.wait(timeout=20) == 0
    agent.stderr.close()
