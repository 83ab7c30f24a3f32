"""An instance of MIG: which chip it is on, and the share of that chip's energy that it is given.

No counter tells instances apart. An instance is given its compute slices' share of the slices of all instances on the
chip; it may in truth have drawn anything from nothing to all of it, and the interval says so.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .nvml import ask, text


class Slice(NamedTuple):
    """An instance: the chip's handle, its profile's name, its share (least, estimate, most), and how that came."""

    chip: Any
    name: str
    share: tuple[float, float, float]
    reason: str


def on(nvml: Any, handle: Any) -> bool:
    """Whether MIG is on."""
    mode = ask(nvml, "nvmlDeviceGetMigMode", handle)
    return mode is not None and mode[0] == 1


def find(nvml: Any, uuid: str) -> Slice:
    """The instance of a UUID; raises NVMLError where there is none."""
    handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
    chip = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
    own = _slices(nvml, handle)
    every = [_slices(nvml, other) for other in _instances(nvml, chip)] or [own]
    whole = text(nvml.nvmlDeviceGetUUID(chip))
    total = max(sum(every), own)
    share = own / total if total else 1.0
    reason = (
        f"instance of MIG with {own:g} of the {total:g} compute slices in use on {whole}: that share of the chip's "
        "energy; no counter tells instances apart, so it may have been anything from nothing to all of it"
    )
    if len(every) == 1:
        reason = f"the only instance of MIG on {whole}: the whole chip's energy is its"
        return Slice(chip, _name(nvml, handle), (1.0, 1.0, 1.0), reason)
    return Slice(chip, _name(nvml, handle), (0.0, share, 1.0), reason)


def uuids(nvml: Any, chip: Any) -> list[str]:
    """UUIDs of the instances on a chip."""
    found = [ask(nvml, "nvmlDeviceGetUUID", handle) for handle in _instances(nvml, chip)]
    return [text(uuid) for uuid in found if uuid is not None]


def _instances(nvml: Any, chip: Any) -> list[Any]:
    found = []
    for index in range(int(ask(nvml, "nvmlDeviceGetMaxMigDeviceCount", chip) or 0)):
        handle = ask(nvml, "nvmlDeviceGetMigDeviceHandleByIndex", chip, index)
        if handle is not None:
            found.append(handle)
    return found


def _slices(nvml: Any, handle: Any) -> float:
    """Compute slices of an instance; one where the driver does not say."""
    facts = ask(nvml, "nvmlDeviceGetAttributes_v2", handle)
    return float(facts.computeInstanceSliceCount) if facts is not None and facts.computeInstanceSliceCount else 1.0


def _name(nvml: Any, handle: Any) -> str:
    """A profile's name as nvidia-smi writes it, such as 3g.40gb."""
    facts = ask(nvml, "nvmlDeviceGetAttributes_v2", handle)
    if facts is None:
        return "instance"
    return f"{facts.computeInstanceSliceCount}g.{round(facts.memorySizeMB / 1024)}gb"
