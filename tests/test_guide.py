"""Tests for the guide: its pages hang together as a site, and the gallery notebook runs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_page_is_in_the_guides_navigation():
    """A page that no menu leads to is a page that nobody reads, and one entry a page is enough."""
    listed = re.findall(r"- ([\w-]+\.md)", (ROOT / "mkdocs.yml").read_text())
    assert sorted(listed) == sorted(page.name for page in (ROOT / "docs").glob("*.md"))


def test_the_guide_builds_without_a_warning(tmp_path: Path):
    """Links between pages and to their headings lead somewhere; nothing is fetched from elsewhere."""
    script = [sys.executable, ROOT / "scripts" / "write_docs.py", tmp_path / "build" / "docs"]
    subprocess.run(script, check=True, timeout=300)
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    reference = (tmp_path / "build" / "site" / "scenario.html").read_text("utf-8")
    assert "serve.kv_precision" in reference, "the keys of a scenario are written for the site"
    page = (tmp_path / "build" / "site" / "tour.html").read_text("utf-8")
    assert "Ten minutes" in page
    loaded = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', page)
    assert [address for address in loaded if "canonical" not in address] == []


def test_the_gallery_runs_and_shows_its_pictures():
    """Every cell of the notebook runs in a kernel; frontiers and answers come out as HTML with a chart."""
    import nbclient
    import nbformat

    notebook = nbformat.read(ROOT / "examples" / "gallery.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "keep the shipped notebook without outputs"
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(ROOT)}}).execute()
    shown = [
        output["data"].get("text/html", "")
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "data" in output
    ]
    assert sum("<svg" in html for html in shown) >= 3
