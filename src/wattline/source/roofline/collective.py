"""Communication among devices: bytes over the link that joins them, and hops that cost latency.

Inside one scale-up domain small messages go in one step (every device reads all others' buffers) and
large ones round a ring. A group that spans domains has `local` ranks in each: NCCL lays as many rings (or
double binary trees) through it, each leaving the domain by another rank's adapters ("rails"), so that an
adapter carries one `local`-th of the buffer while the links inside carry all of it, both at once. In an
all-to-all every rank sends its own rows by its own adapters, those for ranks beside it over the links inside.
"""

from __future__ import annotations

from typing import Any, NamedTuple

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
    span: str = "node", local: Array | float = 1.0, overlap: Array | float = 0.0, repeat: Array | float = 1.0,
) -> Work:  # fmt: skip
    """Return the work of one collective; `size` bytes and `local` ranks as in `workload.operator.Collective`."""
    if op not in OPS:
        raise InputError(f"collective {op!r} is not known; known: {', '.join(OPS)}")
    size, ranks = np.asarray(size, dtype=np.float64), np.asarray(ranks, dtype=np.float64)
    if span not in ("node", "fabric"):
        raise InputError(f"span must be 'node' or 'fabric', got {span!r}")
    p = np.maximum(ranks, 1.0)
    here = p if span == "node" else np.clip(np.asarray(local, dtype=np.float64), 1.0, p)
    near = _link(chip, node, "node")
    inside, outside, seconds = _near(chip, near, op, size, p) if span == "node" else _far(chip, node, op, size, p, here)
    hidden = 1.0 - np.asarray(overlap, dtype=np.float64)
    nbytes = 2.0 * (inside + outside)
    dram = nbytes / (chip.shape["vector.dram_efficiency"] * chip.hbm_bandwidth)
    far = _link(chip, node, "fabric").energy if span == "fabric" else 0.0
    return work(
        "fp32", link=seconds * hidden, dram=dram * hidden, fixed=np.where(p > 1, chip.launch, 0.0) * hidden,
        e_link=inside * near.energy, e_far=outside * far, e_dram=nbytes * chip.hbm_energy,
        e_l2=nbytes * chip.l2_energy, repeat=repeat, link_name=near.name,
    )  # fmt: skip


def _near(chip: Silicon, link: _Link, op: str, size: Array, p: Array) -> tuple[Array, Array, Array]:
    """Return bytes a rank sends inside its domain and outside it, and seconds, where all ranks share one."""
    sent = _sent(op, size, p)
    rate = link.bandwidth * chip.shape["link.efficiency"]
    hops = np.where(p > 1, _hops(op, p), 0.0)
    hops = np.where((size > ONE_SHOT) & (p > 1), _ring(op, p), hops)
    seconds = sent / rate + hops * link.latency
    if op == "all_reduce":
        # One step: each device reads the whole buffer of every other.
        seconds = np.minimum(seconds, size * (p - 1.0) / rate + np.where(p > 1, link.latency, 0.0))
    return sent, 0.0 * sent, seconds


def _far(
    chip: Silicon, node: Sheet | None, op: str, size: Array, p: Array, local: Array
) -> tuple[Array, Array, Array]:  # fmt: skip
    """Return the same for a group of `local` ranks in each domain."""
    near, far = _link(chip, node, "node"), _link(chip, node, "fabric")
    efficiency = chip.shape["link.efficiency"]
    inner, outer = near.bandwidth * efficiency, far.bandwidth * efficiency
    domains = np.maximum(p / local, 1.0)
    many = p > 1
    if op == "send":
        return 0.0 * size, np.where(many, size, 0.0), np.where(many, size / outer + far.latency, 0.0)
    if op == "all_to_all":
        inside, outside = size * (local - 1.0) / p, size * (p - local) / p
        seconds = np.maximum(inside / inner, outside / outer) + np.where(many, far.latency, 0.0)
        return inside, outside, np.where(many, seconds, 0.0)
    sent = _sent(op, size, p)
    inside = np.where(local > 1, sent, 0.0)
    # NCCL src/graph/tuning.cc: a ring takes p - 1 steps (twice for an all-reduce), of which those between domains
    # cost the network's latency; trees go up and down log2 of the domains, and a chain inside each.
    turns = 2.0 if op == "all_reduce" else 1.0
    ring = np.maximum(inside / inner, sent / local / outer)
    ring = ring + turns * ((p - domains) * near.latency + (domains - 1.0) * far.latency)
    # One rank in each domain: reduce-scatter and all-gather in log2 steps (NCCL 2.23, PAT).
    steps = np.ceil(np.log2(np.maximum(domains, 2.0)))
    if op == "all_reduce":
        # Of two domains each sends the other its half of the sum and of the result.
        across = np.where(domains > 2, 2.0 * (domains - 1.0) / domains, 1.0) * size
        tree = np.maximum(np.where(local > 1, 2.0 * size, 0.0) / inner, across / local / outer)
        tree = tree + 2.0 * ((local - 1.0) * near.latency + steps * far.latency)
    else:
        tree = np.where(local > 1, np.inf, sent / outer + steps * far.latency)
    seconds = np.where(many, np.minimum(ring, tree), 0.0)
    return np.where(many, inside, 0.0), np.where(many, sent / local, 0.0), seconds


def _sent(op: str, size: Array, p: Array) -> Array:
    """Return the bytes a rank sends in all, as a ring does."""
    share = (p - 1.0) / p
    sent = size * (1.0 if op == "send" else share) * (2.0 if op == "all_reduce" else 1.0)
    return np.where(p > 1, sent, 0.0)


def _ring(op: str, p: Array) -> Array:
    """Return steps round a ring of devices: once, and twice for an all-reduce."""
    return np.ones_like(p) if op == "send" else (p - 1.0) * (2.0 if op == "all_reduce" else 1.0)


def _hops(op: str, p: Array) -> Array:
    """Return latency steps through a switch: two for an all-reduce, else one."""
    return np.full_like(p, 2.0 if op == "all_reduce" else 1.0)


class _Link(NamedTuple):
    """A link in use: component name, B/s per chip and direction, s per hop, J/B."""

    name: str
    bandwidth: Any
    latency: Any
    energy: Any


def _link(chip: Silicon, node: Sheet | None, span: str) -> _Link:
    table = chip.link
    if span == "fabric":
        if node is None:
            raise InputError("a collective across the fabric needs a node sheet with nic.* facts")
        adapters = node["nic.count"] / node["chips"]
        return _Link("fabric", adapters * node["nic.bandwidth"], node["nic.latency"], node.get("nic.energy", 0.0))
    joined = node is None or node.get("nvlink.domain", 2.0) > 1  # chips may have links that a server leaves unbridged
    name = "nvlink" if joined and np.all(table.get("link.nvlink.bandwidth", 0.0) > 0) else "pcie"
    energy = table.get(f"link.{name}.energy", 0.0)
    return _Link(name, table[f"link.{name}.bandwidth"], table.get(f"link.{name}.latency", 3e-6), energy)
