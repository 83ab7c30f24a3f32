"""The serving simulator in plain Python: objects and lists, one replica step at a time, slow and easy to read.

It knows nothing of the compiled core; both are told the same rules and must give the same answers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from wattline.serving.simulate.table import StepTable
from wattline.workload.traffic import Requests

WORD = (1 << 64) - 1


@dataclass
class Job:
    """One request on its way."""

    number: int
    arrival: float
    prompt: int
    output: int
    pages: list[int]
    brought: int = 0
    generated: int = 0
    first: float = -1.0
    begun: float = -1.0
    end: float = -1.0
    replica: int = -1
    preempted: int = 0
    cached: int = 0
    urgency: int = 0
    gone: bool = False
    prefill_j: float = 0.0
    decode_j: float = 0.0
    # while it runs
    have: int = 0
    goal: int = 0
    held: int = 0
    take: int = 0
    decodes: bool = False


@dataclass
class Settings:
    """What the engine of a replica may do."""

    table: StepTable
    max_batch: int
    blocks: int
    block: int = 16
    reserve: int = 0
    page: int = 0
    mixed: float = math.inf  # levels
    alone: float = math.inf
    accepted: float = 0.0
    seed: int = 0
    prefill_only: bool = False
    scheduler: str = "vllm"
    patience: float = math.inf
    offload: float = 0.0


@dataclass
class Replica:
    """One replica: what runs, what waits, and when the step under way ends."""

    number: int
    s: Settings
    running: list[Job] = field(default_factory=list)
    queue: list[Job] = field(default_factory=list)
    ends: float = math.inf
    ready: float = 0.0
    since: float = 0.0
    used: int = 0
    popped: int = 0
    pushed: int = 0
    kept: dict[int, int] = field(default_factory=dict)
    idle_j: float = 0.0
    steps: int = 0
    ratio: float = 0.7
    swap: float = 0.0

    def __post_init__(self) -> None:
        self.pushed = self.s.blocks

    # ---- cache
    def found(self, job: Job) -> int:
        pages = 0
        for page in job.pages:
            if page not in self.kept or self.popped >= self.kept[page]:
                break
            pages += 1
        return min(pages * self.s.page, job.prompt - 1) if self.s.page else 0

    def mark(self, job: Job) -> None:
        if self.s.page:
            for page in job.pages[: job.have // self.s.page]:
                self.kept[page] = self.pushed

    def release(self, job: Job) -> None:
        self.used -= job.held
        self.pushed += job.held
        self.mark(job)

    def blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.s.block) + self.s.reserve

    def grow(self, job: Job, tokens: int) -> bool:
        """Give a running request blocks for `tokens`; those admitted last are preempted, perhaps itself."""
        need = self.blocks_for(tokens) - job.held
        while need > self.s.blocks - self.used:
            victim = self.running.pop()
            self.release(victim)
            victim.preempted += 1
            victim.brought = victim.have if self.s.offload and victim.have >= victim.goal else 0
            self.swap += self.s.offload * victim.brought
            self.queue.insert(sum(job.urgency < victim.urgency for job in self.queue), victim)
            if victim is job:
                return False
        if need > 0:
            job.held += need
            self.used += need
            self.popped += need
        return True

    # ---- a step
    def due(self, job: Job, ratio: float) -> int:
        """Tokens that a request may need yet, as its scheduler counts them."""
        rest = job.output - job.generated
        if self.s.prefill_only or self.s.scheduler in ("vllm", "max-utilization"):
            return 0
        return rest + self.s.table.verified if self.s.scheduler == "no-evict" else int(ratio * min(rest, 4096))

    def preempted(self) -> int:
        return sum(job.preempted for job in [*self.running, *self.queue])

    def decode(self, budget: int) -> int:
        verified = self.s.table.verified
        for job in list(self.running):
            waits = job in self.running and job.have >= job.goal and not job.decodes
            if waits and self.grow(job, job.have + verified):
                job.take, job.decodes = verified, True
                budget -= verified
        return budget

    def read(self, budget: int) -> int:
        for job in list(self.running):
            if job in self.running and job.have < job.goal and budget > 0:
                some = min(budget, job.goal - job.have)
                if self.grow(job, job.have + some):
                    job.take = some
                    budget -= some
        return budget

    def schedule(self, now: float) -> None:
        budget, before = int(self.s.table.replica.chunk), self.preempted()
        for job in self.running:
            job.take, job.decodes = 0, False
        if self.s.scheduler == "sglang":
            budget = self.read(budget)
            if self.preempted() == before:
                self.admit(now, budget)
            if any(job.take and not job.decodes for job in self.running):
                return
            before = self.preempted()
            self.decode(budget)
            self.ratio = max(self.ratio - (0.7 - 0.7 * 0.14) / 600.0, 0.7 * 0.14)
            if self.preempted() > before:
                made = sum(job.generated + 20 for job in self.running)
                self.ratio = min(made / (sum(job.output for job in self.running) + 1.0), 1.0)
            return
        budget = self.read(self.decode(budget))
        if self.preempted() == before:
            self.admit(now, budget)

    def admit(self, now: float, budget: int) -> None:
        verified, careful = self.s.table.verified, self.s.scheduler != "max-utilization"
        spoken = sum(
            max(self.blocks_for(max(job.have, job.goal) + self.due(job, self.ratio)) - job.held, 0)
            for job in self.running
        ) * careful  # fmt: skip
        while self.queue and len(self.running) < self.s.max_batch and budget > 0:
            job = self.queue[0]
            if job.generated == 0 and job.begun < 0 and now - job.arrival > self.s.patience:
                self.queue.pop(0)
                job.gone, job.first, job.end = True, job.arrival + self.s.patience, job.arrival + self.s.patience
                continue
            goal = job.prompt + job.generated
            if job.brought:
                have = goal = job.brought
            else:
                have = min(self.found(job), goal - 1)
            some = verified if have >= goal else min(budget, goal - have)
            need, free = self.blocks_for(have + some), self.s.blocks - self.used
            whole = self.blocks_for(goal + self.due(job, 1.0))
            if some > budget or need > free or (careful and self.running and whole > free - spoken):
                break
            spoken += max(whole - need, 0) * careful
            self.queue.pop(0)
            self.running.append(job)
            job.have, job.goal, job.held, job.take, job.decodes = have, goal, need, some, have >= goal
            self.used += need
            self.popped += need
            job.cached += 0 if job.brought else have
            self.swap += self.s.offload * have if job.decodes and job.preempted else 0.0
            job.begun = now if job.begun < 0 else job.begun
            job.replica = self.number
            budget -= some

    def begin(self, now: float) -> None:
        table = self.s.table
        self.idle_j += table.waiting * (now - self.since)
        self.schedule(now)
        self.since = now
        if not any(job.take for job in self.running):  # all who waited have given up
            return
        decode = [job for job in self.running if job.decodes]
        read = [job for job in self.running if job.take and not job.decodes]
        seen = sum(job.have + 1.0 for job in decode)
        prompt = sum(job.take for job in read)
        reach = sum(job.take * (job.have + 0.5 * job.take) for job in read)
        ends = sum(job.have + job.take == job.goal for job in read)
        what = (
            len(decode), seen / len(decode) if decode else 1.0, prompt, reach / prompt if prompt else 0.0, ends
        )  # fmt: skip
        cost = table.step(*what, level=self.level(what))
        spent = cost.time + self.swap
        each = (
            cost.energy
            + table.waiting * self.swap
            - cost.prefill_attention
            - (cost.decode_attention if decode else 0.0)
        )
        each /= len(decode) * table.verified + prompt
        for job in decode:
            job.decode_j += each * table.verified + cost.decode_attention * (job.have + 1.0) / seen
        for job in read:
            share = job.take * (job.have + 0.5 * job.take) / reach
            job.prefill_j += each * job.take + cost.prefill_attention * share
        self.steps += 1
        self.ends, self.since, self.swap = now + spent, now + spent, 0.0

    def level(self, what: tuple[float, ...]) -> float:
        return min(self.s.mixed if what[2] else self.s.alone, float(len(self.s.table.clocks) - 1))

    def finish(self) -> None:
        now, drafted = self.ends, self.s.table.verified - 1
        for job in list(self.running):
            done = False
            if job.decodes:
                new = 1 + accepted(self.s.seed, job.number, job.generated, drafted, self.s.accepted)
                new = min(new, job.output - job.generated)
                job.generated += new
                job.have += new
                done = job.generated >= job.output
            elif job.take:
                job.have += job.take
                if job.have >= job.goal:
                    job.first = now if job.first < 0 else job.first
                    job.generated += 1
                    self.mark(job)
                    done = self.s.prefill_only or job.generated >= job.output
            if done:
                job.end = now
                self.release(job)
                self.running.remove(job)
        self.ends, self.ready = math.inf, now

    def advance(self, until: float) -> None:
        while True:
            if self.ends < math.inf:
                if self.ends > until:
                    return
                self.finish()
            if not (self.running or self.queue) or self.ready >= until:
                return
            self.begin(self.ready)


def accepted(seed: int, request: int, position: int, most: int, chance: float) -> int:
    x = seed ^ (request * 0x9E3779B97F4A7C15 & WORD) ^ (position * 0xD1B54A32D192ED03 & WORD)
    for k in range(most):
        x = (x + 0x9E3779B97F4A7C15) & WORD
        z = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & WORD
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
        z ^= z >> 31
        if (z >> 11) * 2.0**-53 >= chance:
            return k
    return most


def serve(
    requests: Requests, s: Settings, replicas: int, route: str, brought: bool = False
) -> tuple[list[Job], list[Replica]]:
    """Serve a trace on equal replicas; return the requests and the replicas."""
    fleet = [Replica(k, s) for k in range(replicas)]
    jobs = [
        Job(
            i, float(requests.arrival[i]), int(requests.prompt[i]), int(requests.output[i]),
            requests.pages[requests.first[i] : requests.first[i + 1]].tolist(), urgency=int(requests.urgency[i]),
        )
        for i in range(len(requests))
    ]  # fmt: skip
    turn = 0
    for job in jobs:
        for replica in fleet:
            replica.advance(job.arrival)
        if route == "round_robin":
            chosen = fleet[turn % replicas]
            turn += 1
        else:
            chosen = min(fleet, key=lambda r: (rank(r, job, route), r.number))
        if not (chosen.running or chosen.queue):
            chosen.ready = job.arrival
        chosen.queue.insert(sum(other.urgency <= job.urgency for other in chosen.queue), job)
    for replica in fleet:
        replica.advance(math.inf)
    return jobs, fleet


def rank(replica: Replica, job: Job, route: str) -> tuple[float, float]:
    """Least first: most of the prefix, then least loaded; packing prefers the fullest that has room."""
    load = (len(replica.running) + len(replica.queue)) / replica.s.max_batch
    if route == "pack" and load < 1.0:
        return 0.0, -load if load else -1e-9
    hit = replica.found(job) if route == "prefix" and load < 1.0 else 0
    return -float(hit), load
