"""The daemon: the only part that needs privilege. It serves leases over a Unix socket, and TCP with mutual TLS.

    line -> decode -> policy, limits, budget -> lease -> device        one message of a connection at a time
               a connection that closes, however it closes, gives back what it held

Who a peer is comes from the kernel (SO_PEERCRED) or from a certificate that our authority signed. One thread runs the
loop; devices and files that may take long are asked in others, so a slow device holds up its own client only.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from ...core.errors import WattlineError
from ..leases.actuator import ControlError
from .metrics import render
from .peers import peer_of
from .policy import Policy
from .protocol import MOST_BYTES, Message, decode, done, failed
from .service import MOST_MALFORMED, Service, Session
from .system import bind, notify, raise_limit_of_files, say, tls_context, unbind

SOCKET: Final = Path("/run/wattline/daemon.sock")
# Seconds between looks for leases that are due, and in which every lease is once compared with its device.
TICK: Final = 0.1
ROUND: Final = 5.0
# A connection without a lease is closed after so long without a message, and one that does not read its answers.
IDLE_SECONDS: Final = 300.0
STUCK_SECONDS: Final = 10.0
THREADS: Final = 16
# Messages of one connection that are answered in one turn; then it is others' turn.
TURN: Final = 16


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Where to listen.

    socket : of this machine's clients, readable and writable for `group` (its owner's alone where None).
    listen : host and port for mutual TLS, with the paths of a certificate, its key and the authority of clients.
    metrics : host and port for Prometheus.
    """

    socket: Path | None = SOCKET
    group: str | None = None
    listen: tuple[str, int] | None = None
    certificate: Path | None = None
    key: Path | None = None
    authority: Path | None = None
    metrics: tuple[str, int] | None = None


class Daemon:
    """The sockets around a service. `run` serves until a signal or `stop`; then everything is put back."""

    def __init__(
        self, service: Service, options: Options | None = None, reload: Callable[[], Policy] | None = None
    ) -> None:
        self.service, self.options, self._reload = service, options or Options(), reload
        self.connections: set[Connection] = set()
        self.pool = ThreadPoolExecutor(THREADS, thread_name_prefix="wattline-device")
        self._stop: asyncio.Event | None = None
        self._servers: list[asyncio.Server] = []
        self._own: tuple[int, int] | None = None
        self._next = 0
        self._said: set[str] = set()

    def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve; `ready` is called when clients may connect."""
        raise_limit_of_files()
        # A thread that asks a device gives way to the loop after half a millisecond, not after five.
        sys.setswitchinterval(5e-4)
        asyncio.run(self.serve(ready))

    async def serve(self, ready: Callable[[], None] = lambda: None) -> None:
        """Put back what an earlier daemon left, then serve until `stop`."""
        loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        for note in await loop.run_in_executor(self.pool, self.service.keeper.recover):
            say(note)
        with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):  # not the main thread, in tests
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._stop.set)
            loop.add_signal_handler(signal.SIGHUP, self.reload)
            loop.add_signal_handler(signal.SIGUSR1, lambda: self._later(loop, self.drain))
            loop.add_signal_handler(signal.SIGUSR2, lambda: self._later(loop, self.resume))
        try:
            await self._listen(loop)
            ready()
            notify("READY=1")
            watch = loop.create_task(self._watch(loop))
            await self._stop.wait()
            watch.cancel()
        finally:
            notify("STOPPING=1")
            await self._close(loop)

    def stop(self) -> None:
        """End serving; from the loop's own thread."""
        if self._stop is not None:
            self._stop.set()

    def reload(self) -> None:
        """Read the policy anew; a bad one is said and the old one stays."""
        if self._reload is not None:
            try:
                self.service.use(self._reload())
                say("the policy was read anew")
            except WattlineError as error:
                say(f"the policy stays as it was: {error}")

    # ---- letting go of the driver ----

    def drain(self) -> None:
        """Give back every device and let go of the driver, so that it can be reset or loaded anew; clients are told."""
        for note in self.service.drain():
            say(note)
        say("drained: every device is as it was found and the driver is let go; SIGUSR2 goes on")
        notify("STATUS=drained")

    def resume(self) -> None:
        """Look for devices anew and serve them."""
        for note in self.service.resume():
            say(note)
        say(f"serving {len(self.service.keeper.actuators)} devices again")
        notify("STATUS=serving")

    def _later(self, loop: asyncio.AbstractEventLoop, what: Callable[[], None]) -> None:
        """In a thread of devices, for a signal must not hold up the loop."""
        task = loop.run_in_executor(self.pool, what)
        task.add_done_callback(lambda done: done.exception())

    # ---- sockets ----

    async def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        options = self.options
        if options.socket is not None:
            bound = bind(options.socket, options.group)
            facts = options.socket.lstat()
            self._own = facts.st_dev, facts.st_ino
            self._servers.append(
                await loop.create_unix_server(lambda: Connection(self, "unix"), sock=bound, backlog=1024)
            )
        if options.listen is not None:
            context = tls_context(options.certificate, options.key, options.authority)
            self._servers.append(
                await loop.create_server(
                    lambda: Connection(self, "tls"), *options.listen, ssl=context, ssl_handshake_timeout=5.0
                )
            )
        if options.metrics is not None:
            self._servers.append(await loop.create_server(lambda: Scrape(self), *options.metrics))

    def ports(self) -> list[int]:
        """The TCP ports listened on, in the order TLS, metrics; for where 0 was asked for."""
        every = [s.getsockname() for server in self._servers for s in server.sockets]
        return [name[1] for name in every if isinstance(name, tuple)]

    async def _close(self, loop: asyncio.AbstractEventLoop) -> None:
        # First let nobody in any more, then let who is half in come in, for a server that is closed cannot take them.
        for server in self._servers:
            for sock in server.sockets:
                loop.remove_reader(sock.fileno())
        await asyncio.sleep(0.001)
        for server in self._servers:
            server.close()
        for connection in list(self.connections):
            connection.abort()
        service = self.service

        def end() -> None:
            for session in list(service.sessions):
                service.close(session, "the daemon was stopped")
            for note in service.keeper.close("the daemon was stopped"):
                say(note)

        await loop.run_in_executor(self.pool, end)
        # A connection says a turn or two later that it is over.
        for _ in range(100):
            await asyncio.sleep(0.001)
            for connection in list(self.connections):
                connection.abort()
            if not self.connections:
                break
        self.pool.shutdown()
        if self.options.socket is not None and self._own is not None:
            unbind(self.options.socket, self._own)

    # ---- time ----

    async def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Every tick end what is due and compare a few leases with their devices."""
        service, turn = self.service, 0
        while True:
            await asyncio.sleep(TICK)
            turn += 1
            if service.late():
                await loop.run_in_executor(self.pool, service.expire)
            if service.keeper.leases:
                await loop.run_in_executor(self.pool, self._compare)
            if turn % 300 == 0:  # every half minute: devices that were away may be back
                for note in await loop.run_in_executor(self.pool, service.keeper.recover):
                    if note not in self._said:
                        say(note)
                        self._said.add(note)
            now = loop.time()
            for connection in list(self.connections):
                connection.look(now)

    def _compare(self) -> None:
        held = list(self.service.keeper.leases.values())
        some = -(-len(held) * TICK // ROUND) if held else 0
        for _ in range(int(some)):
            self._next = (self._next + 1) % len(held)
            with contextlib.suppress(
                ControlError
            ):  # the lease is over then, and its client is told at its next message
                held[self._next].check()


class Connection(asyncio.Protocol):
    """One client: lines in, answers out, one at a time; while one is worked on, the next stay in the socket."""

    def __init__(self, daemon: Daemon, kind: str) -> None:
        self.daemon, self.kind = daemon, kind
        self.session: Session | None = None
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._working = self._full = False
        self._seen = self._full_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._seen = asyncio.get_running_loop().time()
        transport.set_write_buffer_limits(high=16 * MOST_BYTES)
        self.daemon.connections.add(self)
        try:
            peer = peer_of(transport, self.kind)
            self.session = self.daemon.service.open(peer)
        except ControlError as error:
            self._refuse(error)

    def data_received(self, data: bytes) -> None:
        self._seen = asyncio.get_running_loop().time()
        self._buffer += data
        if not self._working:
            self._work()

    def connection_lost(self, _error: Exception | None) -> None:
        self.daemon.connections.discard(self)
        session, self._transport = self.session, None
        if session is None:
            return
        if not session.leases and not self._working:
            session.over = True
            self.daemon.service.sessions.discard(session)
            return
        session.over = True
        with contextlib.suppress(RuntimeError):  # the pool is shut down only once everything has been put back
            self.daemon.pool.submit(self.daemon.service.close, session)

    def pause_writing(self) -> None:
        self._full, self._full_since = True, asyncio.get_running_loop().time()
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._full = False
        if not self._working:
            self._work()

    def look(self, now: float) -> None:
        """Close what hangs: no message for long and no lease, or answers that are not read."""
        idle = self.session is None or not self.session.leases
        if (idle and now - self._seen > IDLE_SECONDS) or (self._full and now - self._full_since > STUCK_SECONDS):
            self.abort()

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def _work(self) -> None:
        """Answer whole lines until one takes long, the client does not read, or none is left."""
        for _ in range(TURN):
            if self._transport is None or self.session is None or self._full:
                break
            end = self._buffer.find(b"\n")
            if end < 0 or end > MOST_BYTES:
                if len(self._buffer) > MOST_BYTES:
                    self._refuse(
                        ControlError("malformed", f"a message is at most {MOST_BYTES} bytes and ends in a newline")
                    )
                break
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            if not self._message(line):
                return
        else:
            self._working = True
            if self._transport is not None:
                self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._again)
            return
        # What has not been worked on stays with the kernel, so a client cannot fill our memory.
        if self._transport is not None and not self._full and not self._transport.is_closing():
            self._transport.resume_reading()

    def _message(self, line: bytes) -> bool:
        """Answer a line now, or begin to and return False."""
        session, service = self.session, self.daemon.service
        assert session is not None
        try:
            message = decode(line)
        except ControlError as error:
            service.counts["none", error.code] += 1
            session.malformed += 1
            if session.malformed >= MOST_MALFORMED:
                self._refuse(error)
                return False
            self._send(failed(None, error))
            return True
        if service.quick(session, message):
            self._send(answer(service, session, message))
            return True
        self._working = True
        if self._transport is not None:
            self._transport.pause_reading()
        future = asyncio.get_running_loop().run_in_executor(self.daemon.pool, answer, service, session, message)
        future.add_done_callback(self._worked)
        return False

    def _again(self) -> None:
        self._working = False
        self._work()

    def _worked(self, future: asyncio.Future[bytes]) -> None:
        self._working = False
        if not future.cancelled() and future.exception() is None:
            self._send(future.result())
            self._work()
        else:
            self.abort()

    def _send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _refuse(self, error: ControlError) -> None:
        if self._transport is not None:
            self._transport.write(failed(None, error))
            self._transport.close()


class Scrape(asyncio.Protocol):
    """One scrape by Prometheus: the first line of a request in, the metrics out."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon, self._buffer = daemon, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        asyncio.get_running_loop().call_later(STUCK_SECONDS, transport.abort)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if b"\r\n\r\n" not in self._buffer and b"\n\n" not in self._buffer and len(self._buffer) < 2 * MOST_BYTES:
            return
        words = self._buffer.split(b"\n", 1)[0].split()
        found = words[:1] == [b"GET"] and words[1:2] == [b"/metrics"]
        status, body = ("200 OK", render(self._daemon.service)) if found else ("404 Not Found", "GET /metrics\n")
        head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nConnection: close\r\n"
        self._transport.write(f"{head}Content-Length: {len(body.encode())}\r\n\r\n{body}".encode())
        self._transport.close()


def answer(service: Service, session: Session, message: Message) -> bytes:
    """The answer to a message as a line; a fault of ours is told as one and ends nothing."""
    op = type(message).__name__.lower()
    try:
        result = service.do(session, message)
        service.counts[op, "ok"] += 1
        return done(message.id, result)
    except ControlError as error:
        service.counts[op, error.code] += 1
        service.refused(session, message, error)
        return failed(message.id, error)
    except WattlineError as error:
        service.counts[op, "malformed"] += 1
        return failed(message.id, ControlError("malformed", str(error)))
    except Exception as error:
        service.counts[op, "device"] += 1
        say(f"{op} failed: {type(error).__name__}: {error}")
        return failed(message.id, ControlError("device", f"the daemon failed: {type(error).__name__}"))
