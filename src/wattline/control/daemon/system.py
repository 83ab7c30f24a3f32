"""What a daemon asks of the system: a socket with the right owner, TLS, files enough, and a word to systemd."""

from __future__ import annotations

import contextlib
import grp
import os
import resource
import socket
import ssl
import stat
import sys
from pathlib import Path

from ...core.errors import InputError


def tls_context(certificate: Path | None, key: Path | None, authority: Path | None) -> ssl.SSLContext:
    """TLS 1.3 in which both sides show a certificate."""
    if certificate is None or key is None or authority is None:
        raise InputError(
            "--listen needs --certificate, --key and --authority: without all three there is no mutual TLS"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(certificate, key)
        context.load_verify_locations(authority)
    except (OSError, ssl.SSLError) as error:
        raise InputError(f"the certificates cannot be used: {error}") from None
    return context


def bind(path: Path, group: str | None) -> socket.socket:
    """A Unix socket that only its owner, and `group` if given, may connect to.

    What is not a socket is never removed; neither is a socket of another user, nor that of a daemon that answers.

    Raises
    ------
    InputError : something is in the way, there is no such group, or the socket cannot be made.
    """
    try:
        owner = None if group is None else grp.getgrnam(group).gr_gid
        path.parent.mkdir(parents=True, exist_ok=True)
        _make_way(path)
        made = socket.socket(socket.AF_UNIX)
        # Made without rights for anyone and opened up once it belongs to the right group.
        mask = os.umask(0o177)
        try:
            made.bind(str(path))
        finally:
            os.umask(mask)
        if owner is not None:
            os.chown(path, -1, owner)
            path.chmod(0o660)
        return made
    except KeyError:
        raise InputError(f"there is no group {group!r} on this machine") from None
    except OSError as error:
        raise InputError(f"the socket {path} cannot be made: {error.strerror or error}") from None


def _make_way(path: Path) -> None:
    """Remove a dead daemon's socket; anything else that is there stays and is told."""
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(facts.st_mode):
        raise InputError(f"{path} is there and is no socket, so it is left as it is; give another --socket")
    if facts.st_uid != os.geteuid():
        raise InputError(f"the socket {path} belongs to another user, so it is left as it is; give another --socket")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        else:
            raise InputError(f"a daemon is already serving {path}; stop it, or give another --socket")


def unbind(path: Path, inode: tuple[int, int]) -> None:
    """Remove our own socket, and nothing that has come to its place since."""
    with contextlib.suppress(OSError):
        facts = path.lstat()
        if stat.S_ISSOCK(facts.st_mode) and inode == (facts.st_dev, facts.st_ino):
            path.unlink()


def private(folder: Path, what: str) -> Path:
    """A folder that no one else may write to, nor any above it; made if it is not there.

    Raises
    ------
    InputError : it is no folder, or others can put files in it or another folder in its place.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except FileExistsError:
        raise InputError(f"{what} {folder} is there and is no folder; give another") from None
    except OSError as error:
        raise InputError(f"{what} {folder} cannot be made: {error.strerror}") from None
    for place in (folder.resolve(), *folder.resolve().parents):
        facts = place.stat()
        others = facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        # In a sticky folder such as /tmp others may write, but not replace what is ours.
        sticky = place != folder.resolve() and facts.st_mode & stat.S_ISVTX
        if facts.st_uid not in (0, os.geteuid()) or (others and not sticky):
            raise InputError(
                f"{what} {folder}: others can write {place}, so what it holds cannot be trusted; "
                f"sudo chown root {place} and sudo chmod go-w {place}, then start again"
            )
    return folder


def raise_limit_of_files() -> None:
    """A connection and a lease take a file each."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def notify(state: str) -> None:
    """Tell systemd (sd_notify(3)); without it, nothing."""
    place = os.environ.get("NOTIFY_SOCKET", "")
    if place:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(state.encode(), "\0" + place[1:] if place[0] == "@" else place)


def say(text: str) -> None:
    """A line for the journal of the system."""
    print(f"wattline: {text}", file=sys.stderr, flush=True)
