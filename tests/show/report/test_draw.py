"""What `draw.js` makes of charts, in a real Chromium: places that follow the numbers, colours, words, themes, files."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from playwright import sync_api as playwright

from wattline.show.report import charts, page, vega

from .test_report import BOTH

# One process has what the tests share.
pytestmark = pytest.mark.xdist_group("browser")
Draw = Callable[..., "playwright.Page"]
RED, BLUE = "#ff0000", "#0000ff"


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no Chromium here; apt-get install chromium")
    with playwright.sync_playwright() as tool:
        found = tool.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def draw(browser: playwright.Browser, tmp_path: Path) -> Iterator[Draw]:
    """Open a page with charts by name; a word on the console or a fault of the page fails the test."""
    context = browser.new_context(viewport={"width": 900, "height": 700}, accept_downloads=True)
    said: list[str] = []

    def show(text: str | None = None, **drawn: vega.Chart) -> playwright.Page:
        specs = {name: page.fluid(chart.to_dict()) for name, chart in drawn.items()}
        body = "".join(page.chart_place(name, specs) for name in specs)
        path = tmp_path / "page.html"
        path.write_text(text or page.document("charts", body, specs), "utf-8")
        found = context.new_page()
        found.on("console", lambda m: said.append(m.text) if m.type in ("error", "warning") else None)
        found.on("pageerror", lambda e: said.append(str(e)))
        found.goto(path.as_uri())
        found.wait_for_selector("html[data-drawn]")
        return found

    yield show
    context.close()
    assert said == []


def boxes(found: playwright.Page, selector: str) -> list[dict[str, float]]:
    """Where elements are drawn, px."""
    return found.evaluate(
        "s => [...document.querySelectorAll(s)].map(e => {const b = e.getBoundingClientRect();"
        "return {x: b.x, y: b.y, width: b.width, height: b.height}})",
        selector,
    )


@pytest.mark.parametrize("answer", BOTH, ids=lambda a: a.kind)
def test_a_report_draws_every_chart_inside_its_place(answer, draw):
    """No chart is empty, no number is missing from a place, and no word leaves its picture."""
    found = draw(page.page(answer))
    names = set(charts.charts(answer))
    assert found.locator(".chart svg").count() == len(names)
    assert "NaN" not in found.locator("main").inner_html()
    for picture in found.locator(".chart svg").all():
        assert picture.locator("path, rect, line").count() > 5
    out = found.evaluate("""() => [...document.querySelectorAll('.chart svg text')].filter(t => {
        const a = t.getBoundingClientRect(), b = t.ownerSVGElement.getBoundingClientRect();
        return a.left < b.left - 1 || a.right > b.right + 1 || a.top < b.top - 1 || a.bottom > b.bottom + 1;
    }).map(t => t.textContent)""")
    assert out == []


def test_bars_are_as_long_as_their_numbers(draw):
    """Lengths are in proportion, in the order asked for, and stand on each other where colours share a row."""
    rows = [{"name": "b", "v": 4, "k": "one"}, {"name": "a", "v": 2, "k": "one"}, {"name": "a", "v": 1, "k": "two"}]
    colour = vega.field("k:N", title=None, scale=vega.options(domain=["one", "two"], range=[RED, BLUE]))
    found = draw(
        bars=vega.Chart(rows).mark("bar").encode(x="v:Q", y=vega.field("name:N", sort=["b", "a"]), color=colour)
        .properties(height={"step": 20})
    )  # fmt: skip
    one, two, three = boxes(found, "#chart-bars svg g g rect")
    assert one["width"] == pytest.approx(2 * two["width"], rel=0.01)
    assert two["width"] == pytest.approx(2 * three["width"], rel=0.01)
    assert three["x"] == pytest.approx(two["x"] + two["width"], abs=0.1)
    assert one["y"] < two["y"] == three["y"]
    assert found.locator(f'#chart-bars rect[fill="{RED}"]').count() == 2 + 1  # and its place in the legend


@pytest.mark.parametrize(("kind", "values"), [("linear", [0.0, 1.0, 2.0, 3.0]), ("log", [1.0, 10.0, 100.0, 1000.0])])
def test_points_stand_where_their_scale_puts_them(draw, kind, values):
    """Equal steps of the scale are equal steps on the page, more is up and to the right."""
    rows = [{"x": v, "y": v} for v in values]
    scale = vega.options(type=kind)
    chart = vega.Chart(rows).mark("circle", size=40, opacity=1)
    found = draw(dots=chart.encode(x=vega.field("x:Q", scale=scale), y=vega.field("y:Q", scale=scale)))
    places = boxes(found, "#chart-dots svg g g path")
    across = [b["x"] - a["x"] for a, b in pairwise(places)]
    up = [a["y"] - b["y"] for a, b in pairwise(places)]
    assert min(across) > 0
    assert across == pytest.approx([across[0]] * 3, abs=0.2)
    assert up == pytest.approx([up[0]] * 3, abs=0.2)


def test_pointing_at_a_mark_tells_its_words(draw):
    """The tooltip has the titles and the values asked for, as text."""
    rows = [{"x": 1, "name": "<b>bold</b>"}]
    told = [vega.field("name:N", title="what"), vega.field("x:Q", title="units")]
    chart = vega.Chart(rows).mark("bar").encode(x="x:Q", y="name:N", tooltip=told)
    found = draw(bars=chart)
    found.locator("#chart-bars svg g g rect").hover()
    assert found.locator(".tip").inner_text().split("\n") == ["what <b>bold</b>", "units 1"]


def test_charts_follow_the_theme_and_the_width(draw):
    """A page turned dark, or made narrow, is drawn anew."""
    chart = vega.Chart([{"x": 1, "y": 2}]).mark("circle").encode(x="x:Q", y="y:Q")
    found = draw(dots=chart)
    ground = "#chart-dots svg > rect"
    assert found.locator(ground).get_attribute("fill") == charts.config("light")["background"]
    found.emulate_media(color_scheme="dark")
    found.wait_for_selector('html[data-drawn="dark"]')
    assert found.locator(ground).get_attribute("fill") == charts.config("dark")["background"]
    found.set_viewport_size({"width": 420, "height": 700})
    found.wait_for_function("document.querySelector('#chart-dots svg').clientWidth < 420")


def test_a_chart_can_be_saved(draw):
    """The SVG saved stands alone; the PNG is a picture."""
    found = draw(dots=vega.Chart([{"x": 1, "y": 2}]).mark("circle").encode(x="x:Q", y="y:Q"))
    for label, start in (("SVG", b"<?xml"), ("PNG", b"\x89PNG")):
        with found.expect_download() as saved:
            found.get_by_role("button", name=f"Save as {label}").click()
        assert saved.value.suggested_filename == f"wattline-dots.{label.lower()}"
        assert Path(saved.value.path()).read_bytes().startswith(start)


def test_a_notebook_shows_a_chart(draw):
    """Its frame holds the drawn chart and is as high as it."""
    chart = vega.Chart([{"x": 1, "y": 2}]).mark("circle").encode(x="x:Q", y="y:Q").properties(height=700)
    found = draw(f"<html data-drawn><body>{chart._repr_html_()}</body></html>")
    inside = found.frame_locator("iframe")
    inside.locator("#chart-chart svg path").first.wait_for()
    assert inside.locator("footer").count() == 0
    assert boxes(found, "iframe")[0]["height"] > 700


def test_what_charts_use_is_what_is_drawn():
    """Every mark that a chart of this package asks for has a function that draws it."""
    folder = Path(page.__file__).parent
    script = (folder / "marks.js").read_text("utf-8")
    marks = {m for path in folder.glob("*.py") for m in re.findall(r'\.mark\(\s*"(\w+)"', path.read_text("utf-8"))}
    for mark in marks:
        assert re.search(rf"^    {mark}(\(g, m, c\)|:)", script, re.MULTILINE), mark


def test_a_chart_is_vega_lite():
    """The specification is what Vega-Lite's own compiler draws."""
    import vl_convert as converter

    spec = charts.specification(charts.frontier(BOTH[0]), "light")
    assert json.loads(json.dumps(spec)) == spec
    assert "<svg" in converter.vegalite_to_svg(spec, vl_version=vega.VERSION, allowed_base_urls=[])
