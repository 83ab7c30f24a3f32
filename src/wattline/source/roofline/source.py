"""The analytic source: operators on a chip known by its facts, no measurement needed.

Each operator becomes busy seconds and switched joules per resource (`shapes`); the clock, its
voltage and the power limit then decide time and energy (`work`). All operators of one kind are
evaluated at once, at every clock at once.

For searches over many configurations skip the operators and call the functions of `shapes` with
arrays of shapes, then `work.cost`: one array operation per operator slot, all configurations at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...core.errors import InputError
from ...hardware.facts import Sheet
from ...workload.operator import Attention, Collective, Elementwise, Gemm, GroupedGemm, Operator
from ..base import Array, Device, Points, PointsTable
from . import shapes, stack
from .collective import collective
from .factors import with_kernels
from .residual import adjust
from .silicon import Silicon, training_constants
from .table import Layout, layout, stacks, tables
from .work import Work

# Learned corrections of operators that run on the matrix units.
PRODUCTS = ("gemm", "moe", "prefill")


@dataclass(frozen=True)
class Roofline:
    """Time and energy from the chip's facts.

    `residual`: apply the learned, bounded correction, and what tables of a chip's own kernels say (`factors`); training
    runs other kernels. `sustained`: products at the rate that steps of
    training keep up (``data/training.toml``), below that of a kernel benchmarked alone.
    """

    residual: bool = True
    sustained: bool = False

    def points(self, operators: Sequence[Operator], device: Device, clocks: Array | None = None) -> Points:
        """Return time and energy of `operators` in order on `device` at each clock (Hz)."""
        found: Points = self.tables([operators], device, clocks)[0]
        return found

    def tables(self, pieces: Sequence[Sequence[Operator]], device: Device, clocks: Array | None = None) -> PointsTable:
        """Return `points` of many pieces of work, operators that recur evaluated once."""
        chip = Silicon.of(device.chip)
        found, works, grid = self._asked(pieces, chip, device.node, clocks)
        return tables(found.repeat, works, chip, grid)

    def stacks(
        self, pieces: Sequence[Sequence[Operator]], devices: Sequence[Device], clocks: Array | None = None
    ) -> list[PointsTable] | None:
        """Return `tables` of many devices worked out at once; None where they differ in more than numbers."""
        chip = stack.silicon([Silicon.of(device.chip) for device in devices])
        node = stack.node([device.node for device in devices])
        if chip is None or node is None:
            return None
        found, works, grid = self._asked(pieces, chip, node, clocks)
        return stacks(found.repeat, works, chip, grid, len(devices))

    def _asked(
        self, pieces: Sequence[Sequence[Operator]], chip: Silicon, node: Sheet, clocks: Array | None
    ) -> tuple[Layout, list[Work], Array]:
        grid = chip.clocks() if clocks is None else np.clip(clocks, chip.clock_min, chip.clock_max)
        found = layout(tuple(tuple(piece) for piece in pieces), _signature)
        works = self._corrected(found.groups, chip, node)
        return found, works, np.asarray(grid, dtype=np.float64)

    def works(self, operators: Sequence[Operator], chip: Silicon, node: Sheet | None = None) -> list[Work]:
        """Return the operators as works of shape (operators, 1), grouped by kind and precisions."""
        groups: dict[tuple[object, ...], list[Operator]] = defaultdict(list)
        for operator in operators:
            groups[_signature(operator)].append(operator)
        return self._corrected(list(groups.values()), chip, node)

    def _corrected(self, groups: Sequence[Sequence[Operator]], chip: Silicon, node: Sheet | None) -> list[Work]:
        works = [_build(group, chip, node) for group in groups]
        if self.residual:
            works = [
                adjust(w, chip, _build(group, chip.origin, node) if w.net and chip.origin else None)
                for w, group in zip(works, groups, strict=True)
            ]
        if self.sustained:
            return [_sustain(w, chip) for w in works]
        return [with_kernels(w, chip) for w in works] if self.residual else works


def _older(work: Work, chip: Silicon, kernel: str) -> Work:
    """Return attention by an earlier generation of kernels: the same arithmetic, so much longer on the units."""
    slow = training_constants(chip.architecture).get(f"attention.{kernel}")
    if slow is None:
        raise InputError(f"attention kernel {kernel!r} is not known; known: fa1, fa2, fa3, mla")
    return replace(work, core=work.core * slow, l2=work.l2 * slow)


def _sustain(work: Work, chip: Silicon) -> Work:
    """Return work at the rates of a training step: products, collectives, or kernels bound by memory."""
    share = training_constants(chip.architecture)
    if work.net:
        return replace(work, slow=work.slow / share["products.share"]) if work.net in PRODUCTS else work
    if np.any(work.link):
        return replace(work, link=work.link / share["collectives.share"])
    return replace(work, dram=work.dram / share["elementwise.share"])


def _signature(operator: Operator) -> tuple[object, ...]:
    """Return what operators must share to be evaluated as arrays."""
    names = {
        Gemm: ("a", "b", "c", "accumulate"),
        GroupedGemm: ("a", "b", "c"),
        Attention: ("causal", "shared_kv", "kv", "phase", "kernel"),
        Elementwise: (),
        Collective: ("op", "span"),
    }
    for kind, fields in names.items():
        if isinstance(operator, kind):
            return (kind, operator.precision, *[getattr(operator, f) for f in fields])
    known = ", ".join(k.__name__ for k in names)
    raise InputError(f"operator {operator.name!r} is a {type(operator).__name__}; known kinds: {known}")


def _columns(group: Sequence[Operator], *names: str) -> dict[str, Any]:
    return {n: np.array([[getattr(o, n)] for o in group], dtype=np.float64) for n in names}


def _build(group: Sequence[Operator], chip: Silicon, node: Sheet | None) -> Work:
    """Return the work of operators of one signature, arrays (operators, 1)."""
    first = group[0]
    if isinstance(first, Gemm):
        stored: dict[str, Any] = {"a": first.a, "b": first.b, "c": first.c, "precision": first.precision}
        stored["accumulate"] = first.accumulate
        return shapes.gemm(chip, **_columns(group, "m", "n", "k", "batch", "repeat"), **stored)
    if isinstance(first, GroupedGemm):
        stored = {"a": first.a, "b": first.b, "c": first.c, "precision": first.precision}
        columns = _columns(group, "rows", "active", "n", "k", "skew", "repeat")
        return shapes.grouped_gemm(chip, **columns, **stored)
    if isinstance(first, Attention):
        columns = _columns(
            group, "batch", "query", "context", "heads", "kv_heads", "head_dim", "value_dim", "window", "repeat"
        )
        if first.kernel == "mla":
            own = {n: columns[n] for n in ("batch", "context", "heads", "head_dim", "value_dim", "repeat")}
            return shapes.latent(chip, **own, kv=first.kv, precision=first.precision)
        made = shapes.attention(
            chip, **columns, causal=first.causal, shared_kv=first.shared_kv, kv=first.kv,
            phase=first.phase, precision=first.precision,
        )  # fmt: skip
        return _older(made, chip, first.kernel) if first.kernel else made
    if isinstance(first, Collective):
        columns = _columns(group, "size", "ranks", "local", "overlap", "repeat")
        return collective(chip, node, first.op, span=first.span, **columns)
    columns = _columns(group, "read", "write", "ops", "kernels", "repeat")
    return shapes.elementwise(chip, **columns)
