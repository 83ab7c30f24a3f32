"""Studies of designs, placements and searches in the studio: the report that the command line writes, whole.

These answers have pages of their own, with their charts and tables; the studio shows that page beside the text of
the scenario instead of drawing it again.
"""

from __future__ import annotations

import re
import tomllib
from html import unescape
from pathlib import Path
from typing import Any, Final

from ...core.errors import InputError
from ..door import plan as planned
from .inbox import Request

Json = dict[str, Any]

# Kind of question -> what it is called.
WORDS: Final = {
    "design": "Study of designs", "placement": "Placement", "regions": "Plan of several sites",
    "search": "Search of settings",
}  # fmt: skip
_TAG: Final = re.compile(r"<[^>]+>")


def kind(request: Request) -> str:
    """Return "design", "placement", "regions" or "search"; "" for anything else, what cannot be read among it."""
    try:
        data = tomllib.loads(request.scenario)
    except tomllib.TOMLDecodeError:
        return ""
    if "design" in data:
        return "design"
    if "region" in data and "job" in data:
        return "regions"
    if "pool" in data and "job" in data:
        return "placement"
    serve = data.get("serve")
    return "search" if isinstance(serve, dict) and "search" in serve else ""


def plan(request: Request, folder: Path) -> Json:
    """Return the report as one HTML page, its heading and the plain answer under the keys of `wattline plan --json`."""
    path = folder / "asked.toml"
    path.write_text(request.scenario, "utf-8")
    found = planned(path, changes=request.set, jobs=1)
    text = page(found.save(folder / "asked.html"))
    heading = re.search(r"<h1>(.*?)</h1>", text, re.DOTALL)
    return {
        "kind": "report",
        "of": kind(request),
        "title": WORDS[kind(request)],
        "headline": unescape(_TAG.sub("", heading[1])).strip() if heading else "",
        "answer": found.to_dict(),
        "layers": [],
        "html": text,
    }


def page(path: Path) -> str:
    """Return a written page and remove it."""
    text = path.read_text("utf-8")
    path.unlink()
    return text


def refuse(what: str, request: Request) -> None:
    """Say that the studio has no such view of these answers, and what does it."""
    if found := kind(request):
        raise InputError(
            f"a {WORDS[found].lower()} is not {what} in the page; edit the text, or script wattline plan --set"
        )
