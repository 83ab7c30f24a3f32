"""What came of a site that was played: work, energy, peak, violations, trips, what was lost and why, and when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._site_state import REASONS, Live, Tally

if TYPE_CHECKING:
    from .controllers import Controller
    from .model import Site

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SiteRun:
    """One run under one controller. Work is in seconds at full speed of a node times its weight.

    Attributes
    ----------
    done, wanted, joules : (crews,). lost : (crews, reasons) work wanted and not done. over : (rows, 3) s above the
        limit, J above it, largest flow over limit. trips : (parts,) times each breaker opened.
    energy, peak : J and W of the whole site. history : (bins, 6) means over `bin` s: feed, its peak, limit, work done,
        work wanted, cooling. flows, loads : (steps, parts) W where they were traced.
    tasks_done : (crews,). tasks : done, and mean seconds of waiting and until done.
    thought : most s that one decision took; measured, so not the same from run to run and not part of `to_dict`.
    """

    controller: str
    seed: int
    lasts: float
    crews: tuple[str, ...]
    rows: tuple[str, ...]
    root: int
    done: Array
    wanted: Array
    lost: Array
    joules: Array
    over: Array
    trips: NDArray[np.int64]
    failures: int
    slow_spells: int
    tasks: Mapping[str, float]
    tasks_done: NDArray[np.int64]
    energy: float
    peak: float
    bin: float
    history: Array
    flows: Array
    loads: Array
    caps: Array
    thought: float
    dropped: int

    @staticmethod
    def of(
        site: Site, controller: Controller, seed: int, lasts: float, wide: float, out: Tally, live: Live, thought: float
    ) -> SiteRun:
        """Gather a run."""
        steps = round(lasts / site.physics.step)
        in_bin = np.full(len(out.history), float(out.every))
        in_bin[-1] = steps - out.every * (len(out.history) - 1)
        history = out.history.copy()
        for column in (0, 5):
            history[:, column] /= in_bin
        history[:, 3:5] /= (in_bin * site.physics.step)[:, None]
        done = int(out.events[2])
        begun = int(out.events[4])
        return SiteRun(
            controller=controller.name, seed=seed, lasts=lasts, crews=tuple(crew.name for crew in site.crews),
            rows=site.tree.row_names, root=site.tree.root, done=out.done, wanted=out.wanted, lost=out.lost,
            joules=out.joules, over=out.over, trips=out.trips, failures=int(out.events[0]),
            slow_spells=int(out.events[1]), tasks={} if not len(live.left) else {
                "done": done, "waited_s": float(out.waited[0]) / max(begun, 1), "until_done_s": float(out.waited[1]) /
                max(done, 1),
            },
            tasks_done=_finished(site, live),
            energy=float(out.feed[0]), peak=float(out.feed[1]), bin=wide, history=history, flows=out.flows,
            loads=out.loads, caps=live.cap.copy(), thought=thought, dropped=getattr(controller, "dropped", 0),
        )  # fmt: skip

    @property
    def over_s(self) -> float:
        """Seconds above the limit of the part that was longest above its own."""
        return float(self.over[:, 0].max())

    @property
    def share(self) -> float:
        """Work done of work wanted."""
        return float(self.done.sum() / max(self.wanted.sum(), 1e-300))

    def lost_by(self) -> dict[str, float]:
        """Return work lost by reason, as a share of what was wanted."""
        whole = max(float(self.wanted.sum()), 1e-300)
        return {name: float(x) / whole for name, x in zip(REASONS, self.lost.sum(axis=0), strict=True)}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values under stable keys."""
        over = [
            {"name": self.rows[r], "over_s": float(self.over[r, 0]), "over_j": float(self.over[r, 1]),
             "worst": float(self.over[r, 2])}
            for r in np.flatnonzero(self.over[:, 0] > 0)
        ]  # fmt: skip
        return {
            "controller": self.controller, "seed": self.seed, "lasts_s": self.lasts,
            "work": float(self.done.sum()), "work_share": self.share, "lost": self.lost_by(),
            "energy_j": self.energy, "work_per_j": float(self.done.sum()) / max(self.energy, 1e-300), "peak_w":
            self.peak, "over_s": self.over_s, "violations": over[:20], "parts_over": len(over),
            "trips": {self.rows[p]: int(n) for p, n in enumerate(self.trips) if n},
            "failures": self.failures, "slow_spells": self.slow_spells, "tasks": dict(self.tasks),
            "minimum_dropped": self.dropped,
            "crews": [
                {"name": name, "work": float(self.done[g]), "wanted": float(self.wanted[g]),
                 "share": float(self.done[g] / max(self.wanted[g], 1e-300)), "energy_j": float(self.joules[g]),
                 "tasks_done": int(self.tasks_done[g]),
                 "lost": {why: float(x) for why, x in zip(REASONS, self.lost[g], strict=True)}}
                for g, name in enumerate(self.crews)
            ],
        }  # fmt: skip


def _finished(site: Site, live: Live) -> NDArray[np.int64]:
    """Return how many tasks of each crew are done: those handed out that are not at work and not to be done again."""
    begun = live.head - live.first
    at_work = np.bincount(site.group[live.task >= 0], minlength=len(site.crews))
    return np.asarray(begun - at_work - live.again_count, np.int64)
