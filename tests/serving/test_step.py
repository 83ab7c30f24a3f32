"""Tests for `wattline.serving.step` and `wattline.serving.engine`: the mean step of a serving engine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattline.core.errors import CapacityError, InputError
from wattline.hardware import catalog as hardware
from wattline.serving.engine import KINDS, Inquiry, Piece, constants, longer, slowed, spread, sums
from wattline.serving.step import Load, Replica, chunks, clock_grid, lora_operators, rhythm, step, step_table, steps
from wattline.source.base import Device
from wattline.source.roofline.source import Roofline
from wattline.workload import catalog as models
from wattline.workload.operator import Gemm
from wattline.workload.parallel import Parallel

SOURCE = Roofline()
TOP = np.array([1.98e9])
CHAT = Load(prompt=300, output=400)


def device(name: str = "h100") -> Device:
    chip = hardware.chip(name)
    return Device(chip, hardware.default_node(chip))


def replica(model: str = "llama-3.1-8b", **parallel: int) -> Replica:
    return Replica(model=models.model(model), parallel=Parallel(section="serve", **parallel))


H100 = device()
DENSE = replica()
MIXTURE = replica("qwen3-30b-a3b", tensor=2, expert=2)


# ------------------------------------------------------------------ conservation
@given(batch=st.integers(1, 400))
@settings(max_examples=8, deadline=None)
def test_energy_per_token_times_throughput_is_power(batch: int) -> None:
    """Joules per token times tokens per second are the watts of all devices."""
    found = step(MIXTURE, CHAT, batch, H100, SOURCE, TOP)
    assert found.energy_per_token * found.throughput == pytest.approx(found.devices * found.power)


def test_parts_sum_to_the_energy() -> None:
    """Every joule has a component, and waiting is the awake floor all step long."""
    points = step(DENSE, CHAT, 64, H100, SOURCE).points
    assert sum(points.parts.values()) == pytest.approx(points.energy)
    assert points.parts["waiting"] == pytest.approx(points.waiting_power * points.time)


def test_the_mean_step_lies_between_its_kinds() -> None:
    """A step with prompts takes longer than one without, and the mean lies above the latter."""
    found = step(DENSE, CHAT, 64, H100, SOURCE)
    assert 0 < found.mixed < 1
    assert (found.time > found.decode.time).all()


def test_prefill_is_as_many_tokens_as_enter() -> None:
    """Over many steps, prompt tokens come at prompt / output per output token, however they are chunked."""
    for batch in (1.0, 8.0, 100.0, 1000.0):
        for load in (CHAT, Load(prompt=30000, output=300)):
            beat = rhythm(load, batch, 8192.0)
            assert beat.share * beat.tokens == pytest.approx(batch * load.prompt / load.output)
            assert sum(new * times for new, _, times in chunks(load, beat.tokens, 8192.0)) == pytest.approx(beat.tokens)


# ------------------------------------------------------------------ monotonicity
@given(batch=st.integers(1, 300), factor=st.floats(1.3, 2.0))
@settings(max_examples=10, deadline=None)
def test_a_larger_batch_costs_less_per_token(batch: int, factor: float) -> None:
    """Joules per token fall with the batch, and the step gets longer."""
    few, many = steps(DENSE, CHAT, [batch, batch * factor], H100, SOURCE, TOP)
    assert many.energy_per_token < few.energy_per_token
    assert many.time > few.time


@given(context=st.floats(100, 4000), more=st.floats(200, 4000))
@settings(max_examples=8, deadline=None)
def test_a_longer_context_takes_longer(context: float, more: float) -> None:
    """A step over longer caches takes no less time or energy."""
    near, far = (
        step(DENSE, Load(prompt=100, output=1000, context=c), 32, H100, SOURCE, TOP) for c in (context, context + more)
    )
    assert far.time >= near.time * (1 - 1e-9)
    assert far.energy_per_token >= near.energy_per_token * (1 - 1e-9)


def test_a_longer_prompt_costs_more() -> None:
    """Prefill is paid by the output tokens."""
    found = [
        step(DENSE, Load(prompt=p, output=300), 16, H100, SOURCE, TOP).energy_per_token[0] for p in (100, 1000, 4000)
    ]
    assert found == sorted(found)
    assert found[-1] > 1.2 * found[0]


def test_a_prefix_already_cached_is_not_computed() -> None:
    """Prompts found in the prefix cache cost less and are attended to all the same."""
    fresh, again = Load(prompt=2000, output=200), Load(prompt=2000, output=200, cached=0.9)
    assert again.seen == fresh.seen
    one, two = (step(DENSE, x, 32, H100, SOURCE, TOP) for x in (fresh, again))
    assert two.energy_per_token < one.energy_per_token


def test_images_cost_what_their_tokens_and_the_host_take() -> None:
    """A prompt with an image takes longer than one of the same tokens in text."""
    text, image = Load(prompt=600, output=300), Load(prompt=100, visual=500, patches=2000, output=300)
    one, two = (step(DENSE, x, 32, H100, SOURCE, TOP) for x in (text, image))
    assert two.time > one.time


def test_a_slower_clock_takes_longer_at_less_power() -> None:
    """Down the clocks, time never falls and power never rises."""
    found = step(DENSE, CHAT, 32, H100, SOURCE, np.linspace(0.6e9, 1.98e9, 20))
    assert (np.diff(found.time) <= 1e-12).all()
    assert (np.diff(found.power) >= -1e-6).all()


# ------------------------------------------------------------------ limits
def test_a_step_keeps_the_power_limit() -> None:
    """Under a lower power limit the step draws no more than that, and takes longer."""
    chip = H100.chip.with_({"power.limit": "350 W"})
    free, held = (step(DENSE, CHAT, 128, d, SOURCE, TOP) for d in (H100, replace(H100, chip=chip)))
    assert free.power > 400
    assert held.power <= 350 * (1 + 1e-6)
    assert held.time > free.time


def test_what_does_not_fit_is_refused() -> None:
    """More requests than the memory holds are refused with the number that fits."""
    most = DENSE.capacity(CHAT, H100)
    step(DENSE, CHAT, most, H100, SOURCE, TOP)
    with pytest.raises(CapacityError, match=f"at most {most} do"):
        step(DENSE, CHAT, most + 1, H100, SOURCE, TOP)


@pytest.mark.parametrize("batch", [0, -1])
def test_no_requests_make_no_step(batch: float) -> None:
    """A batch of nothing is an error, not a free step."""
    with pytest.raises(InputError, match="running requests"):
        step(DENSE, CHAT, batch, H100, SOURCE)


def test_requests_without_output_are_refused() -> None:
    """A request gives at least one token."""
    with pytest.raises(InputError, match="at least 1 output token"):
        Load(prompt=10, output=0)


# ------------------------------------------------------------------ the host
def test_a_host_that_is_not_overlapped_adds_its_time() -> None:
    """Asynchronous scheduling hides host time; without it the step is the sum."""
    ahead = step(DENSE, CHAT, 8, H100, SOURCE, TOP)
    behind = step(replace(DENSE, asynchronous=False), CHAT, 8, H100, SOURCE, TOP)
    assert behind.decode.time > ahead.decode.time
    assert behind.power < ahead.power


def test_kernels_launched_one_by_one_load_the_host() -> None:
    """Without captured graphs a small step waits for its launches."""
    loose = step(replace(DENSE, graph=0), CHAT, 8, H100, SOURCE, TOP)
    assert loose.host > step(DENSE, CHAT, 8, H100, SOURCE, TOP).host


def test_too_few_cores_slow_the_host() -> None:
    """An engine has a process a device and two more: three on one core take three times as long, on four no longer."""
    chip = device("b200")
    top = np.array([chip.chip["clock.max"]])
    found = {n: step(replace(DENSE, cores=n), CHAT, 128, chip, SOURCE, top).host for n in (None, 1.0, 4.0)}
    assert found[4.0] == found[None]
    assert found[1.0] == pytest.approx(3.0 * found[4.0])


@given(a=st.floats(1e-3, 1), b=st.floats(1e-3, 1), p=st.floats(1.5, 8))
def test_overlapped_times_take_between_the_longer_and_the_sum(a: float, b: float, p: float) -> None:
    """Overlap never beats the longer of the two, nor is worse than one after the other."""
    both = float(longer(np.array(a), np.array(b), p))
    assert max(a, b) * (1 - 1e-9) <= both <= (a + b) * (1 + 1e-9)


# ------------------------------------------------------------------ parallelism
def test_expert_ranks_wait_for_the_busiest() -> None:
    """Experts spread over ranks take longer than their even share, and draw less power."""
    one, two = replica("qwen3-30b-a3b"), MIXTURE
    alone, spread_out = (step(r, CHAT, 16, H100, SOURCE, TOP) for r in (one, two))
    assert spread_out.time > alone.time / 2
    assert spread_out.power < alone.power


def test_data_parallel_attention_shares_requests() -> None:
    """Data-parallel attention halves each group's requests and keeps the total."""
    shared = replica("deepseek-v3", data=8, expert=8)
    found = step(shared, Load(prompt=200, output=800), 256, device("b200"), SOURCE, TOP)
    assert found.devices == 8
    assert found.throughput == pytest.approx(256 / found.time)


# ------------------------------------------------------------------ tables and constants
def test_a_table_says_what_single_steps_say() -> None:
    """Few batches in a table are exact; of many, those between lie within four percent."""
    batches = np.array([8.0, 32.0, 128.0])
    table = step_table(DENSE, CHAT, batches, H100, SOURCE, TOP)
    alone = [step(DENSE, CHAT, b, H100, SOURCE, TOP) for b in batches]
    assert table.time[:, 0] == pytest.approx(np.array([s.time[0] for s in alone]))
    assert table.energy[:, 0] == pytest.approx(np.array([s.points.energy[0] for s in alone]))
    many = step_table(DENSE, CHAT, np.arange(1, 400), H100, SOURCE, TOP)
    assert many.time.shape == (399, 1)
    assert many.time[[7, 31, 127], 0] == pytest.approx(table.time[:, 0], rel=0.04)


def test_constants_are_within_physical_bounds() -> None:
    """No constant names a model, and none strays far from what it stands for."""
    known = [*models.models(), "qwen", "llama", "gemma", "nemotron", "gpt", "deepseek"]
    for architecture in ("hopper", "blackwell", "ampere"):
        c = constants(architecture)
        assert not [name for name in c if any(word in name for word in known)]
        assert all(0.5 < c[f"time.{kind}"] < 2 for kind in KINDS)
        # Standing power of a B200 in an engine is the largest: its sheet's is that of kernels timed alone.
        assert all(0.3 < value < 3.2 for name, value in c.items() if name.startswith("energy."))
        assert c["host.step"] < 10e-3
        assert c["host.sequence"] < 200e-6
        assert c["host.exponent"] >= 1
        assert 0.9 <= c["limit.share"] <= 1


def test_an_architecture_never_measured_is_less_certain() -> None:
    """The error stated for a chip known from its datasheet alone exceeds that of a measured one."""
    assert spread("ampere", "throughput_tok_s") > spread("hopper", "throughput_tok_s")


def test_expert_parallel_ranks_run_untuned_tiles_above_their_experts() -> None:
    """Products of experts slow down once a rank has more tokens than experts, and only under expert parallelism."""
    plain, rough = (dict(constants("hopper")) | {"expert.untuned": factor} for factor in (1.0, 2.0))

    def slower(batch: float, run: Replica) -> float:
        few, many = (step(run, CHAT, batch, H100, SOURCE, TOP, settings=c).decode.time[0] for c in (plain, rough))
        return float(many / few)

    assert slower(64, MIXTURE) == 1
    assert slower(65, MIXTURE) > 1.05
    assert slower(512, replica("qwen3-30b-a3b", tensor=2)) == 1


def test_a_chip_may_be_slow_on_wide_experts_alone() -> None:
    """What Triton loses on a chip concerns experts in 16 bits, not those stored narrower."""
    plain, slow = (dict(constants("hopper")) | {"expert.wide": factor} for factor in (1.0, 2.0))
    for run, changes in ((replica("qwen3-30b-a3b"), True), (replica("gpt-oss-20b"), False), (DENSE, False)):
        one, two = (step(run, CHAT, 16, H100, SOURCE, TOP, settings=c).decode.time[0] for c in (plain, slow))
        assert (two > 1.1 * one) == changes
        assert changes or two == one


def test_a_table_keeps_the_jump_of_untuned_tiles() -> None:
    """Between batches worked out exactly lie straight lines, but not across the jump."""
    table = step_table(MIXTURE, CHAT, np.arange(1, 300), H100, SOURCE, TOP)
    for batch in (64, 65):
        assert table.decode[batch - 1, 0] == pytest.approx(step(MIXTURE, CHAT, batch, H100, SOURCE, TOP).decode.time[0])


def test_a_kind_slowed_down_takes_its_standing_joules_with_it() -> None:
    """Work on one kind lasts longer by the factor; joules switched stay, those that time decides follow."""
    gemm = Gemm(name="x", m=512.0, n=4096.0, k=4096.0)
    work = sums(Inquiry.of([Piece((gemm,), (gemm,))]), H100, SOURCE, clock_grid(H100))
    twice = slowed(work, "gemm", 2.0)
    assert twice.busy["gemm"] == pytest.approx(2 * work.busy["gemm"])
    for key, joules in work.joules.items():
        assert twice.joules[key] == pytest.approx(joules * (2 if key[1] in ("clock_tree", "leakage") else 1))


def test_adapters_are_two_thin_products_a_matrix() -> None:
    """Multiplications per token as published: rank x (inputs + outputs), twice; each adapter's weights are read once."""
    made = Replica(model=models.model("llama-3.1-8b"), parallel=Parallel(section="serve"), adapters=(16, 4))
    found = lora_operators(made, (), 256.0)
    sides = 32 * ((4096 + 6144) + (4096 + 4096) + (4096 + 2 * 14336) + (14336 + 4096))
    assert sum(o.repeat * o.flops for o in found) == pytest.approx(2 * 256 * 16 * sides, rel=1e-6)
    assert all(isinstance(o, Gemm) and o.batch == pytest.approx(4.0) for o in found)  # all four are used by so many
    (one,) = {o.batch for o in lora_operators(made, (), 1.0) if isinstance(o, Gemm)}
    assert one == pytest.approx(1.0)
    assert lora_operators(replace(made, adapters=(0, 1)), (), 256.0) == ()
