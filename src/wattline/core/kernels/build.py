"""Turn the C sources of this folder into one library; for the build of a wheel, and for a checkout at first use.

Standard library only, and no import of the package: `hatch_build.py` loads this file by its path.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
# No -march=native: one library serves every machine of a platform. No -ffast-math and no contraction into fused
# multiply-adds: the library gives the bits that the Python beside it gives.
FLAGS = ("-std=c11", "-O3", "-fPIC", "-shared", "-fvisibility=hidden", "-ffp-contract=off", "-fno-math-errno")
COMPILERS = ("cc", "gcc", "clang")
SECONDS = 300.0  # a compiler that takes longer is taken to hang


def sources() -> list[Path]:
    """Return the C files that are compiled, in order."""
    return sorted(HERE.glob("*.c"))


def library() -> Path:
    """Return where the library of these very sources and this platform lies, if it was built."""
    content = hashlib.sha256(" ".join(FLAGS).encode())
    for path in (*sorted(HERE.glob("*.h")), *sources()):
        content.update(path.name.encode() + b"\0" + path.read_bytes())
    platform = sysconfig.get_platform().replace(".", "_").replace("-", "_")
    return HERE / f"kernels_{platform}_{content.hexdigest()[:12]}.so"


def compiler() -> str | None:
    """Return the C compiler: $CC, else the first there is."""
    return next((found for name in (os.environ.get("CC"), *COMPILERS) if name and (found := shutil.which(name))), None)


def build() -> tuple[Path | None, str]:
    """Compile the library beside its sources unless it is there; return it, or None and why there is none.

    It is written under another name first and then moved, so that two processes that build at once do no harm and
    nobody loads half of it. Libraries of earlier sources are removed.
    """
    target = library()
    if target.exists():
        return target, "built before"
    cc = compiler()
    if cc is None:
        return None, f"no C compiler ({', '.join(COMPILERS)}) was found"
    try:
        with tempfile.TemporaryDirectory(dir=HERE, prefix=".build-") as folder:
            fresh = Path(folder) / target.name
            command = [cc, *FLAGS, *map(str, sources()), "-o", str(fresh), "-lm"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
            if done.returncode != 0:
                return None, f"{cc} failed: {(done.stderr or done.stdout).strip()[:500]}"
            old = [path for path in HERE.glob("kernels_*.so") if path != target]
            fresh.replace(target)
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, f"could not build: {error}"
    for path in old:
        with contextlib.suppress(OSError):
            path.unlink()
    return target, f"built by {cc}"
