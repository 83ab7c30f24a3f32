"""Waiting until a device's temperature stands still, so that one setting's heat is not the next one's leakage."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

# Looks a second apart; still when the last `STILL` of them lie within `BAND` degrees, the sensors' step and one more.
STEP: Final = 1.0
STILL: Final = 4
BAND: Final = 1.0


class Settle:
    """Wait at most `most` s for a temperature that stands still; 0 does not wait. A device that tells none is not
    waited for. Calling it returns the last temperature.
    """

    def __init__(
        self,
        most: float = 30.0,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.most = most
        self.in_vain = 0
        self._clock, self._sleep = clock, sleep

    def __call__(self, temperature: Callable[[], float | None]) -> float | None:
        until = self._clock() + self.most
        seen: deque[float] = deque(maxlen=STILL)
        while True:
            heat = temperature()
            if heat is None:
                return None
            seen.append(heat)
            if len(seen) == STILL and max(seen) - min(seen) <= BAND:
                return heat
            if self._clock() + STEP > until:
                self.in_vain += self.most > 0
                return heat
            self._sleep(STEP)
