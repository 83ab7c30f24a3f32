"""Core of the serving simulator: replicas that batch continuously, step by step.

    advance(replica, until):  [step under way] --ends--> tokens come out, requests leave --> schedule --> price --> ...

One step is: schedule (running requests first, in order of admission, then the queue, within the token budget
and the KV blocks), price (tables of `table.py`), attribute (joules to requests), wait for its end. A step that
starts at time s sees every request that arrived up to and including s. Nothing here draws a random number
except which draft tokens are accepted, a hash of seed, request and position; so the same inputs give the same
bytes. `core/kernels/serving.c` says the same in C, operation by operation, and runs in place of this where it can;
`tests/serving/simulate/plain.py` says it once more, with objects and lists.

State lies in `_state.py`: `Prices` (tables), `Rules` (what replicas are), `Work` (requests), `Knobs` (what policies
set), `Live` (replicas now), `Out` (what became of each request). Prices of steps are in `_price.py`.
"""

from __future__ import annotations

import math

from ...core.kernels import Source
from ._price import Rows, Weights, at_level, corners, limited, summed
from ._state import (
    COLD,
    DECODE,
    DRAINING,
    GREEDY,
    IDLE,
    NO_EVICT,
    OFF,
    ON,
    PACK,
    PREFILL,
    PREFIX,
    ROUND_ROBIN,
    SGLANG,
    STARTING,
    VLLM,
    Knobs,
    Live,
    Out,
    Prices,
    Rules,
    Work,
)  # fmt: skip
from .outcome import GAPS, PER_DECADE, SMALLEST

kernel = Source("serving.c")
_WORD = (1 << 64) - 1
# SGLang's estimate of outputs to come (sgl-project/sglang, python/sglang/srt: environ.py, managers/schedule_policy.py
# and schedule_batch.py): most tokens of one output, the share it starts with and falls to, in so many steps, and the
# tokens it grants each request after one was taken back.
CLIP, RATIO, LEAST, DECAY, RETRACT = 4096, 0.7, 0.7 * 0.14, 600.0, 20

# ---- energy in time ------------------------------------------------------------------------------


@kernel
def spread(out: Out, start: float, end: float, joules: float, phase: int) -> None:
    """Add joules to the bins of [start, end); bins double in width where time runs past the last one."""
    bins = len(out.power)
    while end > bins * out.width[0]:
        half = bins // 2
        for b in range(half):
            for c in range(5):
                out.power[b, c] = out.power[2 * b, c] + out.power[2 * b + 1, c]
        for b in range(half, bins):
            for c in range(5):
                out.power[b, c] = 0.0
        out.width[0] *= 2.0
    w = out.width[0]
    a = min(int(start / w), bins - 1)
    z = min(int(end / w), bins - 1)
    if a == z or end <= start:
        out.power[a, phase] += joules
        return
    density = joules / (end - start)
    left = joules
    for b in range(a, z):
        part = density * ((b + 1) * w - max(start, b * w))
        out.power[b, phase] += part
        left -= part
    out.power[z, phase] += left


def settle(rules: Rules, live: Live, out: Out, r: int, t: float) -> None:
    """Count what a replica outside a step drew up to t: idle, starting or off."""
    pool = rules.pool[r]
    if live.state[r] == STARTING:
        until = min(t, live.woken[r])
        if until > live.since[r]:
            out.awake[r] += until - live.since[r]
            joules = rules.start_power[pool] * (until - live.since[r])
            out.cold[r] += joules
            spread(out, live.since[r], until, joules, COLD)
            live.since[r] = until
        if live.woken[r] > t:
            return
        live.state[r] = ON
    span = t - live.since[r]
    if span <= 0.0:
        return
    if live.state[r] == OFF:
        joules = rules.off[pool] * span
        out.cold[r] += joules
        if joules > 0.0:
            spread(out, live.since[r], t, joules, COLD)
    else:
        joules = rules.idle[pool] * span
        out.idle[r] += joules
        out.awake[r] += span
        spread(out, live.since[r], t, joules, IDLE)
    live.since[r] = t


# ---- queues and blocks ---------------------------------------------------------------------------


def enqueue(work: Work, live: Live, out: Out, r: int, i: int, front: bool) -> None:
    """Put a request into a replica's queue: behind all of its class and before it, or in front of its class."""
    mine = work.urgency[i]
    live.queued[r] += 1
    if live.queued[r] == 1:
        live.head[r] = live.tail[r] = i
        out.next[i] = -1
        return
    if not front and work.urgency[live.tail[r]] <= mine:
        out.next[live.tail[r]] = i
        live.tail[r] = i
        out.next[i] = -1
        return
    before, at = -1, live.head[r]
    while at >= 0 and (work.urgency[at] < mine or (not front and work.urgency[at] == mine)):
        before, at = at, out.next[at]
    out.next[i] = at
    if before < 0:
        live.head[r] = i
    else:
        out.next[before] = i
    if at < 0:
        live.tail[r] = i


def release(rules: Rules, work: Work, live: Live, r: int, j: int) -> None:
    """Give back the blocks of a slot; full prefix pages among them stay until their place is taken."""
    i = live.slot[r, j]
    live.used[r] -= live.held[r, j]
    live.pushed[r] += live.held[r, j]
    if rules.page > 0:
        mark(rules, work, live, r, i, live.have[r, j])


def mark(rules: Rules, work: Work, live: Live, r: int, i: int, have: int) -> None:
    """Note that the first pages of a request's text lie on the replica, as given back just now."""
    pages = min(work.first[i + 1] - work.first[i], have // rules.page)
    for k in range(work.first[i], work.first[i] + pages):
        live.kept[r, work.page[k]] = live.pushed[r]


def found(rules: Rules, work: Work, live: Live, r: int, i: int) -> int:
    """Return the tokens of a prompt that the replica still holds: leading pages, one token left to compute."""
    if rules.page <= 0:
        return 0
    pages = 0
    for k in range(work.first[i], work.first[i + 1]):
        # A page stays until as many blocks as were free when it was given back have been taken since.
        if live.popped[r] >= live.kept[r, work.page[k]]:
            break
        pages += 1
    tokens: int = min(pages * rules.page, work.prompt[i] - 1)
    return tokens


def evict(rules: Rules, work: Work, live: Live, out: Out, r: int) -> None:
    """Preempt the request admitted last: its blocks are freed and it goes to the front of the queue.

    Where the host keeps caches, that of a request that decodes is moved there and back, and not computed again.
    """
    j = live.running[r] - 1
    i = live.slot[r, j]
    release(rules, work, live, r, j)
    live.running[r] = j
    out.preempted[i] += 1
    work.brought[i] = 0
    pool = rules.pool[r]
    if rules.offload[pool] > 0.0 and live.have[r, j] >= live.goal[r, j]:
        work.brought[i] = live.have[r, j]
        live.swap[r] += rules.offload[pool] * live.have[r, j]
    enqueue(work, live, out, r, i, True)


def grow(rules: Rules, work: Work, live: Live, out: Out, r: int, j: int, tokens: int) -> bool:
    """Give slot j the blocks for `tokens`; preempt those admitted last where none is free. False: j itself went."""
    pool = rules.pool[r]
    need = needed(rules, pool, tokens) - live.held[r, j]
    while need > rules.blocks[pool] - live.used[r]:
        gone = live.running[r] - 1
        evict(rules, work, live, out, r)
        if gone == j:
            return False
    if need > 0:
        live.held[r, j] += need
        live.used[r] += need
        live.popped[r] += need
    return True


def due(rules: Rules, work: Work, out: Out, pool: int, i: int, ratio: float, verified: int) -> int:
    """Return the tokens that a request is taken to need yet after its prompt, as its scheduler counts them."""
    kind = rules.scheduler[pool]
    if kind in (VLLM, GREEDY) or rules.prefill_only:
        return 0
    rest: int = work.output[i] - out.generated[i]
    return rest + verified if kind == NO_EVICT else int(ratio * min(rest, CLIP))


def spoken_for(rules: Rules, work: Work, live: Live, out: Out, r: int, verified: int) -> int:
    """Return the free blocks that running requests will yet take, as their scheduler counts them."""
    pool = rules.pool[r]
    if rules.scheduler[pool] == GREEDY:
        return 0
    total = 0
    for j in range(live.running[r]):
        tokens = max(live.have[r, j], live.goal[r, j])
        tokens += due(rules, work, out, pool, live.slot[r, j], live.ratio[r], verified)
        total += max(needed(rules, pool, tokens) - live.held[r, j], 0)
    return total


def needed(rules: Rules, pool: int, tokens: int) -> int:
    """Return the blocks that `tokens` of a request take."""
    blocks: int = (tokens + rules.block[pool] - 1) // rules.block[pool] + rules.reserve[pool]
    return blocks


def decode(rules: Rules, work: Work, live: Live, out: Out, r: int, verified: int, budget: int) -> tuple[int, bool]:
    """Let every request whose prompt is read decode; return the tokens left, and whether one was preempted."""
    preempted = False
    j = 0
    while j < live.running[r]:
        if live.have[r, j] >= live.goal[r, j] and live.turn[r, j] == 0:
            n = live.running[r]
            if grow(rules, work, live, out, r, j, live.have[r, j] + verified):
                live.take[r, j] = verified
                live.turn[r, j] = 1
                budget -= verified
            preempted = preempted or live.running[r] < n
        j += 1
    return budget, preempted


def read(rules: Rules, work: Work, live: Live, out: Out, r: int, budget: int) -> tuple[int, bool]:
    """Go on reading the prompts under way; return the tokens left, and whether a request was preempted."""
    preempted = False
    j = 0
    while j < live.running[r]:
        if live.have[r, j] < live.goal[r, j] and budget > 0:
            n = live.running[r]
            some = min(budget, live.goal[r, j] - live.have[r, j])
            if grow(rules, work, live, out, r, j, live.have[r, j] + some):
                live.take[r, j] = some
                budget -= some
            preempted = preempted or live.running[r] < n
        j += 1
    return budget, preempted


def admit(
    rules: Rules, work: Work, knobs: Knobs, live: Live, out: Out, r: int, t: float, verified: int, budget: int
) -> None:
    """Admit requests from the queue while slots, tokens and blocks last; an empty replica takes whatever fits."""
    pool = rules.pool[r]
    if live.queued[r] == 0:
        return
    cap = min(knobs.cap[r], rules.batch[pool])
    spoken = spoken_for(rules, work, live, out, r, verified)
    while live.queued[r] > 0 and live.running[r] < cap and budget > 0:
        i = live.head[r]
        if out.generated[i] == 0 and out.begun[i] < 0.0 and t - work.arrival[i] > rules.patience:
            live.head[r] = out.next[i]
            live.queued[r] -= 1
            out.gone[i] = 1
            out.first[i] = out.last[i] = out.end[i] = work.arrival[i] + rules.patience
            continue
        goal = work.prompt[i] + out.generated[i]
        have = work.brought[i]
        if have > 0:
            goal = have
        else:
            have = min(found(rules, work, live, r, i), goal - 1)
        decodes = have >= goal
        some = verified if decodes else min(budget, goal - have)
        need = needed(rules, pool, have + some)
        free = rules.blocks[pool] - live.used[r]
        if some > budget or need > free:
            break
        more = 0
        if rules.scheduler[pool] != GREEDY:
            whole = needed(rules, pool, goal + due(rules, work, out, pool, i, 1.0, verified))
            if live.running[r] > 0 and whole > free - spoken:
                break
            more = max(whole - need, 0)
        live.head[r] = out.next[i]
        live.queued[r] -= 1
        j = live.running[r]
        live.running[r] = j + 1
        live.slot[r, j], live.have[r, j], live.goal[r, j] = i, have, goal
        live.held[r, j], live.take[r, j], live.turn[r, j] = need, some, 1 if decodes else 0
        live.used[r] += need
        live.popped[r] += need
        spoken += more
        if decodes and out.preempted[i] > 0:
            live.swap[r] += rules.offload[pool] * have
        if work.brought[i] == 0:
            out.cached[i] += have
        if out.begun[i] < 0.0:
            out.begun[i] = t
        out.replica[i] = r
        budget -= some


def schedule(p: Prices, rules: Rules, work: Work, knobs: Knobs, live: Live, out: Out, r: int, t: float) -> None:
    """Choose what the step does: `take` and `turn` of every slot.

    VLLM: all decode, then prompts under way, then new ones, one step for all; a prompt is let in where all of it fits.
    NO_EVICT: the same, let in where its whole output fits besides those of all others. GREEDY: where its first chunk
    fits. SGLANG: while there are prompts to read, a step reads only those; a request is let in where its output fits
    beside a share of what the others have left, which falls with every step and is raised when one was preempted.
    """
    pool = rules.pool[r]
    verified = int(p.scalar[pool, 5])
    budget = rules.chunk[pool]
    for j in range(live.running[r]):
        live.take[r, j] = 0
        live.turn[r, j] = 0
    if rules.scheduler[pool] == SGLANG:
        budget, preempted = read(rules, work, live, out, r, budget)
        if not preempted:
            admit(rules, work, knobs, live, out, r, t, verified, budget)
        for j in range(live.running[r]):
            if live.take[r, j] > 0 and live.turn[r, j] == 0:
                return
        _, preempted = decode(rules, work, live, out, r, verified, budget)
        live.ratio[r] = max(live.ratio[r] - (RATIO - LEAST) / DECAY, LEAST)
        if preempted:
            live.ratio[r] = retracted(work, live, out, r)
        return
    budget, one = decode(rules, work, live, out, r, verified, budget)
    budget, two = read(rules, work, live, out, r, budget)
    if not (one or two):  # a decoding request counted before may have gone since; its share of the budget is left
        admit(rules, work, knobs, live, out, r, t, verified, budget)


def retracted(work: Work, live: Live, out: Out, r: int) -> float:
    """Return SGLang's estimate after a request was taken back: what was generated and 20 steps more, of all."""
    made = whole = 0
    for j in range(live.running[r]):
        made += out.generated[live.slot[r, j]] + RETRACT
        whole += work.output[live.slot[r, j]]
    return min(made / (whole + 1.0), 1.0)


# ---- one step ------------------------------------------------------------------------------------


def begin(p: Prices, rules: Rules, work: Work, knobs: Knobs, live: Live, out: Out, r: int, t: float) -> None:
    """Start a step at t: schedule it, choose its clock, price it, hand its joules to the requests."""
    settle(rules, live, out, r, t)
    schedule(p, rules, work, knobs, live, out, r, t)
    pool = rules.pool[r]
    decodes = prompt = prompts = 0
    seen = 0.0
    reach = 0.0
    for j in range(live.running[r]):
        some, have = live.take[r, j], live.have[r, j]
        if live.turn[r, j] == 1:
            decodes += 1
            seen += have + 1.0
        elif some > 0:
            prompt += some
            reach += some * (have + 0.5 * some)
            if have + some == live.goal[r, j]:
                prompts += 1
    if decodes + prompt == 0:
        live.ends[r] = math.inf
        live.ready[r] = math.inf
        return
    context = seen / decodes if decodes > 0 else 1.0
    mean = reach / prompt if prompt > 0 else 0.0
    row, weight = corners(p, pool, decodes, context, prompt, mean, prompts, 1.0)
    n = len(row)
    groups = p.scalar[pool, 4]
    crowd = max(1.0, groups / max(prompts, 1)) if prompt > 0 else 1.0
    late_row, late = corners(p, pool, decodes, context, prompt, mean, prompts, crowd)
    h = p.host
    host = h[pool, 0] + h[pool, 1] * decodes + h[pool, 2] * prompts
    if prompt > 0:
        host += h[pool, 4]
    elif decodes / groups > p.scalar[pool, 3]:
        host += h[pool, 3]
    asked = knobs.mixed[r] if prompt > 0 else knobs.alone[r]
    level = limited(p, row, weight, late_row, late, n, host, pool, asked)
    low = min(int(level), p.cells.shape[1] - 2)
    part = level - low
    slow, _ = at_level(p, row, weight, late_row, late, n, host, pool, low)
    fast = slow
    if part > 0.0:
        fast, _ = at_level(p, row, weight, late_row, late, n, host, pool, low + 1)
    time = slow + part * (fast - slow) + live.swap[r]
    live.swap[r] = 0.0
    charge(p, rules, live, out, r, t, time, low, part, row, weight, n, decodes, prompt, seen, reach)
    live.ready[r] = t
    live.ends[r] = t + time
    live.since[r] = t + time
    live.steps[r] += 1
    live.busy[r] += time
    out.steps[r] += 1
    out.busy[r] += time
    out.awake[r] += time
    out.levels[pool, min(int(level + 0.5), p.cells.shape[1] - 1)] += time


def charge(
    p: Prices, rules: Rules, live: Live, out: Out, r: int, t: float, time: float, low: int, part: float,
    row: Rows, weight: Weights, n: int, decodes: int, prompt: int, seen: float, reach: float,
) -> None:  # fmt: skip
    """Hand a step's joules to its requests: attention to whom it serves, all else evenly over the tokens."""
    pool = rules.pool[r]
    columns = p.cells.shape[2]
    total = 0.0
    for c in range(2, columns):
        one = summed(p, row, weight, 0, n, low, c)
        if part > 0.0:
            one += part * (summed(p, row, weight, 0, n, low + 1, c) - one)
        out.parts[pool, c - 2] += one
        total += one
    waiting = p.scalar[pool, 1] * time
    out.parts[pool, columns - 2] += waiting
    total += waiting
    keys = summed(p, row, weight, 4, 8, low, 1)
    if part > 0.0:
        keys += part * (summed(p, row, weight, 4, 8, low + 1, 1) - keys)
    reads = 0.0
    if prompt > 0:
        reads = summed(p, row, weight, 8, 12, low, 1)
        if part > 0.0:
            reads += part * (summed(p, row, weight, 8, 12, low + 1, 1) - reads)
    if decodes == 0:
        keys = 0.0
    verified = p.scalar[pool, 5]
    each = (total - keys - reads) / (decodes * verified + prompt)
    decoded = 0.0
    for j in range(live.running[r]):
        i = live.slot[r, j]
        if live.turn[r, j] == 1:
            joules = each * verified + keys * (live.have[r, j] + 1.0) / seen
            out.decode[i] += joules
            decoded += joules
        elif live.take[r, j] > 0:
            some = live.take[r, j]
            joules = each * some + reads * some * (live.have[r, j] + 0.5 * some) / reach
            out.prefill[i] += joules
            if out.preempted[i] > 0:
                out.recomputed[0] += joules
    if decodes > 0:
        spread(out, t, t + time, decoded, DECODE)
    if prompt > 0:
        spread(out, t, t + time, total - decoded, PREFILL)


@kernel
def accepted(seed: int, request: int, position: int, most: int, chance: float) -> int:
    """Return how many draft tokens hold: each with `chance`, up to the first that does not (a hash, SplitMix64)."""
    x = (seed ^ (int(request) * 0x9E3779B97F4A7C15) ^ (int(position) * 0xD1B54A32D192ED03)) & _WORD
    for k in range(most):
        x = (x + 0x9E3779B97F4A7C15) & _WORD
        z = x
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _WORD
        z = z ^ (z >> 31)
        if (z >> 11) * 2.0**-53 >= chance:
            return k
    return most


def finish(p: Prices, rules: Rules, work: Work, live: Live, out: Out, r: int) -> None:
    """End the step under way: tokens come out, finished requests leave."""
    t = live.ends[r]
    pool = rules.pool[r]
    drafted = int(p.scalar[pool, 5]) - 1
    keep = 0
    for j in range(live.running[r]):
        i = live.slot[r, j]
        done = False
        if live.turn[r, j] == 1:
            new = 1
            if drafted > 0:
                new += accepted(rules.seed, i, out.generated[i], drafted, p.scalar[pool, 6])
            new = min(new, work.output[i] - out.generated[i])
            out.generated[i] += new
            live.have[r, j] += new
            live.tokens[r] += new
            gap(out, t - out.last[i], new)
            out.last[i] = t
            done = out.generated[i] >= work.output[i]
        elif live.take[r, j] > 0:
            live.have[r, j] += live.take[r, j]
            if live.have[r, j] >= live.goal[r, j]:
                if out.first[i] < 0.0:
                    out.first[i] = t
                else:
                    gap(out, t - out.last[i], 1)
                out.last[i] = t
                out.generated[i] += 1
                live.tokens[r] += 1
                if rules.page > 0:
                    mark(rules, work, live, r, i, live.have[r, j])
                done = rules.prefill_only or out.generated[i] >= work.output[i]
        if done:
            out.end[i] = t
            release(rules, work, live, r, j)
        else:
            if keep != j:
                live.slot[r, keep], live.have[r, keep], live.goal[r, keep] = i, live.have[r, j], live.goal[r, j]
                live.held[r, keep] = live.held[r, j]
            keep += 1
    live.running[r] = keep
    live.ends[r] = math.inf
    live.ready[r] = t


def gap(out: Out, seconds: float, tokens: int) -> None:
    """Count tokens that came `seconds` after those before; several at once share the time."""
    each = seconds / tokens
    k = int((math.log10(max(each, 1e-12)) - SMALLEST) * PER_DECADE)
    out.gaps[min(max(k, 0), GAPS - 1)] += tokens


def advance(p: Prices, rules: Rules, work: Work, knobs: Knobs, live: Live, out: Out, r: int, until: float) -> None:
    """Run a replica: end every step that ends by `until`, start every step that starts before it."""
    while True:
        if live.ends[r] < math.inf:
            if live.ends[r] > until:
                return
            finish(p, rules, work, live, out, r)
        if live.running[r] + live.queued[r] == 0:
            if live.state[r] == DRAINING:
                live.state[r] = OFF
            return
        start = max(live.ready[r], live.woken[r])
        if start >= until:
            return
        begin(p, rules, work, knobs, live, out, r, start)
        if live.ends[r] == math.inf:
            return


# ---- many replicas -------------------------------------------------------------------------------


def route(rules: Rules, work: Work, knobs: Knobs, live: Live, i: int) -> int:
    """Return the replica a request goes to; -1 where none takes requests of its length."""
    tokens = work.prompt[i] + work.output[i]
    best, least, most = -1, math.inf, -1
    count = len(rules.pool)
    for k in range(count):
        r = (live.cursor[1] + k) % count if rules.route == ROUND_ROBIN else k
        pool = rules.pool[r]
        if live.state[r] == OFF or live.state[r] == DRAINING or tokens > rules.longest[pool]:
            continue
        if rules.route == ROUND_ROBIN:
            live.cursor[1] = (r + 1) % count
            return r
        cap = min(knobs.cap[r], rules.batch[pool])
        load = (live.running[r] + live.queued[r]) / cap
        if live.state[r] == STARTING:
            load += 1.0
        if rules.route == PACK and load < 1.0:
            load = -load if load > 0.0 else -1e-9  # the fullest that still has room, the first one of equals
        hit = 0
        if rules.route == PREFIX and load < 1.0:
            hit = found(rules, work, live, r, i)
        if hit > most or (hit == most and load < least):
            best, least, most = r, load, hit
    return best


@kernel
def run(p: Prices, rules: Rules, work: Work, knobs: Knobs, live: Live, out: Out, until: float) -> int:
    """Run everything up to `until`, arrivals at `until` included; return the request that no replica takes, or -1."""
    count = len(rules.pool)
    while live.cursor[0] < len(work.arrival) and work.arrival[live.cursor[0]] <= until:
        i = live.cursor[0]
        t = work.arrival[i]
        for r in range(count):
            if live.running[r] + live.queued[r] > 0:
                advance(p, rules, work, knobs, live, out, r, t)
        r = route(rules, work, knobs, live, i)
        if r < 0:
            lost: int = i
            return lost
        if live.running[r] + live.queued[r] == 0:
            live.ready[r] = t
        enqueue(work, live, out, r, i, False)
        out.replica[i] = r
        live.arrived[r] += 1
        live.cursor[0] = i + 1
    for r in range(count):
        if live.running[r] + live.queued[r] > 0:
            advance(p, rules, work, knobs, live, out, r, until)
    return -1


@kernel
def scale(rules: Rules, live: Live, out: Out, pool: int, target: int, t: float) -> None:
    """Wake or retire replicas of a pool until `target` take requests; the last ones go first."""
    taking = 0
    for r in range(len(rules.pool)):
        if rules.pool[r] == pool and (live.state[r] == ON or live.state[r] == STARTING):
            taking += 1
    for r in range(len(rules.pool)):
        if taking < target and rules.pool[r] == pool and live.state[r] == DRAINING:
            live.state[r] = ON
            taking += 1
    for r in range(len(rules.pool)):
        if taking < target and rules.pool[r] == pool and live.state[r] == OFF:
            settle(rules, live, out, r, t)
            live.state[r] = STARTING
            live.woken[r] = t + rules.start_time[pool]
            taking += 1
    for r in range(len(rules.pool) - 1, -1, -1):
        if taking <= target or rules.pool[r] != pool:
            continue
        if live.state[r] != ON and live.state[r] != STARTING:
            continue
        if live.running[r] + live.queued[r] > 0:
            if live.state[r] == STARTING:
                continue
            live.state[r] = DRAINING
        else:
            settle(rules, live, out, r, t)
            live.state[r] = OFF
        taking -= 1


@kernel
def close(rules: Rules, live: Live, out: Out, t: float) -> None:
    """Count what every replica draws while it does nothing, up to t."""
    for r in range(len(rules.pool)):
        if live.state[r] == DRAINING:
            live.state[r] = OFF
        settle(rules, live, out, r, t)
