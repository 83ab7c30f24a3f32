"""What is said over the daemon's socket: one JSON object a line, small, strict and versioned.

    -> {"v":1,"id":7,"op":"take","device":"GPU-...","ttl_s":30,"settings":{"power_limit_w":250}}
    <- {"v":1,"id":7,"ok":true,"result":{"lease":"...","settings":{"power_limit_w":250}}}
    -> {"v":1,"id":8,"op":"set","lease":"...","settings":{"clock_hz":1200000000}}
    <- {"v":1,"id":8,"ok":false,"error":{"code":"stale","reason":"...","fix":"take a new one"}}

A message is answered once, in order. A field that is not known, of another kind or out of bounds makes a message
malformed; a line longer than `MOST_BYTES` ends the connection, for where the next one begins is not known.
A setting of null lets the device choose again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, get_args

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ..leases.actuator import KNOBS, UNITS, Actuator, Code, ControlError, Knob, Setting

VERSION: Final = 1
MOST_BYTES: Final = 4096
# The longest that a lease may go without a heartbeat, whatever a policy says, s.
MOST_TTL: Final = 86400.0

Number = float | None | UnsetType
Device = Annotated[str, Meta(min_length=1, max_length=128)]
LeaseId = Annotated[str, Meta(min_length=1, max_length=64)]
Ttl = Annotated[float, Meta(gt=0, le=MOST_TTL)]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Knobs by their names on the wire, which carry the unit."""

    power_limit_w: Number = UNSET
    clock_hz: Number = UNSET
    memory_clock_hz: Number = UNSET
    module_power_limit_w: Number = UNSET
    power_profile: Number = UNSET
    power_smoothing: Number = UNSET


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="op", tag=str.lower):
    """What every message has: the version, and a number that its answer repeats."""

    v: int
    id: Annotated[int, Meta(ge=0, lt=2**53)]


class Hello(Request, frozen=True):
    """Who am I to you, and what are the limits?"""


class Devices(Request, frozen=True):
    """Which devices may I set, and to what?"""


class Take(Request, frozen=True):
    """Lease a device and set it."""

    device: Device
    ttl_s: Ttl = 30.0
    settings: Settings = Settings()


class Set(Request, frozen=True):
    """Set what is leased."""

    lease: LeaseId
    settings: Settings
    verify: bool = True


class Read(Request, frozen=True):
    """What is it set to?"""

    lease: LeaseId


class Beat(Request, frozen=True):
    """I am still here."""

    lease: LeaseId


class Release(Request, frozen=True):
    """Put it back."""

    lease: LeaseId


Message = Hello | Devices | Take | Set | Read | Beat | Release

_decoder: Final = msgspec.json.Decoder(Message)
_encoder: Final = msgspec.json.Encoder()
WIRE: Final[dict[Knob, str]] = {knob: f"{knob}_{UNITS[knob].lower()}".rstrip("_") for knob in KNOBS}
CODES: Final[frozenset[str]] = frozenset(get_args(Code))


def decode(line: bytes) -> Message:
    """A line as a message; one that is none, or of another version, is a `ControlError`."""
    try:
        message: Message = _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ControlError("malformed", f"the message cannot be read: {str(error)[:200]}") from None
    if message.v != VERSION:
        raise ControlError("version", f"this daemon speaks version {VERSION}, got {message.v}", "update the older side")
    return message


def encode(value: Any) -> bytes:
    """A message or an answer as a line."""
    return _encoder.encode(value) + b"\n"


def done(number: int, result: Mapping[str, Any]) -> bytes:
    """The answer to a message that was done."""
    return encode({"v": VERSION, "id": number, "ok": True, "result": result})


def failed(number: int | None, error: ControlError) -> bytes:
    """The answer to a message that was refused or failed; the number is null where none could be read."""
    told = {"code": error.code, "reason": error.reason, "fix": error.fix}
    return encode({"v": VERSION, "id": number, "ok": False, "error": told})


def to_wire(setting: Setting) -> dict[str, float | None]:
    """Knobs by their names on the wire."""
    return {WIRE[knob]: value for knob, value in setting.items()}


def from_wire(settings: Settings | Mapping[str, float | None]) -> dict[Knob, float | None]:
    """The inverse; what was left out is left out."""
    found: dict[Knob, float | None] = {}
    for knob, name in WIRE.items():
        value = getattr(settings, name) if isinstance(settings, Settings) else settings.get(name, UNSET)
        if value is not UNSET:
            found[knob] = value
    return found


def device_row(actuator: Actuator) -> dict[str, Any]:
    """A device and its ranges, as an answer."""
    ranges = {
        knob: {
            "low": r.low,
            "high": r.high,
            "choices": list(r.choices),
            "step": r.step,
            "readable": r.readable,
            "rounding": r.rounding,
        }
        for knob, r in actuator.knobs().items()
    }
    return {
        "device": actuator.uuid,
        "name": actuator.name,
        "latency_s": actuator.latency,
        "ranges": ranges,
        "notes": list(actuator.notes),
    }
