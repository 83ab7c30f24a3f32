"""Build the sdist and, from it, the wheel; install that into an empty environment; plan there, and write nothing.

    python scripts/check_release.py [EMPTY FOLDER]      a line for each step; exit code 1 where one fails

The environment lies outside the checkout and holds what requirements.lock names. The plan is made without a home and,
where this runs as root and the interpreter lies where all may go, by nobody, who may write none of it. Needs uv, a C
compiler and the packages (or their cache).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
LARGEST = 150e6  # bytes on disk of all that is installed
NOBODY = 65534


def run(*command: str | Path, **how: object) -> str:
    """Run a command; end with what it said where it fails."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, **how)  # type: ignore[call-overload]
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return str(done.stdout)


def files(folder: Path) -> dict[str, int]:
    """Return every file below a folder and when it was written."""
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def open_to_all(home: Path) -> bool:
    """Return whether anyone may run an environment's Python, wherever its interpreter lies."""
    real = (home / "bin" / "python").resolve()
    return all(folder.stat().st_mode & 0o001 for folder in (*home.parents, *real.parents))


def check(place: Path) -> None:
    """Build, install and ask, in an empty folder."""
    uv = shutil.which("uv") or Path(sys.prefix) / "bin" / "uv"
    run(uv, "build", "--quiet", "--out-dir", place / "dist", ROOT)
    (wheel,) = (place / "dist").glob("*.whl")
    (sdist,) = (place / "dist").glob("*.tar.gz")
    names = zipfile.ZipFile(wheel).namelist()
    compiled = [name for name in names if name.endswith(".so")]
    print(f"built {sdist.name} and from it {wheel.name}, {len(names)} files, kernels: {compiled or 'none'}")
    home = place / "env"
    run(uv, "venv", "--quiet", "--python", sys.executable, home)
    python = home / "bin" / "python"
    run(uv, "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", ROOT / "requirements.lock")
    run(uv, "pip", "install", "--quiet", "--python", python, "--no-deps", wheel)
    before = files(home)
    size = sum(p.stat().st_size for p in home.rglob("*") if p.is_file() and not p.is_symlink())
    print(f"installed: {len(before)} files, {size / 1e6:.0f} MB")
    if size > LARGEST:
        sys.exit(f"an install takes at most {LARGEST / 1e6:.0f} MB")
    (examples,) = home.glob("lib/*/site-packages/wattline/examples")
    work = place / "work"
    work.mkdir()
    os.chmod(place, 0o755)
    who = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 and open_to_all(home) else {}
    print(f"planned by {'nobody' if who else 'this user'}, without a home")
    how = {"cwd": work, "env": {"PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"}, **who}
    for words in (["plan", examples / "llama-70b-training.toml"], ["plan", examples / "curtailment.toml"]):
        told = run(home / "bin" / "wattline", *words, **how)
        print(f"wattline {words[0]} {words[1].name}: {len(told.splitlines())} lines")
    said = run(python, "-c", "from wattline.core import kernels; print(kernels.status())", **how)
    print(f"kernels compiled, and why: {said.strip()}")
    if compiled and not said.startswith("(True"):
        sys.exit("the wheel's kernels were not loaded")
    if files(home) != before or list(work.iterdir()):
        sys.exit("the install was written to")
    print("nothing was written to the install")


def main() -> None:
    """Check in the folder named, or in one that is removed."""
    if sys.argv[1:]:
        check(Path(sys.argv[1]).resolve())
        return
    with tempfile.TemporaryDirectory(prefix="wattline-release-") as folder:
        check(Path(folder))


if __name__ == "__main__":
    main()
