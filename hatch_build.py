"""What hatchling does besides packing: it compiles the numeric kernels for the platform it builds on.

Without a C compiler the wheel is pure Python and runs everywhere; kernels are slower then (`wattline doctor` says so).
"""

from __future__ import annotations

import importlib.util
import re
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = "src/wattline/core/kernels"


def platform_of(library: Path) -> str:
    """Return the platform of a wheel's tag: on Linux manylinux of the least glibc that has what the library asks for.

    That is what auditwheel would allow: the library needs libc and libm alone.
    """
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    data = library.read_bytes()
    needs = set(re.findall(rb"lib\w+\.so\.\d+", data))
    asked = [tuple(map(int, found)) for found in re.findall(rb"GLIBC_(\d+)\.(\d+)", data)]
    if not platform.startswith("linux_") or not asked or not needs <= {b"libc.so.6", b"libm.so.6"}:
        return platform
    major, minor = max((2, 17), *asked)
    return f"manylinux_{major}_{minor}_{platform.removeprefix('linux_')}"


class KernelHook(BuildHookInterface):
    """Compile before a wheel is packed, an editable one too: that finds the library in the source tree."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Build the library in the source tree and name the platform in the wheel's tag."""
        spec = importlib.util.spec_from_file_location("kernels_build", Path(self.root) / FOLDER / "build.py")
        assert spec is not None
        assert spec.loader is not None
        build = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(build)
        library, how = build.build()
        self.app.display_info(f"numeric kernels: {how}")
        if library is None:
            return
        build_data["pure_python"] = False
        # No function of Python's is used: one library serves every version.
        build_data["tag"] = f"py3-none-{platform_of(library)}"
        build_data["artifacts"].append(f"{FOLDER}/{library.name}")
