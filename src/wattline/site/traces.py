"""Traces of jobs as clusters keep them: who ran what, when, on how many chips.

`sacct` of Slurm (parsable), the Standard Workload Format, Alibaba's GPU clusters (2020 tasks, 2023 pods), Microsoft
Philly, and pods of Kubernetes. Each becomes rows of `Arrival`; what never ran, or ran on no chips, is left out and
counted.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any, Final

from ..core.errors import InputError, nearest


@dataclass(frozen=True)
class Arrival:
    """One job of a trace: submitted, started and ended (s since 1970 or since the trace began), on `chips`.

    `chips` may be a fraction, where a trace shares them. `kind`: the chip, partition or queue it asked for.
    """

    name: str
    user: str
    submit: float
    start: float
    end: float
    chips: float
    kind: str = ""

    @property
    def lasts(self) -> float:
        """Seconds it ran."""
        return self.end - self.start


@dataclass(frozen=True)
class Trace:
    """The jobs of a trace in order of submission, and how many rows were left out because they never ran on a chip."""

    jobs: tuple[Arrival, ...]
    left_out: int
    source: str


def read(form: str, path: Path, *, zone: tzinfo = UTC) -> Trace:
    """Return the jobs of a trace file. `zone`: of clock times without offset.

    Raises
    ------
    InputError : the file is not of the form, with what was looked for.
    """
    if form not in FORMS:
        raise InputError(f"no form of trace is called {form!r}; {nearest(form, FORMS)}")
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} could not be read: {error}") from None
    try:
        rows = list(FORMS[form](text, zone))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is not a trace of the form {form}: {_LOOKED[form]} ({error})") from None
    ran = [row for row in rows if row is not None and row.chips > 0 and row.end > row.start]
    if not ran:
        raise InputError(f"{path}: none of its {len(rows):,} rows ran on a chip; {_LOOKED[form]}")
    return Trace(tuple(sorted(ran, key=lambda a: (a.submit, a.start, a.name))), len(rows) - len(ran), str(path))


def _moment(text: str, zone: tzinfo) -> float:
    """Return seconds of an ISO time; NaN where a trace says that there is none."""
    if text in ("", "Unknown", "None", "N/A"):
        return math.nan
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp()


def _sacct(text: str, zone: tzinfo) -> Iterable[Arrival | None]:
    rows = csv.DictReader(text.splitlines(), delimiter="|")
    for row in rows:
        if "." in row["JobID"]:  # a step of a job
            continue
        chips = _gpus(row.get("AllocTRES") or row.get("ReqTRES") or "")
        if chips is None:  # no chips named: whole nodes, or cores
            chips = float(row.get("NNodes") or row.get("AllocCPUS") or row.get("NCPUS") or 0)
        start, end = _moment(row["Start"], zone), _moment(row["End"], zone)
        submit = _moment(row.get("Submit") or row["Start"], zone)
        known = not (math.isnan(start) or math.isnan(end))
        yield (
            Arrival(row["JobID"], row.get("User", ""), submit, start, end, chips, row.get("Partition", ""))
            if known
            else None
        )


def _gpus(resources: str) -> float | None:
    """Return the chips of a Slurm resource string, None where it names none."""
    found = re.search(r"gres/gpu=(\d+)", resources) or re.search(r"gres/gpu:[^=,]+=(\d+)", resources)
    return float(found.group(1)) if found else None


def _swf(text: str, _zone: tzinfo) -> Iterable[Arrival | None]:
    """Standard Workload Format (Feitelson): 18 columns; times from `UnixStartTime` of the header."""
    begin = 0.0
    for line in text.splitlines():
        if line.startswith(";"):
            found = re.search(r"UnixStartTime:\s*(\d+)", line)
            begin = float(found.group(1)) if found else begin
            continue
        if not line.strip():
            continue
        row = [float(x) for x in line.split()]
        if len(row) < 18:
            raise ValueError(f"a row of {len(row)} columns")
        submit, wait, lasts = begin + row[1], max(row[2], 0.0), row[3]
        chips = row[4] if row[4] > 0 else row[7]
        yield Arrival(
            f"{row[0]:.0f}", f"user-{row[11]:.0f}", submit, submit + wait, submit + wait + lasts, chips,
            f"queue-{row[14]:.0f}",
        )  # fmt: skip


_PAI: Final = (
    "job_name", "task_name", "inst_num", "status", "start_time", "end_time", "plan_cpu", "plan_mem", "plan_gpu",
    "gpu_type",
)  # fmt: skip


def _alibaba(text: str, _zone: tzinfo) -> Iterable[Arrival | None]:
    """cluster-trace-gpu-v2020's pai_task_table (with or without header), or v2023's openb pods."""
    lines = text.splitlines()
    head = lines[0].split(",")
    if "creation_time" in head:
        for row in csv.DictReader(lines):
            chips = float(row["num_gpu"]) * (float(row["gpu_milli"]) / 1000 if float(row["num_gpu"]) == 1 else 1.0)
            begin, end = row["scheduled_time"] or "nan", row["deletion_time"] or "nan"
            yield Arrival(
                row["name"], row.get("qos", ""), float(row["creation_time"]), float(begin), float(end), chips,
                row.get("gpu_spec", ""),
            )  # fmt: skip
        return
    for cells in csv.reader(lines[1:] if "job_name" in head else lines):
        row = dict(zip(_PAI, cells, strict=False))
        if not (row["start_time"] and row["end_time"] and row["plan_gpu"]):
            yield None
            continue
        start, end = float(row["start_time"]), float(row["end_time"])
        chips = float(row["inst_num"] or 1) * float(row["plan_gpu"]) / 100.0
        yield Arrival(f"{row['job_name']}/{row['task_name']}", "", start, start, end, chips, row["gpu_type"])


def _philly(text: str, zone: tzinfo) -> Iterable[Arrival | None]:
    """Microsoft Philly's cluster_job_log: a list of jobs with their attempts."""
    for job in json.loads(text):
        submit = _moment(job.get("submitted_time") or "", zone)
        for k, attempt in enumerate(job["attempts"]):
            start, end = (_moment(attempt.get(key) or "", zone) for key in ("start_time", "end_time"))
            if math.isnan(start) or math.isnan(end):
                yield None
                continue
            chips = sum(len(part["gpus"]) for part in attempt["detail"])
            name = job["jobid"] if len(job["attempts"]) == 1 else f"{job['jobid']}#{k + 1}"
            yield Arrival(
                name, job.get("user", ""), start if math.isnan(submit) else submit, start, end, chips, job.get("vc", "")
            )


def _kubernetes(text: str, zone: tzinfo) -> Iterable[Arrival | None]:
    """`kubectl get pods -A -o json`: chips of the containers' limits, times of the pods' status."""
    for pod in json.loads(text)["items"]:
        meta, status = pod["metadata"], pod.get("status", {})
        chips = sum(_asked(one) for one in pod["spec"]["containers"])
        start = _moment(status.get("startTime") or "", zone)
        ends = [
            _moment(one["state"]["terminated"].get("finishedAt") or "", zone)
            for one in status.get("containerStatuses", [])
            if "terminated" in one.get("state", {})
        ]
        if math.isnan(start) or not ends:
            yield None
            continue
        labels: Mapping[str, str] = meta.get("labels") or {}
        user = labels.get("user") or labels.get("owner") or meta.get("namespace", "")
        submit = _moment(meta.get("creationTimestamp") or "", zone)
        kind = (pod["spec"].get("nodeSelector") or {}).get("nvidia.com/gpu.product", "")
        yield Arrival(f"{meta.get('namespace', '')}/{meta['name']}", user, submit, start, max(ends), chips, kind)


def _asked(container: Mapping[str, Any]) -> float:
    limits = (container.get("resources") or {}).get("limits") or {}
    return sum(float(v) for key, v in limits.items() if key.endswith("/gpu") or "/mig-" in key)


FORMS: Final[Mapping[str, Callable[[str, tzinfo], Iterable[Arrival | None]]]] = {
    "sacct": _sacct, "swf": _swf, "alibaba": _alibaba, "philly": _philly, "kubernetes": _kubernetes,
}  # fmt: skip

_LOOKED: Final = {
    "sacct": "made by sacct -a -X -P --format=JobID,User,Partition,Submit,Start,End,AllocTRES,NNodes",
    "swf": "18 columns a row, comments begin with a semicolon",
    "alibaba": "pai_task_table.csv of cluster-trace-gpu-v2020, or openb_pod_list_*.csv of v2023",
    "philly": "cluster_job_log, a JSON list of jobs with attempts",
    "kubernetes": "made by kubectl get pods -A -o json",
}
