"""A frontier or an answer in a notebook: a small chart and a table, as HTML that needs nothing else.

Plain SVG and no script, so that it shows in Jupyter, in an exported page and where scripts are blocked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..core.units import show

Array = NDArray[np.float64]

_WIDTH, _HEIGHT = 520, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 16, 12, 40
# Colours that stand out on light and dark pages alike (3:1 or more on both).
_CURVE, _BASE, _CHOSEN = "#2f7fc1", "#7a828e", "#d2522d"
# Most points drawn, and rows of a table.
_POINTS: Final = 200
_ROWS: Final = 12


def chart(time: Array, energy: Array, marks: Sequence[tuple[str, float, float]] = (), *, of: str = "") -> str:
    """Return the curve of (s, J) as SVG, with `marks` (name, s, J) on it; `of` says what the joules are for."""
    finite = np.isfinite(time) & np.isfinite(energy)
    time, energy = time[finite], energy[finite]
    if not time.size:
        return "<p>Nothing to draw: no choice.</p>"
    keep = np.unique(np.linspace(0, time.size - 1, min(time.size, _POINTS)).round().astype(int))
    xs, ys = [*time[keep], *(t for _, t, _ in marks)], [*energy[keep], *(e for _, _, e in marks)]
    x, y = _axis(xs, _LEFT, _WIDTH - _RIGHT), _axis(ys, _HEIGHT - _BOTTOM, _TOP)
    path = " ".join(
        f"{'L' if i else 'M'}{x(t):.1f},{y(e):.1f}"
        for i, (t, e) in enumerate(zip(time[keep], energy[keep], strict=True))
    )
    out = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img" aria-label="Energy against time" '
        'style="font:12px system-ui,sans-serif;max-width:100%">'
    ]
    out += [_tick(show(v, "s"), x(v), _HEIGHT - _BOTTOM + 18, "middle") for v in _ends(xs)]
    out += [_tick(show(v, "J"), _LEFT - 8, y(v) + 4, "end") for v in _ends(ys)]
    out.append(
        f'<path d="M{_LEFT},{_TOP}V{_HEIGHT - _BOTTOM}H{_WIDTH - _RIGHT}" fill="none" '
        'stroke="currentColor" opacity=".3"/>'
    )
    out.append(f'<path d="{path}" fill="none" stroke="{_CURVE}" stroke-width="2"/>')
    out += [
        f'<circle cx="{x(t):.1f}" cy="{y(e):.1f}" r="2.5" fill="{_CURVE}"/>'
        for t, e in zip(time[keep], energy[keep], strict=True)
    ]
    for name, t, e in marks:
        colour = _CHOSEN if name == "chosen" else _BASE
        right = x(t) > _WIDTH - 140
        out.append(f'<rect x="{x(t) - 5:.1f}" y="{y(e) - 5:.1f}" width="10" height="10" fill="{colour}"/>')
        out.append(_tick(name, x(t) + (-10 if right else 10), y(e) - 8, "end" if right else "start"))
    out.append(_tick(f"time{of}", (_LEFT + _WIDTH) / 2, _HEIGHT - 4, "middle"))
    return "".join(out) + "</svg>"


def _axis(values: Sequence[float], start: float, stop: float) -> Callable[[float], float]:
    """Return the place on the picture of a value, with a little room at both ends."""
    low, high = min(values), max(values)
    room = 0.05 * (high - low or abs(high) or 1.0)
    low, high = low - room, high + room
    return lambda v: start + (v - low) / (high - low) * (stop - start)


def _ends(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    return [low, (low + high) / 2, high] if high > low else [low]


def _tick(text: str, x: float, y: float, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="currentColor">{escape(text)}</text>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], note: str = "") -> str:
    """Return a table as HTML, its texts escaped."""
    cells = "".join(f"<th>{escape(h)}</th>" for h in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in rows)
    foot = f"<p>{escape(note)}</p>" if note else ""
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>{foot}"


def frontier(time: Array, energy: Array, waiting_power: float) -> str:
    """Return the chart and a table of choices: time, joules above waiting and in all, mean power; a dozen rows."""
    whole = energy + waiting_power * time
    rows = []
    for i in np.unique(np.linspace(0, max(0, time.size - 1), min(time.size, _ROWS)).round().astype(int)):
        power = float(whole[i] / time[i]) if time[i] > 0 else math.inf
        joules = show(float(energy[i]), "J", 4), show(float(whole[i]), "J", 4)
        rows.append([show(float(time[i]), "s", 4), *joules, show(power, "W")])
    note = f"{time.size} choices, {_ROWS} shown" if time.size > _ROWS else ""
    return chart(time, whole) + table(["Time", "Above waiting", "Energy", "Power"], rows, note)
