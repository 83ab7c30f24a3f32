"""Tests wait for what they need, not for a time: a fixed sleep is too short on a busy machine, too long on any other."""

import ast
from pathlib import Path

HERE = Path(__file__).parent
# The one place that sleeps between two looks, and this one, which names what it forbids.
MAY_SLEEP = {HERE / "waiting.py", Path(__file__)}


def sleeps(path: Path) -> list[str]:
    """Return where a file sleeps, in the programs that it writes for others too."""
    out = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        imported = isinstance(node, ast.ImportFrom) and node.module in ("time", "asyncio")
        written = isinstance(node, ast.Constant) and isinstance(node.value, str) and "time.sleep(" in node.value
        if (
            called in ("time.sleep", "asyncio.sleep")
            or written
            or (imported and any(name.name == "sleep" for name in node.names))
        ):
            out.append(f"{path}:{node.lineno}")
    return out


def test_no_test_sleeps_for_a_fixed_time() -> None:
    """Use `until` or `updated` of tests/waiting.py, an event, or a virtual clock that the test moves."""
    found = [place for path in sorted(HERE.rglob("*.py")) if path not in MAY_SLEEP for place in sleeps(path)]
    assert not found


def test_the_check_sees_every_way_to_sleep(tmp_path: Path) -> None:
    """A call, an import of the name, and a program in a string."""
    path = tmp_path / "bad.py"
    for text in ("import time\ntime.sleep(1)", "from time import sleep", "CODE = 'import time; time.sleep(3)'"):
        path.write_text(text)
        assert sleeps(path), text
