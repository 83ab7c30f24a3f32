"""State of the serving simulator: arrays in named tuples, R replicas with B slots, n requests, P pools."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[Any]

# Phases that energy is counted by, in time: columns of `Out.power`.
PREFILL, DECODE, IDLE, COLD, TRANSFER = 0, 1, 2, 3, 4
OFF, STARTING, ON, DRAINING = 0, 1, 2, 3
# Who is let in, and what a step does (see `_core.schedule`).
VLLM, SGLANG, NO_EVICT, GREEDY = 0, 1, 2, 3
# Routing.
ROUND_ROBIN, LEAST_LOADED, PREFIX, PACK = 0, 1, 2, 3


class Prices(NamedTuple):
    """Tables of P pools in one (see `table.py`): cells (rows, L, 2 + K), where each piece begins, nodes, scalars."""

    cells: Floats
    start: Ints  # (P, 4) first row of layers, head, decode, prefill
    nodes: Floats  # all axes, one after the other
    axis: Ints  # (P, 4, 2) first node and count of batch, context, prompt, reach
    host: Floats  # (P, 5)
    scalar: Floats  # (P, 7) exponent (0: host and device take turns), waiting, limit, graph, groups, verified, accepted
    each: int
    tile: int
    fine: int
    coarse: int


class Rules(NamedTuple):
    """What replicas are: pool of each (R,), and per pool (P,) what its engine may do and what standing still costs."""

    pool: Ints
    chunk: Ints
    batch: Ints
    block: Ints
    blocks: Ints
    reserve: Ints  # blocks a request holds besides its tokens
    longest: Ints  # most tokens of a request that is sent here
    scheduler: Ints
    offload: (
        Floats  # s that a token's cache takes over the host's link, one way; 0: what is preempted is computed again
    )
    idle: Floats  # W of a replica awake without work
    off: Floats  # W of a replica switched off or parked
    start_time: Floats
    start_power: Floats
    route: int
    seed: int
    prefill_only: bool
    page: int  # tokens of a prefix page (of `Work.page`)
    patience: float  # seconds after which a request that nobody began leaves, infinite where none does


class Work(NamedTuple):
    """Requests by arrival: s, tokens, tokens brought along in the cache; prefix pages of request i lie at
    `page[first[i] : first[i + 1]]`."""

    arrival: Floats
    prompt: Ints
    output: Ints
    brought: Ints
    first: Ints
    page: Ints
    urgency: Ints  # class, 0 is served first


class Knobs(NamedTuple):
    """What policies set, per replica (R,): clock levels with and without prompts in a step; most running requests."""

    mixed: Floats
    alone: Floats
    cap: Ints


class Live(NamedTuple):
    """Replicas now. Slots (R, B) lie in order of admission."""

    state: Ints
    since: Floats  # up to when the energy is counted
    ends: Floats  # end of the step under way, infinite where there is none
    ready: Floats  # start of the step under way, else when the next one may start
    woken: Floats  # when the replica is or was started
    running: Ints  # requests
    used: Ints  # KV blocks
    head: Ints
    tail: Ints
    queued: Ints
    slot: Ints  # (R, B) request
    have: Ints  # (R, B) tokens in the cache
    goal: Ints  # (R, B) tokens to be there before decoding
    held: Ints  # (R, B) blocks
    take: Ints  # (R, B) tokens in this step
    turn: Ints  # (R, B) whether the slot decodes in this step
    swap: Floats  # (R,) s that caches on their way to and from the host add to the next step
    ratio: Floats  # (R,) share of their outputs that running requests are taken to need yet (SGLang)
    popped: Ints  # (R,) blocks taken from the free list, pushed: given back
    pushed: Ints
    kept: Ints  # (R, pages) place of each prefix page in the order of giving back, 0 where it never was here
    cursor: Ints  # next arrival, round-robin counter
    # of the time since the last look of a policy, (R,):
    busy: Floats
    steps: Ints
    tokens: Ints
    arrived: Ints


class Out(NamedTuple):
    """What became of each request (n,), and sums over all."""

    replica: Ints
    begun: Floats
    first: Floats
    last: Floats
    end: Floats
    generated: Ints
    preempted: Ints
    cached: Ints
    gone: Ints  # whether it left unserved
    prefill: Floats
    decode: Floats
    next: Ints
    parts: Floats  # (P, K + 1) joules of steps by component, waiting last
    idle: Floats  # (R,)
    cold: Floats  # (R,) starting, and off
    awake: Floats  # (R,) seconds not off
    steps: Ints  # (R,)
    busy: Floats  # (R,) seconds in steps
    gaps: Floats  # (GAPS,) tokens by the time since the token before
    power: Floats  # (bins, 5) joules by phase
    width: Floats  # (1,) seconds of a bin
    recomputed: Floats  # (1,) joules of prefill done again after a preemption
    levels: Floats  # (P, L) seconds at each clock level
