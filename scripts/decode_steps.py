"""Decode steps beside those that ai-dynamo/aiconfigurator (Apache-2.0) gives: a table of milliseconds.

    python scripts/decode_steps.py

32 requests that have seen 2,048 tokens each, bf16, H100 SXM.
"""

from __future__ import annotations

import numpy as np

from wattline.hardware import catalog as hardware
from wattline.serving.step import Load, Replica, step
from wattline.source.base import Device
from wattline.source.roofline.source import Roofline
from wattline.workload import catalog as models
from wattline.workload.infer import step_operators
from wattline.workload.parallel import Parallel

# (model, tensor ranks) -> seconds of a decode step: aiconfigurator, H100 SXM, its default backend.
PEER = {("llama-3.1-8b", 1): 9.78e-3, ("llama-3.1-70b", 4): 18.5e-3, ("llama-3.1-70b", 8): 11.3e-3}


def rows() -> list[tuple[str, int, float, float, float]]:
    """Return (model, ranks, peer, sum of kernels, step) with times in seconds."""
    chip, source = hardware.chip("h100-sxm"), Roofline()
    device, top = Device(chip, hardware.default_node(chip)), np.array([chip["clock.max"]])
    load, batch, found = Load(prompt=1024, output=2046, context=1023), 32.0, []
    for (name, ranks), peer in PEER.items():
        replica = Replica(model=models.model(name), parallel=Parallel(tensor=ranks, section="serve"))
        operators = step_operators(replica.model, replica.parallel, (), batch, load.seen)
        kernels = float(source.points(operators, device, top).time[0])
        whole = float(step(replica, load, batch, device, source, top).decode.time[0])
        found.append((name, ranks, peer, kernels, whole))
    return found


def main() -> None:
    print("| Model | tensor ranks | aiconfigurator, ms | our kernels, ms | our whole step, ms |")
    print("| --- | --- | --- | --- | --- |")
    for name, ranks, peer, kernels, whole in rows():
        difference = [f"{1e3 * t:.1f} ({100 * (t / peer - 1):+.0f} %)" for t in (kernels, whole)]
        print(f"| {name} | {ranks} | {1e3 * peer:.3g} | {difference[0]} | {difference[1]} |")


if __name__ == "__main__":
    main()
