"""Break the source on purpose, one operator or number at a time, and count which breaks the tests notice.

    python scripts/mutants.py                                   60 mutants of source, serving, training and frontier
    python scripts/mutants.py --rooms source/roofline --count 20 --seed 3 --minutes 10

A mutant swaps + and -, * and /, < and <=, min and max, or scales a number by 1.1; drawn by seed, evenly over modules.
Its tests are those of the folder that mirrors its room, run until the first failure: the tables of the room
(test_pinned.py), the module's own tests, then the others. Each is told with file, line and what was
changed; where no test notices it, either a test is missing or the line does nothing.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import resource
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import highspy  # noqa: F401
import msgspec.toml  # noqa: F401
import pytest
import scipy.optimize  # noqa: F401

ROOT = Path(__file__).parent.parent
ROOMS = ("source/roofline", "serving", "training", "frontier")
SECONDS = 240  # of a processor; a mutant that takes longer counts as noticed: it hangs

SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Lt: ast.LtE, ast.LtE: ast.Lt,
    ast.Gt: ast.GtE, ast.GtE: ast.Gt,
}  # fmt: skip
NAMES = {"min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum"}


@dataclass(frozen=True)
class Mutant:
    """One change of one module: the text that is put in its place."""

    path: Path
    line: int
    what: str
    text: str


def count(path: Path) -> int:
    """Return how many places of a module a mutant may change; docstrings, annotations and messages are left alone."""
    return len(_places(ast.parse(path.read_text("utf-8"))))


def mutated(path: Path, number: int) -> Mutant:
    """Return a module's mutant of place `number`."""
    tree = ast.parse(path.read_text("utf-8"))
    node = _places(tree)[number]
    before = ast.unparse(node)
    _change(node)
    return Mutant(path, node.lineno, f"{before}  ->  {ast.unparse(node)}", ast.unparse(tree))


def _places(tree: ast.AST) -> list[ast.expr]:
    """Return expressions inside functions that a mutant may change."""
    inside = [n for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for s in f.body for n in ast.walk(s)]
    guards = {id(node.args[2]) for node in inside if isinstance(node, ast.Call) and _guards(node)}
    seen: dict[int, ast.expr] = {}
    for node in inside:
        if id(node) in guards:
            continue
        wanted = (
            (isinstance(node, ast.BinOp) and type(node.op) in SWAPS and not _text(node))
            or (isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS)
            or (isinstance(node, ast.Call) and _name(node) in NAMES and len(node.args) > 1)
            or (isinstance(node, ast.Constant) and type(node.value) is float and node.value not in (0.0,))
        )
        if wanted and isinstance(node, ast.expr):
            seen[id(node)] = node
    return list(seen.values())


def _guards(call: ast.Call) -> bool:
    """Return whether this is ``where(x > 0, x, 1.0)``, whose last number stands where nothing is divided."""
    if _name(call) != "where" or len(call.args) != 3 or not isinstance(call.args[0], ast.Compare):
        return False
    return ast.unparse(call.args[0].left) == ast.unparse(call.args[1]) and isinstance(call.args[2], ast.Constant)


def _text(node: ast.BinOp) -> bool:
    return any(isinstance(n, (ast.JoinedStr, ast.Tuple, ast.List)) or isinstance(getattr(n, "value", 0), str)
               for n in (node.left, node.right))  # fmt: skip


def _name(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")


def _change(node: ast.expr) -> None:
    if isinstance(node, ast.BinOp):
        node.op = SWAPS[type(node.op)]()  # type: ignore[assignment]
    elif isinstance(node, ast.Compare):
        node.ops[0] = SWAPS[type(node.ops[0])]()  # type: ignore[call-overload]
    elif isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name):
            node.func.id = NAMES[node.func.id]
        elif isinstance(node.func, ast.Attribute):
            node.func.attr = NAMES[node.func.attr]
    elif isinstance(node, ast.Constant):
        node.value = 1.1 * float(node.value)  # type: ignore[arg-type]


def tests_of(path: Path) -> list[str]:
    """Return the tests that mirror a module, soonest first: the tables of its room, its own file, then its folder."""
    folder = ROOT / "tests" / path.parent.relative_to(ROOT / "src" / "wattline")
    own = folder / f"test_{path.stem.lstrip('_')}.py"
    first = [p for p in (folder / "test_pinned.py", own) if p.exists()]
    rest = [p for p in sorted(folder.rglob("test_*.py")) if p not in first]
    return [str(p.relative_to(ROOT)) for p in (*first, *rest)] or ["tests"]


def noticed(mutant: Mutant, tree: Path, *, likely: bool = False) -> bool:
    """Put the mutant into a copy of the tree and say whether a test fails; `likely`: of the two likeliest files alone.

    Tests run in a fork of this process, which has loaded what they need but nothing of ours, and may use so much
    processor time: how busy the machine is does not count.
    """
    place = tree / mutant.path.relative_to(ROOT)
    kept = place.read_text("utf-8")
    place.write_text(mutant.text, "utf-8")
    tests = tests_of(mutant.path)
    try:  # the two likeliest first: collecting a whole folder takes longer than running them
        return any(_fails(tree, some) for some in (tests[:2], [] if likely else tests[2:]) if some)
    finally:
        place.write_text(kept, "utf-8")


def _fails(tree: Path, tests: list[str]) -> bool:
    child = os.fork()
    if child == 0:
        _run(tree, tests)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0


def _run(tree: Path, tests: list[str]) -> NoReturn:
    """Run tests of a tree in this process until the first fails, and end with their exit code."""
    code = 1
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        os.chdir(tree)
        sys.path[:0] = [str(tree), str(tree / "src")]
        os.environ["PYTHONPATH"] = str(tree / "src")
        sys.dont_write_bytecode = False  # bytecode bears the second of its source, and no two mutants share one
        code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests]))
    finally:
        os._exit(code)


def main() -> int:
    """Draw a sample, try each, print what survived and the share that was noticed."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--rooms", nargs="+", default=list(ROOMS))
    ask.add_argument("--count", type=int, default=60)
    ask.add_argument("--seed", type=int, default=0)
    ask.add_argument("--minutes", type=float, default=float("inf"), help="try no further ones after these")
    given = ask.parse_args()
    draw = random.Random(given.seed)
    modules = [p for room in given.rooms for p in sorted((ROOT / "src/wattline" / room).glob("*.py"))]
    places = {path: found for path in modules if (found := count(path))}
    sample = [mutated(path, draw.randrange(places[path])) for path in draw.choices(list(places), k=given.count)]
    killed: dict[str, list[bool]] = {}
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        skip = shutil.ignore_patterns(".git", ".venv", "build", "node_modules", "__pycache__", ".mypy_cache")
        shutil.copytree(ROOT, tree, ignore=skip)
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        for path in {mutant.path.parent: mutant.path for mutant in sample}.values():
            if noticed(Mutant(path, 0, "nothing", path.read_text("utf-8")), tree, likely=True):
                print(f"tests of {path.parent.relative_to(ROOT)} fail as they are; nothing can be counted")
                return 1
        end = time.monotonic() + 60.0 * given.minutes
        for mutant in sample:
            if time.monotonic() > end:
                print(f"stopped after {given.minutes:g} minutes")
                break
            found = noticed(mutant, tree)
            room = str(mutant.path.parent.relative_to(ROOT / "src" / "wattline"))
            killed.setdefault(room, []).append(found)
            said = "noticed " if found else "survived"
            print(f"{said}  {mutant.path.relative_to(ROOT)}:{mutant.line}  {mutant.what}", flush=True)
    for room, found in sorted(killed.items()):
        print(f"{room:20} {sum(found):3} of {len(found):3} noticed")
    total = [x for found in killed.values() for x in found]
    print(f"{'all':20} {sum(total):3} of {len(total):3} noticed, {100 * sum(total) / len(total):.0f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
