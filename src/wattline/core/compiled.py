"""How the numeric kernels become machine code: on first call, kept on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numba

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile to machine code on first call, kept on disk; the type of the function is kept for the checker."""
    return cast("Callable[P, R]", numba.njit(cache=True, nogil=True)(function))
