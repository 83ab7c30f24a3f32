"""Tests for `wattline.workload.operator`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.workload.operator import Attention, Collective, Gemm, GroupedGemm


def attention(**sizes):
    base = {"batch": 1, "query": 8, "context": 8, "heads": 4, "kv_heads": 2, "head_dim": 16, "value_dim": 16}
    return Attention(name="a", **(base | sizes))


@given(st.integers(1, 30), st.integers(0, 40), st.integers(0, 50), st.booleans())
def test_pairs_are_those_a_mask_leaves(query, before, window, causal):
    """Query-key pairs equal a count over the mask, for any query, context and window."""
    context = before + query
    op = attention(query=query, context=context, window=float(window), causal=causal)
    seen = [before + i + 1 for i in range(query)] if causal else [context] * query
    count = sum(min(s, window) if window else s for s in seen)
    assert op.pairs == pytest.approx(count)


def test_gemm_counts_operations_and_bytes():
    """A product of 2 x 3 by 3 x 5 costs 60 operations and reads and writes each matrix once."""
    op = Gemm(name="g", m=2, n=5, k=3)
    assert op.flops == 60
    assert op.bytes == 2 * (6 + 15 + 10)


def test_gemm_that_accumulates_reads_its_output():
    """Adding to C costs one more reading of C."""
    plain, adding = (Gemm(name="g", m=2, n=5, k=3, c="fp32", accumulate=flag) for flag in (False, True))
    assert adding.bytes - plain.bytes == 2 * 5 * 4


def test_grouped_gemm_over_all_experts_is_one_gemm_over_all_rows():
    """Experts together do the work of one product over tokens x top_k rows."""
    op = GroupedGemm(name="e", tokens=10, top_k=2, experts=4, local_experts=4, n=8, k=16, active=4)
    assert op.flops == Gemm(name="g", m=20, n=8, k=16).flops


def test_a_ring_all_reduce_is_a_reduce_scatter_and_an_all_gather():
    """An all-reduce sends as much as a reduce-scatter and an all-gather."""
    both = sum(Collective(name="c", op=op, size=100, ranks=8).link_bytes for op in ("reduce_scatter", "all_gather"))
    assert Collective(name="c", op="all_reduce", size=100, ranks=8).link_bytes == both


def test_a_collective_of_one_rank_costs_nothing():
    """One rank alone sends nothing and launches nothing."""
    op = Collective(name="c", op="all_reduce", size=100, ranks=1)
    assert (op.link_bytes, op.bytes, op.launches) == (0, 0, 0)
