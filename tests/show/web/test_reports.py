"""Tests for `wattline.show.web.reports`: studies, placements and searches as pages in the studio."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from wattline.core.errors import InputError
from wattline.show.web import api, reports
from wattline.show.web.app import create
from wattline.show.web.inbox import Request

STUDY = """
[model]
name = "llama-3.2-1b"
[hardware]
chip = "h100-like"
chips_per_node = 1
[serve]
rate = "1 req/s"
prompt = 200
output = 50
[design.vary]
"level.hbm.memory" = ["hbm3", "hbm4"]
"""


def quiet(_done: int, _total: int) -> None:
    """Tell nobody."""


def test_the_kind_is_told_by_sections() -> None:
    """A study, a placement, a search; fleets, plans and what cannot be read are none."""
    assert reports.kind(Request(STUDY)) == "design"
    assert reports.kind(Request("[[job]]\n[[pool]]\n")) == "placement"
    assert reports.kind(Request("[[job]]\n[[region]]\n")) == "regions"
    assert reports.kind(Request("[serve.search]\ntensor = [1, 2]\n")) == "search"
    for text in ("[[job]]\n", "[serve]\n", "serve = 3\n", "not toml ["):
        assert reports.kind(Request(text)) == ""


def test_a_study_is_shown_as_its_report() -> None:
    """The page is the one `wattline plan --html` writes; values set are in it; the heading is told apart."""
    found = api.plan(Request(STUDY, set={"serve.rate": "2 req/s"}), quiet)
    assert found["kind"] == "report"
    assert found["answer"]["kind"] == "design"
    assert found["headline"]
    assert "<" not in found["headline"]
    assert "What limits it" in found["html"]
    assert api.preview(Request(STUDY), quiet)["row"] is None


def test_several_sites_are_shown_as_their_report() -> None:
    """What moves where, as `wattline plan` has it."""
    text = (
        '[[region]]\nname = "x"\n[[region]]\nname = "y"\npue = 1.5\n[[job]]\nname = "a"\nspeeds = [1]\n'
        'powers = ["1 kW"]\npause = true\ndue = "1 h"\nhome = "y"\n[grid]\nlasts = "2 h"\n[goal]\nleast_energy = true\n'
    )
    found = api.plan(Request(text), quiet)
    assert found["answer"]["kind"] == "regions"
    assert "1 move between 2 sites" in found["headline"]


def test_other_views_of_a_report_are_refused_in_words() -> None:
    """Sweeps, simulations and tables are not of a study; its report and its text are exported."""
    for ask, more in ((api.whatif, {"grid": {"site.pue": ["1"]}}), (api.simulate, {}), (api.export, {"kind": "csv"})):
        with pytest.raises(InputError, match="a study of designs is not"):
            ask(Request(STUDY), quiet, **more)
    assert api.export(Request(STUDY), quiet, kind="toml")["content"]


def test_the_page_is_served_once_planned_under_rules_of_its_own() -> None:
    """The answer names the page; it may run its own script in a sandbox and be framed by the studio alone."""
    with TestClient(create(), base_url="http://localhost") as client:
        found = client.post("/api/plan", json={"scenario": STUDY}).json()
        assert "html" not in found
        page = client.get(found["page"])
        assert page.headers["content-type"].startswith("text/html")
        assert page.headers["content-security-policy"].startswith("sandbox")
        assert "frame-ancestors 'self'" in page.headers["content-security-policy"]
        assert len(page.headers.get_list("content-security-policy")) == 1
        assert "What limits it" in page.text
        assert client.get("/api/reports/none").status_code == 404
        assert "frame-src 'self'" in client.get("/").headers["content-security-policy"]
