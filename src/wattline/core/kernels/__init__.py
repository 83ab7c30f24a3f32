"""Numeric kernels: functions of numpy arrays in plain Python, and the same in C where a library of it can be loaded.

    kernel = Source("choices.c")     # a C file of this folder

    @kernel
    def reach(order: Ints, time: Floats, start: Floats) -> float:
        ...                          # the plain path, and the oracle in tests

A call goes to the C function `choices_reach` (stem of the file, name of the function), whose parameters bear the same
names (`kernels.h`). Where there is no library it runs the Python: slower, with the same result. C lets other threads
run. NumPy arrays go by pointer: those that C writes must have the very type and lie contiguous; those it only reads
are converted where they do not fit. A NamedTuple goes as a struct; `Source.pack` makes that once for many calls.

`WATTLINE_KERNELS=plain` in the environment, or `with plain():`, keeps to Python.
"""

from __future__ import annotations

import ctypes
import functools
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar, cast

import numpy as np

from . import build
from .prototypes import Declared, declarations, size_of

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

# The checkout has this beside its `src`; an installed package does not, and is never written to.
CHECKOUT = Path(__file__).parents[4] / "hatch_build.py"

SCALARS: dict[str, Any] = {
    "i64": ctypes.c_int64, "i32": ctypes.c_int32, "u32": ctypes.c_uint32, "u64": ctypes.c_uint64,
    "double": ctypes.c_double, "bool": ctypes.c_bool, "void": None,
}  # fmt: skip
ITEMS: dict[str, np.dtype[Any]] = {
    "i64": np.dtype(np.int64), "i32": np.dtype(np.int32), "i8": np.dtype(np.int8), "u32": np.dtype(np.uint32),
    "u64": np.dtype(np.uint64), "double": np.dtype(np.float64), "float": np.dtype(np.float32),
    "bool": np.dtype(np.bool_),
}  # fmt: skip

_plain = os.environ.get("WATTLINE_KERNELS", "") == "plain"
registry: list[Kernel[Any, Any]] = []


@contextmanager
def plain() -> Iterator[None]:
    """Run the Python of every kernel inside, whatever library there is; for the whole process."""
    global _plain
    before, _plain = _plain, True
    try:
        yield
    finally:
        _plain = before


@functools.cache
def _load() -> tuple[ctypes.CDLL | None, str]:
    path, why = (build.library(), "") if not CHECKOUT.exists() else build.build()
    if path is None or not path.exists():
        return None, why or "this install came without a compiled library for this platform"
    try:
        return ctypes.CDLL(str(path)), str(path)
    except OSError as error:
        return None, f"{path.name} does not load: {error}"


def status() -> tuple[bool, str]:
    """Return whether kernels run compiled, and from which file, or why they do not."""
    if _plain:
        return False, "WATTLINE_KERNELS=plain asks for Python"
    library, why = _load()
    return library is not None, why


class Packed(Generic[T]):
    """A NamedTuple and the C struct of it. It holds the tuple's arrays; scalars are as they were when it was made."""

    def __init__(self, value: T, struct: ctypes.Structure, name: str) -> None:
        self.value, self.struct, self.name = value, struct, name
        self.address = ctypes.addressof(struct)


class Source:
    """A C file of this folder: a decorator for the functions it has, and a packer for the structs it knows."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._structs: dict[str, Callable[[Any], ctypes.Structure]] = {}

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Run this file's function of the same name, or else `function`; its type is kept for the checker."""
        found = Kernel(self, function)
        registry.append(found)
        return cast("Callable[P, R]", found)

    def pack(self, value: T) -> T:
        """Return a NamedTuple of arrays and scalars ready for many calls; it is to be handed to kernels only.

        Writes into its arrays are seen by both sides; for other arrays or scalars, pack again.
        """
        if _plain or _load()[0] is None:
            return value
        return cast("T", self._packed(value, type(value).__name__))

    def _packed(self, value: T, name: str) -> Packed[T]:
        maker = self._structs.get(name)
        if maker is None:
            fields = declarations(self.file).structs.get(name)
            if fields is None:
                raise TypeError(f"{self.file} knows no struct called {name}")
            maker = self._structs[name] = _struct(name, fields)
        return Packed(value, maker(value), name)


def _struct(name: str, fields: tuple[Declared, ...]) -> Callable[[Any], ctypes.Structure]:
    """Return what makes the C struct of a NamedTuple."""
    arrays = {field.name for field in fields if field.pointer}
    columns = [(field, size_of(field.name, arrays)) for field in fields]
    layout = [(field.name, ctypes.c_void_p if field.pointer else SCALARS[field.type]) for field in fields]
    made: type[ctypes.Structure] = type(name, (ctypes.Structure,), {"_fields_": layout})

    def make(value: Any) -> ctypes.Structure:
        content: list[Any] = []
        for field, size in columns:
            if size is not None:
                content.append(getattr(value, size[0]).shape[size[1]])
            elif field.pointer:
                array = getattr(value, field.name)
                if not _fits(array, ITEMS[field.type], field.const):
                    raise TypeError(_misfit(f"{name}.{field.name}", array, ITEMS[field.type]))
                content.append(array.__array_interface__["data"][0])
            else:
                content.append(getattr(value, field.name))
        return made(*content)

    return make


def _fits(array: Any, dtype: np.dtype[Any], const: bool) -> bool:
    return (
        type(array) is np.ndarray
        and array.dtype == dtype
        and array.flags.c_contiguous
        and (const or array.flags.writeable)
    )


def _misfit(name: str, array: Any, dtype: np.dtype[Any]) -> str:
    if isinstance(array, np.ndarray):
        how = "" if array.flags.writeable else "read-only "
        how += "" if array.flags.c_contiguous else "strided "
        found = f"a {how}array of {array.dtype}"
    else:
        found = f"a {type(array).__name__}"
    return f"{name} must be a contiguous, writeable array of {dtype}, but got {found}"


class Kernel(Generic[P, R]):
    """A Python function that C takes over where it can. `python` is the function itself."""

    def __init__(self, source: Source, function: Callable[P, R]) -> None:
        functools.update_wrapper(self, function)
        self.source, self.python = source, function
        self.name = f"{Path(source.file).stem}_{function.__name__.lstrip('_')}"
        self._native: _Bound | None = None
        self._bound = False

    def __call__(self, *args: P.args, **named: P.kwargs) -> R:
        """Call the C function, or the Python one."""
        if not _plain:
            if not self._bound:
                library, _ = _load()
                self._native = None if library is None else _Bound(self, library)
                self._bound = True
            if self._native is not None:
                if named:
                    args = inspect.signature(self.python).bind(*args, **named).args  # type: ignore[assignment]
                return cast("R", self._native(list(args)))
        given: Any = [a.value if isinstance(a, Packed) else a for a in args]
        with np.errstate(all="ignore"):  # as in C: infinity less infinity is nothing to warn of
            return self.python(*given, **named)


class _Bound:
    """How the arguments of one Python call become those of the C function."""

    def __init__(self, kernel: Kernel[Any, Any], library: ctypes.CDLL) -> None:
        prototype = declarations(kernel.source.file).kernels[kernel.name]
        self.kernel = kernel
        self.function = getattr(library, kernel.name)
        self.function.restype = SCALARS[prototype.returns]
        self.arrays: list[tuple[int, np.dtype[Any], bool]] = []
        self.structs: list[tuple[int, str]] = []
        place = {name: i for i, name in enumerate(inspect.signature(kernel.python).parameters)}
        self.names = list(place)
        arrays = {p.name for p in prototype.parameters if p.pointer}
        take: list[tuple[str, int, int]] = []
        types: list[Any] = []
        for p in prototype.parameters:
            size = size_of(p.name, arrays)
            types.append(ctypes.c_void_p if p.pointer else SCALARS[p.type])
            if size is not None:
                take.append(("size", place[size[0]], size[1]))
            elif not p.pointer:
                take.append(("scalar", place[p.name], 0))
            elif p.type in ITEMS:
                self.arrays.append((place[p.name], ITEMS[p.type], p.const))
                take.append(("array", place[p.name], 0))
            elif p.type == "Random":
                take.append(("random", place[p.name], 0))
            else:
                self.structs.append((place[p.name], p.type))
                take.append(("struct", place[p.name], 0))
        self.function.argtypes = types
        self.take = take

    def __call__(self, values: list[Any]) -> Any:
        for i, dtype, const in self.arrays:
            if not _fits(values[i], dtype, const):
                if not const:
                    raise TypeError(_misfit(f"{self.kernel.name}: {self.names[i]}", values[i], dtype))
                values[i] = np.ascontiguousarray(np.asarray(values[i]).astype(dtype, casting="safe"))
        for i, name in self.structs:
            if not isinstance(values[i], Packed):
                values[i] = self.kernel.source._packed(values[i], name)
        passed: list[Any] = []
        for how, i, axis in self.take:
            value = values[i]
            if how == "array":
                passed.append(value.__array_interface__["data"][0])
            elif how == "size":
                passed.append(value.shape[axis])
            elif how == "scalar":
                passed.append(value)
            elif how == "struct":
                passed.append(value.address)
            else:
                passed.append(value.bit_generator.ctypes.bit_generator.value)
        return self.function(*passed)
