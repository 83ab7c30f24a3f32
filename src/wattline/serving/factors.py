"""Factors on the shipped constants of serving, for one engine on one host: what a user's own runs say.

Written by `wattline calibrate serving` (`own_factors`), named by `serve.factors` in a scenario.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ..core.errors import InputError, nearest

# Factor -> the constants it multiplies, and how far from 1 it is believed to lie (68 %, logarithm): hosts differ most
# (cores, clocks, what else runs there), kernels least. From engines left out of the fits of engine_factors.toml.
FACTORS: Final[Mapping[str, tuple[float, tuple[str, ...]]]] = {
    "host": (0.5, ("host.step", "host.team", "host.crowd", "host.sequence", "gap.step")),
    "kernels": (0.1, ("time.gemm", "time.grouped_gemm", "time.padded_gemm", "time.attention_decode",
                      "time.attention_latent", "time.attention_prefill", "time.elementwise", "time.collective")),
    "experts": (0.3, ("time.grouped_gemm", "time.padded_gemm")),
    "prompt": (0.4, ("host.prompt", "host.visual", "first.prefill")),
    "request": (0.8, ("first.request", "first.token")),
}  # fmt: skip


def scaled(c: Mapping[str, float], factors: Mapping[str, float]) -> dict[str, float]:
    """Return constants times factors of `FACTORS`."""
    out = dict(c)
    for name, factor in factors.items():
        for constant in FACTORS[name][1]:
            if constant in out:
                out[constant] *= factor
    return out


def read(path: Path) -> tuple[tuple[str, float], ...]:
    """Return the factors of such a file; raise InputError naming what is wrong."""
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path}: cannot be read as factors of serving ({error})") from None
    entries = table.get("factors")
    if not isinstance(entries, dict) or not entries:
        raise InputError(f"{path}: has no [factors]; wattline calibrate serving writes such a file")
    out = []
    for name, entry in entries.items():
        if name not in FACTORS:
            raise InputError(f"{path}: factor {name!r} is not known; {nearest(name, FACTORS)}")
        value = entry[0] if isinstance(entry, list) and entry else entry
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0.01 < value < 100:
            raise InputError(f"{path}: factor {name} must be a number between 0.01 and 100, got {value!r}")
        out.append((name, float(value)))
    return tuple(out)
