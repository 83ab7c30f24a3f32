"""What one engine's kernels take and draw over the model's own: four numbers for each kind, chip, version and format.

Fitted to public tables of kernels by ``scripts/calibrate_factors.py`` (``data/kernel_factors.toml``): seconds a launch
adds, a factor on the time of arithmetic and one on that of main memory, and one on switched joules. The spread beside
them is what they leave on shapes left out.

`Roofline` applies those of the kernels a chip's facts stand for (`[applied]` in the data): that is how a table of a
chip reaches its plans. What another engine or version makes of a kernel is `kernel_factor`, relative to a plan's.

A table that is not there is answered by the nearest: another version of the engine, the mean of other chips, the
engine whose kernels the model is, each with a spread widened by how far such answers were off where the table is there.
"""

from __future__ import annotations

import functools
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any, Final

import numpy as np

from ...core.errors import InputError, nearest
from ..base import Array
from .silicon import Silicon, calibration
from .work import Work

KINDS: Final = (
    "gemm", "moe", "prefill", "decode", "mla_prefill", "mla_decode", "mla_module", "encoder", "all_reduce",
    "all_gather", "reduce_scatter", "all_to_all",
)  # fmt: skip
ENGINES: Final = ("vllm", "trtllm", "sglang", "nccl")
# Names of formats in tables of kernels, and the weights' (for attention the cache's) format they stand for here.
FORMATS: Final[Mapping[str, str]] = {
    "bfloat16": "bf16", "float16": "bf16", "fp16": "bf16", "fp8_static": "fp8", "int4_wo": "int4", "int8_wo": "int8",
    "w4a16_mxfp4": "mxfp4", "w4a8_mxfp4_mxfp8": "mxfp4", "half": "bf16",
}  # fmt: skip
# Logarithm of the widths of key and value together beyond which attention is over latent keys.
_WIDE: Final = 9.0
# Bytes of a collective: up to the first its latency rules, from the second its links.
SMALL, LARGE = 2.0**18, 2.0**23


@dataclass(frozen=True)
class KernelFactor:
    """Factors over the model's kernel.

    added : seconds a launch adds. compute, memory : on the time of arithmetic and caches, and of main memory; for
    collectives on messages of up to 256 KiB and from 8 MiB. energy : on switched joules.
    spread : 68 % quantile of the relative error of time that is left. rows : how many it was fitted to.
    nearest : what stands in for a table that is not there ("" where it is).
    """

    added: float = 0.0
    compute: float = 1.0
    memory: float = 1.0
    energy: float = 1.0
    spread: float = 0.0
    rows: int = 0
    nearest: str = ""

    @property
    def plain(self) -> bool:
        """Whether the model's own kernel is as good."""
        return (self.added, self.compute, self.memory, self.energy) == (0.0, 1.0, 1.0, 1.0)

    def on(self, work: Work) -> Work:
        """Return `work` with its factors: more of a rate or fewer bytes never make it longer, with them as without."""
        return replace(
            work, core=work.core * self.compute, l2=work.l2 * self.compute, ramp=work.ramp * self.compute,
            dram=work.dram * self.memory, warm=work.warm * self.energy,
            fixed=np.maximum(work.fixed + self.added / work.slow, 0.0),
        )  # fmt: skip

    def of_size(self, size: Array) -> Array:
        """Return the factor on the time of a collective of `size` bytes: on a line in logarithms between two sizes."""
        ends = np.log([SMALL, LARGE])
        return np.asarray(np.exp(np.interp(np.log(size), ends, np.log([self.compute, self.memory]))))

    def over(self, other: KernelFactor) -> KernelFactor:
        """Return what is left of this beside kernels that have `other` already."""
        return replace(
            self, added=self.added - other.added, compute=self.compute / other.compute,
            memory=self.memory / other.memory, energy=self.energy / other.energy,
        )  # fmt: skip


@functools.cache
def stated() -> Mapping[str, Any]:
    """Return ``data/kernel_factors.toml``."""
    path = resources.files(__package__) / "data" / "kernel_factors.toml"
    return tomllib.loads(path.read_text("utf-8"))


@functools.cache
def table() -> Mapping[tuple[str, str, str, str, str], KernelFactor]:
    """Return factors by (chip, engine, kind, format, version)."""
    out = {}
    for chip, engines in stated()["factor"].items():
        for engine, versions in engines.items():
            for version, kinds in versions.items():
                for kind, formats in kinds.items():
                    for form, (added, compute, memory, energy, spread, rows) in formats.items():
                        out[chip, engine, kind, form, version] = KernelFactor(
                            added, compute, memory, energy, spread, int(rows)
                        )
    return out


@functools.lru_cache(maxsize=4096)
def kernel_factor(engine: str, version: str, chip: str, kind: str, form: str) -> KernelFactor:
    """Return what an engine's kernel takes and draws over the one a plan of `chip` has.

    `engine` : one of `ENGINES`; `version` as "0.19.0", "" for the newest. `chip` : its name in the catalog. `kind` :
    one of `KINDS`. `form` : format of the weights, of the cache for attention ("bf16", "fp8", "fp8_block", "nvfp4" or
    as tables write it, "bfloat16"); of collectives it does not matter.

    >>> kernel_factor("vllm", "0.22.0", "b200-sxm", "gemm", "bf16").compute  # the kernels plans of a B200 have
    1.0
    """
    if kind not in KINDS:
        raise InputError(f"kind of kernel {kind!r} is not known; {nearest(kind, KINDS)}")
    found = looked_up(engine, version, chip, kind, form)
    return found.over(applied(chip, kind, form)) if found.rows else found


def looked_up(engine: str, version: str, chip: str, kind: str, form: str) -> KernelFactor:
    """Return the table's factor over the bare model, or the nearest there is; one without rows where there is none."""
    form = FORMATS.get(form, form) if not kind.startswith(("all", "reduce")) else "any"
    wide = stated()["widened"]
    own = _nearest(engine, version, (chip,), kind, form)
    if own:
        return own
    alike = [name for name in stated()["factor"] if name != chip and _architecture(name) == _architecture(chip)]
    others = [name for name in stated()["factor"] if name != chip and name not in alike]
    for names, word in ((alike, "chips of its architecture"), (others, "other chips")):
        found = _nearest(engine, version, names, kind, form)
        if found:
            return replace(found, spread=math.hypot(found.spread, wide["chip"]), nearest=f"mean of {word}")
    if engine != "vllm":
        found = looked_up("vllm", "", chip, kind, form)
        if found.rows:
            spread = math.hypot(found.spread, wide["engine"])
            return replace(found, spread=spread, nearest="; ".join(filter(None, ("vllm's kernels", found.nearest))))
    return KernelFactor(spread=wide["none"], nearest="the model's own kernel")


def _nearest(engine: str, version: str, chips: Sequence[str], kind: str, form: str) -> KernelFactor | None:
    """Return the geometric mean over chips of the factor of the version nearest to the one asked for."""
    found = []
    for chip in chips:
        dated = {v: f for (c, e, k, s, v), f in table().items() if (c, e, k, s) == (chip, engine, kind, form)}
        if dated:
            newest = max(dated, key=_number)
            at = min(dated, key=lambda v: (abs(_number(v) - _number(version)), -_number(v))) if version else newest
            one = dated[at]
            if version and abs(_number(at) - _number(version)) > 0.5:
                spread = math.hypot(one.spread, stated()["widened"]["version"])
                one = replace(one, spread=spread, nearest=f"version {at}")
            found.append(one)
    if not found:
        return None
    if len(found) == 1:
        return found[0]
    compute, memory, energy = (
        math.exp(sum(math.log(getattr(f, k)) for f in found) / len(found)) for k in ("compute", "memory", "energy")
    )
    added = sum(f.added for f in found) / len(found)
    return KernelFactor(added, compute, memory, energy, max(f.spread for f in found), sum(f.rows for f in found))


def _number(version: str) -> float:
    """Return the minor version ("0.19.0": 19; "1.3.0rc15": 103)."""
    match = re.match(r"(\d+)\.(\d+)", version)
    return 100.0 * float(match[1]) + float(match[2]) if match else 0.0


def _architecture(chip: str) -> str:
    for name, prefixes in calibration()["architecture"].items():
        if chip.startswith(tuple(prefixes)):
            return str(name)
    return chip


@functools.lru_cache(maxsize=1024)
def applied(chip: str, kind: str, form: str) -> KernelFactor:
    """Return the factor that plans of a chip have, one with no rows where its kernels are the model's own."""
    whose = stated()["applied"].get(chip)
    if whose is None:
        return KernelFactor()
    engine, version = whose
    found = looked_up(engine, version, chip, kind, form)
    return found if found.rows and not found.nearest.startswith("mean of other") else KernelFactor()


def engine_of(chip: Silicon) -> tuple[str, str] | None:
    """Return engine and version of the kernels a chip's plans have beyond the model's own."""
    whose = stated()["applied"].get(chip.name)
    return None if whose is None else (str(whose[0]), str(whose[1]))


def with_kernels(work: Work, chip: Silicon) -> Work:
    """Return `work` as the kernels of its chip take and draw (see `applied`)."""
    kind = kind_of(work)
    if not kind:
        return work
    factor = applied(chip.name, kind, work.stored)
    return work if factor.plain else factor.on(work)


def kind_of(work: Work) -> str:
    """Return the kind of kernel of a work, "" of those no table speaks of."""
    latent = work.net in ("prefill", "decode") and bool(np.all(work.hints[5] > _WIDE))
    return f"mla_{work.net}" if latent else work.net
