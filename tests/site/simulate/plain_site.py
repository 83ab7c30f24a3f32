"""The site simulator again in plain Python, one node and one step at a time; the compiled core is compared with it.

Shares with it the random numbers (a hash), the arrays a run starts from, and nothing else.
"""

from __future__ import annotations

import math

import numpy as np

from wattline.site.simulate._site_state import (
    BROKEN,
    CAPPED,
    DARK,
    FAILED,
    TRIPPED,
    UP,
    WAITING,
    Live,
    Plant,
    Tally,
)

MASK = (1 << 64) - 1


def chance(seed: int, who: int, turn: int) -> float:
    x = ((seed + 1) * 0x9E3779B97F4A7C15 + who * 0xBF58476D1CE4E5B9 + turn * 0x94D049BB133111EB) & MASK
    for _ in range(2):
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
        x = ((x ^ (x >> 31)) + 0x9E3779B97F4A7C15) & MASK
    return ((x >> 11) + 0.5) / 2**53


def curve(p: Plant, g: int) -> tuple[np.ndarray, np.ndarray]:
    rows = slice(p.curve[g], p.curve[g + 1])
    return p.power[rows], p.work[rows]


class Plain:
    """Runs steps on the arrays of a `Plant`, a `Live` and a `Tally`."""

    def __init__(self, p: Plant, s: Live, out: Tally) -> None:
        self.p, self.s, self.out = p, s, out
        self.free = {g: [int(i) for i in s.free[p.first[g] : p.first[g] + s.free_count[g]]] for g in range(len(p.idle))}
        self.again: dict[int, list[int]] = {g: [] for g in range(len(p.idle))}

    def span(self, i: int, mean: float) -> float:
        if mean == math.inf:
            return math.inf
        self.s.draws[i] += 1
        return -mean * math.log(chance(self.p.seed, i, int(self.s.draws[i])))

    def chain(self, part: int) -> list[int]:
        out = []
        while part >= 0:
            out.append(part)
            part = int(self.p.parent[part])
        return out

    def list_free(self, i: int) -> None:
        g = int(self.p.group[i])
        if self.p.tasks[g + 1] > self.p.tasks[g] and i not in self.free[g]:
            self.free[g].append(i)

    def down(self, i: int, state: int, back: float) -> None:
        self.s.state[i], self.s.back[i] = state, max(back, self.s.back[i])
        t = int(self.s.task[i])
        if t >= 0:
            self.s.task[i] = -1
            self.s.left[t] = min(self.p.size[t], self.s.left[t] + self.p.rework)
            self.again[int(self.p.group[i])].append(t)

    def step(self, k: int, limit: np.ndarray) -> bool:
        p, s = self.p, self.s
        event = False
        for part in range(len(p.parent)):
            if 0 < s.off[part] <= k:
                s.off[part] = s.heat[part] = 0.0
                event = True
        for i in range(len(p.place)):
            gang = p.gang[i] >= 0
            if s.state[i] != UP:
                if k >= s.back[i] and not any(s.off[q] > 0 for q in self.chain(int(p.place[i]))):
                    s.state[i], s.back[i] = UP, 0.0
                    s.fail[i] = k + self.span(i, p.failing)
                    self.list_free(i)
                    event = True
            elif k >= s.fail[i]:
                s.fail[i] = math.inf
                self.down(i, FAILED, k + (p.restart if gang else self.span(i, p.repair)))
                event = True
            elif k >= s.turn[i]:
                slow = s.pace[i] == 1.0
                s.pace[i] = p.pace if slow else 1.0
                s.turn[i] = k + self.span(i, p.slowed if slow else p.slowing)
        for g in range(len(p.idle)):
            while self.free[g]:
                come = s.head[g] < p.tasks[g + 1] and p.arrive[s.head[g]] <= k
                if not self.again[g] and not come:
                    break
                i = self.free[g].pop()
                if s.state[i] != UP or s.task[i] >= 0:
                    continue
                if self.again[g]:
                    s.task[i] = self.again[g].pop()
                else:
                    s.task[i] = s.head[g]
                    s.head[g] += 1
        self.power(k)
        self.flows()
        return self.guard(k, limit) or event

    def power(self, k: int) -> None:
        p, s, out = self.p, self.s, self.out
        n = len(p.place)
        asked = np.clip(p.load * (1 + p.swing * math.sin(2 * math.pi * k * p.dt / 86400)), 0, 1)
        inlet = p.supply + p.room * s.removed[0]
        for j in range(len(s.slowest)):
            g = int(p.group[np.flatnonzero(p.gang == j)[0]])
            if p.leave[g, 0] > 0 and chance(p.seed, n + j, (1 << 40) + k) < p.leave[g, s.beat[j]]:
                s.beat[j] = 1 - s.beat[j]
        for i in range(n):
            g = int(p.group[i])
            if s.state[i] != UP:
                s.allowed[i] = 0.0
                continue
            if p.gang[i] >= 0:
                s.phase[i] = s.beat[p.gang[i]]
            elif p.leave[g, 0] > 0 and chance(p.seed, i, (1 << 40) + k) < p.leave[g, s.phase[i]]:
                s.phase[i] = 1 - s.phase[i]
            a = p.quiet[g] if s.phase[i] else 1.0
            hot = s.temperature[i] > p.hottest
            watts = min(s.cap[i], (p.hottest - inlet) / p.heat[g]) if hot else s.cap[i]
            s.allowed[i] = np.interp(p.idle[g] + (watts - p.idle[g]) / a, *curve(p, g))
        s.load[:] = 0.0
        for i in range(n):
            g, j = int(p.group[i]), int(p.gang[i])
            tasked = p.tasks[g + 1] > p.tasks[g]
            want = float(s.task[i] >= 0) if tasked else float(asked[g])
            value, watts = p.weight[g] * p.dt, 0.0
            out.wanted[g] += value * want
            if s.state[i] != UP:
                out.lost[g, BROKEN if s.state[i] == FAILED else TRIPPED] += value * want
            else:
                do = min(want, s.allowed[i] * s.pace[i])
                if j >= 0:
                    do = min(do, *(s.allowed[m] * s.pace[m] for m in np.flatnonzero(p.gang == j)))
                out.lost[g, CAPPED] += value * (want - min(want, s.allowed[i]))
                out.lost[g, WAITING] += value * (min(want, s.allowed[i]) - do)
                out.done[g] += value * do
                watts = p.idle[g]
                xs, ys = curve(p, g)
                if want > 0 and s.allowed[i] == 0:
                    watts = xs[0]
                elif want > 0:
                    a = p.quiet[g] if s.phase[i] else 1.0
                    busy = do / (s.allowed[i] * s.pace[i])
                    watts += a * (np.interp(s.allowed[i], ys, xs) - p.idle[g]) * busy
                t = int(s.task[i])
                if t >= 0:
                    s.left[t] -= do * p.dt
                    if s.left[t] <= 1e-9:
                        s.task[i] = -1
                        out.events[2] += 1
                        self.list_free(i)
            s.power[i] = watts
            s.load[p.place[i]] += watts
            s.temperature[i] += (inlet + p.heat[g] * watts - s.temperature[i]) * p.warmed

    def flows(self) -> None:
        p, s = self.p, self.s

        def below(part: int) -> float:
            return s.load[part] + p.standing[part] + sum(inflow(c) for c in np.flatnonzero(p.parent == part))

        def inflow(part: int) -> float:
            s.flow[part] = 0.0 if s.off[part] > 0 else p.factor[part] * below(part)
            below_this = below(part) if s.off[part] == 0 else 0.0
            if p.parent[part] < 0:
                s.removed[0] += (below_this - s.removed[0]) * p.cooled
                if s.off[part] == 0:
                    s.flow[part] += p.share * s.removed[0] + p.fixed
            return float(s.flow[part])

        inflow(int(np.flatnonzero(p.parent < 0)[0]))

    def curve(self, m: float) -> float:
        """Read a trip table by numpy's own interpolation; energy stays the same beyond its last point."""
        x = math.log(m)
        if x < self.p.knee[0]:
            return 0.0
        beyond = max(0.0, x - self.p.knee[-1])
        return math.exp(2 * beyond - float(np.interp(x, self.p.knee, self.p.hold)))

    def guard(self, k: int, limit: np.ndarray) -> bool:
        p, s, out = self.p, self.s, self.out
        tripped = False
        pools = [p.member[p.pool[q] : p.pool[q + 1]] for q in range(len(p.pool) - 1)]
        rows = [*s.flow, *(sum(s.flow[m]) for m in pools)]
        for row, x in enumerate(rows):
            out.over[row, 0] += p.dt * (x > limit[row] * (1 + 1e-9))
        for part in range(len(p.parent)):
            if p.rating[part] == math.inf or s.off[part] > 0:
                continue
            m = s.flow[part] / p.rating[part]
            if m > 1 + 1e-9:
                s.heat[part] += p.dt * (self.curve(m) if len(p.knee) else (m**p.alpha - 1) / p.k)
            else:
                s.heat[part] = max(0.0, s.heat[part] - p.dt * (1 - min(m, 1.0) ** 2) / p.reset)
            if s.heat[part] >= 1:
                tripped = True
                out.trips[part] += 1
                s.off[part] = k + 1 + p.reclose
                for i in range(len(p.place)):
                    if part in self.chain(int(p.place[i])):
                        self.down(i, DARK, s.off[part] + (p.restart if p.gang[i] >= 0 else 0.0))
        return tripped
