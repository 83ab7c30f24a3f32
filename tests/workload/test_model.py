"""Tests for `wattline.workload.model`."""

from dataclasses import replace

import pytest

from wattline.core.errors import InputError
from wattline.workload.catalog import model
from wattline.workload.model import Latent, Layer, Model, Recurrent, Weights, hybrid, stored_bytes


def tiny(**changes):
    """A dense model of 4 layers small enough to count by hand."""
    facts = {
        "name": "tiny", "pattern": (Layer(),) * 4, "hidden": 8, "heads": 4, "kv_heads": 2, "head_dim": 2, "vocab": 10,
        "ffn": 16,
    }  # fmt: skip
    return Model(**(facts | changes))


def test_parameters_of_a_tiny_model_counted_by_hand():
    """Every matrix and vector of a small model is counted once."""
    qkv, out, mlp, norms = 8 * (8 + 4 + 4), 8 * 8, 3 * 8 * 16, 2 * 8
    assert tiny().parameters == 4 * (qkv + out + mlp + norms) + 8 + 2 * 10 * 8


def test_a_tied_head_is_counted_once():
    """Tying the head to the embedding saves one table."""
    assert tiny().parameters - tiny(tied=True).parameters == 10 * 8


@pytest.mark.parametrize(
    ("name", "bytes_per_token"),
    [("llama-3.1-8b", 131072), ("llama-3.1-70b", 327680), ("deepseek-v3", (512 + 64) * 61 * 2), ("gpt-oss-20b", 49152)],
)
def test_cache_bytes_per_token_match_published(name, bytes_per_token):
    """Cached bytes per token in bf16 equal the published figures."""
    assert model(name).kv_bytes_per_token == bytes_per_token


def test_an_fp8_cache_is_half_a_bf16_cache():
    """Cache bytes follow the cache's own precision."""
    assert replace(model("llama-3.1-8b"), kv="fp8").kv_bytes_per_token == 131072 / 2


@pytest.mark.parametrize("name", ["llama-3.1-70b", "deepseek-v3", "gpt-oss-120b", "nemotron-nano-9b-v2"])
@pytest.mark.parametrize("tensor", [2, 4, 8])
def test_tensor_ranks_together_hold_the_model_once_or_more(name, tensor):
    """What tensor ranks hold sums to the whole, plus only what is replicated."""
    m = model(name)
    for layer, _ in m.groups:
        whole = sum(w.parameters for w in m.matrices(layer))
        held = tensor * sum(w.parameters for w in m.matrices(layer, tensor))
        assert whole <= held <= 1.35 * whole


def test_key_value_heads_are_replicated_when_fewer_than_ranks():
    """Sixteen ranks of a model with eight key-value heads each hold a whole one."""
    m = model("llama-3.1-70b")
    n = m.matrices(Layer(), 16)[0].n
    assert n == 64 / 16 * 128 + 2 * 128


def test_weight_bytes_follow_the_precision_of_each_part():
    """Only the parts stored in fp4 shrink, to 4.25 bits each with their scales."""
    m = model("gpt-oss-20b")
    experts = m.parts["experts"]
    assert m.weight_bytes == pytest.approx(2 * (m.parameters - experts) + experts * 4.25 / 8)
    assert stored_bytes("fp4") * 8 == 4.25


def test_all_weights_in_one_precision_leave_norms_alone_when_asked():
    """`Weights.all` can lower the matrices inside the layers only."""
    w = Weights.all("bf16", "fp8")
    assert (w.attention, w.experts, w.head, w.norms) == ("fp8", "fp8", "bf16", "bf16")


def test_equal_models_hash_alike():
    """Two models built from the same facts are one key."""
    assert hash(tiny()) == hash(tiny())
    assert tiny() == tiny()
    assert tiny() != tiny(ffn=17)


def test_a_latent_model_counts_its_low_rank_matrices():
    """The five matrices of latent attention, counted by hand."""
    m = tiny(latent=Latent(rank=6, rope=2, nope=4, value=3, query_rank=5), kv_heads=4)
    sizes = {w.name: (w.k, w.n) for w in m.matrices(Layer())}
    assert sizes["down_qkv"] == (8, 5 + 6 + 2)
    assert sizes["up_q"] == (5, 4 * 6)
    assert sizes["up_kv"] == (6, 4 * 7)
    assert sizes["out"] == (12, 8)


def test_hybrid_patterns_are_one_letter_per_block():
    """A pattern string reads as its blocks, and an unknown letter is named."""
    assert hybrid("M-*") == (Layer("recurrent", "none"), Layer("none", "dense"), Layer("full", "none"))
    with pytest.raises(InputError, match="'X'; known: M"):
        hybrid("MX")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden": 0}, "hidden = 0"),
        ({"vocab": -5}, "vocab = -5"),
        ({"ffn": 0}, "ffn = 0"),
        ({"heads": 2.5}, "heads = 2.5"),
        ({"kv_heads": 3}, "kv_heads = 3 does not divide heads = 4; try 2"),
        ({"pattern": ()}, "layers = 0"),
        ({"pattern": (Layer("window"),)}, "window = 0"),
        ({"pattern": (Layer("recurrent"),)}, "recurrent"),
        ({"pattern": (Layer("full", "experts"),), "experts": 4, "top_k": 5, "expert_ffn": 4}, "top_k = 5"),
    ],
)
def test_impossible_facts_are_refused_by_name(changes, words):
    """A fact that cannot be is an error that names it and its value."""
    with pytest.raises(InputError, match=words):
        tiny(**changes)


def test_mamba_one_and_two_have_their_own_matrices():
    """Mamba-1 takes its terms from the inner activations, Mamba-2 from the input."""
    one = tiny(pattern=(Layer("recurrent"),), recurrent=Recurrent(heads=16, head_dim=1, state=4, dt_rank=2))
    two = tiny(pattern=(Layer("recurrent"),), recurrent=Recurrent(heads=4, head_dim=4, state=4))
    assert [w.name for w in one.matrices(Layer("recurrent"))][:4] == [
        "recurrent_in", "recurrent_terms", "recurrent_step", "recurrent_out",
    ]  # fmt: skip
    assert two.matrices(Layer("recurrent"))[0].n == 2 * 16 + 2 * 4 + 4
