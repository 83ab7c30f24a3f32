"""Every term of an engine's mean step held in place: seconds and joules by component of a dozen replicas.

``pinned.json`` beside this file is written by ``python scripts/write_pins.py``. It shows that a constant or a
sign changed, not that an answer is right; closed forms worked by hand stand below.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wattline.frontier.answer import Goal
from wattline.hardware import catalog
from wattline.hardware.cluster import Cluster
from wattline.serving import closed_loop
from wattline.serving.engine import NEUTRAL, Beat, Sums, constants, host_time, longer, run, spread
from wattline.serving.profile import Engine
from wattline.serving.steady import ServingJob, plan_serving
from wattline.serving.step import Load, Replica, rhythm, step_table, steps
from wattline.source.base import Device, Points
from wattline.source.overhead import Overhead
from wattline.source.roofline.source import Roofline
from wattline.workload.catalog import model
from wattline.workload.infer import Precision
from wattline.workload.parallel import Parallel

from .. import pins

SOURCE = Roofline(residual=False)
CHAT, LONG = Load(prompt=300, output=400), Load(prompt=6000, output=200, cached=0.25)
SHORT, SEEN = Load(prompt=100, output=1), Load(prompt=50, output=300, visual=1024, patches=4096, frames=2)


def device(name: str) -> Device:
    chip = catalog.chip(name)
    return Device(chip, catalog.default_node(chip))


def replica(name: str, more: dict[str, object] | None = None, **parallel: int) -> Replica:
    return Replica(model=model(name), parallel=Parallel(section="serve", **parallel), **(more or {}))  # type: ignore[arg-type]


REPLICAS: dict[str, tuple[Replica, Load, str]] = {
    "dense": (replica("llama-3.1-8b"), CHAT, "h100-sxm"),
    "dense tensor": (replica("llama-3.1-70b", tensor=4), LONG, "h100-sxm"),
    "dense fp8": (replica("llama-3.1-70b", {"precision": Precision(weights="fp8", kv="fp8")}, tensor=2), CHAT, "h100-sxm"),
    "dense ampere": (replica("qwen3-8b", {"chunk": 512.0}), LONG, "a100-sxm-80gb"),
    "dense blackwell": (replica("qwen3-32b", tensor=2), CHAT, "b200-sxm"),
    "one token": (replica("llama-3.1-8b", {"asynchronous": False}), SHORT, "h100-sxm"),
    "eyes": (replica("gemma-3-12b", {"neighbours": 3.0}), SEEN, "h100-sxm"),
    "experts": (replica("qwen3-30b-a3b", tensor=2, expert=2), CHAT, "h100-sxm"),
    "experts fp8": (replica("qwen3-235b-a22b-fp8", tensor=1, data=8, expert=8), CHAT, "h100-sxm"),
    "latent": (replica("deepseek-v3", tensor=8, expert=8), CHAT, "b200-sxm"),
    "four bits": (replica("gpt-oss-120b"), CHAT, "h100-sxm"),
    "scans": (replica("nemotron-nano-9b-v2", {"graph": 16.0}), CHAT, "h100-sxm"),
    "sglang": (replica("llama-3.1-8b", {"engine": Engine("sglang", (0, 5))}), CHAT, "h100-sxm"),
    "trtllm": (replica("qwen3-30b-a3b", {"engine": Engine("trtllm", (1, 2)), "factors": (("host", 1.5), ("experts", 1.2))}), CHAT, "b200-sxm"),
}  # fmt: skip


def _parts(prefix: str, points: Points) -> pins.Terms:
    return {f"{prefix} seconds": points.time, **{f"{prefix} J {name}": v for name, v in points.parts.items()}}


def found() -> dict[str, pins.Terms]:
    """Mean and decode steps, medians, host seconds and uncertainties at three batches and three clocks."""
    out: dict[str, pins.Terms] = {}
    for name, (one, load, chip) in REPLICAS.items():
        place = device(chip)
        low, high = place.chip["clock.min"], place.chip["clock.max"]
        at = np.array([low + 0.1 * (high - low), low + 0.7 * (high - low), high])
        most = one.capacity(load, place)
        for s in steps(one, load, [1, max(most // 20, 2), max(most // 2, 3)], place, SOURCE, at):
            out[f"{name} batch {s.batch:g}"] = {
                **_parts("step", s.points), **_parts("decode", s.decode), "median": s.median,
                "host": s.host, "mixed": s.mixed, "uncertainty": [s.points.uncertainty, s.points.time_uncertainty],
            }  # fmt: skip
        if name not in ("dense", "experts"):
            continue
        table = step_table(one, load, np.arange(1, 70.0), place, SOURCE, at[2:])
        out[f"{name} table"] = {"seconds": table.time[::11], "joules": table.energy[::11]}
    return out


def plans() -> dict[str, pins.Terms]:
    """Whole plans: frontier ends, the chosen way by component, figures."""
    out: dict[str, pins.Terms] = {}
    for name in ("dense", "experts"):
        one, load, chip = REPLICAS[name]
        sheet = catalog.chip(chip)
        cluster = Cluster(sheet, catalog.default_node(sheet), used=one.parallel.devices)
        answer = plan_serving(
            ServingJob(one, load, tpot=0.05, max_batch=64), cluster, SOURCE, Goal("latency"), detail=False
        )
        out[f"plan {name}"] = {
            "ends": [answer.time_s[0], answer.time_s[-1], answer.energy_j[0], answer.energy_j[-1]],
            "uncertainty": [answer.uncertainty, answer.time_uncertainty],
            **{f"chosen J {k}": v for k, v in answer.chosen.breakdown_j.items()},
            **{f"chosen {k}": v for k, v in answer.chosen.figures.items() if isinstance(v, float)},
            **{f"baseline J {k}": v for k, v in answer.baseline.breakdown_j.items()},
        }  # fmt: skip
    return out


def benchmarks() -> dict[str, pins.Terms]:
    """What closed-loop benchmarks of an engine, chip, model, lengths and concurrency would measure."""
    rows = [
        ("h100", "vllm", "llama-3.1-70b", 1024, 1024, 16, 4), ("h100", "sglang", "llama-3.1-8b", 8192, 512, 64, 1),
        ("b200-trt", "trtllm", "gpt-oss-120b", 1024, 8192, 32, 2), ("h200", "vllm", "qwen3-30b-a3b", 512, 128, 256, 2),
    ]  # fmt: skip
    names = ("hw", "framework", "model", "isl", "osl", "conc", "tp")
    out: dict[str, pins.Terms] = {}
    for cells in rows:
        one = closed_loop.row_of(dict(zip(names, cells, strict=True)), 0)
        out[" ".join(map(str, cells))] = closed_loop.predict([one], SOURCE)
    return out


HERE = Path(__file__).parent
PINNED = {HERE / "pinned_benchmarks.json": benchmarks, HERE / "pinned.json": found, HERE / "pinned_plans.json": plans}


@pytest.mark.parametrize("path", PINNED, ids=lambda p: p.stem)
def test_no_term_of_serving_moved_unseen(path: Path) -> None:
    """Seconds, joules by component and uncertainties are as ``scripts/write_pins.py`` wrote them."""
    pins.check(path, PINNED[path]())


# ------------------------------------------------------------------ closed forms, worked by hand
def _one(value: float) -> np.ndarray:
    return np.array([[value]])


BEAT = Beat(*(_one(x) for x in (40.0, 2.0, 300.0, 1.0, 1e-4, 1.5, 0.5, 1.0, 1.0, 1.0)))
COUNTS = {"kernel": 100.0, "meeting": 7.0, "scaled": 11.0, "sorted": 13.0, "scan": 17.0}
WORK = Sums(
    busy={**{k.removeprefix("time."): _one(0.0) for k in NEUTRAL if k.startswith("time.")}, "gemm": _one(3e-3), "grouped_gemm": _one(2e-3)},
    joules={("gemm", "compute.bf16"): _one(1.0), ("gemm", "leakage"): _one(0.3), ("grouped_gemm", "memory.hbm"): _one(0.5), ("gemm", "compute.fp8"): _one(0.2)},
    counts={name: _one(x) for name, x in COUNTS.items()},
)  # fmt: skip


def test_host_seconds_are_a_sum_of_what_the_host_does() -> None:
    """step + team + crowd x 0.5 + sequence x 40 + prompt x 2 + visual x 300 + launch x 100."""
    c = {**NEUTRAL, "host.step": 1.0, "host.team": 2.0, "host.crowd": 4.0, "host.sequence": 8.0, "host.prompt": 16.0,
         "host.visual": 32.0, "host.launch": 64.0}  # fmt: skip
    assert host_time(WORK, BEAT, c)[0, 0] == pytest.approx(1 + 2 + 2 + 8 * 40 + 16 * 2 + 32 * 300 + 64 * 100)


def test_a_neutral_engine_takes_the_kernels_time_and_the_floor() -> None:
    """Nothing added, nothing scaled: 5 ms of kernels, their joules and 100 W of waiting."""
    time, parts = run(WORK, BEAT, NEUTRAL, 100.0, asynchronous=False)
    assert time[0, 0] == pytest.approx(5e-3)
    joules = {name: float(j[0, 0]) for name, j in parts.items()}
    assert joules == pytest.approx(
        {"compute.bf16": 1.0, "leakage": 0.3, "memory.hbm": 0.5, "compute.fp8": 0.2, "waiting": 0.5}
    )


def test_gaps_imbalance_and_burn_add_up() -> None:
    """gaps = step + logits x 1e-4 + counts; experts take 1.2 x 1.1 x (1 + 0.1 x 1.5) of their 2 ms."""
    c = {**NEUTRAL, "gap.step": 1e-4, "gap.logits": 2.0, "gap.kernel": 1e-6, "gap.meeting": 2e-6, "gap.scaled": 3e-6,
         "gap.sorted": 4e-6, "gap.scan": 5e-6, "expert.untuned": 1.2, "expert.wide": 1.1, "expert.imbalance": 0.1,
         "gap.burn": 0.5, "energy.standing": 2.0, "energy.fp8": 3.0, "energy.compute": 5.0, "energy.memory": 7.0,
         "energy.gemm": 1.5, "time.gemm": 2.0, "energy.waiting": 0.25}  # fmt: skip
    gaps = 1e-4 + 2e-4 + 100e-6 + 14e-6 + 33e-6 + 52e-6 + 85e-6
    want = 2.0 * 3e-3 + 2e-3 * 1.2 * 1.1 * 1.15 + gaps
    time, parts = run(WORK, BEAT, c, 100.0, asynchronous=False)
    assert time[0, 0] == pytest.approx(want)
    watts = 0.3 / 5e-3 * 2.0 * 0.5  # standing joules over the kernels' own seconds, scaled, and burnt half in gaps
    joules = {name: float(j[0, 0]) for name, j in parts.items()}
    assert joules == pytest.approx({
        "compute.bf16": 1.5 * 5.0, "compute.fp8": 3.0 * 1.5 * 5.0 * 0.2, "memory.hbm": 7.0 * 0.5,
        "leakage": 0.3 * 2.0 * 2.0, "clock_tree": watts * gaps, "waiting": 0.25 * 100.0 * want,
    })  # fmt: skip


def test_an_asynchronous_host_hides_behind_the_device() -> None:
    """Times 3 and 4 of exponent 2 make 5; a host that waits adds: 7."""
    assert longer(_one(3.0), _one(4.0), 2.0)[0, 0] == pytest.approx(5.0)
    c = {**NEUTRAL, "host.step": 5e-3, "host.exponent": 2.0}
    assert run(WORK, BEAT, c, 0.0, asynchronous=True)[0][0, 0] == pytest.approx(5e-3 * 2**0.5)
    assert run(WORK, BEAT, c, 0.0, asynchronous=False)[0][0, 0] == pytest.approx(10e-3)


def test_prompts_enter_as_requests_end() -> None:
    """64 running requests of 400 tokens: 0.16 a step, so 1 - exp(-0.16) of steps carry 0.16 x 300 tokens in the mean."""
    beat = rhythm(CHAT, 64, 8192.0)
    assert beat.share == pytest.approx(1 - np.exp(-0.16))
    assert beat.share * beat.tokens == pytest.approx(0.16 * 300)
    assert beat.share * beat.prompts == pytest.approx(0.16)
    full = rhythm(CHAT, 800, 1024.0)  # room of 224 for 600 tokens a step: every step is full, and carries what comes
    assert full.share == 1.0
    assert full.tokens == pytest.approx(600)


def test_uncertainty_of_a_facility_joule_is_the_root_of_squared_shares() -> None:
    """Errors of chips, hosts, network and fans are apart from each other: sqrt(sum (u_i P_i)^2) / sum P_i."""
    sheet = catalog.chip("h100-sxm")
    cluster = Cluster(sheet, catalog.default_node(sheet))
    watts = cluster.parts(3000.0 / 2.0 / cluster.devices)
    facts = cluster.node.facts
    unsure = {"chip": 0.1, "host": facts["host.power"].uncertainty, "network": facts["nic.power"].uncertainty,
              "fan": facts["fan.fraction"].uncertainty}  # fmt: skip
    want = sum((u * watts.get(name, 0.0)) ** 2 for name, u in unsure.items()) ** 0.5 / sum(watts.values())
    assert Overhead.of(cluster).uncertainty(0.1, 3000.0, 2.0) == pytest.approx(want)
    assert 0 < want < 0.1 + max(unsure.values())


def test_a_step_carries_the_spread_of_held_out_models() -> None:
    """An answer is as unsure as the engine's model was on models left out, whatever batch and clock."""
    for name in ("h100-sxm", "b200-sxm", "a100-sxm-80gb"):
        place = device(name)
        kind = place.chip.tags.get("architecture", "")
        points = steps(replica("llama-3.1-8b"), CHAT, [4], place, SOURCE, np.array([1e9]))[0].points
        assert points.uncertainty == spread(kind, "energy_per_token_j")
        assert points.time_uncertainty == spread(kind, "throughput_tok_s")
        assert points.waiting_power == constants(kind)["energy.waiting"] * place.chip["power.waiting"]


def test_a_stated_request_overhead_replaces_the_engines_own() -> None:
    """With `overhead` a request waits just that, whatever the tokens."""
    c = replace(replica("llama-3.1-8b"), overhead=0.25).constants(device("h100-sxm"))
    assert (c["first.request"], c["first.token"]) == (0.25, 0.0)


def test_the_first_token_waits_for_the_request_its_prompt_and_a_step_and_a_half() -> None:
    """0.1 + 0.001 x 500 + 2 x 0.3 + 1.5 x 0.02 = 1.23 s."""
    c = {"first.request": 0.1, "first.token": 0.001, "first.prefill": 2.0}
    found = closed_loop.first_token(c, np.array(500.0), np.array(0.02), np.array(0.3))
    assert found == pytest.approx(1.23)


def test_a_closed_loop_carries_its_requests_over_the_time_each_takes() -> None:
    """Tokens per second and GPU = concurrency x output / (first token + output x time per token) / devices."""
    cells = {"hw": "h100", "framework": "vllm", "model": "llama-3.1-8b", "isl": 1000, "osl": 500, "conc": 32, "tp": 2}
    row = closed_loop.row_of(cells, 0)
    got = {name: float(v[0]) for name, v in closed_loop.predict([row], SOURCE).items()}
    assert (row.load.prompt, row.load.output) == (900.0, 450.0)  # lengths even between 0.8 and 1 of those stated
    want = 32 * 450 / (got["median_ttft"] + 450 * got["median_tpot"]) / 2
    assert got["output_tput_per_gpu"] == pytest.approx(want)
