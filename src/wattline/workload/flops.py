"""Floating-point operations of whole models in closed form, to check operators and to define MFU.

Model FLOPs are what the mathematics asks for: no recomputation, whatever the device really ran.
"""

from __future__ import annotations

from .model import Layer, Model


def six_nd(model: Model, tokens: float) -> float:
    """Training FLOPs by the rule 6 N D (Kaplan et al. 2020, arXiv 2001.08361): N active parameters."""
    return 6.0 * model.active_parameters * tokens


def megatron(layers: int, hidden: int, sequence: int, vocab: int, tokens: float, recompute: str = "none") -> float:
    """Training FLOPs of a GPT (ffn = 4 hidden, as many key-value heads as heads, no causal saving).

    72 l h^2 (1 + s/6h + V/12lh) per token (Korthikanti et al. 2022, arXiv 2205.05198, appendix A);
    with "full" recomputation 96 l h^2 (1 + s/6h + V/16lh) (Narayanan et al. 2021, arXiv 2104.04473,
    appendix); "selective" runs only the attention core again: 72 becomes 72 (1 + s/6h + s/18h + ...).
    """
    h, s = float(hidden), float(sequence)
    core = {"none": s / (6 * h), "selective": s / (6 * h) + s / (18 * h)}
    if recompute == "full":
        return 96.0 * tokens * layers * h * h * (1 + s / (6 * h) + vocab / (16 * layers * h))
    return 72.0 * tokens * layers * h * h * (1 + core[recompute] + vocab / (12 * layers * h))


def forward_flops(model: Model, sequence: float, *, causal: bool = True) -> float:
    """FLOPs of one token's forward pass, mean over a sequence of `sequence` tokens.

    Two per active matrix weight, the head included and embedding tables not; and two per query-key
    pair and dimension in attention, where `causal` counts only the pairs the mask leaves.
    """
    total = 2.0 * (model.parts["head"] or model.vocab * model.hidden)
    total += 2.0 * sum(x.copies * x.k * x.n for x in model.ends if not x.table)
    for layer, count in model.groups:
        m = model.at(layer)
        run = (*m.matrices(layer), *(matrix for x, matrix in m.extras(layer) if not x.table))
        for matrix in run:
            share = m.top_k / m.experts if matrix.part == "experts" else 1.0
            total += count * 2.0 * matrix.copies * matrix.k * matrix.n * share
        if layer.mixer in ("full", "window"):
            total += count * _attention(m, layer, sequence, causal)
        elif layer.mixer == "recurrent" and m.recurrent:
            total += count * 6.0 * m.recurrent.inner * m.recurrent.state
    return total


def _attention(m: Model, layer: Layer, sequence: float, causal: bool) -> float:
    """FLOPs of one token's attention proper, and of what chooses the keys it sees."""
    seen = _seen(sequence, float(m.window) if layer.mixer == "window" else 0.0, causal)
    scored = 0.0
    if m.index:
        scored = 2.0 * m.index.heads * m.index.dim * seen / m.compress if m.index.own else 0.0
        seen = min(seen, float(m.index.topk) * m.compress)
    if m.compress > 1:
        seen = seen / m.compress + _seen(sequence, float(m.window), causal)
    return 2.0 * m.heads * (m.qk_dim + m.v_dim) * seen + scored


def _seen(sequence: float, window: float, causal: bool) -> float:
    """Mean keys per query."""
    if not causal:
        return min(window, sequence) if window else sequence
    if not window or window >= sequence:
        return (sequence + 1) / 2
    return window - window * (window - 1) / (2 * sequence)


def model_flops(model: Model, tokens: float, sequence: float, *, causal: bool = True) -> float:
    """Training FLOPs of `tokens` tokens: the backward pass costs twice the forward pass.

    PaLM's and Megatron's MFU count attention without the causal saving: `causal=False`.
    """
    return 3.0 * tokens * forward_flops(model, sequence, causal=causal)
