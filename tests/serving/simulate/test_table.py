"""Tests for `wattline.serving.simulate.table`: tabulated steps beside those of the planner."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattline.serving.simulate.pool import Pool
from wattline.serving.simulate.table import EACH, FINE, StepTable, _rows, step_table, tokens_at
from wattline.serving.step import Load, step
from wattline.source.roofline.source import Roofline

from .fleets import device, replica, table

SOURCE = Roofline()


def decode(of: StepTable, batch: int, context: float, level: int) -> tuple[float, float]:
    """Time and energy of a decode step as the planner has it: output so long that no prompt comes."""
    load = Load(prompt=context - 101, output=3e7, context=100.0)
    found = step(of.replica, load, batch, of.device, SOURCE, of.clocks[level : level + 1])
    return float(found.decode.time[0]), found.devices * float(found.decode.energy[0])


@given(batch=st.integers(1, 250), context=st.integers(110, 1500), level=st.sampled_from([0, 6, 11]))
@settings(max_examples=25, deadline=None)
def test_decode_steps_are_those_of_the_planner(batch: int, context: int, level: int) -> None:
    """Interpolation stays within 2 % of a step worked out for itself, in time and in energy."""
    made = table()
    time, energy = decode(made, batch, context, level)
    cost = made.step(batch, context, level=level)
    assert cost.time == pytest.approx(time, rel=0.02)
    assert cost.energy == pytest.approx(energy, rel=0.02)


@pytest.mark.parametrize("shape", [("qwen3-30b-a3b", {"tensor": 2, "expert": 2}), ("llama-3.1-70b", {"tensor": 4})])
def test_other_layouts_too(shape: tuple[str, dict[str, int]]) -> None:
    """Experts and tensor ranks are tabulated as exactly as one device."""
    made = table(shape[0], **shape[1])
    for batch in (1, 17, 65, 200):
        time, energy = decode(made, batch, 900.0, 11)
        cost = made.step(batch, 900.0)
        assert (cost.time, cost.energy) == (pytest.approx(time, rel=0.01), pytest.approx(energy, rel=0.02))


@pytest.mark.parametrize("batch", [16, 100, 240])
@pytest.mark.parametrize("model", ["llama-3.1-8b", "nemotron-nano-9b-v2"])
def test_mean_steps_are_those_of_the_planner(model: str, batch: int) -> None:
    """Steps with prompts and without, in the planner's shares, make its mean step to 3 %, recurrent layers too."""
    from wattline.serving.step import rhythm

    load = Load(prompt=700, output=250)
    made = table(model)
    beat = rhythm(load, batch, made.replica.chunk)
    found = step(made.replica, load, batch, made.device, SOURCE, made.clocks[6:7])
    plain = made.step(batch, load.seen, level=6)
    mixed = made.step(batch, load.seen, beat.tokens, load.prompt / 2, beat.prompts, level=6)
    time = (1 - beat.share) * plain.time + beat.share * mixed.time
    energy = (1 - beat.share) * plain.energy + beat.share * mixed.energy
    assert time == pytest.approx(found.time[0], rel=0.03)
    assert energy == pytest.approx(found.points.energy[0], rel=0.03)


def test_parts_sum_to_the_energy() -> None:
    """Every joule of a step has a component, attention's among them."""
    cost = table().step(40, 800.0, 600.0, 300.0, 1.0)
    assert sum(cost.parts.values()) == pytest.approx(cost.energy)
    assert 0 < cost.prefill_attention < cost.energy
    assert 0 < cost.decode_attention < cost.energy


def test_the_power_limit_holds_each_step() -> None:
    """A step that would draw more than the chip may runs at the highest clock that keeps the limit."""
    made = table()
    hot = made.step(100, 500.0, 4000.0, 500.0, 4.0)
    assert hot.level < 11
    assert hot.energy / hot.time == pytest.approx(made.limit, rel=0.02)
    free = replace(made, limit=math.inf).step(100, 500.0, 4000.0, 500.0, 4.0)
    assert free.level == 11
    assert free.time < hot.time


def test_rows_are_numbered_as_they_are_made() -> None:
    """Every row of layers is found at its own count of tokens."""
    rows = _rows(40000.0)
    assert np.all(np.diff(rows) > 0)
    for tokens in (1, 64, 65, EACH, EACH + 1, EACH + 64, 1000, FINE - 64, FINE - 1, FINE, 10000, 39999):
        i, part = tokens_at(tokens)
        assert rows[i] + part * (rows[i + 1] - rows[i]) == pytest.approx(tokens)


def test_a_draft_model_costs_what_its_steps_cost() -> None:
    """Verifying four tokens takes longer than decoding one; a draft model takes longer still, in time and energy."""
    plain, free = table(chunk=512.0, max_batch=16), table(chunk=512.0, max_batch=16, draft=3)
    small = step_table(plain.replica, device(), SOURCE, max_batch=16, draft=(replica("llama-3.2-1b", 512.0), 3))
    steps = [t.step(8, 500.0) for t in (plain, free, small)]
    assert steps[0].time < steps[1].time < steps[2].time
    assert steps[0].energy < steps[1].energy < steps[2].energy
    assert free.verified == small.verified == 4


def test_data_parallel_groups_wait_for_the_one_that_reads() -> None:
    """With 4 attention groups, one prompt in one of them holds all up: time as for four, energy as for one."""
    made = table("qwen3-30b-a3b", max_batch=64, data=4, expert=4)
    one = made.step(32, 500.0, 1000.0, 500.0, 1.0)
    four = made.step(32, 500.0, 1000.0, 500.0, 4.0)
    assert one.time > 1.2 * four.time
    assert one.energy - made.waiting * one.time == pytest.approx(four.energy - made.waiting * four.time, rel=0.02)


def test_a_round_of_a_pipeline_is_a_pass_of_each_microbatch() -> None:
    """Twice the requests on two stages take what half of them take on one chip, the hop and the wait for the stage with
    the head; so do joules per chip. The host prepares twice as many steps."""
    one, two = table(max_batch=64), table(max_batch=64, pipeline=2)
    for batch, prompt in ((64, 0.0), (32, 0.0), (32, 1024.0)):
        whole = two.step(batch, 800.0, prompt, 500.0, 2.0 if prompt else 0.0)
        half = one.step(batch / 2, 800.0, prompt / 2, 500.0, 1.0 if prompt else 0.0)
        busy = [
            sum(cells[-1, 0] for cells in of.pieces(b, 800.0, p, 500.0, n if p else 0.0)[1])
            for of, b, p, n in ((two, batch, prompt, 2.0), (one, batch / 2, prompt / 2, 1.0))
        ]
        assert busy[1] < busy[0] < 1.15 * busy[1]
        assert half.time < whole.time < 2.0 * half.time
        moved = [sum(v for n, v in c.parts.items() if n != "waiting") for c in (whole, half)]
        assert moved[0] == pytest.approx(2.0 * moved[1], rel=0.05)


def test_stages_hold_what_one_chip_does_not() -> None:
    """Weights and cache are shared out over stages, so there is more room for requests."""
    sizes = [
        Pool(table=table(max_batch=64, **({"pipeline": n} if n > 1 else {}))).cache(1000.0)[0] for n in (1, 2)
    ]  # fmt: skip
    assert sizes[1] > 2.2 * sizes[0]
