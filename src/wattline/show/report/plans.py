"""A pipeline's plan as a file that a runtime can follow, and as a picture of who runs when and at what clock."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ...core.errors import InputError
from ...frontier.answer import Answer
from . import charts, vega
from .page import write_html

PLANS, PICTURES = (".csv", ".json"), (".html", ".svg", ".png")


def write_plan(rows: Sequence[Mapping[str, Any]], head: Mapping[str, Any], path: Path) -> None:
    """Write one row per computation as CSV, each with its schedule, or with `head` beside the rows as JSON."""
    _suffix(path, PLANS, "plan")
    try:
        if path.suffix == ".json":
            path.write_bytes(msgspec.json.format(msgspec.json.encode({**head, "rows": list(rows)}), indent=1) + b"\n")
            return
        with path.open("w", encoding="utf-8", newline="") as stream:
            of = {"schedule": head["schedule"]} if "schedule" in head else {}
            rows = [{**row, **of} for row in rows]
            names = list(dict.fromkeys(name for row in rows for name in row))
            out = csv.DictWriter(stream, names, restval="", lineterminator="\n")
            out.writeheader()
            out.writerows(rows)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None


def write_picture(answer: Answer, path: Path, command: str = "") -> None:
    """Write the timeline as SVG or PNG, or the whole report as HTML."""
    _suffix(path, PICTURES, "picture")
    if path.suffix == ".html":
        write_html(answer, path, command=command)
        return
    drawn = charts.svg(charts.timeline(answer))
    try:
        if path.suffix == ".svg":
            path.write_text(drawn, "utf-8")
        else:
            path.write_bytes(vega.png(drawn))
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None


def _suffix(path: Path, known: Sequence[str], what: str) -> None:
    if path.suffix not in known:
        raise InputError(f"{path}: a {what} is written as {', '.join(known)}; end the name in one of them")


def check_suffixes(plan: Path | None, picture: Path | None) -> None:
    """Refuse names whose ending says nothing, before any long work."""
    if plan is not None:
        _suffix(plan, PLANS, "plan")
    if picture is not None:
        _suffix(picture, PICTURES, "picture")
