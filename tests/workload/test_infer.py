"""Tests for `wattline.workload.infer`."""

import timeit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.core.errors import InputError, ScenarioError
from wattline.workload.catalog import model, models
from wattline.workload.flops import forward_flops
from wattline.workload.infer import Precision, expected_share, ranks_reached, step_operators
from wattline.workload.parallel import Parallel

LLAMA, DEEPSEEK, OSS, MIXTRAL = (model(n) for n in ("llama-3.1-8b", "deepseek-v3", "gpt-oss-20b", "mixtral-8x7b"))


def serve(**degrees):
    return Parallel(section="serve", **degrees)


def total(operators, quantity="flops", kinds=("gemm", "grouped_gemm", "attention")):
    return sum(op.repeat * getattr(op, quantity) for op in operators if op.kind in kinds)


def by_name(operators):
    return {op.name: op for op in operators}


def test_a_prefill_costs_the_forward_pass():
    """A whole prompt costs the forward FLOPs of its tokens, the head of the last one only."""
    operators = step_operators(LLAMA, serve(), [(2048, 2048)])
    head = 2 * LLAMA.vocab * LLAMA.hidden
    assert total(operators) == pytest.approx(2048 * (forward_flops(LLAMA, 2048) - head) + head, rel=1e-9)


def test_chunks_together_attend_as_the_whole_prompt():
    """A prompt in chunks computes the same attention as at once."""
    whole = total(step_operators(LLAMA, serve(), [(4096, 4096)]), kinds=("attention",))
    parts = sum(total(step_operators(LLAMA, serve(), [(1024, 1024 * (i + 1))]), kinds=("attention",)) for i in range(4))
    assert parts == pytest.approx(whole)


def test_a_small_decode_step_reads_the_weights_once():
    """Bytes of a decode step are the weights but the embedding, the cache, and little else."""
    operators = step_operators(LLAMA, serve(), decode=1, context=1000)
    weights = LLAMA.weight_bytes - 2 * LLAMA.parts["embedding"]
    assert total(operators, "bytes") == pytest.approx(weights + 1000 * 131072, rel=2e-3)


@given(st.floats(1, 500), st.floats(0, 8000))
def test_shared_products_take_all_tokens_of_a_mixed_step(decode, new):
    """Prefill and decode tokens meet in one product; attention stays apart."""
    operators = by_name(step_operators(LLAMA, serve(), [(new, new + 100)], decode, 512))
    assert operators["qkv"].m == pytest.approx(decode + new)
    assert operators["head"].m == pytest.approx(decode + 1)


@given(st.floats(1, 1e4))
def test_products_are_linear_in_tokens(tokens):
    """Twice the decode batch is twice the FLOPs."""
    one, many = (total(step_operators(LLAMA, serve(), decode=n, context=800)) for n in (1.0, tokens))
    assert many == pytest.approx(tokens * one)


@pytest.mark.parametrize("tensor", [2, 4, 8])
def test_tensor_ranks_divide_the_products(tensor):
    """Each tensor rank does its share of every product, with two all-reduces per layer."""
    alone = total(step_operators(LLAMA, serve(), decode=64, context=800))
    operators = step_operators(LLAMA, serve(tensor=tensor), decode=64, context=800)
    assert total(operators) * tensor == pytest.approx(alone)
    assert sum(op.repeat for op in operators if op.name == "tensor_all_reduce") == 2 * LLAMA.layers


def test_absorbed_latent_attention_equals_its_closed_form():
    """Decode attends to the cached latents: 2 h c (2 rank + rope) FLOPs and (rank + rope) c cached values."""
    (op,) = [o for o in step_operators(DEEPSEEK, serve(), decode=3, context=1000) if o.kind == "attention"]
    assert op.repeat == 61
    assert op.flops == 3 * 2 * 128 * 1000 * (2 * 512 + 64)
    cache = 3 * 1000 * (512 + 64) * 2
    assert op.bytes - cache == 3 * 128 * (2 * 512 + 64) * 2
    names = by_name(step_operators(DEEPSEEK, serve(), decode=3, context=1000))
    assert names["absorb_query"].flops + names["absorb_value"].flops == 3 * 2 * 128 * 512 * (128 + 128)
    assert "up_kv" not in names


def test_absorbing_trades_expanding_the_latents():
    """Absorbed and expanded forms of one query over one key agree on the products' total per new token."""
    expanded = by_name(step_operators(DEEPSEEK, serve(), [(1, 1)]))
    absorbed = by_name(step_operators(DEEPSEEK, serve(), decode=1, context=1))
    assert expanded["up_kv"].flops == absorbed["absorb_query"].flops + absorbed["absorb_value"].flops


@pytest.mark.parametrize(("tokens", "share"), [(1, 0.25), (2, 1 - 0.75**2), (1e6, 1.0)])
def test_distinct_experts_follow_the_closed_form(tokens, share):
    """Experts touched are 1 - (1 - k/E)^tokens of all."""
    assert expected_share(8, 2, tokens) == pytest.approx(share)
    op = by_name(step_operators(MIXTRAL, serve(), decode=tokens, context=10))["expert_up"]
    assert op.active == pytest.approx(8 * share)


@given(tokens=st.floats(1, 4096), taste=st.floats(0.05, 4))
def test_uneven_popularity_touches_fewer_experts(tokens, taste):
    """Popular experts are chosen again: fewer distinct ones than by uniform choice, the same for even tastes."""
    uniform = expected_share(128, 8, tokens)
    assert expected_share(128, 8, tokens, taste) <= uniform
    assert expected_share(128, 8, tokens, 1e-6) == pytest.approx(uniform, rel=1e-3)
    assert expected_share(128, 8, tokens, taste) <= expected_share(128, 8, 2 * tokens, taste)


def test_ranks_reached_lie_between_one_and_top_k():
    """A token reaches one rank of one, and no more than its experts."""
    assert ranks_reached(1, 8) == 1
    assert 5 < ranks_reached(8, 8) < 8


def test_data_parallel_attention_shares_requests_and_exchanges_tokens():
    """Each group decodes its share; experts see all tokens and tokens cross by all-to-all."""
    p = serve(data=8, expert=8).check(DEEPSEEK)
    operators = by_name(step_operators(DEEPSEEK, p, decode=256, context=1000))
    assert operators["attention_decode"].batch == 32
    assert operators["expert_up"].tokens == 256
    assert operators["expert_up"].local_experts == 32
    assert operators["expert_all_to_all"].repeat == 2 * 58 or operators["expert_all_to_all"].ranks == 8
    assert "tensor_all_reduce" not in operators


def test_experts_apart_or_sliced_do_the_same_work():
    """Eight expert ranks and eight slices per expert compute the same products."""
    apart, sliced = (step_operators(DEEPSEEK, serve(tensor=8, expert=e), decode=64, context=100) for e in (8, 1))
    assert total(apart, kinds=("grouped_gemm",)) == pytest.approx(total(sliced, kinds=("grouped_gemm",)))


def test_windowed_layers_see_their_window():
    """Half of gpt-oss's layers attend to 128 keys, half to all."""
    found = [op for op in step_operators(OSS, serve(), decode=10, context=5000) if op.kind == "attention"]
    assert [(op.repeat, op.pairs) for op in found] == [(12, 5000), (12, 128)]


def test_weights_and_cache_follow_the_precision_asked_for():
    """fp8 weights multiply in fp8; int4 ones are widened; the cache has its own precision."""
    for weights, arithmetic in (("fp8", "fp8"), ("int4", "bf16"), (None, "bf16")):
        op = by_name(step_operators(LLAMA, serve(), decode=8, context=100, precision=Precision(weights=weights)))["qkv"]
        assert (op.b, op.precision) == (weights or "bf16", arithmetic)
    kv = by_name(step_operators(LLAMA, serve(), decode=8, context=100, precision=Precision(kv="fp8")))
    assert kv["attention_decode"].kv == "fp8"
    with pytest.raises(ScenarioError, match=r"serve\.kv = 'fp9' is not a precision; did you mean 'fp8'"):
        Precision(kv="fp9")


@pytest.mark.parametrize("name", models())
def test_every_model_has_a_short_positive_step(name):
    """Any model of the catalog steps through prefill and decode in a few dozen operators."""
    operators = step_operators(model(name), serve(), [(100, 300, 2)], decode=5, context=200)
    assert 8 < len(operators) < (40 if not any(layer.shape for layer in model(name).pattern) else 80)
    assert all(op.bytes >= 0 and op.repeat > 0 for op in operators)


def test_an_empty_step_is_empty():
    """No tokens, no work."""
    assert step_operators(LLAMA, serve()) == ()


@pytest.mark.parametrize(
    "arguments",
    [{"decode": -1}, {"decode": 1, "context": 0}, {"prefill": [(10, 5)]}, {"decode": 1, "context": 9, "skew": 0.5}],
)
def test_impossible_steps_are_refused(arguments):
    """Negative batches, contexts below the new tokens and skews below one are errors."""
    with pytest.raises(InputError, match="got"):
        step_operators(LLAMA, serve(), **arguments)


def test_a_step_is_quick_to_build():
    """Building a step takes well under a millisecond, for searches build very many."""
    build = lambda: step_operators(DEEPSEEK, serve(tensor=8), [(512, 2048)], 64, 1500.0)  # noqa: E731
    build()
    assert min(timeit.repeat(build, number=10, repeat=5)) / 10 < 1e-3
