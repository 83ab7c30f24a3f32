"""Who may set what, in a TOML file that only its owner can write; what it does not allow is denied.

[limits]
budget = "4 kW"                      # what clients may hold together; no bound where left out
ttl = "1 min"                        # the longest that a lease may go without a heartbeat

[[allow]]
users = ["alice", "group:ml"]        # also "uid:1001", "*" (any local user), "cert:trainer-*" (mutual TLS)
devices = ["GPU-*"]
power_limit = ["200 W", "400 W"]     # true: the device's whole range; left out: not allowed
clock = true
rate = 50                            # changes per second of one user

[[standing]]                         # what the administrator has set where the device cannot be asked:
devices = ["GPU-*"]                  # the most that is set, and what is put back
clock = "1.41 GHz"
"""

from __future__ import annotations

import fnmatch
import math
import os
import stat
import tomllib
from pathlib import Path
from typing import Final

import msgspec

from ...core.errors import InputError
from ...core.units import parse
from ..leases.actuator import KNOBS, UNITS, Actuator, ControlError, Knob, Setting, say
from .system import private

PLACE: Final = Path("/etc/wattline/policy.toml")


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """Who is at the other end, as the kernel or a certificate says; never as the peer says.

    name : for the log and for limits. kind : "unix" or "tls". names : all that a rule may call it by.
    """

    name: str
    kind: str
    names: frozenset[str]
    pid: int = 0


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One [[allow]]: its bounds are W and Hz."""

    users: tuple[str, ...]
    devices: tuple[str, ...]
    bounds: dict[Knob, tuple[float, float]]
    rate: float
    leases: int

    def holds(self, peer: Peer, device: str | None = None) -> bool:
        """Whether it is about this peer, and this device if one is named."""
        return any(_named(user, peer) for user in self.users) and (
            device is None or any(fnmatch.fnmatchcase(device, pattern) for pattern in self.devices)
        )


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """A policy; the empty one denies everything."""

    rules: tuple[Rule, ...] = ()
    standing: tuple[tuple[tuple[str, ...], dict[Knob, float]], ...] = ()
    budget: float = math.inf
    ttl: float = 30.0
    connections: int = 1200
    connections_per_user: int = 64
    source: str = "no policy file"

    def rule(self, peer: Peer, device: str, knob: Knob | None = None) -> Rule:
        """The first rule that lets this peer set this knob (any, if None) of this device, or a refusal."""
        for rule in self.rules:
            if rule.holds(peer, device) and (knob is None or knob in rule.bounds):
                return rule
        what = knob or "anything"
        raise ControlError(
            "denied", f"{peer.name} may not set {what} of {device}", f"ask for an [[allow]] rule in {self.source}"
        )

    def check(self, peer: Peer, device: str, setting: Setting) -> None:
        """Refuse a setting that no rule allows, with the bounds that would be."""
        for knob, value in setting.items():
            rules = [r for r in self.rules if r.holds(peer, device) and knob in r.bounds]
            if not rules:
                self.rule(peer, device, knob)
            spans = [r.bounds[knob] for r in rules]
            if value is not None and not any(low <= value <= high for low, high in spans):
                told = " or ".join(f"{_bound(knob, low)} to {_bound(knob, high)}" for low, high in spans)
                raise ControlError(
                    "denied", f"{peer.name} may set {knob} of {device} to {told}, got {say(knob, value)}"
                )

    def rate(self, peer: Peer) -> float:
        """Changes per second that a peer may make."""
        return max((r.rate for r in self.rules if r.holds(peer)), default=0.0)

    def leases(self, peer: Peer) -> int:
        """How many devices a peer may hold at once."""
        return max((r.leases for r in self.rules if r.holds(peer)), default=0)

    def stands(self, actuator: Actuator, knob: Knob) -> float | None:
        """What the administrator has set of a knob, as far as the policy states it."""
        for devices, values in self.standing:
            if knob in values and any(fnmatch.fnmatchcase(actuator.uuid, d) for d in devices):
                return values[knob]
        return None


# ---- the file ------------------------------------------------------------------------------------


class _Limits(msgspec.Struct, forbid_unknown_fields=True):
    budget: str | None = None
    ttl: str = "30 s"
    connections: int = 1200
    connections_per_user: int = 64


class _Allow(msgspec.Struct, forbid_unknown_fields=True):
    users: list[str]
    devices: list[str]
    power_limit: bool | list[str] = False
    clock: bool | list[str] = False
    memory_clock: bool | list[str] = False
    module_power_limit: bool | list[str] = False
    power_profile: bool | list[str] = False
    power_smoothing: bool | list[str] = False
    rate: float = 20.0
    leases: int = 8


class _Standing(msgspec.Struct, forbid_unknown_fields=True):
    devices: list[str]
    clock: str | None = None
    memory_clock: str | None = None
    power_limit: str | None = None
    module_power_limit: str | None = None
    power_profile: str | None = None
    power_smoothing: str | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    limits: _Limits = msgspec.field(default_factory=_Limits)
    allow: list[_Allow] = []
    standing: list[_Standing] = []


def load(path: Path) -> Policy:
    """Read a policy file; one that others could write is refused, for it would be they who decide."""
    try:
        with path.open("rb") as file:
            facts = os.fstat(file.fileno())
            text = file.read().decode()
    except OSError as error:
        raise InputError(f"policy {path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InputError(f"policy {path}: is not a text file") from None
    if facts.st_uid not in (0, os.geteuid()) or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise InputError(f"policy {path}: others may write it; chown root and chmod go-w, then start again")
    private(path.parent, f"policy {path} in the folder")
    return read(text, str(path))


def read(text: str, source: str = "policy") -> Policy:
    """A policy from its text; every mistake is an error that says where."""
    try:
        file = msgspec.convert(tomllib.loads(text), _File)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise InputError(f"policy {source}: {error}") from None
    rules = tuple(_rule(allow, f"policy {source}: allow {number}") for number, allow in enumerate(file.allow, 1))
    standing = tuple(
        (
            tuple(s.devices),
            {k: _value(k, v, f"policy {source}: {k}") for k in KNOBS if (v := getattr(s, k)) is not None},
        )
        for s in file.standing
    )
    limits = file.limits
    if min(limits.connections, limits.connections_per_user) < 1:
        raise InputError(f"policy {source}: connections must be at least 1")
    return Policy(
        rules=rules,
        standing=standing,
        budget=math.inf if limits.budget is None else parse(limits.budget, "W", key=f"policy {source}: budget"),
        ttl=parse(limits.ttl, "s", key=f"policy {source}: ttl"),
        connections=limits.connections,
        connections_per_user=limits.connections_per_user,
        source=source,
    )


def _rule(allow: _Allow, where: str) -> Rule:
    bounds: dict[Knob, tuple[float, float]] = {}
    for knob in KNOBS:
        stated: bool | list[str] = getattr(allow, knob)
        if stated is True:
            bounds[knob] = (0.0, math.inf)
        elif stated is not False:
            if len(stated) != 2:
                raise InputError(f'{where}: {knob} is true or two bounds, such as ["200 W", "400 W"], got {stated}')
            low, high = (_value(knob, text, f"{where}: {knob}") for text in stated)
            if not low <= high:
                raise InputError(f"{where}: {knob} must go from the lower to the higher bound, got {stated}")
            bounds[knob] = (low, high)
    if not bounds:
        raise InputError(f"{where}: allows nothing; give power_limit, clock or memory_clock")
    if not (math.isfinite(allow.rate) and allow.rate > 0) or allow.leases < 1:
        raise InputError(f"{where}: rate and leases must be above 0, got {allow.rate} and {allow.leases}")
    return Rule(
        users=tuple(allow.users), devices=tuple(allow.devices), bounds=bounds, rate=allow.rate, leases=allow.leases
    )


def _value(knob: Knob, text: str, where: str) -> float:
    """A value of the file: with its unit, or a bare number for a knob that has none."""
    if UNITS[knob]:
        return parse(text, UNITS[knob], key=where)
    try:
        return float(text)
    except ValueError:
        raise InputError(f'{where}: is a number, such as "6", got {text!r}') from None


def _named(user: str, peer: Peer) -> bool:
    if user == "*":
        return peer.kind == "unix"
    if user.startswith("cert:"):
        return any(fnmatch.fnmatchcase(name, user) for name in peer.names if name.startswith("cert:"))
    return user in peer.names


def _bound(knob: Knob, value: float) -> str:
    return "any" if value in (0.0, math.inf) else say(knob, value)
