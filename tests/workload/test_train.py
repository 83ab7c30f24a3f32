"""Tests for `wattline.workload.train` and `wattline.workload.pieces`."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.core.errors import ScenarioError
from wattline.workload.catalog import model
from wattline.workload.flops import megatron, model_flops
from wattline.workload.memory import stage_parameters
from wattline.workload.parallel import Parallel
from wattline.workload.train import INSTRUCTIONS, merge, stage_operators
from wattline.workload.tuning import ADAM, ADAM_BF16_MOMENTS

LLAMA, GPT, DEEPSEEK, MIXTRAL = (model(n) for n in ("llama-3.1-8b", "gpt3-175b", "deepseek-v3", "mixtral-8x7b"))
MATMUL = ("gemm", "grouped_gemm", "attention")


def flops(operators, kinds=MATMUL):
    return sum(op.repeat * op.flops for op in operators if op.kind in kinds)


def job(m, p, sequence=2048, microbatch=1, **options):
    """FLOPs of all devices that share one microbatch: every stage, tensor and context rank."""
    ranks = p.tensor * p.context
    return ranks * sum(
        flops(stage_operators(m, p, sequence, microbatch, stage=s, instruction=i, **options))
        for s in range(p.pipeline)
        for i in ("forward", "backward")
    )


@pytest.mark.parametrize("recompute", ["none", "full"])
@pytest.mark.parametrize("p", [Parallel(tensor=8, pipeline=8), Parallel(tensor=4, pipeline=3, sequence=True)])
def test_operators_sum_to_the_megatron_formula(recompute, p):
    """All products of all ranks of a GPT equal the closed form, with and without recomputation."""
    formula = megatron(GPT.layers, GPT.hidden, 2048, GPT.vocab, 2048, recompute)
    assert job(GPT, p, recompute=recompute, flash=False) == pytest.approx(formula, rel=1e-9)


def test_selective_recomputation_repeats_the_attention_core():
    """Selective recomputation costs the closed form's one more forward pass of the core."""
    formula = megatron(GPT.layers, GPT.hidden, 2048, GPT.vocab, 2048, "selective")
    found = job(GPT, Parallel(tensor=8), recompute="selective", flash=False)
    assert found == pytest.approx(formula, rel=1e-9)


@pytest.mark.parametrize("name", ["llama-3.1-8b", "mistral-7b-v0.1", "gemma-2-9b"])
def test_operators_sum_to_model_flops(name):
    """Dense products of one device equal the closed form; a fused backward pass adds its recomputed scores."""
    m = model(name)
    operators = [op for i in ("forward", "backward") for op in stage_operators(m, Parallel(), 4096, 1, instruction=i)]
    assert flops(operators, ("gemm",)) + flops(operators, ("attention",)) * 3 / 3.5 == pytest.approx(
        model_flops(m, 4096, 4096), rel=1e-3
    )


@given(st.integers(1, 12), st.integers(1, 3))
def test_the_pipeline_split_does_not_change_the_work(stages, virtual):
    """Stages together do what one device would, however the layers are cut."""
    assert job(LLAMA, Parallel(pipeline=stages, virtual=min(virtual, 32 // stages))) == pytest.approx(
        job(LLAMA, Parallel())
    )


@pytest.mark.parametrize("m", [LLAMA, MIXTRAL])
@pytest.mark.parametrize("p", [Parallel(tensor=2), Parallel(tensor=8, sequence=True), Parallel(tensor=4, context=2)])
def test_tensor_ranks_divide_the_products(m, p):
    """Tensor and context ranks share the products evenly (but for the router, which each has whole)."""
    alone = sum(flops(stage_operators(m, Parallel(), 4096, 1, instruction=i)) for i in ("forward", "backward"))
    assert job(m, p, sequence=4096) == pytest.approx(alone, rel=2e-3)


@given(st.integers(1, 8), st.sampled_from([LLAMA, DEEPSEEK, model("nemotron-nano-9b-v2")]))
def test_work_is_linear_in_microbatch(size, m):
    """Twice the sequences are twice the FLOPs of every forward pass."""
    one, many = (flops(stage_operators(m, Parallel(), 1024, b)) for b in (1, size))
    assert many == pytest.approx(size * one)


def test_backward_is_its_two_halves():
    """The split backward pass of zero-bubble schedules does what the whole one does."""
    p = Parallel(tensor=8, pipeline=4, sequence=True)
    for stage in range(4):
        whole = stage_operators(GPT, p, 2048, 1, recompute="selective", stage=stage, instruction="backward")
        halves = [
            op
            for i in ("backward_input", "backward_weight")
            for op in stage_operators(GPT, p, 2048, 1, recompute="selective", stage=stage, instruction=i)
        ]
        count = Counter()
        for op in merge(halves):
            count[replace(op, repeat=1.0)] = op.repeat
        assert count == {replace(op, repeat=1.0): op.repeat for op in whole}


def test_the_ends_of_the_pipeline_differ():
    """The first stage embeds, the last has the head and the loss, those between neither."""
    names = [{op.name for op in stage_operators(LLAMA, Parallel(pipeline=4), 2048, 1, stage=s)} for s in range(4)]
    assert ["embedding" in n for n in names] == [True, False, False, False]
    assert ["head" in n for n in names] == [False, False, False, True]
    assert ["pipeline_send" in n for n in names] == [True, True, True, False]


def collectives(m, p, instruction="forward", **options):
    found = stage_operators(m, p, 2048, 1, instruction=instruction, **options)
    return {op.name: op for op in found if op.kind == "collective"}


def test_sequence_parallelism_moves_the_same_bytes():
    """Gather and scatter replace each all-reduce and send as much (Korthikanti et al. 2022, section 4.2)."""
    plain = collectives(GPT, Parallel(tensor=8))
    split = collectives(GPT, Parallel(tensor=8, sequence=True))
    assert set(plain) == {"tensor_all_reduce"}
    assert set(split) == {"tensor_all_gather", "tensor_reduce_scatter"}
    # Two per layer and one for the embedding; with split norms the head gathers its input too.
    reduced = plain["tensor_all_reduce"]
    assert reduced.repeat == 2 * 96 + 1
    sent = sum(op.repeat * op.link_bytes for op in split.values())
    assert sent == pytest.approx(reduced.repeat * reduced.link_bytes)


def test_experts_apart_exchange_tokens():
    """Expert ranks send every token to its experts and back in each layer."""
    op = collectives(MIXTRAL, Parallel(data=8, expert=8))["expert_all_to_all"]
    assert op.repeat == 2 * 32
    assert op.size == 2048 * 2 * 4096 * 2


def test_context_ranks_pass_keys_and_values_round():
    """A ring of four ranks sends its keys and values three times per layer."""
    op = collectives(LLAMA, Parallel(context=4))["context_send"]
    assert op.repeat == 3 * 32
    assert op.size == 2048 / 4 * 8 * 2 * 128 * 2


@pytest.mark.parametrize(("zero", "names"), [(0, {"data_all_reduce"}), (1, {"data_reduce_scatter"}), (3, set())])
def test_gradients_are_reduced_as_zero_says(zero, names):
    """All-reduce without sharding, reduce-scatter with; under ZeRO 3 it happens in every backward pass."""
    p = Parallel(data=8, zero=zero)
    assert set(collectives(LLAMA, p, "gradients")) == names
    assert ("data_all_gather" in collectives(LLAMA, p, "parameters")) == (zero == 1)
    assert ("zero_reduce_scatter" in collectives(LLAMA, p, "backward")) == (zero == 3)


def test_a_tied_embedding_is_summed_between_the_end_stages():
    """First and last stage both hold the table and must agree on its gradient."""
    p = Parallel(pipeline=4)
    assert "tied_all_reduce" in collectives(GPT, p, "gradients", stage=3)
    assert "tied_all_reduce" not in collectives(GPT, p, "gradients", stage=1)


def test_the_optimizer_reads_and_writes_its_state():
    """Adam moves 34 bytes per parameter: state read and written, gradients zeroed and normed; ZeRO shards it."""
    held = sum(stage_parameters(LLAMA, Parallel(), 0))
    (whole,) = stage_operators(LLAMA, Parallel(data=8), 2048, 1, instruction="optimizer")
    (shard,) = stage_operators(LLAMA, Parallel(data=8, zero=1), 2048, 1, instruction="optimizer")
    (small,) = stage_operators(LLAMA, Parallel(), 2048, 1, instruction="optimizer", optimizer=ADAM_BF16_MOMENTS)
    assert whole.bytes == pytest.approx(held * (2 * 12 + 2 + 3 * 4 + 0))
    assert shard.bytes == pytest.approx(whole.bytes / 8)
    assert whole.bytes - small.bytes == pytest.approx(held * 2 * 4)
    assert ADAM.weight + ADAM.gradient + ADAM.master + ADAM.moments == 18


def test_fp8_products_come_with_casts():
    """In fp8 the layers' products run in fp8 on cast inputs; the head stays in bf16."""
    operators = stage_operators(LLAMA, Parallel(), 2048, 1, "fp8")
    precision = {op.name: op.precision for op in operators}
    assert (precision["qkv"], precision["mlp_down"], precision["head"]) == ("fp8", "fp8", "bf16")
    assert "cast" in precision
    assert "cast" not in {op.name for op in stage_operators(LLAMA, Parallel(), 2048, 1)}


def test_unfused_attention_writes_its_scores():
    """Without a fused kernel, softmax and dropout move s^2 values per head."""
    by = {op.name: op for op in stage_operators(GPT, Parallel(tensor=8), 2048, 1, flash=False, dropout=True)}
    scores = 12 * 2048 * 2048
    assert by["softmax"].bytes == scores * 4
    assert by["attention_dropout"].bytes == scores * 5
    assert "attention" not in by


def test_equal_operators_are_merged():
    """A stage is a short list whatever its depth."""
    for m in (GPT, DEEPSEEK):
        for instruction in INSTRUCTIONS:
            operators = stage_operators(m, Parallel(), 2048, 1, instruction=instruction)
            assert len({replace(op, repeat=1.0) for op in operators}) == len(operators) < 60


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sequence": 0}, r"train\.sequence = 0"),
        ({"microbatch": 1.5}, r"train\.microbatch = 1\.5"),
        ({"precision": "bf61"}, "did you mean 'bf16'"),
        ({"recompute": "ful"}, "did you mean 'full'"),
        ({"instruction": "forwards"}, "did you mean 'forward'"),
        ({"parallel": Parallel(context=3)}, r"train\.context = 3 does not divide sequence = 2048; try 2"),
        ({"parallel": Parallel(tensor=5)}, r"train\.tensor = 5"),
        ({"stage": 2}, "stage 2 does not exist"),
    ],
)
def test_bad_input_is_named(options, words):
    """Each bad argument is one sentence with its key and what would work."""
    base = {"parallel": Parallel(), "sequence": 2048, "microbatch": 1}
    with pytest.raises(ScenarioError, match=words):
        stage_operators(LLAMA, **(base | options))


def test_unfused_linear_layers_pay_a_pass_and_wait():
    """Before 2022 gradients were summed in a pass of their own, and backward sums over tensor ranks waited."""
    p = Parallel(tensor=8)
    new = stage_operators(GPT, p, 2048, 1, instruction="backward")
    old = stage_operators(GPT, p, 2048, 1, instruction="backward", fused_linear=False)
    assert "gradient_sum" not in {op.name for op in new}
    assert sum(op.bytes * op.repeat for op in old if op.name == "gradient_sum") > 0
    assert any(op.name == "tensor_all_reduce" and op.overlap > 0.5 for op in new)
    assert all(op.overlap == 0 for op in old if op.name == "tensor_all_reduce")


def test_a_receiver_puts_slices_together():
    """Without sequence parallelism what arrives from the stage before is gathered over the tensor ranks, once a chunk."""
    p = Parallel(tensor=8, pipeline=4, virtual=2)
    for stage, times in ((0, 1), (1, 2)):
        by = {op.name: op for op in stage_operators(GPT, p, 2048, 1, stage=stage)}
        assert by["tensor_all_gather"].repeat == times
    whole = replace(p, sequence=True)
    sends = [op for op in stage_operators(GPT, whole, 2048, 1, stage=1) if op.name == "pipeline_send"]
    assert [op.repeat for op in sends] == [2]


def test_a_loss_scale_costs_passes():
    """In fp16 the optimizer unscales, clips and casts in passes of their own: 20 bytes more per parameter."""
    held = sum(stage_parameters(LLAMA, Parallel(), 0))
    (plain,) = stage_operators(LLAMA, Parallel(), 2048, 1, "bf16", instruction="optimizer")
    (scaled,) = stage_operators(LLAMA, Parallel(), 2048, 1, "fp16", instruction="optimizer")
    assert scaled.bytes - plain.bytes == pytest.approx(20 * held)


def test_paired_microbatches_hide_the_experts_exchange():
    """DualPipe runs all-to-alls beside products; other schedules wait for them."""
    p = Parallel(expert=8, data=8)
    for paired in (False, True):
        found = [op for op in stage_operators(DEEPSEEK, p, 2048, 1, paired=paired) if op.name == "expert_all_to_all"]
        assert found
        assert all((op.overlap > 0.5) == paired for op in found)
