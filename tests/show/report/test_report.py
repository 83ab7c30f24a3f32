"""Tests for `wattline.show.report`."""

from __future__ import annotations

import csv
import io
import re
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from tests.answers import serving, training
from wattline import InputError
from wattline.frontier.answer import Answer
from wattline.show.report import (
    charts,
    page,
    show_plan,
    words,
    write_charts,
    write_html,
    write_knobs,
)

BOTH = [training(), serving()]


def _printed(answer: Answer, width: int = 80) -> str:
    out = io.StringIO()
    show_plan(answer, Console(file=out, width=width))
    return out.getvalue()


# ---- terminal ------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", BOTH, ids=lambda a: a.kind)
@pytest.mark.parametrize("width", [40, 80, 200])
def test_tables_fit_the_terminal(answer, width):
    """No line is longer than the terminal is wide."""
    assert max(map(len, _printed(answer, width).splitlines())) <= width


def test_tables_are_plain_where_output_is_no_terminal():
    """Colour codes are for terminals only."""
    assert "\x1b" not in _printed(training())


def test_tables_tell_the_answer():
    """Cost, saving, the largest part, what helps, clocks, certificate and uncertainty are all printed."""
    text = " ".join(_printed(training(), 120).split())
    for phrase in (
        "takes 76.3 MWh and 48.3 d",
        "Running 1.86 % slower saves 5.31 %",
        "Arithmetic (bf16) 23.6 MWh 31 %",
        "Core voltage at the highest clock 1 % less saves 0.4 %",
        "Arithmetic rate, bf16 1 % more saves 0.35 %",
        "1,894 (1,800-1,980)",
        "0.1 % above it",
        "energy ± 9 %, time ± 5 %",
        "Assumed: 1 key at its default; --json names it",
    ):
        assert phrase in text


def test_assumptions_are_named_in_one_line_and_said_in_full_when_asked():
    """Those about a key are folded; a warning that is about none stays in full."""
    told = ("hardware.node = hgx (usual)", "train.overlap: 80 % hides", "stages are uneven: the first is longer")
    answer = replace(training(), assumptions=told)
    text = " ".join(_printed(answer, 120).split())
    assert "Assumed: hardware.node, train.overlap; --verbose says each in full" in text
    assert "stages are uneven: the first is longer" in text
    console = Console(width=120, record=True, file=io.StringIO())
    show_plan(answer, console, verbose=True)
    full = " ".join(console.export_text().split())
    assert all(f"Assumed: {one}" in full for one in told)


def test_many_knobs_are_summed_up():
    """A thousand stages print as a few lines."""
    knobs = tuple({"stage": s, "instruction": "forward", "clock_hz": 1e9, "microbatches": [0]} for s in range(1000))
    answer = training()
    text = _printed(replace(answer, chosen=replace(answer.chosen, knobs=knobs)))
    assert "1000 rows in all" in text
    assert len(text.splitlines()) < 80


def test_an_answer_without_detail_prints():
    """A bare answer leaves sections out and does not fail."""
    text = _printed(replace(training(), elasticity={}, certificate={}, sources=(), assumptions=()))
    assert "What other hardware would give" not in text


# ---- words ---------------------------------------------------------------------------------------


def test_rounding_is_not_told_as_a_figure():
    """What is left of a limit by rounding is none; a margin that changes sign has no ratio."""
    assert words.above(3.7e-9, 1.2e6) == 0.0
    assert words.above(614e3, 4.8e6) == 614e3
    assert words.change(-0.0259, 0.0382) == ""


def test_the_headline_says_when_nothing_is_won():
    """A plan at maximum clocks does not boast of a saving."""
    answer = training()
    assert "already the least energy" in str(words.headline(replace(answer, chosen=answer.baseline)))


def test_the_headline_says_when_the_goal_costs_energy():
    """A faster plan that costs more says so."""
    answer = training()
    swapped = replace(answer, chosen=answer.baseline, baseline=answer.chosen)
    assert "faster costs 5.61 % more" in str(words.headline(swapped))


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (1e-6, "< 0.01 %"), (0.0186, "1.86 %"), (0.1, "10 %"), (1, "100 %"), (12.3456, "1,235 %")],
)
def test_percent(share, text):
    """Shares are written short, and never as zero when they are not."""
    assert words.percent(share) == text


def test_clocks_are_averaged_over_microbatches():
    """A clock held for three microbatches counts three times."""
    knobs = [
        {"stage": 0, "instruction": "forward", "clock_hz": 1e9, "microbatches": [0, 1, 2]},
        {"stage": 0, "instruction": "forward", "clock_hz": 2e9, "microbatches": [3]},
    ]
    assert words.staged(knobs)[0].mean == 1.25e9


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(a: str, b: str) -> float:
    high, low = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_marks_and_text_stand_out_from_the_page(theme):
    """Marks have a contrast of 3:1 and text 4.5:1 on both pages (WCAG 2.2, level AA)."""
    background = charts.config(theme)["background"]
    marks = [*words.COLOURS.values(), charts.LINE, charts.CHOSEN, charts.BASELINE, charts.LESS, charts.MORE]
    assert min(_contrast(c, background) for c in marks) >= 3.0
    text = [charts.config(theme)["axis"][k] for k in ("labelColor", "titleColor")]
    assert min(_contrast(c, background) for c in text) >= 4.5


def test_page_text_stands_out():
    """Every text colour of the style sheet has 4.5:1 on page and panel, light and dark."""
    style = (Path(page.__file__).parent / "style.css").read_text("utf-8")
    for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL):
        colours = dict(re.findall(r"--(\w+): (#\w{6})", block))
        for name in {"ink", "soft", "accent", "good"} & colours.keys():
            assert _contrast(colours[name], colours["page"]) >= 4.5
            assert _contrast(colours[name], colours["panel"]) >= 4.5


# ---- charts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", BOTH, ids=lambda a: a.kind)
def test_charts_are_written_as_svg_and_png(answer, tmp_path):
    """Every chart draws: valid SVG with marks in it, and a PNG."""
    paths = write_charts(answer, tmp_path / "new" / "folder")
    assert {p.stem for p in paths} == {"frontier", "breakdown", "elasticities", "plan"}
    for path in paths:
        if path.suffix == ".svg":
            assert len(list(ET.fromstring(path.read_text("utf-8")).iter("{http://www.w3.org/2000/svg}path"))) > 3
        else:
            assert path.read_bytes().startswith(b"\x89PNG")


def test_frontier_chart_holds_chosen_and_baseline():
    """The chosen plan and the baseline stand on the frontier's chart, by name."""
    text = str(charts.specification(charts.frontier(training())))
    assert "'what': 'chosen'" in text
    assert "'what': 'maximum clocks'" in text


def test_long_timelines_show_their_first_part():
    """A timeline too long to read shows its first part and says how much that is."""
    rows = [
        {"stage": m % 4, "microbatch": m, "instruction": "forward", "start_s": float(m), "time_s": 1.0, "clock_hz": 1e9}
        for m in range(9000)
    ]
    tasks, note = charts.window(replace(training(), timeline=tuple(rows[::-1])))
    assert [k["microbatch"] for k in tasks] == list(range(640))
    assert "first 640 of 9,000" in note


def test_long_frontiers_are_thinned_at_both_ends_kept():
    """A thinned frontier keeps its fastest and its cheapest point."""
    kept = charts._thin(10_000, 300)
    assert len(kept) <= 300
    assert (kept[0], kept[-1]) == (0, 9999)


def test_a_folder_that_cannot_be_made_is_an_input_error(tmp_path):
    """Charts cannot go into a file."""
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_charts(serving(), tmp_path / "file")


# ---- page ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", BOTH, ids=lambda a: a.kind)
def test_page_holds_the_numbers(answer):
    """The page shows what the answer says, in text and not only in charts."""
    text = page.page(answer, scenario='[model]\nname = "x"', command="wattline plan x.toml")
    for name, _, _ in words.share_out(answer.chosen.breakdown_j):
        assert words.component(name) in text
    assert "wattline plan x.toml" in text
    assert "[model]\nname = &quot;x&quot;" in text
    assert answer.assumptions[0] in text


def test_page_loads_nothing():
    """No element of the page asks for another resource, and a policy forbids it."""
    text = page.page(training()).replace("http://www.w3.org/2000/svg", "")  # a name, not an address
    assert not re.search(r"<(?:link|img|iframe|object|embed)\b|<script[^>]+src|@import|url\(|https?://", text)
    assert "default-src &#x27;none&#x27;" in text


def test_page_escapes_hostile_text():
    """A title, a fact or a scenario with markup in it stays text, in HTML and in JSON alike."""
    bad = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    answer = replace(training(bad), facts={bad: bad}, goal=bad, assumptions=(bad,), sources=(bad,), work=bad)
    text = page.page(answer, scenario=bad, command=bad)
    assert "<script>alert" not in text
    assert "<img" not in text
    assert text.count("</script>") == 3


def test_the_page_is_one_small_file(tmp_path):
    """With everything that draws its charts in it the page is under 150 kB, and needs no library to be made."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "vl_convert", None)
        write_html(training(), tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 150_000


def test_pictures_say_what_they_need(tmp_path, monkeypatch):
    """Without the extra, files are refused in a sentence that names it."""
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(InputError, match=r"pip install 'wattline\[charts\]'"):
        write_charts(training(), tmp_path)


def test_a_page_that_cannot_be_written_is_an_input_error(tmp_path):
    """The message names the path."""
    with pytest.raises(InputError, match=r"report\.html: cannot be written"):
        write_html(serving(), tmp_path / "missing" / "report.html")


# ---- knobs ---------------------------------------------------------------------------------------


def test_knobs_are_written_one_row_each(tmp_path):
    """The CSV holds every knob, with lists of microbatches as ranges."""
    write_knobs(training(), tmp_path / "knobs.csv")
    rows = list(csv.DictReader((tmp_path / "knobs.csv").read_text("utf-8").splitlines()))
    assert len(rows) == len(training().chosen.knobs)
    assert rows[0]["microbatches"] == "0, 5, 10, 15, 20"


def test_a_heading_stands_over_its_column():
    """Text is left-aligned in heading and cell alike."""
    made = page.table(("Job", "At", "Power"), [("a", "row 1", "1 W")], text=(1,))
    assert '<th scope="col" class="text">At</th>' in made
    assert '<td class="text">row 1</td>' in made
    assert '<th scope="col">Power</th>' in made


def test_the_headline_tells_what_costs_no_time():
    """A slower plan says how much of its saving the same speed has; one that is not slower says nothing of it."""
    answer = training()
    base = replace(answer.baseline, time_s=float(answer.time_s[0]), energy_j=1.1 * float(answer.energy_j[0]))
    slower = replace(answer, baseline=base)
    share = 1 - 1 / 1.1
    assert f"Running no slower still saves {100 * share:.3g} %" in str(words.headline(slower))
    assert "same speed already" not in str(words.headline(replace(slower, chosen=base)))
