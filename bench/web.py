"""What the studio costs: first view in Chromium, and an edit's preview and exact answer for every example.

    python bench/web.py

Targets on two idle cores: first view under 1 s on loopback (the page drawn; its first exact answer may take
longer), an edit's preview under 200 ms, less than 1.5 MB transferred. Needs Chromium and Playwright.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import statistics
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def server() -> Iterator[str]:
    """Run the studio on a free port."""
    import uvicorn

    from wattline.show.web.app import create

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    running = uvicorn.Server(uvicorn.Config(create(), log_level="error", lifespan="on"))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.02)
    yield f"http://localhost:{listener.getsockname()[1]}"
    running.should_exit = True
    thread.join(10)


def ask(url: str, body: dict[str, object] | None = None) -> tuple[float, dict[str, object]]:
    """Ask the interface; return seconds and the answer."""
    data = None if body is None else json.dumps(body).encode()
    start = time.perf_counter()
    with urllib.request.urlopen(urllib.request.Request(url, data, {"content-type": "application/json"})) as reply:
        found = json.load(reply)
    return time.perf_counter() - start, found


def edits(address: str, runs: int) -> list[dict[str, object]]:
    """Median seconds of a preview and of an exact answer after one constant of the chip changed."""
    rows = []
    for name in ask(f"{address}/api/start")[1]["examples"]:
        example = ask(f"{address}/api/examples/{name}")[1]
        if "[[job]]" in example["scenario"]:
            continue
        base = {"scenario": example["scenario"], "files": example["files"]}
        ask(f"{address}/api/preview", base)
        times = {"preview": [], "plan": []}
        for i in range(runs):
            body = base | {"set": {"chip.memory.hbm.energy": f"{2 + 0.1 * i:.1f} pJ/bit"}}
            for what, found in times.items():
                found.append(ask(f"{address}/api/{what}", body)[0])
        rows.append({"example": name, **{f"{what}_s": statistics.median(found) for what, found in times.items()}})
    return rows


def view(address: str) -> dict[str, float]:
    """Seconds until the page is drawn and until its first answer, and bytes transferred, in Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        sizes: list[int] = []
        page.on("response", lambda reply: sizes.append(int(reply.headers.get("content-length", 0))))
        start = time.perf_counter()
        page.goto(address)
        page.wait_for_selector("#example option", state="attached")
        drawn = time.perf_counter() - start
        page.wait_for_selector("html[data-answered]")
        answered = time.perf_counter() - start
        browser.close()
    return {"drawn_s": drawn, "answered_s": answered, "bytes": sum(sizes)}


def main() -> int:
    """Print the table, or everything as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with server() as address:
        found = {"edits": edits(address, options.runs), "view": view(address)}
    if options.json:
        print(json.dumps(found, indent=1))
        return 0
    print("| example | preview after an edit | exact answer |\n| --- | --- | --- |")
    for row in found["edits"]:
        print(f"| {row['example']} | {1e3 * row['preview_s']:.0f} ms | {1e3 * row['plan_s']:.0f} ms |")
    seen = found["view"]
    print(
        f"\nfirst view {seen['drawn_s']:.2f} s, first exact answer {seen['answered_s']:.2f} s, {seen['bytes'] / 1e3:.0f} kB"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
