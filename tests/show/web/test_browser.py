"""The studio in a real Chromium: what a person sees and does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright import sync_api as playwright

from wattline.core.units import show
from wattline.scenario import scenario as scenarios

# One process has what the tests share.
pytestmark = pytest.mark.xdist_group("browser")
EXAMPLES = Path(__file__).parents[3] / "examples"
# Screenshots of each view are kept here where the variable names a folder.
PICTURES = os.environ.get("WATTLINE_PICTURES")


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[playwright.Browser]:
    with playwright.sync_playwright() as tool:
        found = tool.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def page(browser: playwright.Browser, studio: str) -> Iterator[playwright.Page]:
    """A page on the serving example; a word on the console or a fault of the page fails the test."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    found = context.new_page()
    said: list[str] = []
    found.on("console", lambda m: said.append(m.text) if m.type in ("error", "warning") else None)
    found.on("pageerror", lambda e: said.append(str(e)))
    found.set_default_timeout(120_000)
    found.goto(studio)
    answered(found)
    found.select_option("#example", "llama-8b-serving")
    answered(found, "llama-3.1-8b")
    yield found
    context.close()
    # A refused or lost request is logged by the browser itself; the page shows its sentence.
    assert [text for text in said if "422" not in text and "ERR_FAILED" not in text] == []


def answered(page: playwright.Page, title: str = "") -> None:
    """Wait for an exact answer."""
    page.wait_for_function(
        "title => document.getElementById('state').textContent.startsWith('Exact')"
        " && document.getElementById('headline').textContent.includes(title)",
        arg=title,
    )


def turn(page: playwright.Page, key: str, value: str) -> None:
    """Set a knob in the panel."""
    page.fill("#find", key)
    field = page.locator(f'[data-key="{key}"]')
    if field.evaluate("e => e.tagName") == "SELECT":
        field.select_option(value)
    else:
        field.fill(value)
        field.press("Enter")


def shown(page: playwright.Page) -> str:
    return page.inner_text("#tiles")


def told(changes: dict[str, str]) -> str:
    """What the command line answers."""
    stated = scenarios.load(EXAMPLES / "llama-8b-serving.toml").with_(changes)
    return show(scenarios.solve(stated).chosen.energy_j, "J")


def test_every_view_is_drawn(page: playwright.Page):
    """Each section holds a picture or a table, and the first one the frontier's points."""
    for view in ("frontier", "joules", "help", "plan"):
        assert page.locator(f"#{view} svg").count() >= 1, view
    for view in ("figures", "sure"):
        assert page.inner_text(f"#{view}").strip()
    assert page.locator("#frontier circle.dot").count() > 5
    assert page.locator("#joules rect.cell").count() > 5
    if PICTURES:
        page.screenshot(path=f"{PICTURES}/studio-serving.png")
    for width in (1280, 768, 390):  # nothing runs over the edge of the screen
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_an_edit_gives_the_command_lines_numbers(page: playwright.Page):
    """A knob is turned, the energy is that of `wattline plan --set`."""
    assert told({}) in shown(page)
    turn(page, "chip.memory.hbm.energy", "2 pJ/bit")
    page.wait_for_selector(".knob.set")
    answered(page)
    assert told({"chip.memory.hbm.energy": "2 pJ/bit"}) in shown(page)
    page.click("#undo")
    page.wait_for_function("() => !document.querySelector('.knob.set')")
    answered(page)
    assert told({}) in shown(page)
    page.click("#redo")
    page.wait_for_selector(".knob.set")


def test_a_point_of_the_frontier_is_planned_for_by_a_click(page: playwright.Page):
    """The knobs under the pointer are shown; a click makes it the chosen one."""
    before = shown(page)
    dot = page.locator("#frontier circle.dot").nth(2)
    dot.hover()
    assert "batch" in page.inner_text("#tip")
    dot.click()
    page.wait_for_function("before => document.getElementById('tiles').innerText !== before", arg=before)
    answered(page)
    page.wait_for_selector('[data-knob="serve.tpot"].set', state="attached")


def test_a_link_restores_the_state(page: playwright.Page, browser: playwright.Browser):
    """Scenario, changed values and answer are there again in another browser."""
    turn(page, "site.pue", "1.5")
    page.wait_for_selector(".knob.set")
    answered(page)
    expected, address = shown(page), page.url
    other = browser.new_context().new_page()
    other.goto(address)
    answered(other, "llama-3.1-8b")
    assert shown(other) == expected
    assert other.input_value("#scenario") == page.input_value("#scenario")
    other.context.close()


def test_a_broken_scenario_keeps_the_last_picture_and_marks_the_line(page: playwright.Page):
    """The message of the library is shown, its line is marked, and mending it brings the answer back."""
    text = page.input_value("#scenario")
    before = page.inner_html("#frontier")
    page.click("#tab-text")
    page.fill("#scenario", text.replace('rate = "8 req/s"', 'rate = "8 apples"'))
    page.wait_for_selector("#error:not([hidden])")
    assert "serve.rate" in page.inner_text("#error")
    assert page.inner_text("#numbers b") == str(text.splitlines().index('rate = "8 req/s"') + 1)
    assert page.inner_html("#frontier") == before
    page.fill("#scenario", text)
    page.wait_for_selector("#error[hidden]", state="attached")
    answered(page)


def test_a_goal_out_of_reach_is_told(page: playwright.Page):
    """Exit code 1 of the command line: which limit fails, and by how much."""
    turn(page, "serve.tpot", "1 ms")
    page.wait_for_selector("#error:not([hidden])")
    assert "serve.tpot = 1 ms cannot be met" in page.inner_text("#error")
    assert page.inner_text("#state") == "No plan meets the goal"


def test_two_tabs_do_not_disturb_each_other(page: playwright.Page):
    """Each tab has its own scenario and gets its own answers."""
    other = page.context.new_page()
    other.goto(page.url.partition("#")[0])
    answered(other)
    other.select_option("#example", "deepseek-v3-serving")
    turn(page, "site.pue", "1.4")
    page.wait_for_selector(".knob.set")
    answered(page, "llama-3.1-8b")
    answered(other, "deepseek-v3")
    assert told({"site.pue": "1.4"}) in shown(page)
    other.close()


def test_a_lost_server_is_told_and_found_again(page: playwright.Page):
    """The last answer stays, the page says so, and goes on by itself."""
    page.route("**/api/**", lambda route: route.abort())
    turn(page, "site.pue", "1.3")
    page.wait_for_selector("#lost:not([hidden])")
    assert page.locator("#frontier circle.dot").count() > 5
    page.unroute("**/api/**")
    page.wait_for_selector("#lost[hidden]", state="attached")
    answered(page)
    assert told({"site.pue": "1.3"}) in shown(page)


def test_everything_works_from_the_keyboard(page: playwright.Page):
    """Tabs by arrows, a knob by arrow keys, a point by Enter; what has the focus can be seen."""
    page.focus("#tab-layers")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("#tab-text", "aria-selected") == "true"
    page.keyboard.press("ArrowLeft")
    page.fill("#find", "site.pue")
    page.focus('[data-key="site.pue"]')
    page.keyboard.press("ArrowUp")
    page.wait_for_selector(".knob.set")
    answered(page)
    page.focus("#frontier circle.dot >> nth=0")
    assert not page.locator("#tip").is_hidden()


def test_colours_have_contrast_in_light_and_dark(page: playwright.Page):
    """Text against its page: 4.5 to 1 or more (WCAG 2.2 AA), in both themes."""
    script = """() => {
      const rgb = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
      const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
      const behind = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c.length === 3 || c[3] > 0.99) return c; } return [255, 255, 255]; };
      const bad = [];
      for (const e of document.querySelectorAll("p, h1, h2, h3, dt, dd, small, th, td, label, button, summary, span, li, text")) {
        if (!e.textContent.trim() || e.closest("[hidden]") || e.disabled || !e.getClientRects().length) continue;
        const style = getComputedStyle(e), ink = rgb(e.namespaceURI.endsWith("svg") ? style.fill : style.color);
        const [a, b] = [light(ink), light(behind(e))].sort((x, y) => y - x);
        if ((a + 0.05) / (b + 0.05) < 4.5) bad.push(`${e.tagName} ${e.textContent.slice(0, 30)} ${((a + 0.05) / (b + 0.05)).toFixed(2)}`);
      }
      return bad;
    }"""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate(script) == []
        if PICTURES:
            page.screenshot(path=f"{PICTURES}/studio-{scheme}.png", full_page=True)


def test_files_are_exported(page: playwright.Page):
    """The report, a picture and the scenario come as downloads with their names."""
    for kind, name in (("html", "report.html"), ("toml", "scenario.toml"), ("frontier", "frontier.csv")):
        page.click("#exports summary")
        with page.expect_download() as waiting:
            page.click(f'#exports [data-kind="{kind}"]')
        assert waiting.value.suggested_filename == name


FLEET = """[site.feed]
limit = "2 MW"

[[site.feed.part]]
name = "row"
count = 2
limit = "1.5 MW"

[[job]]
name = "batch"
speeds = [1, 0.8, 0.5]
powers = ["1.4 MW", "1 MW", "600 kW"]
chips = 1000
at = "row-1"

[[job]]
name = "chat"
speeds = [1, 0.9]
powers = ["1 MW", "800 kW"]
chips = 1000
at = "row-2"
minimum = "90 %"
"""


def test_a_fleet_shows_its_tree_its_prices_and_its_jobs(page: playwright.Page):
    """A scenario with [[job]] has views of its own; a knob of a job or of the feed moves them."""
    page.click("#tab-text")
    page.fill("#scenario", FLEET)
    page.wait_for_selector("#view-tree:not([hidden])")
    page.wait_for_function("() => document.getElementById('state').textContent.startsWith('Exact')")
    assert page.locator("#tree rect.dot").count() == 3
    assert page.locator("#tree line.binds").count() == 1
    assert page.locator("#prices path.curve").count() >= 2
    assert "batch" in page.inner_text("#tables")
    assert page.locator("#view-joules").is_hidden()
    before = shown(page)
    page.click("#tab-layers")
    turn(page, "site.feed.limit", "1.8 MW")
    page.wait_for_function("before => document.getElementById('tiles').innerText !== before", arg=before)
    assert "1.8 MW" in shown(page)
    if PICTURES:
        page.screenshot(path=f"{PICTURES}/studio-fleet.png", full_page=True)


def test_a_simulation_shows_power_over_time_and_every_policy(page: playwright.Page):
    """Serving scenarios are played: power by phase, latencies, and the policies beside one another."""
    page.fill("#simulate-count", "200")
    page.select_option("#simulate-policy", "governor")
    page.check("#simulate-all")
    page.click("#simulate button")
    page.wait_for_selector("#simulated svg")
    assert page.locator("#simulated svg").count() == 2
    assert "decode" in page.inner_text("#simulated")
    assert "governor" in page.inner_text("#simulated")
    if PICTURES:
        page.locator("#view-simulate").screenshot(path=f"{PICTURES}/studio-simulate.png")


def test_a_sweep_fills_a_table(page: playwright.Page):
    """Values become rows beside the unchanged scenario."""
    page.fill("#sweep-key", "site.pue")
    page.fill("#sweep-values", "1.0, 1.5")
    page.click("#sweep button")
    page.wait_for_selector("#sweep-rows table")
    assert page.locator("#sweep-rows tbody tr").count() == 3


def test_the_page_is_small(browser: playwright.Browser, studio: str):
    """Everything the first view transfers stays below 1.5 MB."""
    page = browser.new_page()
    sizes: list[int] = []
    page.on("response", lambda reply: sizes.append(int(reply.headers.get("content-length", 0))))
    page.goto(studio)
    answered(page)
    assert sum(sizes) < 1_500_000
    page.close()
