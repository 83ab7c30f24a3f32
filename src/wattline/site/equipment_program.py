"""Equipment in the program of a plan over time: columns for what is bought, sold, stored, generated and held ready.

What the site uses is balanced at the feed in every period, and costs move from the jobs' watts to what is bought.
The limit of the feed then is one on what is bought, not on what is used: storage may cover the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .equipment import Equipment, Service, Storage, Tariff
from .horizon_plan import HorizonPlan, Span
from .program import Program, Solution
from .tasks import Array, Goal

Ints = NDArray[np.int64]


@dataclass(eq=False)
class Fitted:
    """The equipment's columns in a program.

    `balance` : (n,) rows whose sum must be what the site uses; the jobs' watts are put in with a minus.
    """

    span: Span
    equipment: Equipment
    goal: Goal
    program: Program
    need: Array
    most: Array

    def __post_init__(self) -> None:
        c, p = self.span.conditions, self.program
        self.n, self.dt = len(c.dt), c.dt
        e = self.equipment
        able = sum(s.power for s in e.storages)
        root = self.span.tree.root
        limit = np.array([tree.row_limit[root] for tree in self.span.trees])
        # What may be bought at the most, finite so that prices can prove something.
        high = np.minimum(limit, self.most + able)
        unit = np.maximum(self.most + able, 1e-300)
        self.balance = p.constraints(self.n, least=self.need, most=self.need)
        self.buy = p.variables(self.n, cost=self._cost(self._rate()), high=high, unit=unit)
        p.add(self.balance, self.buy, 1.0)
        earned = np.zeros(self.n) if e.sell_price is None else -e.sell_price
        sold = -np.ones(self.n) if self.goal == "energy" else earned if self.goal == "cost" else np.zeros(self.n)
        self.sell = p.variables(self.n, cost=self._cost(sold), high=e.sell, unit=e.sell or 1.0)
        p.add(self.balance, self.sell, -1.0)
        self._one_way(high, earned)
        self._sources()
        self.stored = [self._storage(s) for s in e.storages]
        self._tariffs(high)
        self._ramp()
        self.held = [self._service(s) for s in e.services]

    def _one_way(self, high: Array, earned: Array) -> None:
        """Where power sells for more than it costs, one meter still does not buy and sell at once."""
        if not (self.equipment.sell > 0 and self.goal == "cost"):
            return
        tempting = np.flatnonzero(-earned > self._rate())
        if not tempting.size:
            return
        p, sell = self.program, self.equipment.sell
        on = p.variables(len(tempting), high=1.0, whole=True)
        rows, more = p.constraints(len(tempting), most=0.0), p.constraints(len(tempting), most=sell)
        p.add(rows, self.buy[tempting], 1.0)
        p.add(rows, on, -high[tempting])
        p.add(more, self.sell[tempting], 1.0)
        p.add(more, on, sell)

    def _rate(self) -> Array:
        return np.zeros(self.n) if self.goal == "work" else self.span.conditions.weight(self.goal)

    def _cost(self, per_joule: Array) -> Array:
        return np.zeros(self.n) if self.goal == "work" else per_joule * self.dt

    def _sources(self) -> None:
        self.given = []
        for s in self.equipment.sources:
            rate = {"cost": s.cost, "carbon": s.carbon, "energy": 1.0, "work": 0.0}[self.goal]
            own = self.program.variables(
                self.n, cost=self._cost(np.full(self.n, rate)), low=s.most if s.takes else 0.0, high=s.most,
                unit=np.maximum(s.most, 1e-300),
            )  # fmt: skip
            self.program.add(self.balance, own, 1.0)
            self.given.append(own)

    def _storage(self, s: Storage) -> tuple[Ints, Ints, Ints]:
        """Return the columns of W charged and discharged, and of J held at the end of each period."""
        p, way = self.program, np.sqrt(s.round_trip)
        wear = np.full(self.n, s.wear if self.goal == "cost" else 0.0)
        charge = p.variables(self.n, high=s.power, unit=s.power)
        give = p.variables(self.n, cost=self._cost(wear), high=s.power, unit=s.power)
        low = np.full(self.n, s.reserve * s.energy)
        low[-1] = max(low[-1], s.start * s.energy)
        held = p.variables(self.n, low=low, high=s.energy, unit=s.energy)
        p.add(self.balance, charge, -1.0)
        p.add(self.balance, give, 1.0)
        before = np.zeros(self.n)
        before[0] = s.start * s.energy
        rows = p.constraints(self.n, least=before, most=before)
        p.add(rows, held, 1.0)
        p.add(rows[1:], held[:-1], -1.0)
        p.add(rows, charge, -way * self.dt)
        p.add(rows, give, self.dt / way)
        # Where a joule earns something, charging and discharging at once would earn with its losses.
        earning = np.flatnonzero(self._rate() < 0)
        if earning.size:
            on = p.variables(len(earning), high=1.0, whole=True)
            rows, more = p.constraints(len(earning), most=0.0), p.constraints(len(earning), most=s.power)
            p.add(rows, charge[earning], 1.0)
            p.add(rows, on, -s.power)
            p.add(more, give[earning], 1.0)
            p.add(more, on, s.power)
        return charge, give, held

    def _tariffs(self, high: Array) -> None:
        """A column for each peak: at least every period that counts, and what is owed already."""
        for tariff in self.equipment.tariffs:
            months, least = tariff.floors()
            price = tariff.demand * tariff.share
            top = np.maximum(float(high.max()), least)
            cost = price if self.goal == "cost" else 0.0
            peak = self.program.variables(len(months), cost=cost, low=least, high=top, unit=top)
            for month, column in zip(months, peak, strict=True):
                when = np.flatnonzero(tariff.within & (tariff.month == month))
                rows = self.program.constraints(len(when), least=0.0)
                self.program.add(rows, column, 1.0)
                self.program.add(rows, self.buy[when], -1.0)
            if tariff.ratchet > 0 and len(months) > 1:
                # What earlier months of the plan reached is billed later, as far as the ratchet goes.
                first, then = np.triu_indices(len(months), 1)
                rows = self.program.constraints(len(first), least=0.0)
                self.program.add(rows, peak[then], 1.0)
                self.program.add(rows, peak[first], -tariff.ratchet)

    def _ramp(self) -> None:
        """Means of neighbouring periods differ by no more than the ramp allows from middle to middle."""
        if not np.isfinite(self.equipment.ramp) or self.n < 2:
            return
        allowed = self.equipment.ramp * (self.dt[1:] + self.dt[:-1]) / 2
        rows = self.program.constraints(self.n - 1, least=-allowed, most=allowed)
        for columns, sign in ((self.buy, 1.0), (self.sell, -1.0)):
            self.program.add(rows, columns[1:], sign)
            self.program.add(rows, columns[:-1], -sign)

    def _service(self, s: Service) -> Ints:
        """Return the columns of W held ready: none where the goal is not money."""
        high = np.where(s.offered & (self.goal == "cost"), s.most, 0.0)
        return self.program.variables(self.n, cost=self._cost(np.full(self.n, -s.pays)), high=high, unit=s.most)

    def spare(self, jobs: Ints, columns: Ints, when: Ints, per: Array, due: Ints, slope: Array) -> None:
        """Let each service hold ready only what jobs may pause and storage may give, and keep work spare for calls.

        `columns` : of every piece of a job that may stop at once, in period `when`, `per` W at the feed each; `jobs`:
        whose; `due` : (jobs,) the row of work due, -1 where nothing is; `slope` : most units a second per W of a job.
        """
        p = self.program
        if self.goal != "cost":
            return
        for s, ready in zip(self.equipment.services, self.held, strict=True):
            rows = p.constraints(self.n, most=0.0)
            p.add(rows, ready, 1.0)
            for charge, give, held in self.stored:
                # Storage that neither charges nor gives can give its power, as long as its charge lasts.
                store = self.equipment.storages[self._index(charge)]
                own = p.variables(self.n, high=2 * store.power, unit=s.most)
                p.add(rows, own, -1.0)
                more = p.constraints(self.n, most=store.power)
                p.add(more, own, 1.0)
                p.add(more, give, 1.0)
                p.add(more, charge, -1.0)
                lasting = p.constraints(self.n, least=store.reserve * store.energy)
                p.add(lasting, held, 1.0)
                p.add(lasting, own, -max(s.calls, 1) * s.lasts / np.sqrt(store.round_trip))
            for j in np.unique(jobs):
                mine = np.flatnonzero(jobs == j)
                top = np.full(self.n, s.most)
                own = p.variables(self.n, high=top, unit=s.most)
                p.add(rows, own, -1.0)
                has = p.constraints(self.n, most=0.0)
                p.add(has, own, 1.0)
                p.add(has[when[mine]], columns[mine], -per[mine])
                if s.calls and due[j] >= 0:
                    # Whichever hours the calls come in: the most it holds ready is lost for all of them.
                    worst = p.variables(1, high=s.most, unit=s.most)
                    each = p.constraints(self.n, least=0.0)
                    p.add(each, worst[0], 1.0)
                    p.add(each, own, -1.0)
                    p.add(due[j], worst[0], -slope[j] * s.calls * s.lasts)

    def _index(self, charge: Ints) -> int:
        return next(k for k, (one, _, _) in enumerate(self.stored) if one is charge)

    # ---- reading ----------------------------------------------------------------------------

    def read(self, plan: HorizonPlan, solved: Solution) -> HorizonPlan:
        """Return a plan with what is bought, the bill, the series of the equipment and the totals."""
        e = self.equipment
        stored = [solved.x[give] - solved.x[charge] for charge, give, _ in self.stored]
        wear = [float(solved.x[give] @ self.dt) for _, give, _ in self.stored]
        wanted = [solved.x[own] for own in self.given]
        ready = [np.where(s.offered, solved.x[own], 0.0) for s, own in zip(e.services, self.held, strict=True)]
        settled = settle(self.span, self.goal, plan, stored, wear, wanted, ready)
        held = {f"{s.name} held_j": solved.x[own] for s, (_, _, own) in zip(e.storages, self.stored, strict=True)}
        return replace(settled, equipment={**settled.equipment, **held})


def settle(
    span: Span, goal: Goal, plan: HorizonPlan, stored: Sequence[Array], wear: Sequence[float],
    wanted: Sequence[Array], ready: Sequence[Array],
) -> HorizonPlan:  # fmt: skip
    """Return a plan with its bill: what is used less what storage gives and sources make is bought, or sold.

    `stored` : (n,) W given by each storage, less what goes in; `wear` : J each gives. `wanted` : (n,) W of each source,
    of which only as much is made as is used or sold. `ready` : (n,) W of each service.
    """
    c, e, dt = span.conditions, span.equipment, span.conditions.dt
    series: dict[str, Array] = {}
    net = plan.feed - sum(stored, np.zeros(len(dt)))
    series |= {s.name: given for s, given in zip(e.storages, stored, strict=True)}
    for s, own in zip(e.sources, wanted, strict=True):
        made = own if s.takes else np.clip(own, 0.0, np.maximum(net + e.sell, 0.0))
        series[s.name], net = made, net - made
    series |= {s.name: own for s, own in zip(e.services, ready, strict=True)}
    buy, sell = np.maximum(net, 0.0), np.maximum(-net, 0.0)
    bill: dict[str, float] = {}
    if c.price is not None:
        bill["energy"] = float(c.price @ (buy * dt))
    if e.sell_price is not None:
        bill["sold"] = -float(e.sell_price @ (sell * dt))
    bill |= {tariff.name: _charge(tariff, buy) for tariff in e.tariffs}
    bill |= {f"{s.name} wear": s.wear * joules for s, joules in zip(e.storages, wear, strict=True)}
    bill |= {s.name: s.cost * float(series[s.name] @ dt) for s in e.sources}
    bill |= {s.name: -s.pays * float(own @ dt) for s, own in zip(e.services, ready, strict=True)}
    generated = sum((float(series[s.name] @ dt) for s in e.sources), 0.0)
    emitted = sum((s.carbon * float(series[s.name] @ dt) for s in e.sources), 0.0)
    carbon = None if c.carbon is None else float(c.carbon @ (buy * dt)) + emitted
    cost = sum(bill.values()) if bill else None
    energy = float((buy - sell) @ dt) + generated
    objective = {"cost": cost, "carbon": carbon, "energy": energy, "work": plan.objective}[goal]
    return replace(
        plan, grid=net, bill=bill, equipment=series, cost_usd=cost, carbon_g=carbon,
        objective=plan.objective if objective is None else objective,
    )  # fmt: skip


def _charge(tariff: Tariff, buy: Array) -> float:
    """Return what the peaks of every month cost under a tariff."""
    months, _ = tariff.floors()
    peaks = [buy[tariff.within & (tariff.month == month)].max(initial=0.0) for month in months]
    return tariff.demand * tariff.share * float(tariff.billed(np.array(peaks)).sum())
