"""The other end of the daemon's socket, and `lease`, which asks the daemon where there is one and else sets by itself.

    with control.lease("GPU-1234", power_limit=250.0) as held:
        train()
        held.set(clock=1.2e9)

A lease of the daemon is used as one of this process is; a thread keeps it alive. When the connection breaks the
daemon puts back what was found, and the next use says that the lease is over.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import ssl
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

from ..leases.actuator import Code, ControlError, Knob, Range, Setting, setting_of
from .protocol import CODES, VERSION, from_wire, to_wire

SOCKET: Final = Path("/run/wattline/daemon.sock")
TIMEOUT: Final = 30.0
_MOST_ANSWER: Final = 1 << 24


class Held(Protocol):
    """What a lease offers, of this process or of the daemon."""

    device: str
    name: str
    over: str

    @property
    def ranges(self) -> Mapping[Knob, Range]: ...
    @property
    def latency(self) -> float: ...
    def set(self, *, verify: bool = True, **knobs: float | None) -> dict[Knob, float | None]: ...
    def apply(self, setting: Setting, *, verify: bool = True) -> dict[Knob, float | None]: ...
    def read(self) -> dict[Knob, float | None]: ...
    def beat(self) -> None: ...
    def close(self) -> list[str]: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Client:
    """A connection to a daemon. Constructing it connects to nothing; the first use does.

    address : path of a Unix socket, or "host:port" for mutual TLS; WATTLINE_DAEMON or `SOCKET` if None.
    tls : (certificate, key, authority), paths; only with host:port.
    """

    def __init__(
        self,
        address: str | Path | None = None,
        *,
        tls: tuple[str | Path, str | Path, str | Path] | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        self.address = str(address or os.environ.get("WATTLINE_DAEMON", "") or SOCKET)
        self.timeout = timeout
        self._tls = tls
        self._sock: socket.socket | None = None
        self._buffer = b""
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def devices(self) -> list[dict[str, Any]]:
        """The devices that this user may set, with their ranges, and whether they are held."""
        return list(self.ask("devices")["devices"])

    def hello(self) -> dict[str, Any]:
        """Who the daemon takes us for, and its limits."""
        return self.ask("hello")

    def take(self, device: str = "0", *, ttl: float = 30.0, **knobs: float | None) -> RemoteLease:
        """Lease a device and keep it alive until it is closed, or this process ends."""
        answer = self.ask("take", device=device, ttl_s=ttl, settings=to_wire(setting_of(**knobs)))
        return RemoteLease(self, answer)

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """Send a message and return its result; a refusal is a `ControlError` as the daemon worded it."""
        with self._lock:
            number = next(self._numbers)
            line = json.dumps({"v": VERSION, "id": number, "op": op, **fields}, allow_nan=False).encode() + b"\n"
            try:
                sock = self._connect()
                sock.sendall(line)
                answer = json.loads(self._line(sock))
            except (OSError, ValueError) as error:
                self._drop()
                raise ControlError(
                    "closed",
                    f"the daemon at {self.address} did not answer ({error})",
                    "see `systemctl status wattline`",
                ) from None
        if answer.get("ok"):
            result: dict[str, Any] = answer["result"]
            return result
        told = answer["error"]
        code: Code = told["code"] if told["code"] in CODES else "device"
        if answer.get("id") is None:
            self.close()
        raise ControlError(code, told["reason"], told.get("fix", ""))

    def close(self) -> None:
        """Hang up; the daemon puts back whatever is still held."""
        with self._lock:
            self._drop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connect(self) -> socket.socket:
        if self._sock is None:
            host, _, port = self.address.rpartition(":")
            if self._tls is not None or (host and port.isdecimal() and "/" not in self.address):
                if self._tls is None:
                    raise ControlError(
                        "closed", f"{self.address} is a host, which needs tls=(certificate, key, authority)"
                    )
                certificate, key, authority = self._tls
                context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(authority))
                context.minimum_version = ssl.TLSVersion.TLSv1_3
                context.load_cert_chain(certificate, key)
                plain = socket.create_connection((host.strip("[]"), int(port)), timeout=self.timeout)
                self._sock = context.wrap_socket(plain, server_hostname=host.strip("[]"))
            else:
                sock = socket.socket(socket.AF_UNIX)
                sock.settimeout(self.timeout)
                try:
                    sock.connect(self.address)
                except OSError:
                    sock.close()
                    raise
                self._sock = sock
        return self._sock

    def _line(self, sock: socket.socket) -> bytes:
        while b"\n" not in self._buffer:
            data = sock.recv(65536)
            if not data:
                raise ConnectionResetError("it hung up")
            self._buffer += data
            if len(self._buffer) > _MOST_ANSWER:
                raise ValueError("the answer is too long")
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _drop(self) -> None:
        if self._sock is not None:
            self._sock.close()
        self._sock, self._buffer = None, b""


class RemoteLease:
    """A lease of the daemon; used as `keeper.Lease` is."""

    def __init__(self, client: Client, answer: Mapping[str, Any]) -> None:
        self._client = client
        self._sock = client._sock
        self._id = str(answer["lease"])
        self.device, self.name = str(answer["device"]), str(answer["name"])
        self.ttl, self.latency = float(answer["ttl_s"]), float(answer["latency_s"])
        self.over = ""
        # Whether the connection is this lease's alone, and ends with it.
        self.hang_up = False
        self.ranges: Mapping[Knob, Range] = {
            knob: Range(**{**row, "choices": tuple(row["choices"])}) for knob, row in answer["ranges"].items()
        }
        self._process = os.getpid()
        self._ended = threading.Event()
        threading.Thread(target=self._keep, name="wattline-lease", daemon=True).start()

    def set(self, *, verify: bool = True, **knobs: float | None) -> dict[Knob, float | None]:
        """Set knobs, all or none: W and Hz, None lets the device choose again."""
        return self.apply(setting_of(**knobs), verify=verify)

    def apply(self, setting: Setting, *, verify: bool = True) -> dict[Knob, float | None]:
        """The same with the knobs in a mapping."""
        return from_wire(self._ask("set", settings=to_wire(setting), verify=verify)["settings"])

    def read(self) -> dict[Knob, float | None]:
        """What every knob is set to now."""
        return from_wire(self._ask("read")["settings"])

    def beat(self) -> None:
        """Keep the lease; a thread does it anyway."""
        self._ask("beat")

    def close(self) -> list[str]:
        """Give it back; returns what could not be put back. Closing twice does nothing."""
        if self.over or os.getpid() != self._process:
            return []
        try:
            return list(self._ask("release")["notes"])
        except ControlError as error:
            return [] if error.code in ("stale", "unknown") else [error.reason]
        finally:
            self.over = self.over or "it was given back"
            self._ended.set()
            if self.hang_up:
                self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, op: str, **fields: Any) -> dict[str, Any]:
        if os.getpid() != self._process:
            raise ControlError("stale", f"the lease of {self.device} belongs to the process that took it")
        if self.over:
            raise ControlError("stale", f"the lease of {self.device} is over: {self.over}", "take a new one")
        if self._client._sock is not self._sock:
            self.over = "the connection to the daemon broke, and the daemon put back what was found"
            return self._ask(op)
        try:
            return self._client.ask(op, lease=self._id, **fields)
        except ControlError as error:
            if error.code in ("stale", "unknown", "conflict", "lost", "closed"):
                self.over = error.reason
                self._ended.set()
            raise

    def _keep(self) -> None:
        while not self._ended.wait(self.ttl / 3):
            try:
                self.beat()
            except ControlError:  # the lease is over; its owner is told at the next use
                return


def lease(
    device: str = "0",
    *,
    ttl: float = 30.0,
    daemon: Client | str | Path | None = None,
    dry_run: bool = False,
    **knobs: float | None,
) -> Held:
    """Lease a device: through the daemon where one serves this machine, else in this process.

    device : UUID, its beginning, or its place. daemon : a `Client` or an address; looked for where None.
    dry_run : check and log, set nothing. knobs : ``power_limit`` in W, ``clock`` and ``memory_clock`` in Hz.
    """
    if dry_run:
        from ..leases.local import lease as local_lease

        return local_lease(device, dry_run=True, ttl=None, **knobs)
    if isinstance(daemon, Client):
        return daemon.take(device, ttl=ttl, **knobs)
    if daemon is not None or os.environ.get("WATTLINE_DAEMON") or SOCKET.exists():
        client = Client(daemon)
        try:
            held = client.take(device, ttl=ttl, **knobs)
        except BaseException:
            client.close()
            raise
        held.hang_up = True
        return held
    from ..leases.local import lease as local_lease

    return local_lease(device, dry_run=False, ttl=None, **knobs)
