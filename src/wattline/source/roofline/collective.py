"""Communication among devices: bytes over the link that joins them, and hops that cost latency.

Inside one scale-up domain small messages go in one step (every device reads all others' buffers) and
large ones in two (reduce-scatter, then all-gather); between domains a ring of domains follows.
"""

from __future__ import annotations

import numpy as np

from ...core.errors import InputError
from ...hardware.facts import Sheet
from ..base import Array
from .silicon import Silicon
from .work import Work, work

# Above this many bytes a ring fills the links better than everyone reading from everyone: the limit of
# the custom all-reduce of vLLM (csrc/custom_all_reduce.cuh; its Python side allows 8 MiB).
ONE_SHOT = 8 * 2**20

OPS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send")


def collective(
    chip: Silicon, node: Sheet | None, op: str, size: Array, ranks: Array, *,
    span: str = "node", overlap: Array | float = 0.0, repeat: Array | float = 1.0,
) -> Work:  # fmt: skip
    """Return the work of one collective; `size` bytes as in `workload.operator.Collective`."""
    if op not in OPS:
        raise InputError(f"collective {op!r} is not known; known: {', '.join(OPS)}")
    size, ranks = np.asarray(size, dtype=np.float64), np.asarray(ranks, dtype=np.float64)
    name, bandwidth, latency, energy = _link(chip, node, span)
    p = np.maximum(ranks, 1.0)
    share = (p - 1.0) / p
    sent = size * (1.0 if op == "send" else share) * (2.0 if op == "all_reduce" else 1.0)
    sent = np.where(p > 1, sent, 0.0)
    rate = bandwidth * chip.shape["link.efficiency"]
    hops = np.where(p > 1, _hops(op, p, span), 0.0)
    if span == "node":
        hops = np.where((size > ONE_SHOT) & (p > 1), _ring(op, p), hops)
    seconds = sent / rate + hops * latency
    if op == "all_reduce" and span == "node":
        # One step: each device reads the whole buffer of every other.
        seconds = np.minimum(seconds, size * (p - 1.0) / rate + np.where(p > 1, latency, 0.0))
    hidden = 1.0 - np.asarray(overlap, dtype=np.float64)
    nbytes = 2.0 * sent
    dram = nbytes / (chip.shape["vector.dram_efficiency"] * chip.hbm_bandwidth)
    return work(
        "fp32", link=seconds * hidden, dram=dram * hidden, fixed=np.where(p > 1, chip.launch, 0.0) * hidden,
        e_link=sent * energy, e_dram=nbytes * chip.hbm_energy, e_l2=nbytes * chip.l2_energy,
        repeat=repeat, link_name=name,
    )  # fmt: skip


def _ring(op: str, p: Array) -> Array:
    """Return steps round a ring of devices: once, and twice for an all-reduce."""
    return np.ones_like(p) if op == "send" else (p - 1.0) * (2.0 if op == "all_reduce" else 1.0)


def _hops(op: str, p: Array, span: str) -> Array:
    """Return latency steps: two or one through a switch, a ring's worth across the fabric."""
    if op == "send":
        return np.ones_like(p)
    if span == "node":
        return np.full_like(p, 2.0 if op == "all_reduce" else 1.0)
    # Trees in the fabric: log2 steps up, and down again for an all-reduce (NCCL since 2.4).
    return np.ceil(np.log2(np.maximum(p, 2.0))) * (2.0 if op == "all_reduce" else 1.0)


def _link(chip: Silicon, node: Sheet | None, span: str) -> tuple[str, float, float, float]:
    """Return component name, B/s per chip and direction, s per hop and J/B of the link in use."""
    table = chip.link
    if span == "fabric":
        if node is None:
            raise InputError("a collective across the fabric needs a node sheet with nic.* facts")
        adapters = node["nic.count"] / node["chips"]
        return ("fabric", adapters * node["nic.bandwidth"], node["nic.latency"], node.get("nic.energy", 0.0))
    if span != "node":
        raise InputError(f"span must be 'node' or 'fabric', got {span!r}")
    joined = node is None or node.get("nvlink.domain", 2.0) > 1  # chips may have links that a server leaves unbridged
    name = "nvlink" if joined and np.all(table.get("link.nvlink.bandwidth", 0.0) > 0) else "pcie"
    energy = table.get(f"link.{name}.energy", 0.0)
    return name, table[f"link.{name}.bandwidth"], table.get(f"link.{name}.latency", 3e-6), energy
