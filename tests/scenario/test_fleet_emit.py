"""Tests for `wattline.scenario.fleet_emit`: what is written out is read by what it is for, and holds the plan."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

from wattline.core.errors import InputError
from wattline.scenario import fleet, fleet_emit
from wattline.scenario.fleet_emit import ANNOTATION

EXAMPLES = Path(__file__).parents[2] / "examples"

# EnvironmentMetrics.v1_5_0.json and Control.v1_5_1.json of DMTF's DSP8010, what a PATCH of the limit may hold.
LIMIT = {
    "type": "object",
    "required": ["PowerLimitWatts"],
    "additionalProperties": False,
    "properties": {
        "PowerLimitWatts": {
            "type": "object",
            "required": ["SetPoint"],
            "additionalProperties": False,
            "properties": {
                "SetPoint": {"type": ["number", "null"]},
                "ControlMode": {"enum": ["Automatic", "Override", "Manual", "Disabled", None]},
            },
        }
    },
}


@pytest.fixture(scope="module")
def some() -> fleet.FleetScenario:
    return fleet.parse_fleet(
        {
            "site": {"feed": {"limit": "22 kW"}},
            "job": [
                {"name": "train it's", "speeds": [1, 0.8], "powers": ["10 kW", "7 kW"], "chips": 16, "nodes": 2, "count": 2},
                {"name": "later", "speeds": [1], "powers": ["9 kW"], "chips": 8, "pause": True, "idle": "0 W", "weight": 0},
                {"name": "chat", "scenario": "llama-8b-serving.toml", "count": 3},
            ],
        },
        folder=EXAMPLES,
    )  # fmt: skip


def bash(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=False)


def test_slurm_caps_each_job_by_its_name(some, tmp_path):
    """bash runs the script as Slurm's Prolog would: the job's chips get its watts, others are left alone."""
    script = fleet_emit.text(some, "slurm")
    told = tmp_path / "nvidia-smi"
    told.write_text('#!/bin/bash\necho "$@"\n')
    told.chmod(0o755)
    path = f"{tmp_path}:/usr/bin:/bin"
    done = bash(script, PATH=path, SLURM_JOB_NAME="train it's", SLURM_JOB_GPUS="0,1")
    answer = fleet.solve(some)
    watts = next(j.power_w for j in answer.jobs if j.name == "train it's")
    assert done.stdout == f"-i 0,1 -pl {int(watts / 2 / 16)}\n"
    assert bash(script, PATH=path, SLURM_JOB_NAME="other", SLURM_JOB_GPUS="0").stdout == ""
    assert bash(script, PATH=path, SLURM_JOB_NAME="chat", SLURM_JOB_GPUS="").stdout == ""
    assert "scontrol hold jobname=later" in script


def test_caps_of_all_stay_within_the_plan(some):
    """Chips at their caps and hosts draw no more than what the plan gives each job."""
    answer = fleet.solve(some)
    given = {j.name: j.power_w for j in answer.jobs}
    for cap in fleet_emit.caps(some, answer):
        assert cap.chip_w * cap.chips * cap.copies <= given[cap.job]
        assert cap.chip_w > 0 or cap.copies == 0


def test_kubernetes_reads_what_is_written(some):
    """YAML of deployments with whole watts; kubectl takes it where it is installed."""
    text = fleet_emit.text(some, "k8s")
    found = {d["metadata"]["name"]: d for d in yaml.safe_load_all(text)}
    assert set(found) == {"train-it-s", "later", "chat"}
    assert found["later"]["spec"]["replicas"] == 0
    watts = found["chat"]["spec"]["template"]["metadata"]["annotations"][ANNOTATION]
    assert re.fullmatch(r"[1-9]\d*", watts)
    if shutil.which("kubectl"):
        command = ["kubectl", "label", "--local", "-f", "-", "checked=yes", "-o", "yaml"]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("checked:") == 3


def test_dynamo_caps_the_workers_that_serve(some):
    """The annotation stands on the pods of each graph's worker."""
    (graph,) = yaml.safe_load_all(fleet_emit.text(some, "dynamo"))
    assert graph["kind"] == "DynamoGraphDeployment"
    (worker,) = graph["spec"]["components"]
    assert worker["replicas"] == 3
    assert int(worker["podTemplate"]["metadata"]["annotations"][ANNOTATION]) > 0


def test_redfish_requests_are_of_its_schema(some):
    """Every request sets a number of watts that DMTF's schema allows."""
    told = json.loads(fleet_emit.text(some, "redfish"))
    assert [r["job"] for r in told["requests"]] == ["train it's", "chat"]
    for request in told["requests"]:
        jsonschema.validate(request["body"], LIMIT)
    assert told["requests"][0]["nodes"] == 4


def test_forms_that_do_not_fit_are_refused(some):
    """A launch line of an engine is no cap of a fleet."""
    with pytest.raises(InputError, match="slurm, k8s, dynamo, redfish"):
        fleet_emit.text(some, "vllm")
    plain = fleet.parse_fleet({"job": [{"name": "a", "speeds": [1], "powers": ["1 kW"]}]})
    with pytest.raises(InputError, match="no job of the fleet is a scenario with"):
        fleet_emit.text(plain, "dynamo")
