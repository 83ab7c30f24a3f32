"""What is left when programs and daemons that hold a cap are killed: ``python bench/kills.py [--kills N] [--json]``.

Half of the kills are of programs with a lease of their own, half of daemons that serve one; each at a random instant, in
the middle of changes too. After each the next start puts back what was found, and the device is looked at. Then ten
thousand hostile messages and a thousand clients that never read go to one daemon, which has to stay alive, answer, hold
nothing and not grow. Devices are simulated, their knobs in a file that outlives the process.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "src"))

from wattline.control.daemon.client import Client  # noqa: E402
from wattline.control.daemon.policy import read  # noqa: E402
from wattline.control.daemon.server import Daemon, Options  # noqa: E402
from wattline.control.daemon.service import Service  # noqa: E402
from wattline.control.devices.simulated import SimulatedGpu  # noqa: E402
from wattline.control.leases.keeper import Keeper  # noqa: E402

FOUND = 600.0
POLICY = """
[limits]
connections = 3000
connections_per_user = 3000
[[allow]]
users = ["*"]
devices = ["*"]
power_limit = true
clock = true
rate = 1e9
leases = 100
"""


def device(folder: Path) -> SimulatedGpu:
    """The device whose knobs are in a file."""
    return SimulatedGpu(found=FOUND, state=folder / "knobs")


def program(folder: Path) -> None:
    """A program that holds a cap and changes it without end."""
    lease = Keeper([device(folder)], folder / "state").take("0", power_limit=400.0)
    (folder / "held").write_text("")
    while True:
        for watts in (300.0, 350.0, 450.0):
            lease.set(power_limit=watts, clock=1.2e9)


def serve(folder: Path) -> None:
    """A daemon; its client, in a thread, holds a cap and changes it without end."""

    def drive() -> None:
        held = Client(folder / "s").take("0", power_limit=400.0)
        (folder / "held").write_text("")
        while True:
            for watts in (300.0, 350.0, 450.0):
                held.set(power_limit=watts)

    ready = lambda: threading.Thread(target=drive, daemon=True).start()  # noqa: E731
    keeper = Keeper([device(folder)], folder / "state")
    Daemon(Service(keeper, read(POLICY)), Options(socket=folder / "s")).run(ready)


def kill(what, folder: Path, rng: random.Random) -> bool:
    """Start one, kill it while it holds a cap, start the next, and say whether the device is as it was found."""
    held = folder / "held"
    held.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            what(folder)
        os._exit(9)
    until = time.monotonic() + 60.0
    while not held.exists() and time.monotonic() < until:
        time.sleep(0.0005)
    capped = held.exists()
    time.sleep(rng.random() * 0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    gpu = device(folder)
    with Keeper([gpu], folder / "state") as keeper:
        keeper.recover()
    left = list((folder / "state" / "found").glob("*"))
    return capped and gpu.read("power_limit") == FOUND and gpu.read("clock") is None and not left


def memory(pid: int) -> int:
    """Bytes of a process that are in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def files(pid: int) -> int:
    """Files that a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def hostile(folder: Path, messages: int, clients: int) -> dict[str, object]:
    """Hostile messages and clients that never read, to one daemon."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            keeper = Keeper([device(folder)], folder / "state")
            Daemon(Service(keeper, read(POLICY)), Options(socket=folder / "s")).run()
        os._exit(9)
    path = str(folder / "s")
    rng = random.Random(7)

    def connect() -> socket.socket:
        until = time.monotonic() + 60
        while True:
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(10)
            try:
                sock.connect(path)
                return sock
            except OSError:
                sock.close()
                if time.monotonic() > until:
                    raise
                time.sleep(0.01)

    connect().close()  # it is up
    with Client(path) as asked:
        asked.hello()
        before = memory(child), files(child)
        kinds = (
            lambda: rng.randbytes(rng.randrange(1, 400)) + b"\n",
            lambda: b"{" * rng.randrange(1, 3000) + b"\n",
            lambda: (
                json.dumps(
                    {"v": 1, "id": rng.randrange(-5, 9), "op": rng.choice(["take", "set", "no"]), "device": "\0" * 9}
                ).encode()
                + b"\n"
            ),
            lambda: b'{"v":1,"id":1,"op":"take","device":"SIM-0","ttl_s":1e999}\n',
            lambda: b'{"v":1,"id":2,"op":"set","lease":"' + b"x" * 2000 + b'","settings":{"power_limit_w":-1}}\n',
        )
        sent = 0
        while sent < messages:
            with connect() as sock, contextlib.suppress(OSError):
                for _ in range(rng.randrange(1, 12)):
                    sock.sendall(rng.choice(kinds)())
                    sent += 1
        slow = []
        question = json.dumps({"v": 1, "id": 1, "op": "devices"}).encode() + b"\n"
        for _ in range(clients):
            sock = connect()
            with contextlib.suppress(OSError):
                sock.sendall(question * 20)
            slow.append(sock)
        began = time.monotonic()
        told = asked.hello()
        answered = time.monotonic() - began
        for sock in slow:
            sock.close()
        until = time.monotonic() + 30
        while files(child) > before[1] and time.monotonic() < until:
            time.sleep(0.05)
        after = memory(child), files(child)
        untouched = device(folder).read("power_limit") == FOUND
    os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    return {
        "messages": sent, "slow_clients": clients, "alive": bool(told), "hello_beside_them_s": answered,
        "memory_before_b": before[0], "memory_after_b": after[0], "files_before": before[1], "files_after": after[1],
        "device_untouched": untouched, "ended": status,
    }  # fmt: skip


def main() -> None:
    """Print what was left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    rng = random.Random(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = {}
        for kind, what in (("programs", program), ("daemons", serve)):
            good = [kill(what, folder, rng) for _ in range(args.kills // 2)]
            rows[kind] = {"killed": len(good), "left_as_found": sum(good)}
        rows["hostile"] = hostile(folder, args.messages, args.clients)
    if args.json:
        print(json.dumps(rows, indent=2))
        return
    for kind in ("programs", "daemons"):
        row = rows[kind]
        print(
            f"{kind}: {row['killed']} killed while they held a cap, {row['left_as_found']} devices as they were found"
        )
    h = rows["hostile"]
    print(
        f"{h['messages']} hostile messages and {h['slow_clients']} clients that never read: alive {h['alive']}, hello in "
        f"{h['hello_beside_them_s'] * 1e3:.1f} ms, memory {h['memory_before_b'] / 1e6:.1f} to {h['memory_after_b'] / 1e6:.1f} MB, "
        f"open files {h['files_before']} to {h['files_after']}, device untouched {h['device_untouched']}"
    )


if __name__ == "__main__":
    main()
