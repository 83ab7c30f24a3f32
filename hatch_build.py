"""What hatchling does besides packing: it compiles the numeric kernels for the platform it builds on.

Without a C compiler the wheel is pure Python and runs everywhere; kernels are slower then (`wattline doctor` says so).
"""

from __future__ import annotations

import importlib.util
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = "src/wattline/core/kernels"


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
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
        build_data["artifacts"].append(f"{FOLDER}/{library.name}")
