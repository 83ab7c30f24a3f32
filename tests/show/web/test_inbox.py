"""Tests for `wattline.show.web.inbox`: what a client sends becomes a scenario, and no path of its reaches the disk."""

from __future__ import annotations

import base64
import contextlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.core.errors import InputError, WattlineError
from wattline.show.web.inbox import CHANGES_LIMIT, Inbox, Request, check, line_of, packed

ROOT = Path(__file__).parents[3]
SERVING = (ROOT / "examples" / "llama-8b-serving.toml").read_text()
CONFIG = (ROOT / "examples" / "config.json").read_bytes()


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def with_config(name: str) -> str:
    return SERVING.replace('name = "llama-3.1-8b"', f'config = "{name}"')


def test_a_file_sent_along_is_read():
    """A config.json in the request is the model."""
    from wattline.scenario.scenario import model_of

    request = Request(with_config("my/config.json"), files={"my/config.json": b64(CONFIG)})
    assert model_of(Inbox().scenario(request)).layers > 0


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../config.json", "~/config.json", "config.json", "a\\\\b.json", "examples/config.json", "x.gz"],
)
def test_a_file_that_was_not_sent_is_refused_before_it_is_looked_for(name: str):
    """Whether it exists on the server cannot be told from the answer."""
    with pytest.raises(InputError, match=r"names a file, and files must be sent along"):
        Inbox().scenario(Request(with_config(name)))
    with pytest.raises(InputError, match=r"names a file, and files must be sent along"):
        Inbox().scenario(Request(SERVING, set={"model.config": name}))


@pytest.mark.parametrize(
    "name", ["../a.json", "/a.json", "a//b.json", ".hidden", "a/../b", "a/b/c/d/e", "", "C:\\a", "a\x00b"]
)
def test_a_file_goes_nowhere_but_below_its_folder(name: str):
    """Names with dots that lead out, roots or odd characters are refused."""
    with pytest.raises(InputError, match="a file is called like"):
        Inbox().scenario(Request(SERVING, files={name: b64(b"{}")}))


def test_a_chip_sent_along_may_not_name_a_file_of_the_server():
    """Its base is a chip of the catalog or another file sent along."""
    chip = b'base = "/etc/chip.toml"\nname = "mine"\n'
    request = Request(SERVING.replace('"h100-sxm"', '"mine.toml"'), files={"mine.toml": b64(chip)})
    with pytest.raises(InputError, match=r"file mine.toml: base = '/etc/chip.toml' names a file"):
        Inbox().scenario(request)


def test_making_an_inbox_touches_nothing_and_refused_files_leave_nothing(tmp_path: Path):
    """Its folder comes with the first request; what was written of a refused one goes again."""
    before = set(Path(tempfile.gettempdir()).glob("wattline-*"))
    Inbox()
    assert set(Path(tempfile.gettempdir()).glob("wattline-*")) == before
    inbox = Inbox(folder=tmp_path)
    with pytest.raises(InputError, match="must be base64"):
        inbox.scenario(Request(SERVING, files={"good.json": b64(b"{}"), "bad.json": "no base64"}))
    assert list(tmp_path.iterdir()) == []


def test_quantities_with_a_slash_are_no_files():
    """Prices, rates and energies are what they are."""
    for value in ("80 USD/MWh", "2 pJ/bit", "3.35 TB/s", "8 req/s", "0.5 g/kWh"):
        check("site.price", value, {})


def test_the_same_text_is_the_same_scenario():
    """What answers keep by identity is found again; changes on top do not make another base."""
    inbox = Inbox(most=2)
    first = inbox.base(Request(SERVING))
    assert inbox.base(Request(SERVING, set={"serve.rate": "4 req/s"})) is first
    folder = first.folder
    for text in ("# a\n", "# b\n"):
        inbox.base(Request(text + SERVING))
    assert not folder.exists()
    assert inbox.base(Request(SERVING)) is not first


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Request("x" * 300_000), "KiB of text"),
        (Request(SERVING, set={f"a.b{i}": "1" for i in range(CHANGES_LIMIT + 1)}), "values may be changed at once"),
        (Request(SERVING, set={"site.pue": "1" * 500}), "may have 400 characters"),
        (Request(SERVING, files={"a.json": "not base64!"}), "must be base64"),
        (Request(SERVING, files={"a.json": b64(bytes(9 * 2**20))}), "MiB in all"),
        (Request("[model"), "not valid TOML"),
        (Request(SERVING, files={"a.toml": b64(b"\xff")}), "file a.toml: not valid TOML"),
    ],
)
def test_too_much_and_broken_input_is_one_sentence(request_: Request, words: str):
    """Sizes and forms are refused with the limit that they break."""
    with pytest.raises(WattlineError, match=words):
        Inbox().scenario(request_)


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_text_gets_a_file_of_the_server_read(name: str, value: str):
    """Whatever stands in a request, a failure is a sentence of ours and nothing lands outside the folder."""
    before = set(Path(tempfile.gettempdir()).parent.glob("*"))
    with contextlib.suppress(WattlineError):
        Inbox().scenario(Request(f"[model]\nconfig = '''{value}'''\n", files={name: b64(b"{}")}))
    assert set(Path(tempfile.gettempdir()).parent.glob("*")) == before


def test_a_scenario_of_this_machine_takes_its_files_along(tmp_path: Path):
    """Started on a file, the page holds what the file names; names that lead elsewhere become plain ones."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "config.json").write_bytes(CONFIG)
    path = tmp_path / "deep" / "mine.toml"
    path.write_text(with_config("../config.json"))
    request = packed(path)
    assert list(request.files) == ["config.json"]
    assert 'config = "config.json"' in request.scenario
    assert Inbox().scenario(request).get("model.config") == "config.json"


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("serve.rate must be at least 1e-12 request/s, got '-1 req/s'", 11),
        ("unknown section [serv]; did you mean 'serve'?", None),
        ("not valid TOML: Expected '=' after a key (at line 3, column 7)", 3),
        ("chip 'h1000' is not in the catalog", None),
        ("hardware.chip = 'x' is odd", 7),
    ],
)
def test_a_message_leads_to_its_line(message: str, line: int | None):
    """The key a message names is found in the text; no guess where there is none."""
    assert line_of(SERVING, message) == line
