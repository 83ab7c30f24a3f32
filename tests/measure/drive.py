"""Drives a monitor under a virtual clock, as its thread would."""

from __future__ import annotations

import random
from typing import Protocol

from wattline.measure.devices.replay import ReplayMeter, VirtualClock
from wattline.measure.monitor import Monitor
from wattline.measure.window import Window


class Time(Protocol):
    """A clock that a test can set."""

    now: float

    def __call__(self) -> float: ...


class Driver:
    """Polls `monitor` whenever it asks to be, while `run` moves the clock on."""

    def __init__(self, monitor: Monitor, clock: Time, seed: int = 0) -> None:
        self.monitor, self.clock, self._random = monitor, clock, random.Random(seed)
        monitor.prepare()
        self._due = clock.now

    def run(self, seconds: float) -> None:
        """Let time pass, with the thread's turns a little late as on a real machine."""
        until = self.clock.now + seconds
        while self._due <= until:
            self.clock.now = max(self.clock.now, self._due)
            wait = self.monitor.poll()
            self._due = self.clock.now + (wait or self.monitor.interval) * self._random.uniform(1.0, 1.1)
        self.clock.now = until

    def window(self, seconds: float, settle: float = 0.3, name: str = "window") -> Window:
        """A window of so many s, then time to see its end."""
        window = Window(name, self.monitor).begin()
        self._nudge()
        self.run(seconds)
        window.end()
        self._nudge()
        self.run(settle)
        return window

    def _nudge(self) -> None:
        chased = self.monitor._chased()
        if chased:
            self._due = min(self._due, self.clock.now + self.monitor._chase_step(chased))


class Replayed(Monitor):
    """A replayed device of 200 W on an invented clock, ; `wait` lets time pass."""

    def __init__(self) -> None:
        self.now = VirtualClock()
        meter = ReplayMeter(200.0, clock=self.now, update=0.002, limit=400.0)
        super().__init__([meter], clock=self.now, thread=False)
        self.driver = Driver(self, self.now)

    def wait(self, seconds: float) -> None:
        """Let time pass, the monitor's turns included."""
        self.driver.run(seconds)

    def settle(self, edges, timeout=1.0) -> bool:
        """The sensors' next update comes as time passes."""
        self.wait(0.1)
        return super().settle(edges, 0.0)
