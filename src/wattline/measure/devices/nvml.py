"""NVIDIA's management library as this package calls it: loading, one sentence for each error, and what may be missing.

Drivers differ in which calls they have. A newer name is tried before the older one that it replaces, and a call that
a driver lacks is unknown, never an answer.
"""

from __future__ import annotations

import ctypes
import importlib
import os
from collections.abc import Callable
from typing import Any, Final

from ..meter import MeterError

# NVML field ids (nvml.h): NVML_FI_DEV_POWER_AVERAGE and NVML_FI_DEV_POWER_INSTANT.
POWER_AVERAGE: Final = 185
POWER_INSTANT: Final = 186
# Names of nvmlReturn_t whose integers older clients lack.
IRQ_ISSUE, FUNCTION_NOT_FOUND, UNKNOWN = 11, 13, 999


def load(library: str | None = None) -> Any:
    """The NVML client, initialised; `library` (or WATTLINE_NVML) is a path instead of the system's library."""
    try:
        pynvml: Any = importlib.import_module("pynvml")
    except ImportError:
        raise MeterError("the NVML client is not installed", fix="pip install nvidia-ml-py") from None
    path = library or os.environ.get("WATTLINE_NVML")
    if path and pynvml.nvmlLib is None:
        try:
            pynvml.nvmlLib = ctypes.CDLL(path)
        except OSError as error:
            raise MeterError(f"{path} could not be loaded: {error}") from error
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise translate(pynvml, error) from error
    return pynvml


def translate(nvml: Any, error: Any) -> MeterError:
    """An NVML error as one sentence, and what would fix it."""
    code = getattr(error, "value", None)
    if code == nvml.NVML_ERROR_LIBRARY_NOT_FOUND:
        return MeterError("libnvidia-ml.so.1 was not found: no NVIDIA driver on this machine")
    if code == nvml.NVML_ERROR_DRIVER_NOT_LOADED:
        return MeterError("the NVIDIA driver is not loaded", fix="sudo modprobe nvidia")
    if code == nvml.NVML_ERROR_GPU_IS_LOST:
        return MeterError("the device is lost", fix="sudo nvidia-smi --gpu-reset, or restart the machine", lost=True)
    if code == nvml.NVML_ERROR_NO_PERMISSION:
        return MeterError("no permission to read the device", fix="add the user to the group that owns /dev/nvidia*")
    if code == nvml.NVML_ERROR_NOT_SUPPORTED:
        return MeterError("the device has no such sensor")
    if code == FUNCTION_NOT_FOUND:
        return MeterError("the driver has no such call", fix="install a newer driver")
    if code == UNKNOWN:
        return MeterError("the driver answers with an unknown error", fix="see `dmesg | grep -i xid`")
    return MeterError(f"NVML: {error}")


def ask(nvml: Any, function: str, *arguments: Any) -> Any:
    """The answer of a call, None where the driver or the client does not have it or it fails."""
    try:
        return getattr(nvml, function)(*arguments)
    except Exception:  # what a sick driver returns is not always an NVMLError
        return None


def first(nvml: Any, functions: tuple[str, ...], *arguments: Any) -> Any:
    """The answer of the first call that the driver has."""
    for function in functions:
        found = ask(nvml, function, *arguments)
        if found is not None:
            return found
    return None


def field(nvml: Any, handle: Any, number: int) -> float:
    """A power field in W."""
    value = nvml.nvmlDeviceGetFieldValues(handle, [number])[0]
    if value.nvmlReturn != 0:
        raise MeterError(f"field {number} is not available (NVML code {value.nvmlReturn})")
    return float(value.value.uiVal) * 1e-3


def guarded(nvml: Any, call: Callable[[], Any]) -> Any:
    """A call whose every failure is a `MeterError`: a driver that is sick may answer with anything."""
    try:
        return call()
    except MeterError:
        raise
    except nvml.NVMLError as error:
        raise translate(nvml, error) from error
    except Exception as error:
        raise MeterError(f"the driver's answer makes no sense: {type(error).__name__}: {error}") from error


def text(value: Any) -> str:
    """A string of the driver."""
    return value.decode() if isinstance(value, bytes) else str(value)
