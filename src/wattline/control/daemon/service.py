"""What the daemon does with a message: who asks, whether the policy allows it, and then the lease does it.

Nothing here knows of sockets: `open` a session for a peer, give it messages, `close` it. A session's leases are its
own: another session, of the same user too, cannot use them, and they end with it.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from ..leases.actuator import Actuator, ControlError, Knob, pick
from ..leases.budget import Bucket, Budget
from ..leases.keeper import Keeper, Lease
from .policy import Peer, Policy
from .protocol import (
    VERSION,
    WIRE,
    Beat,
    Devices,
    Hello,
    Message,
    Read,
    Release,
    Set,
    Take,
    device_row,
    from_wire,
    to_wire,
)

# Messages that could not be read, after which a session is ended.
MOST_MALFORMED: Final = 8


class Session:
    """One connection of one peer."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.leases: dict[str, Lease] = {}
        self.malformed = 0
        self.over = False


class Service:
    """The leases of a daemon under a policy; `policy` may be replaced while it runs.

    find : looks for devices anew after a drain; those known before are taken again where None.
    """

    def __init__(
        self, keeper: Keeper, policy: Policy | None = None, find: Callable[[], list[Actuator]] | None = None
    ) -> None:
        self.keeper, self.find = keeper, find
        self.draining = False
        self.budget = Budget()
        self.sessions: set[Session] = set()
        self.counts: Counter[tuple[str, str]] = Counter()
        self.set_seconds = 0.0
        self.not_put_back = 0
        self._buckets: dict[str, Bucket] = {}
        self._lines: dict[str, Bucket] = {}
        self._lock = threading.Lock()
        self._some_over = False
        keeper.listener = self._over
        self.use(policy or Policy())

    def use(self, policy: Policy) -> None:
        """Go by this policy from now on; leases that are held stay, their next change is checked anew."""
        self.policy = policy
        self.budget.watts = policy.budget
        self.keeper.standing = policy.stands
        self._buckets.clear()

    # ---- sessions ----

    def open(self, peer: Peer) -> Session:
        """A session for a peer; refused where there are too many."""
        mine = sum(s.peer.name == peer.name for s in list(self.sessions))
        if len(self.sessions) >= self.policy.connections or mine >= self.policy.connections_per_user:
            raise ControlError("busy", "the daemon has as many connections as it may have", "try again later")
        session = Session(peer)
        self.sessions.add(session)
        return session

    def close(self, session: Session, why: str = "its client is gone") -> None:
        """End a session: what its leases found is put back."""
        session.over = True
        self.sessions.discard(session)
        for name in list(session.leases):
            self._end(session, name, why)

    def expire(self) -> int:
        """End leases that were not renewed in time, and forget those that ended by themselves; returns how many."""
        self._some_over = False
        ended = 0
        for session in list(self.sessions):
            for name, lease in list(session.leases.items()):
                if lease.over or lease.remaining <= 0:
                    self._end(session, name, "it was not renewed in time")
                    ended += 1
        return ended

    def late(self) -> bool:
        """Whether `expire` has anything to do; looking takes no time."""
        return self._some_over or bool(self.keeper.late())

    def _over(self, _lease: Lease) -> None:
        self._some_over = True

    # ---- letting go of the driver ----

    def drain(self) -> list[str]:
        """End every lease and close every device; none is leased until `resume`. Returns what was not put back."""
        self.draining = True
        notes = [
            note
            for session in list(self.sessions)
            for name in list(session.leases)
            for note in self._end(session, name, "the driver is about to be reset")
        ]
        notes += self.keeper.drain()
        return notes

    def resume(self) -> list[str]:
        """Find the devices anew; returns what has to be told of them."""
        notes = self.keeper.resume(self.find() if self.find is not None else None)
        self.draining = False
        return notes

    # ---- messages ----

    def quick(self, session: Session, message: Message) -> bool:
        """Whether a message takes microseconds: no file is flushed, no slow device is asked."""
        if isinstance(message, Hello | Beat):
            return True
        if isinstance(message, Set):
            lease = session.leases.get(message.lease)
            return lease is None or (lease.actuator.quick and lease.recorded(from_wire(message.settings)))
        return False

    def do(self, session: Session, message: Message) -> Mapping[str, Any]:
        """Do what a message asks; whatever is refused or fails is a `ControlError`."""
        if isinstance(message, Set):
            return self._set(session, message)
        if isinstance(message, Beat):
            self._lease(session, message.lease).beat()
            return {}
        if isinstance(message, Take):
            return self._take(session, message)
        if isinstance(message, Read):
            return {"settings": to_wire(self._lease(session, message.lease).read())}
        if isinstance(message, Release):
            self._lease(session, message.lease)
            return {"notes": self._end(session, message.lease, "it was given back")}
        if isinstance(message, Devices):
            return {"devices": self._devices(session.peer)}
        return {
            "you": session.peer.name,
            "version": VERSION,
            "ttl_s": self.policy.ttl,
            "rate_per_s": self.policy.rate(session.peer),
            "dry_run": self.keeper.dry_run,
        }

    def refused(self, session: Session, message: Message, error: ControlError) -> None:
        """Log what the policy or the budget refused, one line a second for each user so that no one fills the disk."""
        if error.code not in ("denied", "budget") or not isinstance(message, Take | Set):
            return
        bucket = self._lines.setdefault(session.peer.name, Bucket(1.0, self.keeper.clock))
        with contextlib.suppress(ControlError):
            bucket.take(session.peer.name)
            asked = to_wire(from_wire(message.settings))
            self.keeper.audit.tell(
                "refused", owner=session.peer.name, code=error.code, reason=error.reason, asked=asked
            )

    def _take(self, session: Session, message: Take) -> Mapping[str, Any]:
        peer, policy = session.peer, self.policy
        if self.draining:
            raise ControlError("busy", "the daemon has let go of the driver for a reset", "try again when it is back")
        actuator = self._find(peer, message.device)
        setting = from_wire(message.settings)
        policy.check(peer, actuator.uuid, setting)
        if sum(len(s.leases) for s in list(self.sessions) if s.peer.name == peer.name) >= policy.leases(peer):
            raise ControlError("busy", f"{peer.name} holds as many devices as it may ({policy.leases(peer)})")
        self._spend(peer)
        owner = f"{peer.name}, pid {peer.pid}" if peer.pid else peer.name
        lease = self.keeper.take(actuator.uuid, owner=owner, ttl=min(message.ttl_s, policy.ttl))
        try:
            self._hold(lease, setting, first=True)
            made = lease.apply(setting) if setting else {}
        except BaseException:
            self.budget.release(lease.device)
            lease.close("its settings could not be made")
            raise
        name = secrets.token_hex(16)
        session.leases[name] = lease
        if session.over:
            # The client left while its lease was being made.
            self._end(session, name, "its client is gone")
        return {"lease": name, "ttl_s": lease.ttl, "settings": to_wire(made), **device_row(actuator)}

    def _set(self, session: Session, message: Set) -> Mapping[str, Any]:
        began = self.keeper.clock()
        lease = self._lease(session, message.lease)
        setting = from_wire(message.settings)
        self.policy.check(session.peer, lease.device, setting)
        self._spend(session.peer)
        before = self.budget.held.get(lease.device, 0.0)
        self._hold(lease, setting)
        try:
            made = lease.apply(setting, verify=message.verify)
        except ControlError:
            self._held_again(lease, before)
            raise
        self.set_seconds += self.keeper.clock() - began
        return {"settings": to_wire(made)}

    def _hold(self, lease: Lease, setting: Mapping[Knob, float | None], *, first: bool = False) -> None:
        """Count what the device may draw: the limit asked for, or the one in force where none is."""
        if "power_limit" not in lease.ranges or not (first or "power_limit" in setting):
            return
        asked = setting.get("power_limit")
        watts = lease.limit if asked is None else asked
        with self._lock:
            self.budget.hold(lease.device, watts)

    def _held_again(self, lease: Lease, before: float) -> None:
        with self._lock:
            if lease.over:
                self.budget.release(lease.device)
            elif before:
                self.budget.held[lease.device] = before

    def _lease(self, session: Session, name: str) -> Lease:
        lease = session.leases.get(name)
        if lease is None:
            raise ControlError("unknown", "this connection holds no such lease", "take one")
        return lease

    def _end(self, session: Session, name: str, why: str) -> list[str]:
        lease = session.leases.pop(name, None)
        if lease is None:
            return []
        notes = lease.close(why)
        with self._lock:
            self.budget.release(lease.device)
        self.not_put_back += len(notes)
        return notes

    def _spend(self, peer: Peer) -> None:
        bucket = self._buckets.get(peer.name)
        if bucket is None:
            bucket = self._buckets[peer.name] = Bucket(self.policy.rate(peer), self.keeper.clock)
        bucket.take(peer.name)

    def _find(self, peer: Peer, device: str) -> Actuator:
        """The device that a peer names, among those it may set; others are not told from those that are not there."""
        named = self.keeper.actuators.get(device)
        if named is not None and self._may(peer, named.uuid):
            return named
        allowed = [a for a in self.keeper.actuators.values() if self._may(peer, a.uuid)]
        try:
            return pick(allowed, device)
        except ControlError as error:
            reason = f"{peer.name} may set no device called {device!r}"
            if not allowed:
                raise ControlError("denied", reason, f"ask for an [[allow]] rule in {self.policy.source}") from None
            raise ControlError(error.code, reason, "`devices` lists yours") from None

    def _may(self, peer: Peer, device: str) -> bool:
        return any(rule.holds(peer, device) for rule in self.policy.rules)

    def _devices(self, peer: Peer) -> list[dict[str, Any]]:
        rows = []
        for actuator in self.keeper.actuators.values():
            allowed = {k for r in self.policy.rules if r.holds(peer, actuator.uuid) for k in r.bounds}
            if allowed:
                row = device_row(actuator)
                row["ranges"] = {knob: r for knob, r in row["ranges"].items() if knob in allowed}
                # 119 clocks of every device would not fit in a short answer; the lease gives them.
                for r in row["ranges"].values():
                    r.pop("choices")
                lease = self.keeper.leases.get(actuator.uuid)
                row["held"], row["owner"] = lease is not None, lease.owner if lease is not None else ""
                rows.append(row)
        return rows


__all__ = ["MOST_MALFORMED", "WIRE", "Service", "Session"]
