"""Control: plans into settings, safely. A lease is the right to set one device, and leaves it as it was found.

actuator     what can be set: power limit, core clock, memory clock      nvidia, amd, rapl, simulated
lease        what was found is on the disk before the first change (journal, audit) and comes back
daemon       the only part that needs privilege: policy, budget, protocol, service;  client
profile      a command over its clocks or limits becomes a measured frontier
tune         a running loop's limit or clock follows what its steps take (tuner: when to look; landscape: a belief)
follow       a pipeline's plan, clock by clock
govern       a server keeps its latency promise at the lowest clock that does (governor, scrape)
straggler    pipelines beside a slower one move along their stored frontiers
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .daemon.client import Client, lease
    from .leases.actuator import Actuator, ControlError
    from .leases.keeper import Keeper, Lease

__all__ = ["Actuator", "Client", "ControlError", "Keeper", "Lease", "lease"]

_HOME = {
    "Actuator": "leases.actuator",
    "ControlError": "leases.actuator",
    "Client": "daemon.client",
    "lease": "daemon.client",
    "Keeper": "leases.keeper",
    "Lease": "leases.keeper",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
