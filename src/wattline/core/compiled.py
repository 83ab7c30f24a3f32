"""How the numeric kernels become machine code: on first call, kept on disk.

`compiled` for kernels that make arrays; `compiled_in_place` for those that only write into arrays they are given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numba

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile to machine code on first call, kept on disk; the type of the function is kept for the checker."""
    return cast("Callable[P, R]", numba.njit(cache=True, nogil=True)(function))


def compiled_in_place(function: Callable[P, R]) -> Callable[P, R]:
    """Compile without counting references: no function so marked makes or keeps an array.

    Counting them for tuples of sixty arrays at every call made a step 25 times as slow.
    """
    return cast("Callable[P, R]", numba.njit(cache=True, nogil=True, _nrt=False)(function))
