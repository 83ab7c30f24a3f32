"""A trace of jobs on chips of the catalog: its day replayed under controllers and caps, and its jobs as a scenario."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from ..core.errors import InputError
from ..core.units import parse, show
from ..hardware import catalog
from ..site import machines
from ..site.replay import CONTROLLERS, Controller, Replay, Table, play
from ..site.traces import Trace, read


@dataclass(frozen=True, eq=False)
class TraceAnswer:
    """A trace and its replays: controller -> what happened; `assumptions` in sentences."""

    trace: Trace
    chips: Mapping[str, float]
    cap: float
    runs: Mapping[str, Replay]
    assumptions: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values under the stable JSON keys."""
        jobs = self.trace.jobs
        return {
            "kind": "trace",
            "source": self.trace.source,
            "jobs": len(jobs),
            "left_out": self.trace.left_out,
            "begins_s": jobs[0].submit,
            "chips": dict(self.chips),
            "cap_w": None if np.isinf(self.cap) else self.cap,
            "runs": {name: summary(run) for name, run in self.runs.items()},
            "assumptions": list(self.assumptions),
        }


def summary(run: Replay) -> dict[str, Any]:
    """Return the totals of a replay: energy by user, job waits, peak and what was above the cap."""
    wait = run.start - np.array([job.submit for job in run.jobs])
    total = float(run.power @ np.diff(run.time)) if len(run.power) == len(run.time) - 1 else 0.0
    return {
        "energy_j": total,
        "jobs_j": float(run.energy.sum()),
        "idle_j": run.idle,
        "peak_w": run.peak,
        "over_cap_j": run.over,
        "mean_wait_s": float(wait.mean()),
        "last_end_s": float(run.end.max()),
        "chip_s": float(sum(job.chips * job.lasts for job in run.jobs)),
        "by_user_j": run.by("user"),
        "by_kind_j": run.by("kind"),
    }


def replayed(
    form: str, path: Path, *, chip: str = "h100-sxm", speeds: Sequence[float] = (), powers: Sequence[str] = (),
    chips: float | None = None, cap: str | None = None, controllers: Sequence[str] = ("recorded",), zone: str = "UTC",
    machine: str | None = None,
) -> TraceAnswer:  # fmt: skip
    """Read a trace and replay it.

    chip : of the catalog; its limit is what a busy chip draws at full speed. speeds, powers : in place of that, shares
    of full speed and watts of one chip. chips : of each kind; as many as were ever in use at once where left out.
    machine : of RAPS, in place of all these: its nodes with hosts, network, losses and pumps.
    """
    trace = read(form, path, zone=_zone(zone))
    if machine is not None:
        return _on_machine(trace, machine, cap, controllers)
    sheet = catalog.chip(chip)
    idle = float(sheet["power.idle"])
    watts = [parse(p, "W", key="--powers") for p in powers] or [float(sheet["power.limit"])]
    table = Table(np.array(speeds or [1.0], float), np.array(watts), idle)
    kinds = sorted({job.kind for job in trace.jobs})
    has = {kind: most_at_once(trace, kind) if chips is None else float(chips) for kind in kinds}
    limit = np.inf if cap is None else parse(cap, "W", key="--cap")
    runs: dict[str, Replay] = {}
    for name in controllers:
        how: Controller = name  # type: ignore[assignment]
        runs[name] = play(trace.jobs, has, dict.fromkeys(kinds, table), controller=how, cap=limit)
    said = "all of its power limit" if not powers else "as stated"
    assumptions = [
        f"every chip is a {chip}: a busy one draws {show(watts[0], 'W')} at full speed ({said}), an idle one "
        f"{show(idle, 'W')}",
        "chips alone: hosts, network and cooling are not counted",
    ]
    if chips is None:
        assumptions.append(
            "there are as many chips as were ever in use at once: "
            + ", ".join(f"{count:,.0f} {kind}".strip() for kind, count in has.items())
        )
    return TraceAnswer(trace, has, limit, runs, tuple(assumptions))


def _on_machine(trace: Trace, name: str, cap: str | None, controllers: Sequence[str]) -> TraceAnswer:
    """Return the replays on a machine of RAPS: a busy accelerator brings its share of a busy node."""
    some = machines.machine(name)
    per = max(1.0, some.facts["gpus_per_node"])
    whole = some.table(1.0, 1.0)
    table = Table(whole.speed, whole.power / per, whole.idle / per)
    kinds = sorted({job.kind for job in trace.jobs})
    if len(kinds) > 1:
        raise InputError(f"a machine has one kind of node and the trace has {', '.join(kinds)}; leave out the others")
    has, limit = {kinds[0]: some.nodes * per}, np.inf if cap is None else parse(cap, "W", key="--cap")
    runs: dict[str, Replay] = {}
    for one in controllers:
        how: Controller = one  # type: ignore[assignment]
        runs[one] = play(trace.jobs, has, {kinds[0]: table}, controller=how, cap=limit, standing=some.standing)
    assumptions = (
        f"{some.name}: {some.nodes:,} nodes of {per:g} accelerators, {show(float(whole.power[0]), 'W')} busy and "
        f"{show(float(whole.idle), 'W')} idle at the feed, and {show(float(some.standing), 'W')} of switches and "
        "pumps, as RAPS has it",
        "a busy node is busy with all its processors and accelerators; RAPS' own replays use measured shares",
    )
    return TraceAnswer(trace, has, limit, runs, assumptions)


def _zone(name: str) -> Any:
    try:
        return UTC if name == "UTC" else ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InputError(f"--zone: {name!r} is no time zone; give one such as Europe/Berlin") from None


def most_at_once(trace: Trace, kind: str) -> float:
    """Return the most chips of a kind in use at once."""
    some = [job for job in trace.jobs if job.kind == kind]
    at = np.array([job.start for job in some] + [job.end for job in some])
    step = np.array([job.chips for job in some] + [-job.chips for job in some])
    order = np.lexsort((step, at))  # who ends makes room before who starts
    return float(np.cumsum(step[order]).max())


def scenario_text(answer: TraceAnswer, most: int = 200) -> str:
    """Return a fleet scenario of a trace's largest jobs, each with its release, its work due and its chips.

    Every job may be paused and is due by when it ended and as long again, which is for whoever reads it to correct.
    """
    jobs = sorted(answer.trace.jobs, key=lambda job: -job.chips * job.lasts)[:most]
    begin = min(job.submit for job in jobs)
    run = next(iter(answer.runs.values()))
    watts = {job.name: float(e) / max(job.lasts, 1e-9) for job, e in zip(run.jobs, run.energy, strict=True)}
    lasts = max(2 * job.end - job.start for job in jobs) - begin
    dated = "" if begin < 1e8 else f'start = "{datetime.fromtimestamp(begin, UTC).isoformat()}"\n'
    left = len(answer.trace.jobs) - len(jobs)
    out = [
        f"# {len(jobs):,} jobs of {Path(answer.trace.source).name}"
        + (f"; {left:,} smaller ones left out" if left else "")
    ]
    out.append(
        f'\n[grid]\nprice = "80 USD/MWh"  # yours\nlasts = "{lasts / 3600:.3f} h"\n{dated}\n[goal]\nleast_cost = true\n'
    )
    seen: dict[str, int] = {}
    for job in jobs:
        seen[job.name] = seen.get(job.name, 0) + 1
        name = job.name if seen[job.name] == 1 else f"{job.name}#{seen[job.name]}"
        out.append(
            f'[[job]]\nname = {_quoted(name)}\nspeeds = [1.0]\npowers = ["{watts[job.name]:.1f} W"]\n'
            f"chips = {max(1, round(job.chips))}\npause = true\n"
            f'release = "{job.submit - begin:.0f} s"\ndeadline = "{2 * job.end - job.start - begin:.0f} s"\n'
            f'due = "{job.lasts:.0f} s"\n'
        )
    return "\n".join(out)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def rows(answer: TraceAnswer) -> list[dict[str, Any]]:
    """Return one row per job of the last replay."""
    run = [*answer.runs.values()][-1]
    return [
        {
            "job": job.name, "user": job.user, "kind": job.kind, "chips": job.chips, "submit_s": job.submit,
            "start_s": float(s), "end_s": float(e), "energy_j": float(j),
        }
        for job, s, e, j in zip(run.jobs, run.start, run.end, run.energy, strict=True)
    ]  # fmt: skip


__all__ = ["CONTROLLERS", "TraceAnswer", "replayed", "rows", "scenario_text", "summary"]
