"""Who is at the other end of a connection, as the kernel or a certificate says, never as the peer says itself."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import os
import pwd
import socket
import struct
from typing import Any

from ..leases.actuator import ControlError
from .policy import Peer


def peer_of(transport: asyncio.Transport, kind: str) -> Peer:
    """Who is at the other end."""
    if kind == "tls":
        return tls_peer(transport.get_extra_info("peercert"))
    sock = transport.get_extra_info("socket")
    pid, uid, gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return unix_peer(pid, uid, gid)


def unix_peer(pid: int, uid: int, gid: int) -> Peer:
    """A process of this machine by its credentials."""
    names = {f"uid:{uid}"}
    name = f"uid:{uid}"
    groups = [gid]
    with contextlib.suppress(KeyError):
        name = pwd.getpwuid(uid).pw_name
        names.add(name)
        groups = os.getgrouplist(name, gid)
    for group in groups:
        with contextlib.suppress(KeyError):
            names.add(f"group:{grp.getgrgid(group).gr_name}")
    return Peer(name=name, kind="unix", names=frozenset(names), pid=pid)


def tls_peer(certificate: Any) -> Peer:
    """A client by the names in its certificate, which our authority has signed."""
    found = [v for part in (certificate or {}).get("subject", ()) for k, v in part if k == "commonName"]
    found += [v for k, v in (certificate or {}).get("subjectAltName", ()) if k == "DNS"]
    if not found:
        raise ControlError("denied", "the client's certificate names no one", "give it a common name")
    return Peer(name=f"cert:{found[0]}", kind="tls", names=frozenset(f"cert:{name}" for name in found))
