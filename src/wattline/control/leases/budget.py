"""Watts and changes that clients share: a power budget over what they hold, and a bucket of changes for each user."""

from __future__ import annotations

import math
from collections.abc import Callable

from ...core.units import show
from .actuator import ControlError

Clock = Callable[[], float]


class Budget:
    """A bound on the sum of the power limits that clients hold; a device that no one holds is not counted.

    >>> budget = Budget(1000.0)
    >>> budget.hold("a", 600.0)
    >>> budget.left
    400.0
    """

    def __init__(self, watts: float = math.inf) -> None:
        self.watts = watts
        self.held: dict[str, float] = {}

    @property
    def used(self) -> float:
        """W held by all."""
        return math.fsum(self.held.values())

    @property
    def left(self) -> float:
        """W that may still be taken."""
        return self.watts - self.used

    def hold(self, device: str, watts: float) -> None:
        """Count a device at so many watts, in place of what it had; refused where the sum would exceed the budget."""
        # Less is always allowed: a budget lowered meanwhile must not keep anyone from giving back.
        if watts > self.held.get(device, 0.0) and self.used - self.held.get(device, 0.0) + watts > self.watts * (
            1 + 1e-9
        ):
            most = max(0.0, self.left + self.held.get(device, 0.0))
            raise ControlError(
                "budget",
                f"the power budget of {show(self.watts, 'W', 4)} has {show(most, 'W', 4)} left, "
                f"and {device} would hold {show(watts, 'W', 4)}",
                "ask for a lower power limit, or wait for others to release theirs",
            )
        self.held[device] = watts

    def release(self, device: str) -> None:
        """A device is no longer held."""
        self.held.pop(device, None)


class Bucket:
    """A token bucket: `rate` changes per second, and as many at once as a second holds (but at least one)."""

    def __init__(self, rate: float, clock: Clock) -> None:
        self.rate, self._clock = rate, clock
        self._tokens, self._at = max(1.0, rate), clock()

    def take(self, who: str) -> None:
        """Use one token; refused where none is left."""
        now = self._clock()
        self._tokens = min(max(1.0, self.rate), self._tokens + self.rate * max(0.0, now - self._at))
        self._at = now
        if self._tokens < 1.0:
            wait = (1.0 - self._tokens) / self.rate if self.rate > 0 else math.inf
            told = show(wait, "s", 2) if math.isfinite(wait) else "for another policy"
            raise ControlError("rate", f"{who} may make {self.rate:g} changes per second", f"wait {told}")
        self._tokens -= 1.0
