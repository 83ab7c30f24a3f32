"""Answers made by hand, so that reports and commands are tested without planning anything."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from wattline.frontier.answer import Answer, Outcome

_STAGES, _MICROBATCHES = 8, 24


def _outcome(time: float, energy: float, knobs: tuple[dict[str, Any], ...]) -> Outcome:
    shares = {
        "chip.compute.bf16": 0.31, "chip.memory.hbm": 0.11, "chip.memory.l2": 0.03, "chip.link.nvlink": 0.015,
        "chip.link.fabric": 0.002, "chip.leakage": 0.05, "chip.clock_tree": 0.08, "chip.waiting": 0.16,
        "host": 0.1, "network": 0.04, "fan": 0.06, "cooling": 0.043,
    }  # fmt: skip
    parts = {name: share * energy for name, share in shares.items()}
    figures = {"tokens_per_s": 1e12 / time, "mfu": 0.41, "cost_usd": energy / 3.6e9 * 80}
    return Outcome(time, math.fsum(parts.values()), energy / time, parts, knobs, figures)


def training(title: str = "llama-3.1-70b on 64 x NVIDIA H100 SXM") -> Answer:
    """A training plan over 8 stages with a timeline."""
    time = np.linspace(4.1e6, 5.6e6, 60)
    energy = 2.4e11 * (1 + 0.16 * ((5.6e6 - time) / 1.5e6) ** 2)
    clocks = [1.98e9 - 4.5e7 * (m % 5) for m in range(_MICROBATCHES)]
    knobs = tuple(
        {
            "stage": s, "chunk": s, "instruction": i, "clock_hz": clocks[m] - 1.5e7 * s,
            "microbatches": [k for k in range(_MICROBATCHES) if k % 5 == m],
        }
        for s in range(_STAGES) for i in ("forward", "backward") for m in range(5)
    )  # fmt: skip
    timeline = tuple(
        {
            "stage": s, "microbatch": m, "instruction": i,
            "start_s": 0.1 * s + 0.3 * m + (0.1 if i == "backward" else 0),
            "time_s": 0.1 if i == "forward" else 0.19, "clock_hz": clocks[m] - 1.5e7 * s,
        }
        for m in range(_MICROBATCHES) for s in range(_STAGES) for i in ("forward", "backward")
    )  # fmt: skip
    return Answer(
        kind="training",
        title=title,
        work="the whole job",
        time_s=time,
        energy_j=energy,
        power_w=energy / time,
        chosen=_outcome(float(time[3]), float(energy[3]), knobs),
        baseline=replace(_outcome(float(time[0]), 2.9e11, ()), knobs=({"scope": "all", "clock_hz": 1.98e9},)),
        goal="least energy at no more than 2 % slowdown",
        elasticity={
            "site.pue": 1.0, "train.tokens": 1.0, "train.goodput": -1.0, "chip.compute.energy.bf16": 0.31,
            "chip.memory.hbm.energy": 0.11, "chip.memory.hbm.bandwidth": -0.08, "chip.compute.rate.bf16": -0.35,
            "chip.power.waiting": 0.16, "node.host.power": 0.1, "chip.voltage.max": 0.4, "node.fan.fraction": 0.05,
        },
        provenance="calibrated",
        sources=("analytic model, fitted on measured kernels of H200",),
        uncertainty=0.09,
        time_uncertainty=0.05,
        assumptions=("train.microbatch = 1 (default)", "hardware.node = hgx-h100 (the usual node of h100-sxm)"),
        facts={"model": "llama-3.1-70b", "chips": "64 x NVIDIA H100 SXM", "schedule": "1f1b, 24 microbatches"},
        certificate={"bound_j": float(energy[3]) / 1.001, "gap": 0.001, "breakpoints": 60.0, "solve_s": 0.2},
        timeline=timeline,
    )  # fmt: skip


def serving() -> Answer:
    """A serving plan: one clock per phase, and the batch at every frontier point."""
    time = np.array([4e-4, 4.4e-4, 5e-4, 6.2e-4])
    energy = np.array([0.35, 0.30, 0.27, 0.26])
    knobs = ({"phase": "prefill", "clock_hz": 1.6e9, "batch": 96}, {"phase": "decode", "clock_hz": 1.2e9, "batch": 96})
    rows = zip(time, (1.98e9, 1.6e9, 1.3e9, 1.0e9), (64, 96, 128, 160), strict=True)
    return replace(
        training("llama-3.1-8b on 1 x NVIDIA H100 SXM"),
        kind="serving",
        work="one output token",
        time_s=time,
        energy_j=energy,
        power_w=energy / time,
        chosen=replace(_outcome(4.4e-4, 0.3, knobs), figures={"tokens_per_s": 2270.0, "ttft_s": 0.21, "tpot_s": 0.031}),
        baseline=replace(_outcome(4e-4, 0.37, ()), figures={"tokens_per_s": 2500.0, "ttft_s": 0.18, "tpot_s": 0.027}),
        goal="least energy within the latency limits",
        certificate={},
        facts={"model": "llama-3.1-8b"},
        timeline=tuple(
            {"tpot_s": float(t), "clock_hz": c, "batch": b} for t, c, b in rows
        ),
    )  # fmt: skip
