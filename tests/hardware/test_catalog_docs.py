"""Tests for `docs/catalog.md`, whose tables `scripts/catalog_docs.py` writes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_says_what_the_catalog_says() -> None:
    """The tables are those the script would write now; run it where this fails."""
    spec = importlib.util.spec_from_file_location("catalog_docs", ROOT / "scripts" / "catalog_docs.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    page = (ROOT / "docs" / "catalog.md").read_text("utf-8")
    assert script.render(page) == page, "stale: run python scripts/catalog_docs.py"
    assert all(f"<!-- table: {name} -->" in page for name in script.TABLES)
