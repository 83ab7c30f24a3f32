"""State of the site simulator: N nodes in G groups on P parts of a power tree, as arrays in named tuples."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[Any]

UP, FAILED, DARK = 0, 1, 2
# Reasons that work is lost for: columns of `Tally.lost`.
CAPPED, BROKEN, WAITING, TRIPPED = 0, 1, 2, 3
REASONS = ("capped", "failed", "waiting", "dark")
# What is kept over time: columns of `Tally.history`, per bin.
FEED, PEAK, LIMIT, DONE, WANTED, COOLING = 0, 1, 2, 3, 4, 5


class Plant(NamedTuple):
    """What does not change. Group g has its vertices, W and shares of full speed, at `curve[g] : curve[g + 1]`."""

    place: Ints  # (N,) part of the tree
    group: Ints  # (N,)
    gang: Ints  # (N,) nodes that go at one pace; -1: alone
    first: Ints  # (G + 1,) nodes of each group
    curve: Ints  # (G + 1,)
    power: Floats
    work: Floats
    idle: Floats  # (G,) W
    weight: Floats  # (G,) value of one node at full speed for a second
    load: Floats  # (G,) share of full speed asked for; of groups with tasks, ignored
    swing: Floats  # (G,) of the load over a day, relative
    quiet: Floats  # (G,) share of the power above idle that the quiet phase takes
    leave: Floats  # (G, 2) chance of the other phase after a step, from loud and quiet
    heat: Floats  # (G,) K of a node above its inlet per W
    tasks: Ints  # (G + 1,) tasks of each group; none where it is always at work
    arrive: Ints  # (T,) step
    size: Floats  # (T,) seconds at full speed
    parent: Ints  # (P,)
    order: Ints  # (P,) every part after what hangs on it, the feed last
    factor: Floats  # (P,) W in per W passed on, without the site's overhead
    standing: Floats  # (P,) W
    rating: Floats  # (P,) W that the breaker carries for ever
    pool: Ints  # (Q + 1,) members of each pool of parts
    member: Ints
    dt: float
    seed: int
    fixed: float  # W of the site's overhead
    share: float  # W of cooling per W of heat removed
    cooled: float  # share of the distance that cooling closes in a step
    warmed: float  # the same for a node's temperature
    supply: float  # K of the air that cooling supplies
    room: float  # K that the inlet rises per W of heat removed
    hottest: float  # K at which a node throttles itself
    failing: float  # steps between a node's failures, mean; infinite: never
    repair: float  # steps, mean
    restart: float  # steps that a gang needs after a node failed or came back
    rework: float  # seconds of a task lost when its node fails
    slowing: float  # steps between a node's slow spells, mean
    slowed: float  # steps that one lasts, mean
    pace: float  # of a straggler
    k: float  # breaker: s, exponent, s
    alpha: float
    reset: float
    knee: Floats  # (K,) logarithms of a trip table's ratios, none where the formula holds, and of its seconds
    hold: Floats
    reclose: float  # steps until a tripped part is switched on again


class Live(NamedTuple):
    """What changes."""

    cap: Floats  # (N,) W
    state: Ints  # (N,)
    back: Floats  # (N,) step of return
    fail: Floats  # (N,) step of the next failure
    turn: Floats  # (N,) step at which a slow spell begins or ends
    pace: Floats  # (N,) 1, or that of a straggler
    phase: Ints  # (N,) 1: quiet
    beat: Ints  # (gangs,) their phase
    slowest: Floats  # (gangs,) pace of the slowest node
    task: Ints  # (N,) -1: none
    left: Floats  # (T,) s of work left
    again: Ints  # (N,) tasks to be done again, a stack in each group's place
    again_count: Ints  # (G,)
    free: Ints  # (N,) nodes without a task, a stack in each group's place
    free_count: Ints  # (G,)
    listed: Ints  # (N,) on that stack
    first: Ints  # (G,) its first task
    head: Ints  # (G,) next task to come
    draws: Ints  # (N,) random numbers used
    allowed: Floats  # (N,) share of full speed under the cap
    power: Floats  # (N,) W
    temperature: Floats  # (N,) K
    below: Floats  # (P,) W of loads and of what hangs on a part
    flow: Floats  # (P,) W in
    load: Floats  # (P,) W of nodes
    off: Floats  # (P,) step until which a part is off; 0: on
    heat: Floats  # (P,) state of the breaker, trips at 1
    removed: Floats  # (1,) W of heat that cooling takes now
    asked: Floats  # (G,) share of full speed asked for now


class Tally(NamedTuple):
    """What came of it. Work is in seconds at full speed of a node times its weight."""

    done: Floats  # (G,)
    wanted: Floats  # (G,)
    lost: Floats  # (G, 4)
    joules: Floats  # (G,)
    over: Floats  # (P + Q, 3) s above the limit, J above it, largest flow over limit
    trips: Ints  # (P,)
    events: Ints  # (5,) failures, slow spells, tasks done, parts switched on again, tasks begun
    waited: Floats  # (2,) s of tasks before they began and until they were done
    feed: Floats  # (2,) J of the site, largest W
    history: Floats  # (bins, 6)
    every: int
    flows: Floats  # (steps or 0, P)
    loads: Floats  # (steps or 0, P)
