"""Read what C declares: the parameters of kernels and the fields of structs (rules in `kernels.h`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
AXES = {"n": 0, "m": 1, "k": 2}

_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_INCLUDE = re.compile(r'#include "(\w+\.h)"')
_KERNEL = re.compile(r"^KERNEL\s+(\w+)\s+(\w+)\(([^)]*)\)", re.MULTILINE)
_STRUCT = re.compile(r"typedef struct(?:\s+\w+)? \{([^{}]*)\} (\w+);")
_TYPE = re.compile(r"(const\s+)?(\w+)\s+(.*)", re.DOTALL)


@dataclass(frozen=True)
class Declared:
    """One parameter or field: its name, its C type, whether it is a pointer, and to what may not be written."""

    name: str
    type: str
    pointer: bool
    const: bool


@dataclass(frozen=True)
class Prototype:
    """A kernel: its C name, what it returns and its parameters in order."""

    name: str
    returns: str
    parameters: tuple[Declared, ...]


@dataclass(frozen=True)
class Declarations:
    """The kernels and structs that a C file knows."""

    kernels: dict[str, Prototype]
    structs: dict[str, tuple[Declared, ...]]


@cache
def declarations(source: str) -> Declarations:
    """Return what a C file of this folder declares, with the headers beside it that it includes."""
    text = _COMMENT.sub("", (HERE / source).read_text())
    headers = [_COMMENT.sub("", (HERE / name).read_text()) for name in _INCLUDE.findall(text)]
    kernels = {
        name: Prototype(name, returns, tuple(one for part in inside.split(",") for one in _declared(part)))
        for returns, name, inside in _KERNEL.findall(text)
    }
    structs = {
        name: tuple(one for part in body.split(";") for one in _declared(part))
        for text in (*headers, text)
        for body, name in _STRUCT.findall(text)
        if "(" not in body  # a struct of numpy's, with functions
    }
    return Declarations(kernels, structs)


def _declared(text: str) -> list[Declared]:
    """Read `const double *a, *b` and the like; nothing where nothing is declared."""
    found = _TYPE.fullmatch(text.strip())
    if not found:
        return []
    const, kind, names = found.groups()
    parts = [name.strip() for name in names.split(",")]
    return [Declared(part.lstrip("* "), kind, part.startswith("*"), bool(const)) for part in parts]


def size_of(name: str, arrays: set[str]) -> tuple[str, int] | None:
    """Return the array and axis whose length a parameter called `name` is, None if it is none."""
    stem, _, axis = name.rpartition("_")
    return (stem, AXES[axis]) if stem in arrays and axis in AXES else None
