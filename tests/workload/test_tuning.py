"""Tests for `wattline.workload.tuning`: what is trained, and what it costs in memory and arithmetic."""

import pytest

from wattline.core.errors import ScenarioError
from wattline.workload.catalog import model
from wattline.workload.memory import training_footprint
from wattline.workload.operator import Collective, Operator
from wattline.workload.parallel import Parallel
from wattline.workload.train import stage_operators
from wattline.workload.tuning import NF4, OPTIMIZERS, Adapter, frozen_layers

LLAMA = model("llama-3.1-8b")


def flops(instruction: str, **more: object) -> float:
    found = stage_operators(LLAMA, Parallel(), 2048, 1, instruction=instruction, **more)
    return sum(op.repeat * op.flops for op in found)


def named(instruction: str, **more: object) -> set[str]:
    return {op.name for op in stage_operators(LLAMA, Parallel(), 2048, 1, instruction=instruction, **more)}


def test_an_adapter_has_rank_times_the_sides_of_every_matrix() -> None:
    """LoRA of rank 16 on all linear layers of Llama-3.1-8B trains 41.9 million parameters, as PEFT counts them."""
    assert Adapter(16).parameters(LLAMA, Parallel(), 0) == pytest.approx(41.94e6, rel=1e-3)


def test_an_adapter_spares_the_weights_gradients() -> None:
    """Backward costs about as much as forward instead of twice, and nothing is kept for weights that stay."""
    whole, thin = flops("backward"), flops("backward", adapter=Adapter(16))
    assert thin == pytest.approx(0.5 * whole, rel=0.1)
    f = training_footprint(LLAMA, Parallel(), 2048, 1, 1, adapter=Adapter(16))
    assert f.weights == pytest.approx(2 * LLAMA.parameters, rel=0.01)
    assert f.gradients + f.optimizer == pytest.approx(16 * 41.94e6, rel=1e-3)


def test_four_bit_weights_fit_a_small_board_and_are_widened_before_use() -> None:
    """QLoRA of an 8B model holds its weights in 4.13 bits each, and dequantises them forward and backward."""
    f = training_footprint(LLAMA, Parallel(), 2048, 1, 1, adapter=Adapter(16, "nf4"))
    assert f.weights == pytest.approx(NF4 * LLAMA.parameters, rel=0.03)
    assert f.total < 24e9
    for instruction in ("forward", "backward"):
        assert "dequantize" in named(instruction, adapter=Adapter(16, "nf4"))


def test_frozen_layers_only_run_forward() -> None:
    """Half of the layers frozen: backward of the rest and of the head alone."""
    assert flops("forward", frozen=16) == flops("forward")
    head = 4 * 2048 * LLAMA.vocab * LLAMA.hidden
    assert flops("backward", frozen=16) - head == pytest.approx(0.5 * (flops("backward") - head), rel=0.01)
    assert frozen_layers(LLAMA, Parallel(pipeline=2), 0, 20) == 16
    assert frozen_layers(LLAMA, Parallel(pipeline=2), 1, 20) == 4


def test_optimizers_keep_what_their_papers_say() -> None:
    """Adam in 8 bits keeps a quarter of the moments; Muon half of them, and multiplies matrices in its step."""
    state = {name: o.moments for name, o in OPTIMIZERS.items()}
    assert state["adamw"] == 8
    assert state["adamw-8bit"] == pytest.approx(2, rel=0.01)
    assert state["muon"] == 4
    assert flops("optimizer", optimizer=OPTIMIZERS["muon"]) > 1e3 * flops("optimizer")


def test_only_adapters_are_summed_over_replicas() -> None:
    """Data-parallel LoRA exchanges the gradients of its thin matrices, not of the weights."""

    def sent(found: tuple[Operator, ...]) -> float:
        return sum(op.size for op in found if isinstance(op, Collective))

    p = Parallel(data=8)
    thin = stage_operators(LLAMA, p, 2048, 1, instruction="gradients", adapter=Adapter(16))
    assert sent(thin) == pytest.approx(4 * 41.94e6, rel=1e-3)


def test_a_rank_below_one_is_refused() -> None:
    """An adapter has a rank, and weights beside it a known format."""
    with pytest.raises(ScenarioError, match=r"train\.rank = 0 must be at least 1"):
        Adapter(0)
    with pytest.raises(ScenarioError, match=r"train\.base = 'int3' is not known; known: bf16, nf4"):
        Adapter(8, "int3")
