"""A fleet's plan written out as what holds it: caps for Slurm, Kubernetes, Dynamo and Redfish.

    slurm     a script for Prolog and Epilog: each job's chips are capped by its name, and freed when it ends
    k8s       deployments with replicas and the annotation that Dynamo's Power Agent caps a pod's chips by
    dynamo    graphs of what serves, the same annotation on their workers (nvidia.com/v1beta1, `podTemplate`)
    redfish   PATCH requests for the limit of every node (DMTF DSP8010, EnvironmentMetrics.PowerLimitWatts)

A chip's cap is its share of what the plan gives the job, less the hosts' where a job's own scenario knows them. Caps
hold averages from above: a job that takes turns between two settings is capped at the mean, which is what limits count.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from ..core.errors import InputError, nearest
from ..site.answer import FleetAnswer
from ..site.timeline import moment
from .fleet import solve
from .fleet_file import FleetScenario, tree_of
from .fleet_work import Placed, Work, placed

# components/power_agent of ai-dynamo/dynamo: `KubeAnnotationGPUPowerLimit`, whole watts of one GPU.
ANNOTATION: Final = "dynamo.nvidia.com/gpu-power-limit"


@dataclass(frozen=True)
class Cap:
    """What one job of a plan may draw: W of a chip, and of a node with its host, of `nodes` in all.

    `copies` run, each of `chips`; 0 is paused.
    """

    job: str
    at: str
    copies: int
    chips: int
    nodes: int
    chip_w: int
    node_w: int
    serves: bool


def caps(scenario: FleetScenario, answer: FleetAnswer) -> list[Cap]:
    """Return the caps of a plan; of one over time those of its first period."""
    known: dict[str, Work] = {}
    rows = {p.job.name: p for p in placed(scenario, tree_of(scenario), known)}
    h = answer.horizon
    watts = {j.name: j.power_w for j in answer.jobs}
    runs = {j.name: j.speed > 0 for j in answer.jobs}
    if h is not None:
        watts |= {name: float(h.power[k, 0]) for k, name in enumerate(h.names)}
        runs |= {name: bool(h.on[k, 0]) for k, name in enumerate(h.names)}
    return [_cap(rows[name], watts[name], on) for name, on in runs.items() if name in rows]


def _cap(p: Placed, watts: float, on: bool) -> Cap:
    work, copies = p.work, p.copies
    chips = max(1, work.chips)
    nodes = float(p.row.get("nodes", work.nodes))
    each = watts / copies
    at = p.job.at if isinstance(p.job.at, str) else ", ".join(p.job.at)
    # Rounded down: the caps of all together stay within what the plan gives.
    chip, node = int(max(0.0, each - work.host) / chips), int(each / nodes)
    return Cap(p.job.name, at, copies if on else 0, chips, math.ceil(copies * nodes), chip, node, work.serving)


def text(scenario: FleetScenario, form: str) -> str:
    """Plan a fleet and return what to apply in one of `FORMS`.

    Raises
    ------
    InputError : no such form for a fleet, or it has nothing that serves where only that can be written out.
    """
    if form not in FORMS:
        raise InputError(f"--emit of a fleet is one of {', '.join(FORMS)}; {nearest(form, FORMS)}")
    if scenario.regions:
        raise InputError("--emit writes out the plan of one site; plan each [[region]] with a scenario of its own")
    if scenario.pools:
        raise InputError("--emit writes out a plan of watts; with [[pool]] the answer is which nodes, see --json")
    answer = solve(scenario)
    some = caps(scenario, answer)
    h = answer.horizon
    until = "" if h is None else f" until {moment(float(h.edges[1]))}, the plan's first period; then plan again"
    return FORMS[form](some, f"{scenario.name}: {answer.goal}{until}")


# ---- forms ---------------------------------------------------------------------------------------


def _slurm(some: Sequence[Cap], head: str) -> str:
    cases = "".join(f"  {shlex.quote(_plain(c))}) watts={c.chip_w} ;;\n" for c in some if c.copies)
    held = "".join(f"#   scontrol hold jobname={shlex.quote(_plain(c))}\n" for c in some if not c.copies)
    paused = f"# Paused by the plan:\n{held}" if held else ""
    return f"""#!/bin/bash
# {head}
# slurm.conf: Prolog and Epilog name this file. It caps the chips of each job by the job's name.
{paused}name=${{SLURM_JOB_NAME:-$(squeue -h -j "$SLURM_JOB_ID" -o %j)}}
devices=${{SLURM_JOB_GPUS:-}}
[ -n "$devices" ] || exit 0
if [ "${{SLURM_SCRIPT_CONTEXT:-}}" = epilog_slurmd ]; then
  watts=$(nvidia-smi -i "$devices" --query-gpu=power.default_limit --format=csv,noheader,nounits | head -n 1)
else
case "$name" in
{cases}  *) exit 0 ;;
esac
fi
nvidia-smi -i "$devices" -pl "$watts"
"""


def _kubernetes(some: Sequence[Cap], head: str) -> str:
    """Return deployments as far as the plan decides them, to be patched onto those that run."""
    return (
        f"# {head}\n# kubectl patch deployment NAME --patch-file FILE; Dynamo's Power Agent reads the annotation\n"
        + ("---\n".join(_deployment(c, _dns(c.job)) for c in some))
    )


def _deployment(c: Cap, name: str) -> str:
    return f"""apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
spec:
  replicas: {c.copies}
  selector:
    matchLabels: {{app: {name}}}
  template:
    metadata:
      labels: {{app: {name}}}
      annotations:
        {ANNOTATION}: "{c.chip_w}"
"""


def _dynamo(some: Sequence[Cap], head: str) -> str:
    serving = [c for c in some if c.serves]
    if not serving:
        raise InputError("--emit dynamo writes out what serves; no job of the fleet is a scenario with [serve]")
    total = sum(c.copies * c.chips * c.chip_w for c in serving)
    planner = f"# Planner: total_gpu_power_limit {total}, of all graphs below together\n"
    patch = f"# {head}\n# kubectl patch dynamographdeployment NAME --type merge --patch-file FILE\n"
    return patch + planner + "---\n".join(_graph(c) for c in serving)


def _graph(c: Cap) -> str:
    return f"""apiVersion: nvidia.com/v1beta1
kind: DynamoGraphDeployment
metadata:
  name: {_dns(c.job)}
spec:
  components:
    - name: decode
      type: decode
      replicas: {c.copies}
      podTemplate:
        metadata:
          annotations:
            {ANNOTATION}: "{c.chip_w}"
"""


def _redfish(some: Sequence[Cap], head: str) -> str:
    requests: list[Mapping[str, Any]] = [
        {
            "job": c.job, "at": c.at, "nodes": c.nodes, "method": "PATCH",
            "uri": "/redfish/v1/Chassis/{ChassisId}/EnvironmentMetrics",
            "body": {"PowerLimitWatts": {"SetPoint": c.node_w, "ControlMode": "Automatic"}},
        }
        for c in some
        if c.copies
    ]  # fmt: skip
    return json.dumps({"plan": head, "requests": requests}, indent=1) + "\n"


FORMS: Final[Mapping[str, Callable[[Sequence[Cap], str], str]]] = MappingProxyType(
    {"slurm": _slurm, "k8s": _kubernetes, "dynamo": _dynamo, "redfish": _redfish}
)


def _plain(c: Cap) -> str:
    """Return a job's own name, without the part that a copy of it hangs on."""
    return c.job.partition("@")[0]


def _dns(name: str) -> str:
    """Return a name that Kubernetes takes."""
    return re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")[:63] or "job"
