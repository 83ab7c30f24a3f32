"""Serving as operators: what one device does in one step of an engine that batches continuously.

A step takes new tokens of prompts (prefill, whole or in chunks) and one token of each running
request (decode); both share the matrix products and part at attention.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from ..core.errors import InputError, ScenarioError, nearest
from .matrices import extra
from .memory import state_bytes
from .model import INNER, Latent, Layer, Matrix, Model
from .operator import BYTES, Attention, Collective, Elementwise, Gemm, GroupedGemm, Operator
from .parallel import Parallel
from .pieces import scan, touch

# What the layers of each kind have in common, however they combine.
_ATTENTION, _RECURRENT = Layer("full", "none"), Layer("recurrent", "none")
_DENSE, _EXPERTS = Layer("none", "dense"), Layer("none", "experts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """Stored and computed precision of a serving replica.

    `weights`: of the matrices inside the layers, as the model stores them where None. `kv`: of the
    cache, the model's where None. `activation`: of everything between kernels. `compute`: of the
    matrix products; where None, fp8 weights multiply in fp8 and all else in `activation`.
    """

    weights: str | None = None
    kv: str | None = None
    activation: str = "bf16"
    compute: str | None = None

    def __post_init__(self) -> None:
        for key in ("weights", "kv", "activation", "compute"):
            value = getattr(self, key)
            if value is not None and value not in BYTES:
                raise ScenarioError(f"serve.{key} = {value!r} is not a precision; {nearest(str(value), BYTES)}")

    def of(self, stored: str) -> tuple[str, str]:
        """Return (arithmetic, stored precision of the input) for weights stored as `stored`."""
        if self.compute:
            return self.compute, self.compute if BYTES[self.compute] < BYTES[self.activation] else self.activation
        # Only fp8 weights have arithmetic of their own; narrower ones are widened on the way in.
        return ("fp8", "fp8") if stored in ("fp8", "int8") else (self.activation, self.activation)


AS_STORED = Precision()


def step_operators(
    model: Model,
    parallel: Parallel,
    prefill: Sequence[Sequence[float]] = (),
    decode: float = 0.0,
    context: float = 0.0,
    precision: Precision = AS_STORED,
    *,
    skew: float = 1.0,
    taste: float = 0.0,
    sampled: float | None = None,
) -> tuple[Operator, ...]:
    """Return what one device does in one step, identical layers merged.

    Parameters
    ----------
    prefill : (new tokens, context) of each prompt or chunk; context counts the new tokens too. A
        third number repeats an entry: (new tokens, context, how many such).
    decode : running requests that each add one token; `context` their mean tokens seen, the new one
        included. Both count the whole replica: data-parallel attention groups hold equal shares.
    precision : see `Precision`. skew : load of the busiest expert rank over the mean (1 or more).
    taste : variance of how popular experts are, relative to their mean; see `expected_share`.
    sampled : tokens that need logits; where None one per decode request and per prompt.
    """
    if decode < 0 or skew < 1 or (decode > 0 and context < 1):
        raise InputError(
            f"a step needs decode >= 0, a context of at least 1 token and skew >= 1, got {decode=}, {context=}, {skew=}"
        )
    share = 1.0 / parallel.data
    chunks = [_chunk(entry, share) for entry in prefill]
    fresh = sum(new * times for new, _, times in chunks)
    own = fresh + decode * share
    if own <= 0:
        return ()
    heads_out = sampled * share if sampled is not None else decode * share + sum(times for _, _, times in chunks)
    x = _Step(model, parallel, precision, own, decode * share, context, chunks, skew, taste)
    done: list[Operator] = [touch("embedding", own * model.hidden, x.width, x.width)]
    x.attend(done)
    x.recur(done)
    x.dense(done)
    x.experts(done)
    return tuple(done + x.head(heads_out))


def _chunk(entry: Sequence[float], share: float) -> tuple[float, float, float]:
    new, seen = entry[0], entry[1]
    times = entry[2] if len(entry) > 2 else 1.0
    if new < 0 or seen < new or times < 0:
        raise InputError(f"a prefill entry is (new tokens, context >= new tokens[, times]), got {tuple(entry)!r}")
    return new, seen, times * share


class _Step:
    """One step being written down: sizes worked out once, then layer by layer."""

    __slots__ = ("chunks", "context", "count", "decode", "m", "model", "own", "p", "prec", "skew", "taste", "width")

    def __init__(
        self, model: Model, parallel: Parallel, precision: Precision, own: float, decode: float, context: float,
        chunks: list[tuple[float, float, float]], skew: float, taste: float,
    ) -> None:  # fmt: skip
        self.m, self.model, self.p, self.prec = model, model, parallel, precision
        self.own, self.decode, self.context, self.chunks = own, decode, context, chunks
        self.skew, self.taste, self.count, self.width = skew, taste, 1.0, BYTES[precision.activation]

    # ------------------------------------------------------------ shared steps
    def gemm(self, w: Matrix, m: float, n: float = 0.0) -> Gemm:
        """The product of `m` tokens with a weight matrix."""
        stored = self.stored(w.part)
        arithmetic, a = self.prec.of(stored)
        return Gemm(
            name=w.name, precision=arithmetic, repeat=self.count, m=m, n=n or w.n, k=w.k, a=a, b=stored,
            c=self.prec.activation,
        )  # fmt: skip

    def stored(self, part: str) -> str:
        return self.prec.weights if self.prec.weights and part in INNER else self.m.weights.of(part)

    def touch(self, name: str, values: float, read: float, write: float, ops: float, times: float = 1.0) -> Elementwise:
        return Elementwise(
            name=name, precision="fp32", repeat=self.count * times, read=values * read, write=values * write,
            ops=values * ops,
        )  # fmt: skip

    def norms(self) -> Elementwise:
        """The residual is added and the sum normalised in one kernel, both written back."""
        values, w = self.own * self.m.hidden, self.width
        return self.touch("add_norm", values, 2 * w, 2 * w, 8, max(1.0, self.m.norms / 2))

    def reduce(self) -> list[Operator]:
        p = self.p
        if p.tensor == 1:
            return []
        size = self.own * self.m.hidden * self.width
        return [
            Collective(
                name="tensor_all_reduce", precision=self.prec.activation, repeat=self.count, op="all_reduce", size=size,
                ranks=p.tensor, span=p.span("tensor"),
            )
        ]  # fmt: skip

    # ------------------------------------------------------------ mixers
    def views(self, half: str, *kinds: str) -> Iterator[dict[str, float]]:
        """Layers whose `half` ("mixer" or "mlp") is of these kinds, those of one shape at a time.

        Gives how many of each kind a device has (a stage's share where there are several); meanwhile `m` is the
        model as these layers see it and `count` their number.
        """
        found: dict[tuple[tuple[str, object], ...], tuple[Layer, dict[str, float]]] = {}
        for layer, count in self.model.groups:
            kind = getattr(layer, half)
            if kind in kinds:
                _, counts = found.setdefault(layer.shape, (layer, {}))
                counts[kind] = counts.get(kind, 0.0) + count / self.p.pipeline
        for layer, counts in found.values():
            self.m, self.count = self.model.at(layer), sum(counts.values())
            yield counts
        self.m = self.model

    def extras(self, done: list[Operator], half: str) -> None:
        """Products with what a layer has beside its usual matrices."""
        for x in self.m.extra:
            if x.half != half or x.table:
                continue
            w = extra(x, self.p.tensor, self.p.expert)
            rows = self.own * (self.m.top_k / x.copies if x.part == "experts" else 1.0)
            done.append(replace(self.gemm(w, rows), repeat=self.count * w.copies))

    def attend(self, done: list[Operator]) -> None:
        """Every attention layer: those of one shape share all but the keys they see."""
        for kinds in self.views("mixer", "full", "window"):
            every = self.count
            matrices = self.m.matrices(_ATTENTION, self.p.tensor)
            done.append(self.norms())
            if self.m.latent:
                self.latent(done, matrices[:-1], kinds)
            else:
                done += [self.gemm(w, self.own) for w in matrices[:-1]]
                self.attention(done, kinds)
            self.count = every
            done.append(self.gemm(matrices[-1], self.own))
            self.extras(done, "mixer")
            if not self.m.parallel_block:
                done += self.reduce()

    def attention(self, done: list[Operator], kinds: Mapping[str, float]) -> None:
        m, tensor = self.m, self.p.tensor
        heads, kv_heads = m.heads / tensor, max(m.kv_heads / tensor, 1.0)
        # Rotary embedding of queries and keys and the write to the cache, one kernel.
        written = 2 * kv_heads if m.kv_own else 0.0
        done.append(self.touch("rotary_cache", self.own * (heads + written) * m.head_dim, self.width, self.width, 3))
        sizes = (heads, kv_heads, m.head_dim, m.value_dim)
        for kind in ("full", "window"):
            self.count = kinds.get(kind, 0.0)
            if self.count:
                self._keys(done, sizes, float(m.window) if kind == "window" else 0.0)

    def _keys(self, done: list[Operator], sizes: tuple[float, float, float, float], window: float) -> None:
        """Attention proper of one kind of layer; where keys are chosen or compressed, of those that are seen."""
        shared = self.m.one_kv
        for new, seen, times in self.chunks:
            self.score(done, times, new, seen)
            near = window or self.chosen(seen)
            done.append(self._attend("prefill", times, new, seen, *sizes, near if near < seen else window, shared))
        if self.decode:
            self.score(done, self.decode, 1.0, self.context)
            seen = self.context if window else min(self.context, self.chosen(self.context) or self.context)
            done.append(self._attend("decode", self.decode, 1.0, max(seen, 1.0), *sizes, window, shared))

    def chosen(self, context: float) -> float:
        """Keys a query of `context` attends to where they are compressed or chosen by an index; 0 where it sees all."""
        m = self.m
        if m.compress == 1 and not m.index:
            return 0.0
        seen = context / m.compress
        if m.index:
            seen = min(seen, float(m.index.topk))
        return seen + (min(context, float(m.window)) if m.compress > 1 else 0.0)

    def score(self, done: list[Operator], batch: float, query: float, context: float) -> None:
        """What chooses keys scores all of them with its own small heads, in fp8 (DeepSeek-V3.2, section 2.1)."""
        index = self.m.index
        keys = context / self.m.compress
        if index is None or not index.own or keys <= index.topk:
            return
        heads = index.heads  # held whole by every rank (vLLM and SGLang replicate the index)
        done.append(
            Gemm(
                name="index_scores", precision="fp8" if self.prec.compute is None else self.prec.compute,
                repeat=self.count, batch=batch, m=query * heads, n=max(keys - query / (2 * self.m.compress), 1.0),
                k=float(index.dim), a="fp8", b="fp8", c="fp8",
            )
        )  # fmt: skip

    def _attend(
        self, phase: str, batch: float, query: float, context: float, heads: float, kv_heads: float, head_dim: float,
        value_dim: float, window: float = 0.0, shared: bool = False,
    ) -> Attention:  # fmt: skip
        kv = self.prec.kv or self.m.kv
        return Attention(
            name=f"attention_{phase}", precision=self.prec.activation, repeat=self.count, batch=batch, query=query,
            context=context, heads=heads, kv_heads=kv_heads, head_dim=head_dim, value_dim=value_dim, window=window,
            shared_kv=shared, kv=kv, phase=phase,
        )  # fmt: skip

    def latent(self, done: list[Operator], matrices: Sequence[Matrix], kinds: Mapping[str, float]) -> None:
        """Latent attention: prompts expand the latent into keys and values, decode absorbs the
        expansion into the query and the output (DeepSeek-V2, arXiv 2405.04434, section 2.1.2)."""
        m, x = self.m, self.m.latent
        assert x is not None
        heads = m.heads / self.p.tensor
        ranks = x.rank + x.query_rank
        done += [self.gemm(w, self.own) for w in matrices if w.name != "up_kv"]
        done.append(self.touch("norm", self.own * ranks, self.width, self.width, 6))
        turned = self.own * (heads * x.rope + x.rank + x.rope)
        done.append(self.touch("rotary_cache", turned, self.width, self.width, 3))
        up = next(w for w in matrices if w.name == "up_kv")
        for kind in ("full", "window"):
            self.count = kinds.get(kind, 0.0)
            if self.count:
                self._latent_keys(done, x, up, float(m.window) if kind == "window" else 0.0)

    def _latent_keys(self, done: list[Operator], x: Latent, up: Matrix, window: float) -> None:
        heads, absorbed = self.m.heads / self.p.tensor, (1.0, x.rank + x.rope, x.rank)
        for new, seen, times in self.chunks:
            self.score(done, times, new, seen)
            near = window or self.chosen(seen)
            if self.m.index and near < seen:
                # Chosen keys differ from query to query: they stay latent, as in decode.
                done += self._absorbs(heads, x, new * times)
                done.append(self._attend("prefill", times, new, seen, heads, *absorbed, near, True))
                continue
            # Earlier chunks lie in the cache as latents and are expanded again.
            done.append(self.gemm(up, min(seen, new + window if window else seen) * times))
            done.append(self._attend("prefill", times, new, seen, heads, heads, self.m.qk_dim, x.value, window))
        if self.decode:
            self.score(done, self.decode, 1.0, self.context)
            seen = self.context if window else min(self.context, self.chosen(self.context) or self.context)
            query, value = self._absorbs(heads, x, self.decode)
            done.append(query)
            done.append(self._attend("decode", self.decode, 1.0, seen, heads, *absorbed, window, True))
            done.append(value)

    def _absorbs(self, heads: float, x: Latent, tokens: float) -> tuple[Gemm, Gemm]:
        return (
            self._absorb("absorb_query", heads, x.rank, x.nope, tokens),
            self._absorb("absorb_value", heads, x.value, x.rank, tokens),
        )

    def _absorb(self, name: str, heads: float, n: float, k: float, tokens: float) -> Gemm:
        # The absorbed factors are kept in the activation precision (vLLM and SGLang dequantise them).
        act = self.prec.activation
        return Gemm(
            name=name,
            precision=act,
            repeat=self.count,
            m=tokens,
            n=n,
            k=k,
            batch=heads,
            a=act,
            b=act,
            c=act,
        )

    def recur(self, done: list[Operator]) -> None:
        """Every recurrent layer: a blocked scan of prompts and one state update per request."""
        for _ in self.views("mixer", "recurrent"):
            self._recur(done)

    def _recur(self, done: list[Operator]) -> None:
        r, p = self.m.recurrent, self.p
        assert r is not None
        matrices = self.m.matrices(_RECURRENT, p.tensor)
        done.append(self.norms())
        done += [self.gemm(w, self.own) for w in matrices[:-1]]
        fresh = self.own - self.decode
        if fresh > 0:
            done += [
                replace(op, repeat=self.count) for op in scan(r, fresh, p.tensor, self.prec.activation, self.width)
            ]
        sequences = self.decode + sum(times for _, _, times in self.chunks)
        state = sequences * state_bytes(self.m, p.tensor)
        ops = 6.0 * self.decode * r.inner * r.state / p.tensor
        done.append(
            Elementwise(
                name="state_update", precision="fp32", repeat=self.count, read=state, write=state, ops=ops, kernels=2.0
            )
        )
        done.append(self.gemm(matrices[-1], self.own))
        self.extras(done, "mixer")
        done += self.reduce()

    # ------------------------------------------------------------ feed-forward parts
    def dense(self, done: list[Operator]) -> None:
        """Every dense feed-forward part."""
        for _ in self.views("mlp", "dense"):
            if not (self.m.parallel_block and self.m.norms == 1):
                done.append(self.norms())
            self._pair(done, self.m.matrices(_DENSE, self.p.tensor))
            self.extras(done, "mlp")
            done += self.reduce()

    def _pair(self, done: list[Operator], pair: Sequence[Matrix]) -> None:
        up, down = pair
        done += [
            self.gemm(up, self.own),
            self._activate(self.own * down.k),
            self.gemm(down, self.own),
        ]

    def _activate(self, values: float) -> Elementwise:
        return self.touch("activation", values, (self.m.ffn_matrices - 1) * self.width, self.width, 8)

    def experts(self, done: list[Operator]) -> None:
        """Route, exchange, multiply, exchange back. Every expert group sees the whole replica's tokens."""
        for _ in self.views("mlp", "experts"):
            self._experts(done)

    def _experts(self, done: list[Operator]) -> None:
        m, p = self.m, self.p
        matrices = m.matrices(_EXPERTS, p.tensor, p.expert, p.expert_tensor)
        done.append(self.norms())
        done.append(self.gemm(next(w for w in matrices if w.part == "router"), self.own))
        done.append(self.touch("routing", self.own * m.experts, 4.0, 4.0, 8))
        if shared := [w for w in matrices if w.part == "shared"]:
            self._pair(done, shared)
            done += self.reduce() if p.data > 1 else []
        self.extras(done, "mlp")
        tokens = self.own * p.data
        rows = tokens * m.top_k / p.expert
        done += self._exchange(dispatch=True)
        done.append(self.touch("permute", rows * (m.expert_hidden or m.hidden), self.width, self.width, 0, 2.0))
        local = m.experts / p.expert
        active = local * expected_share(m.experts, m.top_k, tokens, self.taste)
        up, down = (w for w in matrices if w.part == "experts")
        done.append(self._grouped(up, tokens, local, active))
        done.append(self._activate(rows * down.k))
        done.append(self._grouped(down, tokens, local, active))
        done += self._exchange(dispatch=False)

    def _grouped(self, w: Matrix, tokens: float, local: float, active: float) -> GroupedGemm:
        stored = self.stored("experts")
        arithmetic, a = self.prec.of(stored)
        return GroupedGemm(
            name=w.name, precision=arithmetic, repeat=self.count, tokens=tokens, top_k=self.m.top_k,
            experts=self.m.experts, local_experts=local, n=w.n, k=w.k, active=active, skew=self.skew, a=a, b=stored,
            c=self.prec.activation,
        )  # fmt: skip

    def _exchange(self, dispatch: bool) -> list[Operator]:
        """Tokens to the experts, or their sums back.

        With attention replicated over the tensor ranks (data = 1) every rank has every token and
        only the sums cross: an all-reduce. With data-parallel attention each token goes to the
        ranks that hold its experts and comes back (all-to-all), or, where experts are sliced, the
        group's tokens are gathered and its sums scattered.
        """
        p, m = self.p, self.m
        if p.data == 1:
            return [] if dispatch else self.reduce()
        ranks = p.tensor * p.data
        if p.expert > 1:
            width = 1.0 if dispatch and self.stored("experts") == "fp8" else self.width
            size = self.own / p.tensor * ranks_reached(ranks, m.top_k) * m.hidden * width
            op = "all_to_all"
        else:
            size, op = (
                self.own * p.data * m.hidden * self.width,
                "all_gather" if dispatch else "reduce_scatter",
            )
        return [
            Collective(
                name=f"expert_{op}", precision=self.prec.activation, repeat=self.count, op=op, size=size, ranks=ranks,
                span=p.span("expert"),
            )
        ]  # fmt: skip

    # ------------------------------------------------------------ the head
    def head(self, rows: float) -> list[Operator]:
        """Final norm, logits of the sampled tokens, their gathering and the sampling pass."""
        m, p = self.m, self.p
        self.count = 1.0
        n = m.vocab / p.tensor
        done: list[Operator] = [
            replace(self.gemm(extra(x, p.tensor), self.own), repeat=float(x.copies)) for x in m.ends if not x.table
        ]
        if p.pipeline > 1:
            size = self.own * m.hidden * self.width
            done.append(
                Collective(
                    name="pipeline_send", precision=self.prec.activation, op="send", size=size, ranks=2,
                    span=p.span("pipeline"), repeat=(p.pipeline - 1) / p.pipeline,
                )
            )  # fmt: skip
        if rows <= 0:
            return done
        self.count = 1.0 / p.pipeline
        done.append(self.touch("add_norm", rows * m.hidden, 2 * self.width, 2 * self.width, 8))
        done.append(self.gemm(Matrix("head", "embedding" if m.tied else "head", m.hidden, n), rows))
        if p.tensor > 1:
            done.append(
                Collective(
                    name="logits_all_gather", precision=self.prec.activation, repeat=self.count, op="all_gather",
                    size=rows * m.vocab * self.width, ranks=p.tensor, span=p.span("tensor"),
                )
            )  # fmt: skip
        done.append(self.touch("sampling", rows * m.vocab, self.width + 4, 4.0, 4))
        return done


@lru_cache(maxsize=256)
def _idle_chance(experts: int, top_k: int) -> float:
    return 1.0 - top_k / experts


def expected_share(experts: int, top_k: int, tokens: float, taste: float = 0.0) -> float:
    """Expected share of experts that at least one of `tokens` chooses: 1 - (1 - k/E)^tokens.

    Each token chooses `top_k` of `experts` on its own: uniformly, or, where their popularity varies
    (gamma distributed with mean 1 and variance `taste`), as a negative binomial law says.
    """
    if taste <= 0.0:
        return 1.0 - float(_idle_chance(experts, top_k) ** tokens)
    return 1.0 - float((1.0 - taste * tokens * math.log(_idle_chance(experts, top_k) or 1e-300)) ** (-1.0 / taste))


def ranks_reached(ranks: int, top_k: int) -> float:
    """Expected distinct ranks that hold a token's `top_k` experts, spread evenly over `ranks`."""
    return ranks * (1.0 - float((1.0 - 1.0 / ranks) ** top_k))
