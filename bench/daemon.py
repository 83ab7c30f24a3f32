"""How quickly the daemon sets a device while 1,000 clients hold one each: ``python bench/daemon.py [--clients N]``.

The daemon is a process of its own with simulated devices; every client has a connection and a lease and sets its
device at random times (Poisson, open loop: a slow answer delays no other question). A time is from before the
message is sent until its answer is read, so it holds the client's own delays. ``hello`` does no more than parse and
answer: what a set takes beyond it is policy, record, log, device and reading back.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
POLICY = """
[limits]
connections = 5000
connections_per_user = 5000
ttl = "10 min"
[[allow]]
users = ["*"]
devices = ["*"]
power_limit = true
clock = true
rate = 1e9
leases = 5000
"""


class Client(asyncio.Protocol):
    """One connection: questions in flight, answers matched in order."""

    def __init__(self) -> None:
        self.buffer, self.lease, self.number = b"", "", 0
        self.waiting: list[tuple[float, list[float] | None, asyncio.Future | None]] = []

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        now = time.perf_counter()
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        for line in lines:
            sent, times, future = self.waiting.pop(0)
            if times is not None:
                assert b'"ok":true' in line, line
                times.append(now - sent)
            if future is not None:
                future.set_result(json.loads(line))

    def ask(self, op, times=None, future=None, **fields):
        self.number += 1
        line = json.dumps({"v": 1, "id": self.number, "op": op, **fields}).encode() + b"\n"
        self.waiting.append((time.perf_counter(), times, future))
        self.transport.write(line)

    async def call(self, op, **fields):
        future = asyncio.get_running_loop().create_future()
        self.ask(op, future=future, **fields)
        return await future


async def load(clients, rate, seconds, op):
    """Poisson questions at a total rate; returns the times of their answers."""
    rng, times, loop = random.Random(1), [], asyncio.get_running_loop()
    due = loop.time() + 0.05
    end = due + seconds
    while due < end:
        await asyncio.sleep(max(0.0, due - loop.time()))
        while due <= loop.time():
            client = rng.choice(clients)
            if op == "set":
                client.ask("set", times, lease=client.lease, settings={"power_limit_w": 300 + rng.randrange(300)})
            else:
                client.ask("hello", times)
            due += rng.expovariate(rate)
    until = loop.time() + 10
    while any(c.waiting for c in clients) and loop.time() < until:
        await asyncio.sleep(0.01)
    return sorted(times)


async def run(path, args):
    """Connect, lease, load; the rows of the table."""
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    clients = [(await loop.create_unix_connection(Client, path))[1] for _ in range(args.clients)]
    connected = time.perf_counter() - began
    began = time.perf_counter()
    for k, client in enumerate(clients):
        told = await client.call(
            "take", device=f"SIM-{k}", ttl_s=600, settings={"power_limit_w": 400, "clock_hz": None}
        )
        client.lease = told["result"]["lease"]
    leased = time.perf_counter() - began
    rows = []
    await load(clients, 200, 1.0, "set")
    for op, rate in [("hello", args.rates[0]), *(("set", rate) for rate in args.rates)]:
        times = await load(clients, rate, args.seconds, op)
        rows.append({"op": op, "rate_per_s": rate, "answers": len(times), **quantiles(times)})
    began, times = time.perf_counter(), []
    for _ in range(3):
        for client in clients:
            client.ask("set", times, lease=client.lease, settings={"clock_hz": 1.2e9})
        while any(c.waiting for c in clients):
            await asyncio.sleep(0.001)
    return rows, connected, leased, len(times) / (time.perf_counter() - began)


def quantiles(times):
    """Seconds that so many in a hundred answers stay below."""
    return {f"p{q:g}_s": times[min(len(times) - 1, int(len(times) * q / 100))] for q in (50, 90, 99, 99.9)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rates", type=int, nargs="+", default=[200, 500, 1000, 2000])
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder:
        policy, path = Path(folder) / "policy.toml", f"{folder}/s"
        policy.write_text(POLICY)
        policy.chmod(0o600)
        code = "import sys; from wattline.show.cli.main import main; sys.exit(main(sys.argv[1:]))"
        words = ["daemon", "--socket", path, "--policy", policy, "--state", folder, "--simulate", str(args.clients)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        daemon = subprocess.Popen(
            [sys.executable, "-c", code, *words], stderr=subprocess.PIPE, text=True, env=environment
        )
        assert daemon.stderr is not None
        for line in daemon.stderr:
            if "serving" in line:
                break
        try:
            rows, connected, leased, most = asyncio.run(run(path, args))
        finally:
            daemon.terminate()
            code = daemon.wait(30)
    told = {
        "clients": args.clients, "load": os.getloadavg()[0], "connect_s": connected, "lease_s": leased / args.clients,
        "most_sets_per_s": most, "daemon_exit": code, "rows": rows,
    }  # fmt: skip
    if args.json:
        print(json.dumps(told))
        return
    print(f"{args.clients} clients, each holding a device; load average {told['load']:.1f} on {os.cpu_count()} cores\n")
    print("| message | per second | p50 | p90 | p99 | p99.9 |\n|---|--:|--:|--:|--:|--:|")
    for row in rows:
        cells = " | ".join(f"{1e3 * row[f'p{q}_s']:.2f} ms" for q in ("50", "90", "99", "99.9"))
        print(f"| {row['op']} | {row['rate_per_s']} | {cells} |")
    print(f"\na lease (recorded on the disk) takes {1e3 * told['lease_s']:.2f} ms; at most {most:,.0f} sets per second")


if __name__ == "__main__":
    main()
