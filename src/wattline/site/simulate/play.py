"""A site played second by second: jobs on nodes of a power tree, with failures, tasks, heat, breakers and a controller.

    tree + crews + physics + limits over time -> play(site, controller, seed) -> SiteRun

A crew is equal nodes of one job. Each node has the job's envelope of work against power (`plan.curves`); a cap in
watts picks a point on it. What the controller sees and may do is in `controllers.py`; a cap takes effect `actuation`
seconds after it was asked for.

What is modelled of heat: a node warms to ``inlet + rise * power / top power`` with one time constant and throttles
itself above `hottest`; cooling takes the site's heat with a lag, so its power follows the load late, and the inlet
warms with what it takes. In the steady state the flows are those of `PowerTree.flows`.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from ...core.errors import InputError
from . import _site
from ._site_make import live, plant, tally
from .controllers import Controller, Reading
from .model import Site
from .site_outcome import SiteRun

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

# Bins of the history where none are asked for.
_BINS = 288


def play(
    site: Site, controller: Controller, *, lasts: float, seed: int = 0, every: float | None = None, traced: int = 0
) -> SiteRun:
    """Play `lasts` seconds of a site under a controller; the same seed gives the same run, byte for byte.

    Parameters
    ----------
    every : s of a bin of the history. traced : steps for which the flow through every part is kept.
    """
    dt = site.physics.step
    steps = round(lasts / dt)
    if steps < 1:
        raise InputError(f"a site is played for one step of {dt:g} s or more, got {lasts:g} s")
    wide = max(1, round((lasts / _BINS if every is None else every) / dt))
    p = plant(site, seed, steps)
    s, out = live(site, p), tally(site, steps, wide, min(traced, steps))
    packed = (_site.kernel.pack(p), _site.kernel.pack(s), _site.kernel.pack(out))
    controller.start(site)
    changes = sorted({math.ceil(t / dt - 1e-9) for one in site.limits for t in (one.told, one.start, one.end)})
    delay, pace = math.ceil(site.physics.actuation / dt - 1e-9), max(1, round(min(controller.interval, lasts) / dt))
    pending: list[tuple[int, Array]] = []
    active = controller.interval < math.inf
    k, turn, due, thought = 0, 0, True, 0.0
    while k < steps:
        changes = changes[bisect_right(changes, k) :]
        if active and (due or k >= turn):
            turn = k + pace if k >= turn else turn
            began = time.perf_counter()
            # Cooling that lags must be given its time to follow, as far as the notice allows.
            ahead = (turn + delay) * dt + (site.physics.cooling if site.tree.overhead.at(site.tree.outdoor) else 0.0)
            caps = controller.act(Reading.of(site, s, k * dt, site.limit(k * dt, ahead)))
            thought = max(thought, time.perf_counter() - began)
            if caps is not None:  # the site begins under control
                pending.append((k + delay if k else 0, caps))
        while pending and pending[0][0] <= k:
            s.cap[:] = pending.pop(0)[1]
        stops = [steps, *changes[:1], *(at for at, _ in pending[:1]), *([turn] if active else [])]
        reached = _site.advance(*packed, site.limit(k * dt, k * dt), k, min(stops), active)
        due = reached < 0 or reached in changes[:1]
        k = -1 - reached if reached < 0 else reached
    return SiteRun.of(site, controller, seed, lasts, wide * dt, out, s, thought)
