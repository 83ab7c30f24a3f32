"""Write the tables that hold every term of the models: tests/**/pinned.json.

    python scripts/write_pins.py

To be run where a constant was refitted or a term changed on purpose; the tests name what moved before.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
TESTS = ("tests.source.roofline.test_pinned", "tests.serving.test_pinned", "tests.training.test_pinned")


def main() -> int:
    """Work out each table and say which changed."""
    sys.path.insert(0, str(ROOT))
    pins = importlib.import_module("tests.pins")
    for name in TESTS:
        test = importlib.import_module(name)
        for path, found in test.PINNED.items():
            before = path.read_text("utf-8") if path.exists() else ""
            pins.write(path, found())
            same = path.read_text("utf-8") == before
            print(f"{path.relative_to(ROOT)}: {'as before' if same else 'written anew'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
