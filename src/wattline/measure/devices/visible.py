"""Which NVIDIA devices a process sees, and in which order, as CUDA reads CUDA_VISIBLE_DEVICES.

An entry is a place, the beginning of a UUID, or an instance of MIG; reading stops at the first that is invalid (CUDA C
programming guide, environment variables). Places are counted by speed unless CUDA_DEVICE_ORDER is PCI_BUS_ID; NVML
counts by PCI address. On a machine of one kind of device the two agree; where they need not, the answer says so.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ..meter import Missing


class Chosen(msgspec.Struct, frozen=True):
    """A device by its place in NVML, or an instance of MIG by UUID, and what has to be said of the choice."""

    index: int
    instance: str = ""
    note: str = ""


def choose(
    environment: Mapping[str, str], uuids: Mapping[int, str], names: Mapping[int, str]
) -> tuple[list[Chosen], list[Missing]]:
    """The devices to measure in the order that the program sees them, and those left out.

    uuids, names : of the devices that answer, by their place in NVML.
    """
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [Chosen(index) for index in sorted(uuids)], []
    unsure = environment.get("CUDA_DEVICE_ORDER", "") != "PCI_BUS_ID" and len(set(names.values())) > 1
    note = (
        "CUDA counts devices by speed unless CUDA_DEVICE_ORDER=PCI_BUS_ID, and those here differ; "
        "this one was taken by PCI address"
    )
    found: list[Chosen] = []
    for entry in (word.strip() for word in visible.split(",")):
        pick = _pick(entry, uuids)
        if pick is None:
            break
        if pick.instance:
            found.append(pick)
        elif pick.index not in {other.index for other in found}:
            found.append(Chosen(pick.index, note=note) if unsure and entry.isdecimal() else pick)
    taken = {pick.index for pick in found if not pick.instance}
    left = [index for index in sorted(uuids) if index not in taken]
    return found, [Missing(f"nvidia:{k}", f"left out by CUDA_VISIBLE_DEVICES={visible}") for k in left]


def _pick(entry: str, uuids: Mapping[int, str]) -> Chosen | None:
    """One entry; None for one that is invalid, at which CUDA stops."""
    if entry.startswith("MIG-"):
        return Chosen(-1, entry)
    if entry.isdecimal():
        return Chosen(int(entry)) if int(entry) in uuids else None
    matching = [index for index, uuid in uuids.items() if entry.startswith("GPU-") and uuid.startswith(entry)]
    return Chosen(matching[0]) if len(matching) == 1 else None
