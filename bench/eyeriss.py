"""Eyeriss on the convolutions of AlexNet: accesses and energy of its row-stationary mapping beside the published ones.

    python bench/eyeriss.py

The mapping is the published one (JSSC 52, 2017, table III), the counts follow from it alone, and the energies come
from the description `eyeriss`. Published figures: table V of the same paper (a batch of 4 images) and, for the
registers' share, the ratio of registers to the rest of the chip of about 4 to 1 that ISCA 2016 gives.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from wattline.hardware.architecture import Architecture
from wattline.hardware.architectures import architecture
from wattline.hardware.sparsity import run_length

BATCH = 4
WORD = 2.0  # bytes
MEGA = 1e6  # with it table V gives the 0.0029 accesses per MAC that the abstract states


@dataclass(frozen=True)
class Layer:
    """One convolution and how Eyeriss maps it (names as in JSSC 2017, table III).

    `size`: of the padded input, `kernel`, `out`, `channels` (of one group), `filters` (of all groups), `stride`,
    `groups`; `m` filters, `n` images and `e` rows in the buffer at a time; `p` filters and `q` channels in a unit,
    `r` channel groups and `t` filter groups side by side. `zeros`: share of zeros in the input (table V) and in
    what is written (the next layer's input). `dram`, `buffer`: published MB. `power`, `latency`: published mW and ms.
    """

    name: str
    size: int
    kernel: int
    out: int
    channels: int
    filters: int
    stride: int
    groups: int
    padding: int
    m: int
    n: int
    e: int
    p: int
    q: int
    r: int
    t: int
    zeros: float
    written: float
    dram: float
    buffer: float
    power: float
    latency: float

    @property
    def macs(self) -> float:
        """Multiply-accumulates of the batch."""
        return float(BATCH * self.filters * self.out**2 * self.channels * self.kernel**2)

    @property
    def outputs(self) -> float:
        return float(BATCH * self.filters * self.out**2)

    @property
    def inputs(self) -> float:
        """Words of input as they lie in main memory, without padding."""
        return float(BATCH * self.channels * self.groups * (self.size - 2 * self.padding) ** 2)


# The last column of zeros is what the next layer reads; that of CONV5 is taken as its own input's.
ALEXNET = (
    Layer("CONV1", 227, 11, 55, 3, 96, 4, 1, 0, 96, 1, 7, 16, 1, 1, 2, 0.0001, 0.387, 5.0, 18.5, 332, 20.9),
    Layer("CONV2", 31, 5, 27, 48, 256, 1, 2, 2, 64, 1, 27, 16, 2, 1, 1, 0.387, 0.725, 4.0, 77.6, 288, 41.9),
    Layer("CONV3", 15, 3, 13, 256, 384, 1, 1, 1, 64, 4, 13, 16, 4, 1, 4, 0.725, 0.793, 3.0, 50.2, 266, 23.6),
    Layer("CONV4", 15, 3, 13, 192, 384, 1, 2, 1, 64, 4, 13, 16, 3, 2, 2, 0.793, 0.776, 2.1, 37.4, 235, 18.4),
    Layer("CONV5", 15, 3, 13, 192, 256, 1, 2, 1, 64, 4, 13, 16, 3, 2, 2, 0.776, 0.776, 1.3, 24.9, 236, 10.5),
)


def coded(zeros: float) -> float:
    """Return the size of run-length coded data over plain: three (run, value) pairs of 21 bit in 64; never larger."""
    return min(1.0, run_length(1.0 - zeros, 16) * 64 / 63 / 16)


def halo(layer: Layer) -> float:
    """Return how many rows of input the strips of `e` output rows read, over the rows there are."""
    strips = math.ceil(layer.out / layer.e)
    return max(1.0, strips * ((layer.e - 1) * layer.stride + layer.kernel) / layer.size) if strips > 1 else 1.0


def main_memory(layer: Layer) -> tuple[float, float]:
    """Return (words read, words written) in main memory, after run-length coding of activations."""
    weights = layer.filters * layer.channels * layer.kernel**2
    fills = math.ceil(BATCH / layer.n) * math.ceil(layer.out / layer.e)  # filters pass once per buffered tile
    passes = math.ceil(layer.filters / layer.groups / layer.m)  # the input passes once per group of m filters
    read = weights * fills + layer.inputs * halo(layer) * passes * coded(layer.zeros)
    return read, layer.outputs * coded(layer.written)


def buffer(layer: Layer) -> tuple[float, float]:
    """Return (words read, words written) in the buffer: partial sums per pass of channels, input per pass of filters."""
    rounds = math.ceil(layer.channels / (layer.q * layer.r))
    passes = math.ceil(layer.filters / layer.groups / (layer.p * layer.t))
    padded = float(BATCH * layer.channels * layer.groups * layer.size**2) * halo(layer)
    fills = layer.inputs * halo(layer) * math.ceil(layer.filters / layer.groups / layer.m)
    return layer.outputs * (rounds - 1) + padded * passes, layer.outputs * rounds + fills


def network(layer: Layer) -> float:
    """Return words between units and from the buffer to each unit: sums down the kernel's rows, inputs, filters."""
    sums = layer.macs / (layer.kernel * layer.q)  # a unit adds a row of the kernel over q channels before it hands on
    inputs = layer.macs / (layer.kernel * layer.p)  # a word stays for a kernel row and p filters
    filters = layer.macs / (layer.out * layer.n)  # a word stays for a row of the output and n images
    return sums + inputs + filters


def energy(chip: Architecture, layer: Layer, gated: bool) -> dict[str, float]:
    """Return J by part; with `gated`, zeros of the input skip the filter's read, the sum's and the arithmetic."""
    dram, glb, _, filters, sums = (chip.levels[i] for i in range(5))
    ifmaps = chip.levels[2]
    live = 1.0 - layer.zeros if gated else 1.0
    read, written = main_memory(layer)
    buffer_read, buffer_written = buffer(layer)
    bits = 8 * WORD
    per_mac = ifmaps.read_energy + live * (filters.read_energy + sums.read_energy + sums.write_energy)
    return {
        "ALU": layer.macs * live * chip.compute.energy["int16"],
        "RF": layer.macs * bits * per_mac,
        "NoC": network(layer) * bits * chip.fanouts[0].energy,
        "buffer": bits * (buffer_read * glb.read_energy + buffer_written * glb.write_energy),
        "DRAM": bits * (read * dram.read_energy + written * dram.write_energy),
    }


def report() -> str:
    """Return the tables."""
    chip = architecture("eyeriss")
    out = ["| layer | DRAM MB | published | error | buffer MB | published | error |", "| --- " * 7 + "|"]
    total = [0.0] * 4
    for layer in ALEXNET:
        dram, glb = (WORD * sum(f(layer)) / MEGA for f in (main_memory, buffer))
        out.append(
            f"| {layer.name} | {dram:.2f} | {layer.dram} | {100 * (dram / layer.dram - 1):+.0f} % "
            f"| {glb:.1f} | {layer.buffer} | {100 * (glb / layer.buffer - 1):+.0f} % |"
        )
        total = [a + b for a, b in zip(total, (dram, layer.dram, glb, layer.buffer), strict=True)]
    out.append(
        f"| all | {total[0]:.2f} | {total[1]:.1f} | {100 * (total[0] / total[1] - 1):+.1f} % "
        f"| {total[2]:.1f} | {total[3]:.1f} | {100 * (total[2] / total[3] - 1):+.1f} % |"
    )
    macs = sum(layer.macs for layer in ALEXNET)
    accesses = sum(sum(main_memory(layer)) for layer in ALEXNET) / macs
    out += [
        "",
        f"Accesses to main memory per MAC: {accesses:.5f} (published 0.0029, {100 * (accesses / 0.0029 - 1):+.1f} %).",
    ]
    out += ["", "| energy | ALU | RF | NoC | buffer | DRAM | pJ/MAC | RF of the chip |", "| --- " * 8 + "|"]
    for gated in (False, True):
        sums = shares(chip, gated)
        all_of_it = sum(sums.values())
        on_chip = all_of_it - sums["DRAM"]
        cells = " | ".join(f"{100 * v / all_of_it:.0f} %" for v in sums.values())
        name = "zeros gated" if gated else "dense"
        out.append(f"| {name} | {cells} | {all_of_it / macs / 1e-12:.1f} | {100 * sums['RF'] / on_chip:.0f} % |")
    out += [
        "",
        "| layer | chip mW, published | switched mW, modelled | left for clocks and control |",
        "| --- " * 4 + "|",
    ]
    for layer in ALEXNET:
        switched = switched_power(chip, layer)
        out.append(f"| {layer.name} | {layer.power} | {switched:.0f} | {layer.power - switched:.0f} |")
    return "\n".join(out)


def switched_power(chip: Architecture, layer: Layer) -> float:
    """Return mW that the modelled parts on the chip draw over the published time of a layer, zeros gated."""
    parts = energy(chip, layer, gated=True)
    return (sum(parts.values()) - parts["DRAM"]) / (layer.latency * 1e-3) * 1e3


def shares(chip: Architecture, gated: bool) -> dict[str, float]:
    """Return J by part over all layers."""
    parts: dict[str, float] = {}
    for layer in ALEXNET:
        for name, joules in energy(chip, layer, gated).items():
            parts[name] = parts.get(name, 0.0) + joules
    return parts


if __name__ == "__main__":
    print(report())
