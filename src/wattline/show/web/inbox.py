"""What a client sends, made into a scenario: text, changed values, and the files the text names.

A scenario may name files (a config.json, a trace, a chip). On a server these must be files the client sent
along, never files of the server: they are written to a folder of their own that is gone afterwards, and any
text that looks like a path and was not sent is refused before anything is read.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import shutil
import tempfile
import tomllib
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from ...core.errors import InputError, ScenarioError
from ...core.toml_text import parse_toml, read_text
from ...scenario import scenario as scenarios
from ...scenario.scenario import Scenario

# Bytes of a scenario's text, and of all files sent along, decoded.
TEXT_LIMIT: Final = 256 * 1024
FILES_LIMIT: Final = 8 * 1024 * 1024
# Changed values, and characters of one of them.
CHANGES_LIMIT: Final = 200
VALUE_LIMIT: Final = 400

_SEGMENT: Final = r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}"
_NAME: Final = re.compile(rf"{_SEGMENT}(/{_SEGMENT}){{0,3}}")
_FILE: Final = re.compile(r"[/\\~]|\.(toml|json|jsonl|csv|tsv|gz|parquet|ya?ml|onnx|db)$", re.IGNORECASE)
# Values that hold a slash and are no path: quantities such as "2 pJ/bit" or "80 USD/MWh".
_QUANTITY: Final = re.compile(r"\s*[-+0-9.][^\\~]*")


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A scenario as a client sends it.

    Attributes
    ----------
    scenario : the text of the file (TOML).
    set : dotted key -> value as typed, on top of the text.
    files : name in the text -> content in base64.
    task : a name the client gives this request, to ask after it or stop it.
    """

    scenario: str
    set: dict[str, str] = {}
    files: dict[str, str] = {}
    task: str = ""


class Inbox:
    """The scenarios last asked about, each with a folder for its files; a change on top of one is cheap.

    What answers keep between requests (`scenario.cluster_of`, corrections of sketches) is keyed by the
    scenario object, so the same text gives the same object.
    """

    def __init__(self, most: int = 6, folder: Path | None = None) -> None:
        self.most = most
        self._kept: dict[str, Path] = {}
        self._read: dict[Path, Scenario] = {}
        self._root = folder

    def base(self, request: Request) -> Scenario:
        """Return the checked scenario of the text and files alone, without the changed values."""
        data, folder = self._folder(request)
        if folder not in self._read:
            self._read[folder] = scenarios.parse(data, folder=folder)
        return self._read[folder]

    def folder(self, request: Request) -> Path:
        """Return where the files of a request lie, everything in it checked."""
        return self._folder(request)[1]

    def _folder(self, request: Request) -> tuple[dict[str, Any], Path]:
        data = _parsed(request)
        name = hashlib.sha256(msgspec.json.encode([request.scenario, request.files])).hexdigest()
        found = self._kept.pop(name, None)
        if found is None:
            found = Path(tempfile.mkdtemp(dir=self._place()))
            try:
                _unpack(request.files, found)
            except BaseException:
                shutil.rmtree(found, ignore_errors=True)
                raise
        self._kept[name] = found  # the latest last
        while len(self._kept) > self.most:
            old = self._kept.pop(next(iter(self._kept)))
            self._read.pop(old, None)
            shutil.rmtree(old, ignore_errors=True)
        return data, found

    def _place(self) -> Path:
        """Return where folders go: the one given, or one of its own, made now and removed with this object."""
        if self._root is None:
            self._root = Path(tempfile.mkdtemp(prefix="wattline-"))
            weakref.finalize(self, shutil.rmtree, self._root, True)
        return self._root

    def scenario(self, request: Request) -> Scenario:
        """Return the checked scenario with the changed values in place."""
        return self.base(request).with_(request.set)


def _parsed(request: Request) -> dict[str, Any]:
    if len(request.scenario.encode()) > TEXT_LIMIT:
        raise InputError(f"a scenario may have {TEXT_LIMIT // 1024} KiB of text, got more; send data as files")
    if len(request.set) > CHANGES_LIMIT:
        raise InputError(f"at most {CHANGES_LIMIT} values may be changed at once, got {len(request.set)}")
    try:
        data = tomllib.loads(request.scenario)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"not valid TOML: {error}") from None
    for key, value in [*_texts(data), *request.set.items()]:
        if len(value) > VALUE_LIMIT:
            raise InputError(f"{key} may have {VALUE_LIMIT} characters, got {len(value)}")
        check(key, value, request.files)
    return data


def check(key: str, value: str, files: Mapping[str, str]) -> None:
    """Refuse a text that names a file which was not sent along."""
    text = value.strip().strip("\"'")
    if text in files or not _FILE.search(text) or (_QUANTITY.fullmatch(text) and not text.startswith((".", "-"))):
        return
    sent = ", ".join(files) or "none"
    raise InputError(f"{key} = {text!r} names a file, and files must be sent along with the scenario; sent: {sent}")


def _texts(data: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every (dotted key, text) of parsed TOML."""
    if isinstance(data, str):
        yield path, data
    elif isinstance(data, Mapping):
        for key, value in data.items():
            yield from _texts(value, f"{path}.{key}" if path else str(key))
    elif isinstance(data, list):
        for item in data:
            yield from _texts(item, path)


def _unpack(files: Mapping[str, str], folder: Path) -> None:
    """Write what was sent below `folder`; a scenario or chip among the files may name only files sent along."""
    left = FILES_LIMIT
    for name, content in files.items():
        if not _NAME.fullmatch(name):
            raise InputError(f"a file is called like data/trace.csv (letters, digits, . _ - and /), got {name!r}")
        try:
            raw = base64.b64decode(content, validate=True)
        except (binascii.Error, ValueError):
            raise InputError(f"file {name}: its content must be base64") from None
        left -= len(raw)
        if left < 0:
            raise InputError(f"files sent along may have {FILES_LIMIT // 2**20} MiB in all, got more")
        if name.endswith(".toml"):
            _check_toml(name, raw, files)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)


def _check_toml(name: str, raw: bytes, files: Mapping[str, str]) -> None:
    try:
        data = tomllib.loads(raw.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"file {name}: not valid TOML: {error}") from None
    for key, value in _named(data):
        check(f"file {name}: {key}", value, files)


# Entries of a chip's sheet that are prose; so are the sources of its facts, which stand in lists.
_PROSE: Final = ("title", "note", "aliases", "name", "architecture")


def _named(data: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every (dotted key, text) of a file that may name another file."""
    for key, value in data.items():
        where = f"{path}.{key}" if path else key
        if isinstance(value, str) and key not in _PROSE:
            yield where, value
        elif isinstance(value, Mapping):
            yield from _named(value, where)
        elif isinstance(value, list):
            for item in value:
                if isinstance(item, Mapping):
                    yield from _named(item, where)


def packed(path: Path) -> Request:
    """Return a scenario file of this machine, with the files it names, as a client would send it."""
    files: dict[str, str] = {}
    return Request(_pack(path, files), files=files)


def _pack(path: Path, files: dict[str, str]) -> str:
    """Return the text of a TOML file, the files it names added to `files` under names a client may use."""
    text = read_text(path, "scenario")
    data = parse_toml(text, f"scenario {path}")
    for value in dict.fromkeys(value for _, value in _named(data)):
        there = path.parent / value
        if not (_FILE.search(value) and there.is_file()):
            continue
        name = value if _NAME.fullmatch(value) else re.sub(r"[^A-Za-z0-9_.-]", "_", there.name).lstrip(".")
        text = text.replace(f'"{value}"', f'"{name}"')
        if name not in files:
            files[name] = ""  # a file that names itself ends here
            raw = _pack(there, files).encode() if there.suffix == ".toml" else there.read_bytes()
            files[name] = base64.b64encode(raw).decode()
    return text


def line_of(text: str, message: str) -> int | None:
    """Return the line (from 1) of a scenario's text that an error message is about, where that can be told."""
    stated = re.search(r"\(at line (\d+), column \d+\)", message)
    if stated:
        return int(stated.group(1))
    if "(at end of document)" in message:
        return len(text.splitlines())
    for section, name in re.findall(r"\b([a-z]+)\.([a-z_][a-z0-9_.]*)", message):
        found = _key_line(text, section, name)
        if found:
            return found
    section = re.search(r"\[([a-z.]+)\]", message)
    if section:
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip().strip("[] ") == section.group(1) and line.strip().startswith("["):
                return number
    return None


def _key_line(text: str, section: str, name: str) -> int | None:
    inside = ""
    for number, line in enumerate(text.splitlines(), 1):
        head = re.match(r"\s*\[\[?([^\]]+)\]", line)
        if head:
            inside = head.group(1).strip()
            continue
        key = re.match(r"\s*([A-Za-z0-9_.-]+)\s*=", line)
        if key and f"{inside}.{key.group(1)}".lstrip(".") in (f"{section}.{name}", f"{section}.{name.rstrip('.')}"):
            return number
    return None
