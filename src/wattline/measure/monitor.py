"""One reader per process: it owns the meters, reads them at the ends of windows, and samples between.

    first window      probe: read every millisecond until the update period of each counter is known
    open windows      sample: 10 times a second; after each end of a window, follow slow counters to their update
    none open         linger until the last edges are known, then sleep at no cost

`poll` is one turn of that loop and returns how long to wait, so a test drives it with an invented clock
and the thread here is three lines.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import threading
import time
from collections.abc import Callable, Iterable

from .contain import Mirrors
from .live import Live, live
from .meter import Clock, Meter, MeterError, Missing
from .track import FEWEST_GAPS, Edge, Tick, Track

__all__ = ["Live", "Monitor", "default", "use"]

# Seconds between two samples; the step and the longest time of a probe, and the updates it wants to see.
INTERVAL = 0.1
PROBE_STEP = 0.001
PROBE_SECONDS = 1.0
PROBE_TICKS = FEWEST_GAPS
STATE_SECONDS = 1.0
LINGER = 1.0
# After the end of a window on a counter slower than CHASE s, its next update is looked for this many times per period.
CHASE = 0.005
CHASE_STEPS = 16
# For so long after live power was asked for, an update of slow counters is looked for so often, s.
LIVE_SECONDS = 10.0
LIVE_STEP = 0.5
# Kinds of counters that can be one register under several names.
MIRRORED = ("rapl", "hwmon:amd_energy")
# Power sensors that show an instant are read so often, s on average, at random: a load that keeps time is not missed.
POWER_INTERVAL = 0.05
# A device that was lost is asked again after so many s.
RETRY = 5.0


class Monitor:
    """Meters read together. Constructing it touches nothing; `start` or a first window does.

    meters : a list, or a function that finds them when first needed (returning meters and what is missing).
    clock : seconds, never going back. thread : False leaves calling `poll` to the caller.
    interval : s between samples.
    """

    def __init__(
        self,
        meters: Iterable[Meter] | Callable[[], tuple[list[Meter], list[Missing]]],
        *,
        clock: Clock = time.perf_counter,
        thread: bool = True,
        interval: float = INTERVAL,
    ) -> None:
        self.clock = clock
        self.interval = interval
        self.missing: list[Missing] = []
        self.tracks: list[Track] = []
        self._quick: list[Track] = []
        self._slow: list[Track] = []
        self._slow_at = self._sampled_at = -1e9
        self._slow_thread: threading.Thread | None = None
        self.began = 0.0
        self._find = meters if callable(meters) else None
        self._given = [] if callable(meters) else list(meters)
        self._thread_wanted = thread
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._lock = threading.RLock()
        self._open = 0
        self._ready = False
        self._idle_since: float | None = None
        self._probe_from: float | None = None
        self._probe: dict[int, list[Tick]] = {}
        self._instant: list[Track] = []
        self._random = random.Random(0)
        self._asked = self._marked = -1e9
        self._mirrors, self._mirror_at = Mirrors(), -1e9
        self._state_at = -1e9
        self._stopped = False

    # ---- use ----

    def prepare(self) -> None:
        """Find the meters and take a first reading; does nothing the second time."""
        if self._ready:
            return
        with self._lock:
            if self.began:
                return
            meters = self._given
            if self._find is not None:
                try:
                    meters, missing = self._find()
                    self.missing.extend(missing)
                except Exception as error:
                    self.missing.append(Missing("sensors", f"the search failed: {type(error).__name__}: {error}"))
            seen: dict[str, Track] = {}
            for meter in meters:
                if meter.key in seen:
                    self.missing.append(Missing(meter.key, "found twice; the first is used"))
                else:
                    seen[meter.key] = Track(meter)
            self.tracks = list(seen.values())
            self._quick = [track for track in self.tracks if not track.meter.slow]
            self._slow = [track for track in self.tracks if track.meter.slow]
            self._instant = [
                t for t in self._quick if t.meter.method != "counter" and t.sensor.averaging < self.interval
            ]
            self.began = self.clock()
            self.sample()
            self._watch()
            self._ready = True

    @property
    def ready(self) -> bool:
        """Whether the meters are found."""
        return self._ready

    def open(self, begun: float | None = None) -> list[Edge]:
        """Begin a window: read every meter, then mark the instant after; or one that lies behind, `begun` s."""
        if not self._ready:
            self.prepare()
        with self._lock:
            self._open += 1
            if self._idle_since is not None and self.clock() - self._idle_since > LINGER:
                for track in self.tracks:
                    track.rest()
            self._idle_since = None
        self.sample()
        now = self.clock() if begun is None else begun
        edges = [track.edge(now) for track in self.tracks]
        self._run()
        return edges

    def close(self) -> list[Edge]:
        """End a window: mark the instant, after which every meter is read."""
        now = self.clock()
        self.sample()
        edges = [track.edge(now) for track in self.tracks]
        with self._lock:
            self._open -= 1
            if self._open <= 0:
                self._open = 0
                self._idle_since = now
        self._nudge()
        return edges

    def mark(self) -> list[Edge]:
        """Read every meter and mark the instant before, for a look into an open window."""
        now = self.clock()
        self.sample()
        return [track.edge(now) for track in self.tracks]

    def settle(self, edges: Iterable[Edge], timeout: float = 1.0) -> bool:
        """Wait until the sensors have updated past these edges; False when the time ran out."""
        pairs = list(zip(self.tracks, edges, strict=False))
        until = time.monotonic() + timeout
        while any(not track.settled(edge) and not track.error for track, edge in pairs):
            if self._thread is None or time.monotonic() > until:
                return False
            time.sleep(0.002)
        return True

    def live(self) -> list[Live]:
        """Every device as last sampled."""
        self.prepare()
        self._asked = self.clock()
        return [live(track) for track in self.tracks]

    def watch(self) -> contextlib.AbstractContextManager[Monitor]:
        """Keep sampling while this is entered, with no window: for a display or an exporter."""
        return _Watching(self)

    def stop(self) -> None:
        """Stop the thread and close the meters."""
        self._stopped = True
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=2.0)
        for track in self.tracks:
            with contextlib.suppress(Exception):
                track.meter.close()

    # ---- the loop ----

    def sample(self) -> None:
        """Read every quick meter once; a failure is noted on its track and never raised."""
        self._read(self._quick)

    def _read(self, tracks: list[Track]) -> None:
        clock = self.clock
        for track in tracks:
            before = clock()
            if track.lost and before < track.retry:
                continue
            try:
                value = track.meter.read()
            except MeterError as error:
                track.fail(clock(), error.reason, lost=error.lost, fix=error.fix)
                track.retry = before + RETRY
                continue
            except Exception as error:
                track.fail(clock(), f"{type(error).__name__}: {error}")
                continue
            track.inbox.append((before, clock(), value))

    def poll(self) -> float | None:
        """One turn: sample, learn periods, and return the s to wait; None to sleep until a window opens."""
        now = self.clock()
        early = now - self._sampled_at < 0.9 * self.interval
        between = [*self._chased(), *self._instant] if early else []
        if between:
            self._read(list(dict.fromkeys(between)))
            return self._wait()
        self._sampled_at = now
        self.sample()
        for track in self.tracks:
            track.drain()
        if not self._thread_wanted and now - self._slow_at >= STATE_SECONDS:
            self._slow_at = now
            self._read(self._slow)
        if now - self._state_at >= STATE_SECONDS:
            self._watch()
        if now - self._asked < LIVE_SECONDS and now - self._marked >= LIVE_STEP:
            # Whoever looks at live power gets ends of its span that are known well.
            self._marked = now
            for track in self._quick:
                if track.period is not None and CHASE <= track.period < self.interval * 8:
                    track.edge(now)
        self._mirrored(now)
        probing = self._learn(now)
        with self._lock:
            idle = self._idle_since
            if idle is not None and now - idle > LINGER:
                return None
        return PROBE_STEP if probing else self._wait()

    def _wait(self) -> float:
        """Seconds until the next turn."""
        chased = self._chased()
        wait = min(self.interval, self._chase_step(chased)) if chased else self.interval
        if self._instant:
            wait = min(wait, self._random.uniform(0.5, 1.5) * min(POWER_INTERVAL, self.interval))
        return wait

    def _mirrored(self, now: float) -> None:
        """Watch processors' counters for the first two seconds: two that move in step are one and are added once."""
        if self._mirrors.done or now - self._mirror_at < 0.5 * self.interval:
            return
        self._mirror_at = now
        own = {t.meter.key: t for t in self._quick if t.meter.kind in MIRRORED and t.meter.method == "counter"}
        if len(own) < 2:
            self._mirrors.done = True
            return
        raw = {key: track.raw for key, track in own.items() if track.raw is not None}
        for key, other in self._mirrors.look(now, raw):
            meter = own[key].meter
            meter.within = (*meter.within, other)
            meter.flags = (*meter.flags, "mirror")
            self.missing.append(Missing(meter.name, f"moves in step with {own[other].meter.name}, so it is added once"))

    def _chased(self) -> list[Track]:
        """Slow counters whose next update would place an end of a window."""
        return [t for t in self._quick if t.waiting and (t.period or 0.0) >= CHASE and not t.error]

    def _chase_step(self, tracks: list[Track]) -> float:
        """Seconds until the next look for an update: a part of a period, or until one is due at all."""
        now = self.clock()
        return max(PROBE_STEP, min(max(t.due(now), (t.period or CHASE) / CHASE_STEPS) for t in tracks))

    def _watch(self) -> None:
        """Ask every device for its clocks and temperature."""
        now = self._state_at = self.clock()
        for track in self.tracks:
            with contextlib.suppress(Exception):
                track.observe(now, track.meter.state())

    def _learn(self, now: float) -> bool:
        """Learn the update periods of counters; True while it is worth reading quickly."""
        unknown = [t for t in self.tracks if t.period is None and not t.error and t.meter.method == "counter"]
        if not unknown:
            self._probe.clear()
            return False
        if self._probe_from is None:
            self._probe_from = now
        over = now - self._probe_from > PROBE_SECONDS
        for track in unknown:
            found = self._probe.setdefault(id(track), [])
            last = track.last
            if last is not None and track.changed and (not found or last.hi > found[-1].hi):
                found.append(last)
            gaps = [(b.middle - a.middle, (a.hi - a.lo + b.hi - b.lo) / 2) for a, b in itertools.pairwise(found)]
            if len(gaps) >= PROBE_TICKS or (over and len(gaps) >= 3):
                track.learn(gaps)
        # A counter that has not moved three times in a second is asked again at the slow rate.
        return not over and any(track.period is None for track in unknown)

    def _run(self) -> None:
        """Start the thread if there is none, and wake it."""
        if not self._thread_wanted or not self.tracks:
            return
        if self._thread is None or not self._thread.is_alive():
            with self._lock:
                if self._thread is None or not self._thread.is_alive():
                    self._thread = threading.Thread(target=self._loop, name="wattline-monitor", daemon=True)
                    self._thread.start()
                    if self._slow:
                        self._slow_thread = threading.Thread(target=self._slowly, name="wattline-slow", daemon=True)
                        self._slow_thread.start()
        else:
            self._nudge()

    def _nudge(self) -> None:
        """Have the thread look at new edges now and not at its next turn."""
        if not self._wake.is_set():
            self._wake.set()

    def _loop(self) -> None:
        while not self._stopped:
            try:
                wait = self.poll()
            except Exception:  # a fault of ours must not end the sampling of a run
                wait = self.interval
            # Cleared before the check: a window that opens in between sets it again.
            self._wake.clear()
            if wait is None:
                if self._idle_since is not None and not self._stopped:
                    self._wake.wait()
            elif self._wake.wait(wait) and (chased := self._chased()):
                time.sleep(self._chase_step(chased))

    def _slowly(self) -> None:
        """Read slow meters once a second, beside the quick ones, while anything is open."""
        while not self._stopped:
            idle = self._idle_since
            if idle is not None and self.clock() - idle > 3 * LINGER:
                self._wake.wait()
            self._read(self._slow)
            time.sleep(STATE_SECONDS)


class _Watching(contextlib.AbstractContextManager[Monitor]):
    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    def __enter__(self) -> Monitor:
        self._monitor.open()
        return self._monitor

    def __exit__(self, *_: object) -> None:
        self._monitor.close()


_default: Monitor | None = None
_default_lock = threading.Lock()


def default() -> Monitor:
    """The monitor of this process, over every sensor of this machine; made at first use."""
    global _default
    if _default is None:
        with _default_lock:
            if _default is None:
                from .find import find

                _default = Monitor(find)
    return _default


def use(monitor: Monitor | None) -> Monitor | None:
    """Make this the monitor of the process, for a replayed device or one's own meters; returns the one before."""
    global _default
    before, _default = _default, monitor
    return before


def _forked() -> None:
    """A child after fork has no thread and may not use the parent's handles: start afresh at first use."""
    global _default, _default_lock
    _default, _default_lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
