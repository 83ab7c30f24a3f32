"""Every term of the analytic source held in place: seconds and joules by component of many operators.

``pinned.json`` beside this file is written by ``python scripts/write_pins.py``. It shows that a constant or a
sign changed, not that an answer is right; closed forms worked by hand stand below and in `test_uncertain`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wattline.hardware import catalog
from wattline.source.base import Device, Points
from wattline.source.roofline.blocks import compiled
from wattline.source.roofline.routing import route
from wattline.source.roofline.silicon import UNLIMITED, Silicon, _limit_learned
from wattline.source.roofline.source import Roofline
from wattline.source.roofline.work import cost
from wattline.workload.operator import Attention, Collective, Elementwise, Gemm, GroupedGemm, Operator

from ... import pins

CHIPS = ("h100-sxm", "b200-sxm", "a100-sxm-80gb")
PLAIN = Roofline(residual=False)


def device(name: str) -> Device:
    chip = catalog.chip(name)
    return Device(chip, catalog.default_node(chip))


def clocks(chip: Silicon) -> np.ndarray:
    """(3,) the lowest, one two thirds up (where the voltage rises) and the highest."""
    low, high = chip.clock_min, chip.clock_max
    return np.array([low, low + 0.66 * (high - low), high])


def _gemms() -> list[Operator]:
    shapes = [
        (8192, 8192, 8192), (1, 4096, 4096), (16, 28672, 8192), (64, 8192, 28672), (300, 1000, 777), (4096, 64, 128),
        (128, 128, 65536), (100, 200, 300), (2048, 2048, 512), (65536, 1024, 1024), (70, 300, 20000), (4096, 128256, 4096),
    ]  # fmt: skip
    plain: list[Operator] = [Gemm(name="g", m=m, n=n, k=k) for m, n, k in shapes]
    return [
        *plain,
        Gemm(name="g", m=512, n=512, k=64, batch=96),
        Gemm(name="g", m=1024, n=1024, k=4096, c="fp32", accumulate=True),
        Gemm(name="g", m=4096, n=4096, k=4096, a="fp8", b="fp8", precision="fp8"),
        Gemm(name="g", m=48, n=7168, k=2048, b="int4"),
        Gemm(name="g", m=30000, n=20000, k=16000, repeat=3),
        Gemm(name="g", m=2048, n=2048, k=2048, a="fp32", b="fp32", c="fp32", precision="tf32"),
    ]


def _grouped() -> list[Operator]:
    def one(tokens: float, active: float, **more: object) -> Operator:
        given = {"top_k": 8.0, "experts": 128.0, "local_experts": 32.0, "n": 1536.0, "k": 4096.0, **more}
        return GroupedGemm(name="m", tokens=tokens, active=active, **given)  # type: ignore[arg-type]

    return [
        one(1, 2), one(16, 20), one(256, 32), one(8192, 32), one(8192, 32, skew=2.5),
        one(1024, 32, a="fp8", b="fp8", precision="fp8"), one(64, 8, n=200.0, k=300.0), one(400, 30, b="int4"),
        one(2048, 32, n=7168.0, k=2048.0),
    ]  # fmt: skip


def _attention() -> list[Operator]:
    def one(batch: float, query: float, context: float, phase: str, **more: object) -> Operator:
        given = {"heads": 32.0, "kv_heads": 8.0, "head_dim": 128.0, "value_dim": 128.0, **more}
        return Attention(name="a", batch=batch, query=query, context=context, phase=phase, **given)  # type: ignore[arg-type]

    latent = {"heads": 128.0, "kv_heads": 1.0, "head_dim": 576.0, "value_dim": 512.0, "shared_kv": True}
    return [
        one(1, 4096, 4096, "prefill"), one(2, 512, 8192, "prefill"), one(8, 40, 300, "prefill"),
        one(1, 100, 100, "prefill", causal=False), one(1, 8192, 8192, "prefill", window=1024.0),
        one(2, 2048, 2048, "backward"), one(1, 1024, 4096, "prefill", kv="fp8"), one(1, 4096, 4096, "prefill", kernel="fa2"),
        one(1, 2048, 2048, "prefill", **latent),
        one(1, 1, 1000, "decode"), one(64, 1, 2000, "decode"), one(300, 1, 700, "decode"), one(4, 1, 100000, "decode"),
        one(32, 1, 4000, "decode", kv="fp8"), one(16, 1, 3000, "decode", window=512.0), one(32, 1, 2000, "decode", **latent),
        one(8, 4, 3000, "decode", heads=64.0, kv_heads=2.0),
    ]  # fmt: skip


def _others() -> list[Operator]:
    node = [("all_reduce", 2.0**14, 8), ("all_reduce", 2.0**22, 4), ("all_reduce", 2.0**27, 8), ("all_gather", 2.0**24, 8),
            ("reduce_scatter", 3e6, 4), ("all_to_all", 1e7, 8), ("send", 5e6, 2), ("all_reduce", 1e6, 1)]  # fmt: skip
    far = [("all_reduce", 1e9, 32, 8), ("all_reduce", 1e5, 256, 8), ("all_reduce", 1e8, 16, 1), ("all_gather", 1e8, 64, 8),
           ("reduce_scatter", 1e7, 16, 1), ("all_to_all", 1e8, 32, 8), ("send", 1e7, 16, 8), ("all_reduce", 1e7, 2, 1)]  # fmt: skip
    return [
        Elementwise(name="e", read=1e8, write=1e8),
        Elementwise(name="e", read=1e6, write=5e5, ops=1e9, kernels=3),
        Elementwise(name="e", read=4e4, write=4e4, ops=1e10, repeat=7),
        *(Collective(name="c", op=op, size=size, ranks=p) for op, size, p in node),
        Collective(name="c", op="all_gather", size=1e8, ranks=8, overlap=0.6),
        *(Collective(name="c", op=op, size=s, ranks=p, span="fabric", local=k) for op, s, p, k in far),
    ]  # fmt: skip


OPERATORS: tuple[Operator, ...] = (*_gemms(), *_grouped(), *_attention(), *_others())


def _title(number: int, o: Operator) -> str:
    words = [o.kind, o.precision, *(str(getattr(o, x, "")) for x in ("phase", "op", "span"))]
    return f"{number:02d} {' '.join(w for w in words if w)}"


def _terms(points: Points) -> pins.Terms:
    trust = [points.uncertainty, points.time_uncertainty, float(points.extrapolated)]
    return {"seconds": points.time, **{f"J {name}": v for name, v in points.parts.items()}, "uncertainty": trust}


@functools.cache
def _points(source: Roofline, name: str) -> tuple[Points, ...]:
    place = device(name)
    found = source.tables([[o] for o in OPERATORS], place, clocks(Silicon.of(place.chip)))
    return tuple(found)


def physics() -> dict[str, pins.Terms]:
    """Every operator on every chip by the physics alone, and all of them as one piece under half the power."""
    found = {
        f"{name} {_title(i, o)}": _terms(points)
        for name in CHIPS
        for i, (o, points) in enumerate(zip(OPERATORS, _points(PLAIN, name), strict=True))
    }
    for name in CHIPS:
        place = device(name)
        tight = replace(place, chip=place.chip.with_({"power.limit": 0.5 * place.chip["power.limit"]}))
        some = PLAIN.tables([OPERATORS[:12], OPERATORS[18:40]], tight, clocks(Silicon.of(tight.chip)))
        found |= {f"{name} throttled {i}": _terms(points) for i, points in enumerate(some)}
        silicon = Silicon.of(tight.chip)
        alone = cost(PLAIN.works(OPERATORS[18:40], silicon, place.node), silicon, clocks(silicon))
        joules = {f"J {part}": v for part, v in alone.parts.items()}
        found[f"{name} throttled alone"] = {"seconds": alone.time, "clock": alone.clock, **joules}
        steady = Roofline(residual=False, sustained=True).points(OPERATORS, place, clocks(Silicon.of(place.chip)))
        found[f"{name} sustained"] = _terms(steady)
    return found


def learned() -> dict[str, pins.Terms]:
    """Time and energy over those of the physics alone: what the learned corrections make of each operator."""
    return {
        f"{name} {_title(i, o)}": {"time over plain": a.time / b.time, "energy over plain": a.energy / b.energy}
        for name in CHIPS
        for i, (o, a, b) in enumerate(zip(OPERATORS, _points(Roofline(), name), _points(PLAIN, name), strict=True))
        if o.kind not in ("collective", "elementwise")
    }


def rules() -> dict[str, pins.Terms]:
    """Routed loads, and which block-scaled products of a campaign compile a kernel."""
    found: dict[str, pins.Terms] = {}
    for how in ("balanced", "uniform", "power_law_1.01", "power_law_1.2"):
        for tokens, top_k, experts, devices in ((1, 8, 256, 8), (37, 4, 128, 16), (4096, 2, 8, 1), (900, 8, 384, 32)):
            r = route(how, tokens, top_k, experts, devices)
            found[f"route {how} {tokens} {devices}"] = {"loads": [r.rows, r.active, r.skew]}
    m = np.array([1, 8, 33, 48, 64, 65, 96, 128, 160, 200, 256, 300, 512, 777, 1024, 2048, 3000, 4096, 8192, 20000])
    for chip in ("hopper", "blackwell"):
        for n, k in ((512, 512), (1536, 7168), (2112, 7168), (4096, 128), (7168, 2304), (24576, 1536), (129280, 7168)):
            built = compiled(chip, m, np.full_like(m, n), np.full_like(m, k))
            found[f"compiled {chip} {n} {k}"] = {"kernels": built.astype(float)}
    return found


HERE = Path(__file__).parent
# In single precision a learned correction has seven digits, and their last depends on the machine's products.
LEARNED = HERE / "pinned_learned.json"
PINNED: dict[Path, Callable[[], dict[str, pins.Terms]]] = {
    HERE / "pinned.json": physics, LEARNED: learned, HERE / "pinned_rules.json": rules,
}  # fmt: skip


@pytest.mark.parametrize("path", PINNED, ids=lambda p: p.stem)
def test_no_term_of_the_analytic_source_moved_unseen(path: Path) -> None:
    """Seconds, joules by component and uncertainties are as ``scripts/write_pins.py`` wrote them."""
    pins.check(path, PINNED[path](), 1e-4 if path == LEARNED else 1e-6)


@pytest.mark.parametrize("name", CHIPS)
def test_operators_one_by_one_cost_what_their_table_says(name: str) -> None:
    """`cost`, which evaluates one piece of work at a time, agrees with the tables, throttled pieces too."""
    place = device(name)
    chip = Silicon.of(place.chip)
    for limit in (chip.limit, 0.4 * chip.limit):
        tight = replace(place, chip=place.chip.with_({"power.limit": limit}))
        at = clocks(chip)
        table = Roofline().points(OPERATORS[:40], tight, at)
        silicon = Silicon.of(tight.chip)
        alone = cost(Roofline().works(OPERATORS[:40], silicon, place.node), silicon, at)
        held = alone.clock < at  # the throttles bisect from different tops, each to 2e-4
        for mine, theirs in [(alone.time, table.time), *((alone.parts[x], j) for x, j in table.parts.items())]:
            assert mine == pytest.approx(theirs, rel=3e-4)
            assert mine[~held] == pytest.approx(theirs[~held], rel=1e-9)


# ------------------------------------------------------------------ closed forms, worked by hand
@pytest.mark.parametrize("name", CHIPS)
def test_a_large_copy_takes_its_bytes_over_the_bandwidth_plus_one_launch(name: str) -> None:
    """1 GB read and 1 GB written: 2e9 B at the reached bandwidth; the cache beside it, ramp and launch behind."""
    place = device(name)
    chip = Silicon.of(place.chip)
    at = clocks(chip)
    got = PLAIN.points([Elementwise(name="e", read=1e9, write=1e9)], place, at)
    s, p = chip.shape, chip.shape["overlap.exponent"]
    dram = 2e9 / (place.chip["memory.hbm.bandwidth"] * s["vector.dram_efficiency"])
    l2 = 2e9 / (chip.l2_bandwidth * s["gemm.l2_efficiency"]) * chip.clock_ref / at
    want = (dram**p + l2**p) ** (1 / p) + s["vector.ramp"] * chip.clock_ref / at + place.chip["overhead.launch"]
    assert got.time == pytest.approx(want, rel=1e-12)
    assert got.parts["memory.hbm"] == pytest.approx(2e9 * place.chip["memory.hbm.energy"])


@pytest.mark.parametrize("name", CHIPS)
def test_an_empty_kernel_costs_its_launch_and_ramp(name: str) -> None:
    """Nothing to move: each of five kernels takes the launch, whatever the clock, and a ramp in cycles."""
    place = device(name)
    chip = Silicon.of(place.chip)
    at = clocks(chip)
    got = PLAIN.points([Elementwise(name="e", read=0, write=0, kernels=5)], place, at)
    ramp = 5 * chip.shape["vector.ramp"] * chip.clock_ref / at
    assert got.time == pytest.approx(5 * place.chip["overhead.launch"] + ramp, rel=1e-12)
    # Units leak and tick for the ramp alone; the waiting floor is drawn all the time.
    volts = chip.volts(at) / chip.volt_ref
    assert got.parts["leakage"] == pytest.approx(place.chip["power.leakage"] * volts**3 * ramp)
    assert got.parts["clock_tree"] == pytest.approx(
        place.chip["power.clock_tree"] * volts**2 * at / chip.clock_ref * ramp
    )
    assert got.parts["waiting"] == pytest.approx(place.chip["power.waiting"] * got.time)


def test_voltage_is_flat_to_the_knee_and_then_rises_to_the_top() -> None:
    """Half way from the knee to the top the rise is 0.5^1.4 = 0.3789 of the whole."""
    chip = Silicon.of(catalog.chip("h100-sxm"))
    half = 0.5 * (chip.knee + chip.clock_max)
    found = chip.volts(np.array([chip.clock_min, chip.knee, half, chip.clock_max]))
    rise = 0.5**1.4 * (chip.volt_max - chip.volt_min)
    assert found == pytest.approx([chip.volt_min, chip.volt_min, chip.volt_min + rise, chip.volt_max])
    assert chip.volts(np.array(2 * chip.clock_max)) == pytest.approx(chip.volt_max)


def test_an_unstated_cache_bandwidth_is_48_bytes_per_cycle_and_unit() -> None:
    """At the reference clock, as a sheet without the fact has it."""
    sheet = catalog.chip("h100-sxm")
    bare = replace(sheet, facts={k: fact for k, fact in sheet.facts.items() if k != "memory.l2.bandwidth"})
    assert Silicon.of(bare).l2_bandwidth == pytest.approx(48.0 * sheet["compute.units"] * sheet["clock.reference"])


def test_a_limit_that_is_lifted_is_none_to_the_correction() -> None:
    """From 100 kW on a limit is one that a caller has lifted; below it the chip's own is what its rows were taken at."""
    sheet = catalog.chip("h100-sxm")
    limit = sheet.facts["power.limit"]
    for watts, learned in ((UNLIMITED, np.inf), (UNLIMITED - 1.0, 700.0), (400.0, 700.0)):
        changed = replace(sheet, facts={**sheet.facts, "power.limit": replace(limit, value=watts)}, origin=sheet)
        assert _limit_learned(changed) == learned


@pytest.mark.parametrize(
    ("op", "rounds"), [("all_reduce", 2 * 7 / 8), ("all_gather", 7 / 8), ("reduce_scatter", 7 / 8), ("send", 1.0)]
)
def test_a_ring_of_eight_sends_seven_eighths_of_the_buffer_each_way(op: str, rounds: float) -> None:
    """Link joules are bytes sent times joules per byte; each byte is read from and written to main memory."""
    place = device("h100-sxm")
    got = PLAIN.points([Collective(name="c", op=op, size=1e8, ranks=8)], place, np.array([1.2e9]))
    sent = 1e8 * rounds
    assert got.parts["link.nvlink"] == pytest.approx(sent * place.chip["link.nvlink.energy"])
    assert got.parts["memory.hbm"] == pytest.approx(2 * sent * place.chip["memory.hbm.energy"])
    assert got.time >= sent / place.chip["link.nvlink.bandwidth"]


@pytest.mark.parametrize("name", CHIPS)
def test_a_whole_number_of_tiles_switches_its_operations_once(name: str) -> None:
    """Without padding a product of 4096 cubed switches 2 * 4096^3 operations at (V / V_ref)^2."""
    place = device(name)
    chip = Silicon.of(place.chip)
    at = clocks(chip)[:2]
    got = PLAIN.points([Gemm(name="g", m=4096, n=4096, k=4096)], place, at)
    want = 2 * 4096**3 * place.chip["compute.energy.bf16"] * (chip.volts(at) / chip.volt_ref) ** 2
    assert got.parts["compute.bf16"] == pytest.approx(want)
