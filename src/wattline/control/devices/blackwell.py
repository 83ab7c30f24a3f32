"""Knobs that superchips and Blackwell add, where the library has them: module limits, workload profiles, smoothing.

The limit of a module (GH200, GB200) is of power scope 1: read through fields 187 to 192 of that scope and set by the
second version of the call (nvml.h, nvmlPowerValue_v2_t). A workload power profile is one number of NVML's list
(NVML_POWER_PROFILE_*); smoothing of power is on or off (fields 251 and on, nvmlDevicePowerSmoothingSetState).
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import byref
from typing import Any, Final

from ...measure.devices.nvml import ask
from ..leases.actuator import ControlError, Knob, Range

# nvml.h: NVML_POWER_SCOPE_MODULE; NVML_FI_DEV_POWER_MIN_LIMIT, _MAX_LIMIT, _CURRENT_LIMIT; smoothing's enablement.
MODULE: Final = 1
LEAST, MOST, NOW, SMOOTHING = 187, 188, 190, 251
# Bits of a mask of profiles in each of its words.
_WORD: Final = 32

Call = Callable[..., Any]


def ranges(nvml: Any, handle: Any) -> dict[Knob, Range]:
    """The knobs of this module that the device and the driver have."""
    found: dict[Knob, Range] = {}
    low, high = _field(nvml, handle, LEAST, MODULE), _field(nvml, handle, MOST, MODULE)
    if low and high and _field(nvml, handle, NOW, MODULE) is not None:
        found["module_power_limit"] = Range(low=low * 1e-3, high=high * 1e-3, step=0.5, rounding=5.0)
    profiles = _profiles(nvml, handle)
    if profiles:
        choices = tuple(float(number) for number in profiles)
        found["power_profile"] = Range(low=choices[0], high=choices[-1], choices=choices)
    if _field(nvml, handle, SMOOTHING, 0) is not None:
        found["power_smoothing"] = Range(low=0.0, high=1.0, choices=(0.0, 1.0))
    return found


def read(nvml: Any, handle: Any, knob: Knob, call: Call) -> float | None:
    """What a knob is set to; None where no profile is asked for."""
    if knob == "power_profile":
        current = nvml.c_nvmlWorkloadPowerProfileCurrentProfiles_v1_t()
        call("nvmlDeviceWorkloadPowerProfileGetCurrentProfiles", byref(current))
        asked = _bits(current.requestedProfilesMask)
        return float(asked[0]) if asked else None
    number, scope, scale = (NOW, MODULE, 1e-3) if knob == "module_power_limit" else (SMOOTHING, 0, 1.0)
    value = _field(nvml, handle, number, scope)
    if value is None:
        raise ControlError("device", f"the driver no longer tells the {knob.replace('_', ' ')}")
    return value * scale


def write(nvml: Any, knob: Knob, value: float | None, call: Call, raw: Call) -> None:
    """Set a knob; None asks for no profile. `raw` calls the library past the client, whose wrapper drops errors."""
    if knob == "power_profile":
        if value is None:
            call("nvmlDeviceWorkloadPowerProfileClearRequestedProfiles", byref(_mask(nvml, range(255))))
        else:
            # What was asked for before is cleared first, for profiles add up.
            call("nvmlDeviceWorkloadPowerProfileClearRequestedProfiles", byref(_mask(nvml, range(255))))
            call("nvmlDeviceWorkloadPowerProfileSetRequestedProfiles", byref(_mask(nvml, [int(value)])))
        return
    if value is None:
        raise ControlError("unsupported", f"a {knob.replace('_', ' ')} is always in force and cannot be let go")
    if knob == "module_power_limit":
        limit = nvml.c_nvmlPowerValue_v2_t()
        limit.version, limit.powerScope, limit.powerValueMw = nvml.nvmlPowerValue_v2, MODULE, round(value * 1e3)
        raw("nvmlDeviceSetPowerManagementLimit_v2", byref(limit))
        return
    state = nvml.c_nvmlPowerSmoothingState_v1_t()
    state.state = int(value)
    call("nvmlDevicePowerSmoothingSetState", byref(state))


def _field(nvml: Any, handle: Any, number: int, scope: int) -> float | None:
    """A field of a scope as it is; None where the device or the driver lacks it."""
    values = ask(nvml, "nvmlDeviceGetFieldValues", handle, [(number, scope)])
    if not values or values[0].nvmlReturn != 0:
        return None
    return float(values[0].value.uiVal)


def _profiles(nvml: Any, handle: Any) -> list[int]:
    try:
        info = nvml.c_nvmlWorkloadPowerProfileProfilesInfo_v1_t()
        nvml.nvmlDeviceWorkloadPowerProfileGetProfilesInfo(handle, byref(info))
        return _bits(info.perfProfilesMask)
    except Exception:  # an older client or driver has no such call
        return []


def _bits(mask: Any) -> list[int]:
    return [_WORD * k + bit for k, word in enumerate(mask.mask) for bit in range(_WORD) if word >> bit & 1]


def _mask(nvml: Any, numbers: Any) -> Any:
    asked = nvml.c_nvmlWorkloadPowerProfileRequestedProfiles_v1_t()
    for number in numbers:
        asked.requestedProfilesMask.mask[number // _WORD] |= 1 << number % _WORD
    return asked
