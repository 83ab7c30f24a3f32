"""Tests for `wattline.workload.flops`."""

import pytest

from wattline.workload.catalog import model, models
from wattline.workload.flops import forward_flops, megatron, model_flops, six_nd

GPT = ["gpt3-175b", "megatron-22b", "megatron-530b", "megatron-1t"]


@pytest.mark.parametrize("name", GPT)
def test_model_flops_equal_the_megatron_formula(name):
    """Without the causal saving, a GPT costs 72 l h^2 (1 + s/6h + V/12lh) per token."""
    m = model(name)
    formula = megatron(m.layers, m.hidden, 2048, m.vocab, 1)
    assert model_flops(m, 1, 2048, causal=False) == pytest.approx(formula, rel=1e-9)


def test_full_recomputation_costs_a_third_more_inside_the_layers():
    """96 l h^2 (1 + s/6h + V/16lh) is 72 l h^2 (...) plus one forward pass of the layers."""
    n, h, s, v = 96, 12288, 2048, 51200
    plain, full = (megatron(n, h, s, v, 1, mode) for mode in ("none", "full"))
    assert full - plain == pytest.approx(24 * n * h * h * (1 + s / (6 * h)))


def plain(name):
    """Not small, no tables by layer, no layer run twice: what 6 N D is a rule for."""
    m = model(name)
    again = any(m.at(layer).borrowed for layer, _ in m.groups)
    return (not m.experts or m.parameters > 2e11) and m.parameters > 5e8 and not m.ends and not again


@pytest.mark.parametrize("name", list(filter(plain, models())))
def test_six_nd_is_near(name):
    """At a context far below 6 hidden sizes, 6 N D is within a few percent; small models pay for embeddings."""
    m = model(name)
    body = m.active_parameters - m.parts["embedding"] * (not m.tied)
    assert model_flops(m, 1, 512) / (6 * body) == pytest.approx(1, abs=0.06)
    assert six_nd(m, 1) == 6 * m.active_parameters


def test_a_window_costs_less_attention():
    """Windowed layers compute fewer pairs, never more."""
    short, long = model("mistral-7b-v0.1"), model("mistral-7b")
    extra = long.vocab - short.vocab
    assert forward_flops(short, 32768) < forward_flops(long, 32768) - 2 * extra * long.hidden
    assert forward_flops(short, 4096) == pytest.approx(forward_flops(long, 4096) - 2 * extra * long.hidden)
