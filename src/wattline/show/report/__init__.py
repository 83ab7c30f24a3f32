"""A plan told to a person: tables in the terminal, charts, one self-contained HTML page, CSV.

Everything here only reads an `Answer`. Charts are specified once (`charts`) and drawn as SVG, PNG or
inside the page; nothing heavy is imported before it is asked for.
"""

from __future__ import annotations

from .charts import write_charts
from .design_page import write_design_charts, write_design_html
from .design_tables import show_design, write_designs
from .fleet_page import write_fleet_charts, write_fleet_html
from .fleet_tables import show_fleet, write_jobs
from .page import write_html
from .tables import write_knobs
from .terminal import show_plan

__all__ = [
    "show_design",
    "show_fleet",
    "show_plan",
    "write_charts",
    "write_design_charts",
    "write_design_html",
    "write_designs",
    "write_fleet_charts",
    "write_fleet_html",
    "write_html",
    "write_jobs",
    "write_knobs",
]
