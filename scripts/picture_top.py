"""Pictures of `wattline top` for the documentation: ``python scripts/picture_top.py [FOLDER]``, one for each width.

Four invented devices under an invented clock, so the pictures are the same each time.
"""

from __future__ import annotations

import asyncio
import math
import sys
from pathlib import Path

from wattline.measure.devices.replay import Recording, ReplayMeter, VirtualClock
from wattline.measure.meter import State
from wattline.measure.monitor import Monitor
from wattline.show.cli.top import Rate, View
from wattline.show.cli.top_app import app

WIDTHS = (60, 80, 160)


def view() -> tuple[View, VirtualClock]:
    """A node with three GPUs and a processor."""
    clock = VirtualClock()
    meters = []
    for k, (mean, swing, load, heat, used) in enumerate(
        ((610, 60, 0.98, 63, 71), (330, 190, 0.71, 55, 40), (92, 4, 0.0, 34, 1))
    ):
        state = State(
            clock=1.98e9 if load else 3.45e8, memory_clock=2.619e9, temperature=float(heat), power_limit=700.0,
            utilization=load, memory_used=used * 2.0**30, memory_total=80 * 2.0**30,
            throttle=("power cap",) if k == 0 else (),
        )  # fmt: skip
        power = Recording.of(lambda t, mean=mean, swing=swing: mean + swing * math.sin(2.1 * t), 60.0)
        meter = ReplayMeter(
            power, f"GPU-{k}e2a41c7", name="NVIDIA H100 80GB", clock=clock, host="node-7", limit=770.0, state=state
        )
        meter.labels.update(
            {"index": str(k), "pci": f"0000:{k + 27:02x}:00.0", "device": f"nvidia{k}", "driver": "580.65"}
        )
        meters.append(meter)
    meters.append(
        ReplayMeter(142.0, "package-0", "cpu", "package-0", clock=clock, host="node-7", update=0.002, limit=700.0)
    )
    monitor = Monitor(meters, clock=clock, thread=False)
    rates = [
        Rate(run="train", window="step", what="steps", joules=231.0),
        Rate(run="serve", window="request", what="requests", joules=41.5),
    ]
    return View(monitor, lambda: rates, lambda: {"GPU-0e2a41c7": "alice"}), clock


def main() -> None:
    """Draw them."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/pictures")
    folder.mkdir(parents=True, exist_ok=True)
    for width in WIDTHS:
        shown, clock = view()
        for _ in range(40):
            for _ in range(20):
                clock.advance(0.05)
                shown.monitor.poll()
            shown.look()
        top = app(shown, interval=3600.0)

        async def draw(top=top, width=width) -> None:
            async with top.run_test(size=(width, 20)) as pilot:
                await pilot.pause()
                top.save_screenshot(str(folder / f"top-{width}.svg"))

        asyncio.run(draw())
        print(folder / f"top-{width}.svg")


if __name__ == "__main__":
    main()
