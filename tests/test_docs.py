"""Tests for README.md and docs/: every block runs, every link leads somewhere, and the whole stays short."""

import contextlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from wattline.show.cli.main import main

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# These two install and test the very environment the tests run in; `make plan` has a test of its own below.
NOT_HERE = ("make test", "make plan")
# What a command writes stands behind these.
WRITES = ("--html", "--csv", "--charts", "--plan", "--picture")


def blocks(page: Path, language: str) -> str:
    return "\n".join(re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE))


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder that looks like the project's root, so that what blocks write does not stay in it."""
    for entry in ROOT.iterdir():
        if entry.name not in (".git", "report.html", ".hypothesis"):
            (tmp_path / entry.name).symlink_to(entry)
    (tmp_path / ".venv").unlink(missing_ok=True)
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))
    return tmp_path


def run(command: list[str], folder: Path, text: str) -> None:
    path = os.pathsep.join([str(Path(sys.prefix) / "bin"), os.environ["PATH"]])
    done = subprocess.run(
        command, input=text, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def steps(page: Path) -> list[str]:
    """What a page has typed in a shell, one command each: a here-document and continued lines belong to theirs."""
    out: list[str] = []
    ends = ""
    for line in blocks(page, "sh").splitlines():
        if ends or (out and out[-1].endswith("\\")):
            out[-1] += "\n" + line
            ends = "" if line == ends else ends
        elif line.strip() and not line.startswith(NOT_HERE):
            out.append(line)
            opened = re.search(r"<<'(\w+)'", line)
            ends = opened[1] if opened else ""
    return out


def words(step: str) -> list[str]:
    """A command's words after `wattline`; none where it is not one of ours that a process of its own adds nothing to.

    Those start processes, serve, or need the shell; or they read or write a file that another command of a page does.
    """
    if any(mark in step for mark in "|<>&;$`"):
        return []
    first, *rest = shlex.split(step.replace("\\\n", " "), comments=True)
    if Path(first).name != "wattline" or rest[0] in ("run", "profile", "daemon", "init"):
        return []
    written = [rest[i + 1] for i, word in enumerate(rest[:-1]) if word in WRITES]
    read = [word for word in rest if word.endswith((".toml", ".csv", ".json")) and word not in written]
    shared = any(
        Path(name).name in other for name in written for page in PAGES for other in steps(page) if other != step
    )
    return [] if shared or not all((ROOT / name).exists() for name in read) else rest


COMMANDS = {shlex.join(found): found for page in PAGES for step in steps(page) if (found := words(step))}


@pytest.mark.xdist_group("shipped")  # see test_examples.py
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_runs_as_written(command: str, workplace: Path, solved_once: None) -> None:
    """A command of any page succeeds from the project's root; what several pages have typed runs once."""
    asked = COMMANDS[command]
    with contextlib.chdir(workplace):
        assert main(asked) == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_shell_blocks_run_as_written(page: Path, workplace: Path) -> None:
    """The other commands of a page succeed in order: those that need a shell or what one before them wrote."""
    left = [step for step in steps(page) if not words(step)]
    if left:
        run(["bash", "-euo", "pipefail"], workplace, "\n".join(left))


@pytest.mark.skipif(not (ROOT / ".venv/.core").exists(), reason="not installed by make")
def test_the_first_command_plans_the_example() -> None:
    """`make plan` prints the plan and writes the report, and installs nothing a second time."""
    report = ROOT / "report.html"
    done = subprocess.run(["make", "plan"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "pip install" not in done.stdout
    assert "llama-3.1-70b on 64 x" in done.stdout
    assert report.stat().st_size > 100_000


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_python_blocks_run_as_written(page: Path, workplace: Path) -> None:
    """The Python of a page is one program that runs to its end."""
    if text := blocks(page, "python"):
        run([sys.executable, "-W", "error", "-"], workplace, text)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link and picture exists."""
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target


def test_the_pages_are_short_enough_to_be_read() -> None:
    """README and guide together stay under 30,000 words, the bars of tables aside; what the code can print is left out."""
    words_of = {
        page.name: sum(any(map(str.isalnum, word)) for word in page.read_text("utf-8").split()) for page in PAGES
    }
    assert sum(words_of.values()) < 30_000, sorted(words_of.items(), key=lambda item: -item[1])[:5]


def test_the_project_speaks_only_of_itself() -> None:
    """No page names a folder of the machine it was written on."""
    for page in PAGES:
        assert not re.search(r"/(work|root|home|tmp)/", page.read_text("utf-8")), page.name
