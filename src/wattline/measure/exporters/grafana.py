"""The Grafana dashboard that goes with the Prometheus endpoint, as text to import."""

from __future__ import annotations

from importlib import resources


def dashboard() -> str:
    """The dashboard's JSON; its data source is chosen on import."""
    return (resources.files(__package__) / "grafana.json").read_text("utf-8")
