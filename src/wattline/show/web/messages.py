"""What the page sends: one type per request, checked as it is read."""

from __future__ import annotations

import msgspec

from .inbox import Request


class Sweep(Request, frozen=True, forbid_unknown_fields=True):
    """A grid of values: dotted key -> values."""

    grid: dict[str, list[str]] = {}  # noqa: RUF012  (msgspec copies it)


class Simulate(Request, frozen=True, forbid_unknown_fields=True):
    """A simulation; with `policies`, every fixed clock and every policy beside it."""

    policies: bool = False


class Export(Request, frozen=True, forbid_unknown_fields=True):
    """A file asked for: `kind` of `api.EXPORTS`, and which chart for a picture."""

    kind: str = "html"
    chart: str = "frontier"


class Stop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The task to stop."""

    task: str
