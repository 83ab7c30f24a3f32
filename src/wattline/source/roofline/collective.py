"""Communication among devices: bytes over the link that joins them, and hops that cost latency.

Inside one scale-up domain time comes from tables of all-reduces and of NCCL, a dozen constants per class of links
(``data/collectives.toml``). An all-reduce of up to 8 MiB runs an engine's own kernel: in one step every device reads
all others' buffers whole, in two a share of each is summed and gathered. Larger messages, and all other operators, go
through the library. A group that spans domains has `local` ranks in each: NCCL lays as many rings (or
double binary trees) through it, each leaving the domain by another rank's adapters ("rails"), so that an
adapter carries one `local`-th of the buffer while the links inside carry all of it, both at once. In an
all-to-all every rank sends its own rows by its own adapters, those for ranks beside it over the links inside.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final, NamedTuple

import numpy as np

from ...core.errors import InputError
from ...hardware.facts import Sheet
from ..base import Array
from .silicon import Silicon
from .work import Work, work

# Up to this many bytes engines sum with a kernel of their own: the limit of the custom all-reduce of vLLM
# (csrc/custom_all_reduce.cuh; its Python side allows 8 MiB).
ONE_SHOT: Final = 8 * 2**20
# From here the library cuts a message into chunks that fill the ring one after another (NCCL, src/graph/tuning.cc).
_CHUNKED: Final = 65536.0
# Devices of the largest node in the tables: no share is read off beyond.
_MOST: Final = 8.0
# Latency of a step on the links of the tables (link.*.latency of their chips); that of a sheet stretches starts.
_STEP: Final = {"nvlink": 1.9e-6, "pcie": 2.5e-6}

OPS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send")


@dataclass(frozen=True)
class Links:
    """Constants of one class of links by name, see ``data/collectives.toml``; `stretch`: latency over the tables'."""

    constants: Mapping[str, float]
    stretch: Array | float = 1.0

    def __getitem__(self, name: str) -> Any:
        value = self.constants[name]
        return value * self.stretch if name.endswith(("start", "peer")) else value


@functools.cache
def classes() -> Mapping[str, Mapping[str, float]]:
    """Return the constants of every class of links."""
    path = resources.files(__package__) / "data" / "collectives.toml"
    table = tomllib.loads(path.read_text("utf-8"))
    return {name: {k: v[0] for k, v in _flat(entry)} for name, entry in table.items() if isinstance(entry, dict)}


def _flat(entry: Mapping[str, Any]) -> list[tuple[str, list[Any]]]:
    return [(f"{group}.{name}", value) for group, inner in entry.items() for name, value in inner.items()]


def links_of(chip: Silicon, name: str) -> Links:
    """Return the constants of a chip's link ("nvlink" or "pcie"), those of all chips where its kind has no table."""
    known = classes()
    step = chip.link.get(f"link.{name}.latency", _STEP[name])
    return Links(known.get(f"{name}-{chip.architecture}", known[name]), step / _STEP[name])


def custom_seconds(links: Links, size: Array, ranks: Array, rate: Array | float) -> Array:
    """Return seconds of an engine's own all-reduce of `size` bytes in a graph; never above what two steps take.

    `rate`: bytes a second a device sends (its link's bandwidth).
    """
    p = np.maximum(ranks, 2.0)
    start = links["custom.start"] + links["custom.peer"] * (p - 2.0)
    one = size * (p - 1.0) / (rate * links["custom.one"])
    two = links["custom.two_start"] + 2.0 * size * (p - 1.0) / p / (rate * links["custom.two"])
    return np.asarray(start + np.minimum(one, two))


def library_seconds(links: Links, op: str, size: Array, ranks: Array, rate: Array | float) -> Array:
    """Return seconds of a collective of NCCL; `size` bytes as in `workload.operator.Collective`."""
    p = np.maximum(ranks, 2.0)
    twice = 2.0 if op == "all_reduce" else 1.0
    rounds = 1.0 if op in ("send", "all_to_all") else twice
    start = links["nccl.start"] + links["nccl.peer"] * (p - 2.0) * rounds
    part = 1.0 if op == "send" else (p - 1.0) / p
    ramp = links["nccl.ramp"] * np.log2(1.0 + size / _CHUNKED) * rounds
    return np.asarray(start + ramp + twice * size * part / (rate * share_of(links, op, p)))


def share_of(links: Links, op: str, ranks: Array) -> Array:
    """Return the share of a link's rate that large messages of the library reach among `ranks` devices."""
    crowd = np.clip(ranks, 2.0, _MOST) / 2.0
    share = links["nccl.share"] * crowd ** -links["nccl.crowd"]
    return np.asarray(share / (links["nccl.sum"] if op == "all_reduce" else 1.0))


def collective(
    chip: Silicon, node: Sheet | None, op: str, size: Array, ranks: Array, *,
    span: str = "node", local: Array | float = 1.0, overlap: Array | float = 0.0, repeat: Array | float = 1.0,
    eager: bool = False,
) -> Work:  # fmt: skip
    """Return the work of one collective; `size` bytes and `local` ranks as in `workload.operator.Collective`.

    `eager`: launched one by one by the host rather than replayed from a graph, which then bounds it from below.
    """
    if op not in OPS:
        raise InputError(f"collective {op!r} is not known; known: {', '.join(OPS)}")
    size, ranks = np.asarray(size, dtype=np.float64), np.asarray(ranks, dtype=np.float64)
    if span not in ("node", "fabric"):
        raise InputError(f"span must be 'node' or 'fabric', got {span!r}")
    p = np.maximum(ranks, 1.0)
    here = p if span == "node" else np.clip(np.asarray(local, dtype=np.float64), 1.0, p)
    near = _link(chip, node, "node")
    inside, outside, seconds = (
        _near(chip, near, op, size, p, eager) if span == "node" else _far(chip, node, op, size, p, here)
    )
    hidden = 1.0 - np.asarray(overlap, dtype=np.float64)
    fixed = np.where((p > 1) & (span == "fabric"), chip.launch, 0.0)  # tables of a node count the launch
    nbytes = 2.0 * (inside + outside)
    dram = nbytes / (chip.shape["vector.dram_efficiency"] * chip.hbm_bandwidth)
    far = _link(chip, node, "fabric").energy if span == "fabric" else 0.0
    return work(
        "fp32", link=seconds * hidden, dram=dram * hidden, fixed=fixed * hidden,
        e_link=inside * near.energy, e_far=outside * far, e_dram=nbytes * chip.hbm_energy,
        e_l2=nbytes * chip.l2_energy, repeat=repeat, link_name=near.name,
    )  # fmt: skip


def _near(chip: Silicon, link: _Link, op: str, size: Array, p: Array, eager: bool) -> tuple[Array, Array, Array]:
    """Return bytes a rank sends inside its domain and outside it, and seconds, where all ranks share one."""
    sent = _sent(op, size, p)
    links = links_of(chip, link.name)
    seconds = library_seconds(links, op, size, p, link.bandwidth)
    if op == "all_reduce":
        own = np.minimum(custom_seconds(links, size, p, link.bandwidth), seconds)
        seconds = np.where(size <= ONE_SHOT, own, seconds)
    if eager:
        seconds = np.maximum(seconds, links["nccl.eager"])
    return sent, 0.0 * sent, np.where(p > 1, seconds, 0.0)


def _far(
    chip: Silicon, node: Sheet | None, op: str, size: Array, p: Array, local: Array
) -> tuple[Array, Array, Array]:  # fmt: skip
    """Return the same for a group of `local` ranks in each domain."""
    near, far = _link(chip, node, "node"), _link(chip, node, "fabric")
    efficiency = chip.shape["link.efficiency"]
    inner = near.bandwidth * share_of(links_of(chip, near.name), op, local)
    outer = far.bandwidth * efficiency
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


class _Link(NamedTuple):
    """A link in use: component name, B/s per chip and direction, s per hop, J/B."""

    name: str
    bandwidth: Any
    latency: Any
    energy: Any


def link_in_use(chip: Silicon) -> _Link:
    """Return the link that joins chips of one node where nothing is known of the node."""
    return _link(chip, None, "node")


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
