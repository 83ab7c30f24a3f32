"""What other packages add by entry points: sources, policies, chips, meters, carbon clients.

    [project.entry-points."wattline.sources"]
    mine = "my_package:MySource"

Groups: `wattline.sources` (callables that return a `Source`; chosen by hardware.source), `wattline.policies` (callables
that return a serving policy; chosen by serve.policy), `wattline.chips` (callables that return the path of a folder of
TOML files), `wattline.meters` and `wattline.carbon` (see `measure`). A name that Wattline has itself cannot be taken.
"""

from __future__ import annotations

import functools
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from .errors import InputError


@functools.cache
def named(group: str) -> dict[str, EntryPoint]:
    """Return name -> entry point of one group, in alphabetical order; of equal names the first stays."""
    found: dict[str, EntryPoint] = {}
    for point in sorted(entry_points(group=group), key=lambda p: p.name):
        found.setdefault(point.name, point)
    return found


def load(group: str, name: str) -> Any:
    """Return what the entry point calls, or one sentence on why it cannot be had."""
    point = named(group)[name]
    try:
        return point.load()()
    except Exception as error:  # the other package's fault, whatever it is
        raise InputError(f"{group} {name!r} ({point.value}) cannot be used: {type(error).__name__}: {error}") from error
