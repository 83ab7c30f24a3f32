"""How a sweep is going, in a terminal: a line of progress and the time-energy plot so far; elsewhere a line a trial."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from ...core.units import show
from ...source.measured.profiled import Measured
from ..leases.actuator import UNITS, Knob
from .rounds import Rounds, count, half_widths
from .settings_sweep import Watcher

WIDTH, HEIGHT = 56, 14


def plot(points: Sequence[tuple[float, float, str]], width: int = WIDTH, height: int = HEIGHT) -> list[str]:
    """Points (s, J, one character) as lines of text with their axes; a later point is drawn over an earlier one.

    >>> for line in plot([(1.0, 4.0, "o"), (2.0, 3.0, "o")], 5, 2): print(line)
        4 J |o
        3 J |    o
            +-----
             1 s to 2 s
    """
    if not points:
        return []
    times, joules = [p[0] for p in points], [p[1] for p in points]
    low_t, high_t, low_e, high_e = min(times), max(times), min(joules), max(joules)
    rows = [[" "] * width for _ in range(height)]
    for t, e, mark in points:
        x = round((t - low_t) / ((high_t - low_t) or 1.0) * (width - 1))
        y = round((high_e - e) / ((high_e - low_e) or 1.0) * (height - 1))
        rows[y][x] = mark
    labels = {0: show(high_e, "J"), height - 1: show(low_e, "J")}
    lines = [f"{labels.get(k, ''):>7} |{''.join(row)}".rstrip() for k, row in enumerate(rows)]
    return [*lines, f"{'':8}+{'-' * width}", f"{'':9}{show(low_t, 's')} to {show(high_t, 's')}"]


def picture(profile: Measured) -> list[str]:
    """Every trial as a dot, settings' means as circles, those on the frontier as filled ones, with their settings."""
    if not profile.trials:
        return []
    points = [(t.seconds, t.joules, "·") for t in profile.trials]
    fitted = profile.fitted
    on = set(profile.frontier.time.tolist())
    for t, e in zip(fitted.time.tolist(), (fitted.fitted + profile.waiting_power * fitted.time).tolist(), strict=True):
        points.append((t, e, "●" if t in on else "○"))
    return plot(points)


def progress(profile: Measured, rounds: Rounds, doing: str) -> str:
    """One line: how far, what now, and how wide the widest interval is."""
    done, expected = len(profile.trials), rounds.expected(profile.trials)
    widest = max(half_widths(profile.trials).values(), default=math.inf)
    wide = f", widest interval ±{100 * widest:.2g} %" if math.isfinite(widest) else ""
    return f"{profile.name}: {done} of about {expected} trials{wide}, {doing}"


def trial_line(profile: Measured, rounds: Rounds) -> str:
    """One line about the latest trial."""
    t = profile.trials[-1]
    knob: Knob = profile.knob  # type: ignore[assignment]
    number = count(profile.trials)[t.value]
    heat = "" if t.temperature is None else f", from {t.temperature:.0f} °C"
    return (
        f"{len(profile.trials)}/{rounds.expected(profile.trials)} {show(t.value, UNITS[knob], 4)} #{number}: "
        f"{show(t.seconds, 's')}, {show(t.joules, 'J')}{heat}"
    )


@contextmanager
def watching(stream: TextIO | None = None) -> Iterator[Watcher]:
    """A watcher for this stream (standard error): redrawn in place on a terminal, else lines."""
    out = stream if stream is not None else sys.stderr
    shown = [0]
    if not out.isatty():

        def lines(profile: Measured, rounds: Rounds, doing: str) -> None:
            if len(profile.trials) > shown[0] and doing != "warming up":
                if shown[0] or len(profile.trials) == 1:
                    print(trial_line(profile, rounds), file=out, flush=True)
                shown[0] = len(profile.trials)

        yield lines
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(file=out), auto_refresh=False) as live:

        def draw(profile: Measured, rounds: Rounds, doing: str) -> None:
            lines = [progress(profile, rounds, doing), *picture(profile)]
            live.update(Text("\n".join(lines)), refresh=True)

        yield draw
