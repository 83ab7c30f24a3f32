"""Tests for `wattline.workload.parallel`."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.core.errors import ScenarioError
from wattline.workload.catalog import model
from wattline.workload.parallel import Parallel

LLAMA, MIXTRAL, DEEPSEEK = model("llama-3.1-70b"), model("mixtral-8x7b"), model("deepseek-v3")


@pytest.mark.parametrize(
    ("parallel", "m", "words"),
    [
        (Parallel(tensor=6), LLAMA, r"train\.tensor = 6 does not divide 64 attention heads; try 4 or 8"),
        (Parallel(tensor=6, section="serve"), LLAMA, r"serve\.tensor = 6 .* try 4 or 8"),
        (Parallel(tensor=128), LLAMA, r"train\.tensor = 128 does not divide .* try 64"),
        (Parallel(tensor=4), model("phi-4"), r"train\.tensor = 4 neither divides .* 10 key-value heads; try 2 or 5"),
        (Parallel(pipeline=81), LLAMA, r"train\.pipeline = 81 needs 81 layers or more .* has 80; try 80 or fewer"),
        (Parallel(pipeline=4, virtual=21), LLAMA, r"train\.virtual = 21 needs 84 layers .* try 20 or fewer"),
        (Parallel(expert=3, data=3), MIXTRAL, r"train\.expert = 3 does not divide 8 experts; try 2 or 4"),
        (Parallel(expert=8), MIXTRAL, r"train\.expert = 8 .* does not divide the 1 devices .* try 1"),
        (Parallel(expert=2, data=2), LLAMA, r"train\.expert = 2 but llama-3\.1-70b has no experts; try 1"),
        (Parallel(pipeline=2, layers_per_stage=(40, 41)), LLAMA, r"train\.stages .* sum to 81; give 2 entries"),
    ],
)
def test_an_impossible_layout_names_key_value_and_what_would_work(parallel, m, words):
    """Each rule broken is one sentence with the key, its value and the nearest that works."""
    with pytest.raises(ScenarioError, match=words):
        parallel.check(m)


@pytest.mark.parametrize(
    ("key", "value"), [("tensor", 0), ("data", -2), ("pipeline", 1.5), ("context", True), ("zero", 4)]
)
def test_degrees_are_whole_and_positive(key, value):
    """A degree that is no count is refused by name."""
    with pytest.raises(ScenarioError, match=rf"train\.{key} = {value}"):
        Parallel(**{key: value})


def test_devices_must_multiply_out():
    """A device count that differs is answered with the data degree that matches it."""
    with pytest.raises(
        ScenarioError, match=r"tensor 8 x pipeline 1 x data 3 = 24 devices, but there are 64; try train\.data = 8"
    ):
        Parallel(tensor=8, data=3).check(LLAMA, 64)
    assert Parallel(tensor=8, data=8).check(LLAMA, 64).devices == 64


@given(st.integers(1, 20), st.integers(1, 4))
def test_every_layer_is_on_one_stage(stages, virtual):
    """Stages hold each layer once, whatever the split."""
    p = Parallel(pipeline=stages, virtual=virtual)
    held = Counter()
    for stage in range(stages):
        held.update(dict(p.stage(LLAMA, stage)))
    assert held == dict(LLAMA.groups)


def test_layers_can_be_given_per_stage():
    """An explicit split is used as it stands."""
    p = Parallel(pipeline=2, layers_per_stage=(39, 41)).check(LLAMA)
    assert [sum(n for _, n in p.stage(LLAMA, s)) for s in (0, 1)] == [39, 41]


def test_a_stage_out_of_range_is_refused():
    """A stage that does not exist is an error, not an empty stage."""
    with pytest.raises(ScenarioError, match="stage 4 does not exist"):
        Parallel(pipeline=4).stage(LLAMA, 4)


def test_ranks_share_a_node_while_they_fit():
    """Tensor ranks of 8 share a node of 8; data ranks beyond it are on the fabric."""
    p = Parallel(tensor=8, data=2)
    assert (p.span("tensor"), p.span("data")) == ("node", "fabric")
    assert Parallel(tensor=8, data=2, node=72).span("data") == "node"


@pytest.mark.parametrize(
    ("parallel", "slices"),
    [
        (Parallel(tensor=8), 8),
        (Parallel(tensor=2, data=8, expert=8), 1),
        (Parallel(tensor=8, section="serve"), 8),
        (Parallel(tensor=8, expert=8, section="serve"), 1),
        (Parallel(data=8, expert=8, section="serve"), 1),
        (Parallel(tensor=4, data=2, section="serve"), 8),
    ],
)
def test_experts_are_sliced_over_what_is_left(parallel, slices):
    """Slices of one expert follow from the other degrees, as engines do it."""
    assert parallel.check(DEEPSEEK).expert_tensor == slices
