"""A fleet: pools of like replicas, how requests find theirs, and the link between prefill and decode."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, Literal

from ...core.errors import InputError
from ...workload.memory import sequence_bytes, serving_footprint, serving_weights
from .table import StepTable

Role = Literal["both", "prefill", "decode"]
Route = Literal["round_robin", "least_loaded", "prefix", "pack"]
# How engines let requests in and make up a step (`_core.schedule`), numbered as the core does, and what each does where
# nobody says otherwise: vLLM and SGLang as they come, TensorRT-LLM's default capacity policy.
SCHEDULERS: Final = ("vllm", "sglang", "no-evict", "max-utilization")
USUAL: Final = {"vllm": "vllm", "sglang": "sglang", "trtllm": "no-evict"}
ROUTES: Final = ("round_robin", "least_loaded", "prefix", "pack")

# Tokens of a block of the paged cache, as vLLM has it on NVIDIA devices.
BLOCK: Final = 16


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Replicas of one kind.

    Attributes
    ----------
    table : what their steps take. replicas : how many there are, switched off ones included.
    role : "both", or one half of disaggregated serving.
    max_batch : most running requests. block : tokens of a cache block.
    blocks : blocks of the cache of a replica, from the device memory where None.
    longest : most tokens (prompt and output) of the requests sent here; None for any.
    accepted : chance that a draft token holds (speculative decoding).
    start_time, start_power : seconds and watts of starting a replica that is off (all devices).
    scheduler : how its engine lets requests in, one of `SCHEDULERS`.
    offload : seconds that the cache of a token takes to the host or back; 0 where preempted requests are read again.
    off_power : watts of a replica that is off (0) or parked. on : replicas awake at the start; all where None.
    """

    table: StepTable
    replicas: int = 1
    role: Role = "both"
    max_batch: int = 512
    block: int = BLOCK
    blocks: int | None = None
    longest: int | None = None
    accepted: float = 0.0
    start_time: float = 0.0
    start_power: float = 0.0
    off_power: float = 0.0
    on: int | None = None
    draft: Any = None
    scheduler: str = "vllm"
    offload: float = 0.0

    def cache(self, context: float) -> tuple[int, int, int]:
        """Return (blocks, blocks a request holds besides its tokens, tokens of a block) at a usual context."""
        if self.blocks is not None:
            return self.blocks, 0, self.block
        each, fixed, room = self._bytes(context)
        groups = self.table.replica.parallel.data
        if each <= 0:  # no cache grows with the tokens: a block is a request
            return int(room // fixed) * groups, 0, 1 << 40
        size = each * self.block
        return int(room // size) * groups, math.ceil(fixed / size), self.block

    def _bytes(self, context: float) -> tuple[float, float, float]:
        """Return bytes of one device per token, per request besides, and in all."""
        r = self.table.replica
        kv, model, p = r.precision.kv, r.model, r.parallel
        used = serving_footprint(model, p, 0, context, precision=r.precision.weights, kv=kv, step_tokens=r.chunk).total
        far = 4.0 * max(context, model.window, 1.0)
        each = sequence_bytes(model, p, far + 1, kv) - sequence_bytes(model, p, far, kv)
        fixed = max(sequence_bytes(model, p, context, kv) - each * context, 0.0) + 4.0 * model.vocab / p.tensor
        if self.draft is not None and self.draft != r:
            small = self.draft
            used += serving_weights(small.model, small.parallel, small.precision.weights)
            each += sequence_bytes(small.model, small.parallel, far + 1) - sequence_bytes(
                small.model, small.parallel, far
            )
        return each, fixed, self.table.device.chip["memory.hbm.capacity"] * r.memory - used

    @property
    def idle_power(self) -> float:
        """Watts of a replica that is awake and has nothing to do."""
        return self.table.waiting


@dataclass(frozen=True)
class Link:
    """What carries caches from prefill to decode: bytes/s per replica, seconds and joules per byte besides."""

    bandwidth: float
    latency: float = 0.0
    energy: float = 0.0


@dataclass(frozen=True)
class Fleet:
    """Pools, and how requests find their replica."""

    pools: tuple[Pool, ...]
    route: Route = "least_loaded"
    link: Link | None = None

    def __post_init__(self) -> None:
        if self.route not in ROUTES:
            raise InputError(f"route must be one of {', '.join(ROUTES)}, got {self.route!r}")
        roles = [pool.role for pool in self.pools]
        split = {"prefill", "decode"} & set(roles)
        if not roles or (split and (len(split) < 2 or "both" in roles or self.link is None)):
            raise InputError(
                f"a fleet is pools of role both, or prefill and decode pools with a link, got roles {roles} "
                f"and {'a link' if self.link else 'no link'}"
            )
        for pool in self.pools:
            chunk, verified = pool.table.replica.chunk, pool.table.verified
            if pool.replicas < 1 or pool.max_batch < 1 or chunk < pool.max_batch * verified:
                raise InputError(
                    f"a pool has at least 1 replica, and a step room for {verified} x max_batch tokens, "
                    f"got {pool.replicas} replicas, max_batch = {pool.max_batch} and chunk = {chunk:g}"
                )
