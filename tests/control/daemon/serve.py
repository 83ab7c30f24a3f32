"""A daemon in a thread of the test, on devices of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from wattline.control.daemon.policy import Policy, read
from wattline.control.daemon.server import Daemon, Options
from wattline.control.daemon.service import Service
from wattline.control.leases.actuator import Actuator
from wattline.control.leases.keeper import Keeper

ALL = """
[limits]
connections_per_user = 1200
[[allow]]
users = ["*", "cert:*"]
devices = ["*"]
power_limit = true
clock = true
memory_clock = true
rate = 100000
leases = 2000
"""


@contextlib.contextmanager
def serving(
    actuators: Sequence[Actuator],
    folder: Path,
    policy: str | Policy = ALL,
    *,
    clock: Callable[[], float] = time.monotonic,
    **options: object,
) -> Iterator[Daemon]:
    """A daemon that serves `folder`/daemon.sock until left."""
    made = read(policy) if isinstance(policy, str) else policy
    service = Service(Keeper(actuators, folder / "state", clock=clock), made)
    daemon = Daemon(service, Options(socket=folder / "daemon.sock", **options))  # type: ignore[arg-type]
    ready, loops = threading.Event(), list[asyncio.AbstractEventLoop]()

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        await daemon.serve(ready.set)

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    assert ready.wait(10), "the daemon did not start"
    try:
        yield daemon
    finally:
        loops[0].call_soon_threadsafe(daemon.stop)
        thread.join(10)
        assert not thread.is_alive(), "the daemon did not stop"
