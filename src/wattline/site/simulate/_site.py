"""Core of the site simulator: failures, tasks, caps, heat, the flow through every part, breakers.

A step is: nodes fail or return, tasks come and are handed out, every node runs as fast as its cap and its own
temperature allow (a gang as fast as its slowest), power flows up the tree, cooling follows with its lag, breakers gain
or lose. Random numbers are a hash of seed, node and how many were drawn before, so a node fails at the same
times whatever a controller does. `core/kernels/site.c` says the same in C, operation by operation, and runs in place of
this where it can; `tests/site/simulate/plain_site.py` says it once more, with objects and lists.
"""

from __future__ import annotations

import math

from ...core.kernels import Source
from ._site_state import (
    BROKEN,
    CAPPED,
    COOLING,
    DARK,
    DONE,
    FAILED,
    FEED,
    LIMIT,
    PEAK,
    TRIPPED,
    UP,
    WAITING,
    WANTED,
    Floats,
    Live,
    Plant,
    Tally,
)

kernel = Source("site.c")
_A, _B, _C = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_WORD = (1 << 64) - 1
# Numbers for phases are drawn by step, those for failures by how many there were; the two do not meet.
PHASES = 1 << 40


@kernel
def chance(seed: int, who: int, turn: int) -> float:
    """Return a number in (0, 1): splitmix64 of seed, who and turn."""
    x = ((int(seed) + 1) * _A + int(who) * _B + int(turn) * _C) & _WORD
    for _ in range(2):
        x = ((x ^ (x >> 30)) * _B) & _WORD
        x = ((x ^ (x >> 27)) * _C) & _WORD
        x = ((x ^ (x >> 31)) + _A) & _WORD
    return (float(x >> 11) + 0.5) * (1.0 / 9007199254740992.0)


def span(p: Plant, s: Live, i: int, mean: float) -> float:
    """Return an exponential number of steps for node i."""
    if mean == math.inf:
        return math.inf
    s.draws[i] += 1
    return -mean * math.log(chance(p.seed, i, s.draws[i]))


def between(xs: Floats, ys: Floats, low: int, high: int, x: float) -> float:
    """Return y at x on the line through rows `low` to `high`, level beyond its ends."""
    if x >= xs[high]:
        return float(ys[high])
    if x <= xs[low]:
        return float(ys[low])
    while xs[low + 1] <= x:
        low += 1
    return float(ys[low] + (x - xs[low]) / (xs[low + 1] - xs[low]) * (ys[low + 1] - ys[low]))


def speed_at(p: Plant, g: int, watts: float) -> float:
    """Return the share of full speed that a group's curve gives at `watts`."""
    return between(p.power, p.work, p.curve[g], p.curve[g + 1] - 1, watts)


def power_at(p: Plant, g: int, speed: float) -> float:
    """Return the watts of the curve at a speed."""
    return between(p.work, p.power, p.curve[g], p.curve[g + 1] - 1, speed)


# ---- what happens to nodes -------------------------------------------------------------------------


def idle_again(p: Plant, s: Live, i: int) -> None:
    """List a node among those without a task."""
    g = p.group[i]
    if p.tasks[g + 1] > p.tasks[g] and s.listed[i] == 0:
        s.free[p.first[g] + s.free_count[g]] = i
        s.free_count[g] += 1
        s.listed[i] = 1


def go_down(p: Plant, s: Live, i: int, state: int, back: float) -> None:
    """Take a node down until `back`; its task goes to the front of the queue and loses some of its work."""
    g = p.group[i]
    s.state[i] = state
    s.back[i] = max(back, s.back[i])
    t = s.task[i]
    if t >= 0:
        s.task[i] = -1
        s.left[t] = min(p.size[t], s.left[t] + p.rework)
        s.again[p.first[g] + s.again_count[g]] = t
        s.again_count[g] += 1


def lit(p: Plant, s: Live, part: int) -> bool:
    """Return whether a part and all above it are switched on."""
    while part >= 0:
        if s.off[part] > 0.0:
            return False
        part = p.parent[part]
    return True


def happen(p: Plant, s: Live, out: Tally, k: int) -> bool:
    """Let nodes fail, return, slow down and recover; True where one failed or returned."""
    event = False
    for part in range(len(p.parent)):
        if s.off[part] > 0.0 and k >= s.off[part]:
            s.off[part] = 0.0
            s.heat[part] = 0.0
            out.events[3] += 1
            event = True
    for i in range(len(p.place)):
        if s.state[i] != UP:
            if k >= s.back[i] and lit(p, s, p.place[i]):
                s.state[i] = UP
                s.back[i] = 0.0
                s.fail[i] = k + span(p, s, i, p.failing)
                idle_again(p, s, i)
                event = True
            continue
        if k >= s.fail[i]:
            out.events[0] += 1
            s.fail[i] = math.inf
            lasts = p.restart if p.gang[i] >= 0 else span(p, s, i, p.repair)
            go_down(p, s, i, FAILED, k + lasts)
            event = True
            continue
        if k >= s.turn[i]:
            if s.pace[i] < 1.0:
                s.pace[i] = 1.0
                s.turn[i] = k + span(p, s, i, p.slowing)
            else:
                out.events[1] += 1
                s.pace[i] = p.pace
                s.turn[i] = k + span(p, s, i, p.slowed)
    return event


def hand_out(p: Plant, s: Live, out: Tally, k: int) -> None:
    """Give waiting tasks to nodes without one: first those to be done again, then in order of arrival."""
    for g in range(len(p.idle)):
        end = p.tasks[g + 1]
        while s.free_count[g] > 0 and (s.again_count[g] > 0 or (s.head[g] < end and p.arrive[s.head[g]] <= k)):
            s.free_count[g] -= 1
            i = s.free[p.first[g] + s.free_count[g]]
            s.listed[i] = 0
            if s.state[i] != UP or s.task[i] >= 0:
                continue
            if s.again_count[g] > 0:
                s.again_count[g] -= 1
                s.task[i] = s.again[p.first[g] + s.again_count[g]]
            else:
                s.task[i] = s.head[g]
                out.waited[0] += (k - p.arrive[s.head[g]]) * p.dt
                out.events[4] += 1
                s.head[g] += 1


# ---- power -----------------------------------------------------------------------------------------


def shifted(p: Plant, g: int, phase: int, u: float) -> int:
    """Return the phase after one step, given a number in (0, 1)."""
    return 1 - phase if u < p.leave[g, phase] else phase


def pace(p: Plant, s: Live, k: int) -> None:
    """Find how fast each node may go under its cap and temperature, and the slowest of each gang."""
    for g in range(len(p.idle)):
        daily = 1.0 + p.swing[g] * math.sin(2.0 * math.pi * (k * p.dt / 86400.0))
        s.asked[g] = min(1.0, max(0.0, p.load[g] * daily))
    n = len(p.place)
    for j in range(len(s.slowest)):
        s.slowest[j] = 1.0
    inlet = p.supply + p.room * s.removed[0]
    before = -1
    for i in range(n):
        g, j = p.group[i], p.gang[i]
        if j >= 0 and j != before:  # nodes of a gang follow one another
            before = j
            if p.leave[g, 0] > 0.0:
                s.beat[j] = shifted(p, g, s.beat[j], chance(p.seed, n + j, PHASES + k))
        if s.state[i] != UP:
            s.allowed[i] = 0.0
            if j >= 0:
                s.slowest[j] = 0.0
            continue
        if j >= 0:
            s.phase[i] = s.beat[j]
        elif p.leave[g, 0] > 0.0:
            s.phase[i] = shifted(p, g, s.phase[i], chance(p.seed, i, PHASES + k))
        share = p.quiet[g] if s.phase[i] == 1 else 1.0
        watts = s.cap[i]
        if s.temperature[i] > p.hottest:
            watts = min(watts, (p.hottest - inlet) / p.heat[g])
        s.allowed[i] = speed_at(p, g, p.idle[g] + (watts - p.idle[g]) / share)
        if j >= 0:
            s.slowest[j] = min(s.slowest[j], s.allowed[i] * s.pace[i])


def work(p: Plant, s: Live, out: Tally, k: int) -> float:
    """Let every node work and draw power; return work done in the step."""
    for part in range(len(p.parent)):
        s.load[part] = 0.0
    inlet = p.supply + p.room * s.removed[0]
    earned = 0.0
    for i in range(len(p.place)):
        g, j = p.group[i], p.gang[i]
        tasked = p.tasks[g + 1] > p.tasks[g]
        want = 1.0 if s.task[i] >= 0 else 0.0
        if not tasked:
            want = s.asked[g]
        value = p.weight[g] * p.dt
        out.wanted[g] += value * want
        watts = 0.0
        if s.state[i] != UP:
            out.lost[g, BROKEN if s.state[i] == FAILED else TRIPPED] += value * want
        else:
            can = s.allowed[i] * s.pace[i]
            do = min(want, can)
            if j >= 0:
                do = min(do, s.slowest[j])
            under = min(want, s.allowed[i])
            out.lost[g, CAPPED] += value * (want - under)
            out.lost[g, WAITING] += value * (under - do)
            out.done[g] += value * do
            earned += value * do
            watts = drawn(p, s, i, g, want, can, do)
            if s.task[i] >= 0:
                advance_task(p, s, out, i, do, k)
        s.power[i] = watts
        s.load[p.place[i]] += watts
        out.joules[g] += watts * p.dt
        s.temperature[i] += (inlet + p.heat[g] * watts - s.temperature[i]) * p.warmed
    return earned


def drawn(p: Plant, s: Live, i: int, g: int, want: float, can: float, do: float) -> float:
    """Return the watts of a node that does `do` of the `can` it could: at its setting for that share of the time."""
    watts: float = p.idle[g]
    if want <= 0.0:
        return watts
    if can <= 0.0:
        return float(p.power[p.curve[g]])  # paused
    share = p.quiet[g] if s.phase[i] == 1 else 1.0
    return watts + share * (power_at(p, g, s.allowed[i]) - watts) * (do / can)


def advance_task(p: Plant, s: Live, out: Tally, i: int, do: float, k: int) -> None:
    """Take a step's work off a node's task; a task that is done leaves."""
    t = s.task[i]
    s.left[t] -= do * p.dt
    if s.left[t] <= 1e-9:
        s.task[i] = -1
        out.events[2] += 1
        out.waited[1] += (k + 1 - p.arrive[t]) * p.dt
        idle_again(p, s, i)


def flow(p: Plant, s: Live) -> None:
    """Sum power up the tree: what flows into a part is its loss times its standing, its load and what hangs on it."""
    for part in range(len(p.parent)):
        s.below[part] = s.load[part] + p.standing[part]
    for k in range(len(p.order)):
        part = p.order[k]
        if s.off[part] > 0.0:
            s.below[part] = 0.0
        s.flow[part] = p.factor[part] * s.below[part]
        if p.parent[part] >= 0:
            s.below[p.parent[part]] += s.flow[part]
    root = p.order[len(p.order) - 1]
    s.removed[0] += (s.below[root] - s.removed[0]) * p.cooled
    if s.off[root] <= 0.0:
        s.flow[root] += p.share * s.removed[0] + p.fixed


def darken(p: Plant, s: Live, part: int, k: int) -> None:
    """Open the breaker of a part: all that hangs on it goes dark."""
    s.off[part] = k + 1 + p.reclose
    for i in range(len(p.place)):
        q = p.place[i]
        while q >= 0 and q != part:
            q = p.parent[q]
        if q == part:
            late = p.restart if p.gang[i] >= 0 else 0.0
            go_down(p, s, i, DARK, s.off[part] + late)


def heating(p: Plant, m: float) -> float:
    """Return the share of a breaker's way to tripping that a second at `m` times its rating takes."""
    if len(p.knee) == 0:
        return float((m**p.alpha - 1.0) / p.k)
    x = math.log(m)
    if x < p.knee[0]:
        return 0.0
    i = 0
    while i + 1 < len(p.knee) and p.knee[i + 1] <= x:
        i += 1
    if i + 1 == len(p.knee):
        return math.exp(2.0 * (x - p.knee[i]) - p.hold[i])
    part = (x - p.knee[i]) / (p.knee[i + 1] - p.knee[i])
    return math.exp(-(p.hold[i] + part * (p.hold[i + 1] - p.hold[i])))


def guard(p: Plant, s: Live, out: Tally, limit: Floats, k: int) -> bool:
    """Count what is above a limit, and trip what has been above its rating for too long; True where one tripped."""
    tripped = False
    parts = len(p.parent)
    for row in range(len(limit)):
        if row < parts:
            x = s.flow[row]
        else:
            x = 0.0
            for m in range(p.pool[row - parts], p.pool[row - parts + 1]):
                x += s.flow[p.member[m]]
        if x > limit[row] * (1.0 + 1e-9):
            out.over[row, 0] += p.dt
            out.over[row, 1] += (x - limit[row]) * p.dt
        if limit[row] > 0.0:
            out.over[row, 2] = max(out.over[row, 2], x / limit[row])
    for part in range(parts):
        if p.rating[part] == math.inf or s.off[part] > 0.0:
            continue
        m = s.flow[part] / p.rating[part]
        if m > 1.0 + 1e-9:
            s.heat[part] += p.dt * heating(p, m)
            if s.heat[part] >= 1.0:
                out.trips[part] += 1
                darken(p, s, part, k)
                tripped = True
        elif s.heat[part] > 0.0:
            below = min(m, 1.0)
            s.heat[part] = max(0.0, s.heat[part] - p.dt * (1.0 - below * below) / p.reset)
    return tripped


def note(p: Plant, s: Live, out: Tally, limit: Floats, earned: float, k: int) -> None:
    """Keep what is shown over time."""
    root = p.order[len(p.order) - 1]
    x = s.flow[root]
    out.feed[0] += x * p.dt
    out.feed[1] = max(out.feed[1], x)
    b = k // out.every
    out.history[b, FEED] += x
    out.history[b, PEAK] = max(out.history[b, PEAK], x)
    out.history[b, LIMIT] = min(out.history[b, LIMIT], limit[root])
    out.history[b, DONE] += earned
    out.history[b, COOLING] += p.share * s.removed[0] + p.fixed
    for g in range(len(p.idle)):
        if p.tasks[g + 1] == p.tasks[g]:
            out.history[b, WANTED] += s.asked[g] * p.weight[g] * p.dt * (p.first[g + 1] - p.first[g])
    if k < len(out.flows):
        for part in range(len(p.parent)):
            out.flows[k, part] = s.flow[part]
            out.loads[k, part] = s.load[part]


@kernel
def advance(p: Plant, s: Live, out: Tally, limit: Floats, start: int, end: int, stops: bool) -> int:
    """Run steps from `start` to before `end`; with `stops`, return right after a step in which something happened.

    Returns the next step, negative (-1 - step) where it stopped for an event.
    """
    for k in range(start, end):
        event = happen(p, s, out, k)
        hand_out(p, s, out, k)
        pace(p, s, k)
        earned = work(p, s, out, k)
        flow(p, s)
        event = guard(p, s, out, limit, k) or event
        note(p, s, out, limit, earned, k)
        if event and stops and k + 1 < end:
            return -1 - (k + 1)
    return end
