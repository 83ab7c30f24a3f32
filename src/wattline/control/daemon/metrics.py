"""What the daemon tells Prometheus: who holds how much, what was asked and refused, and what could not be put back."""

from __future__ import annotations

import math
from typing import Final

from ...measure.exporters.prometheus import Metric, Sample
from ...measure.exporters.prometheus import render as text
from .service import Service

METRICS: Final = {
    metric.name: metric
    for metric in (
        Metric("wattline_daemon_sessions", "gauge", "Connections that are open.", ()),
        Metric("wattline_daemon_leases", "gauge", "Devices that are held.", ()),
        Metric(
            "wattline_daemon_messages_total", "counter", "Messages by kind and by what came of them.", ("op", "code")
        ),
        Metric("wattline_daemon_set_seconds_total", "counter", "Time taken by settings that were made.", ()),
        Metric("wattline_daemon_budget_watts", "gauge", "The power budget that clients share.", ()),
        Metric("wattline_daemon_held_watts", "gauge", "What clients hold of it.", ()),
        Metric("wattline_daemon_device_held_watts", "gauge", "What is held on a device.", ("uuid",)),
        Metric("wattline_daemon_not_put_back_total", "counter", "Knobs that were not put back to what was found.", ()),
        Metric("wattline_daemon_dry_run", "gauge", "1 if nothing is set.", ()),
    )
}


def render(service: Service) -> str:
    """The metrics in Prometheus's text format."""
    budget = service.budget
    rows: list[Sample] = [
        ("wattline_daemon_sessions", {}, float(len(service.sessions))),
        ("wattline_daemon_leases", {}, float(len(service.keeper.leases))),
        *(
            ("wattline_daemon_messages_total", {"op": op, "code": code}, float(count))
            for (op, code), count in sorted(service.counts.items())
        ),
        ("wattline_daemon_set_seconds_total", {}, service.set_seconds),
        ("wattline_daemon_held_watts", {}, budget.used),
        *(("wattline_daemon_device_held_watts", {"uuid": d}, watts) for d, watts in sorted(budget.held.copy().items())),
        ("wattline_daemon_not_put_back_total", {}, float(service.not_put_back)),
        ("wattline_daemon_dry_run", {}, float(service.keeper.dry_run)),
    ]
    if math.isfinite(budget.watts):
        rows.append(("wattline_daemon_budget_watts", {}, budget.watts))
    return text(rows, METRICS)
