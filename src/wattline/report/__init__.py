"""A plan told to a person: tables in the terminal, charts, one self-contained HTML page, CSV.

Everything here only reads an `Answer`. Charts are specified once (`charts`) and drawn as SVG, PNG or
inside the page; nothing heavy is imported before it is asked for.
"""

from __future__ import annotations

from .charts import write_charts
from .page import write_html
from .tables import write_knobs
from .terminal import show_plan

__all__ = ["show_plan", "write_charts", "write_html", "write_knobs"]
