"""Which devices of a machine a window is about: by place, UUID, key or scope."""

from __future__ import annotations

from collections.abc import Sequence

from .result import SCOPES
from .track import Track


def chosen(tracks: Sequence[Track], devices: Sequence[str | int] | None) -> tuple[list[Track], list[str]]:
    """The tracks that are asked for, all where None, and a sentence for each device that is not here.

    A number is a place among the GPUs; a text is a UUID or its beginning, a key, or a scope.
    """
    if devices is None:
        return list(tracks), []
    gpus = [track for track in tracks if track.meter.scope == "gpu"]
    found: list[Track] = []
    notes = []
    for device in devices:
        own = _named(tracks, gpus, device)
        if not own:
            here = ", ".join(track.meter.uuid for track in tracks) or "none"
            notes.append(f"no device {device!r} is measured here; those that are: {here}")
        found += [track for track in own if track not in found]
    return found, notes


def _named(tracks: Sequence[Track], gpus: Sequence[Track], device: str | int) -> list[Track]:
    if isinstance(device, int) or str(device).isdecimal():
        place = int(device)
        return [gpus[place]] if 0 <= place < len(gpus) else []
    if device in SCOPES:
        return [track for track in tracks if track.meter.scope == device]
    exact = [track for track in tracks if device in (track.meter.uuid, track.meter.key)]
    return exact or [track for track in tracks if device and track.meter.uuid.startswith(device)]
