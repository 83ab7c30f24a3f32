"""What came of a simulated run: latencies, joules of each request, power over time, and whether it all adds up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...core.errors import InputError, MissingExtraError
from ...source.base import Array

Ints = NDArray[np.int64]

PHASES: Final = ("prefill", "decode", "idle", "cold", "transfer")
PERCENTILES: Final = (50, 90, 95, 99)
# Logarithmic bins of the time between tokens, from 1e-5 s up: how many, how many per decade, where they start.
GAPS, PER_DECADE, SMALLEST = 1800, 400, -5.0


@dataclass(frozen=True)
class Limits:
    """The latency promise: seconds to the first token and per token after it, at a percentile of requests."""

    ttft: float | None = None
    tpot: float | None = None
    percentile: float = 99.0


@dataclass(frozen=True, eq=False)
class Run:
    """One simulated run: arrays over n requests, sums, and series over time. Energies are of the chips.

    Attributes
    ----------
    begun, first, end : (n,) s when first scheduled, of the first token, of the last. replica : the last it ran on.
    cached : prompt tokens found in the prefix cache. preempted : times its cache was taken away.
    prefill_j, decode_j, transfer_j : (n,) joules. idle_j, cold_j : of replicas waiting; starting and parked.
    recomputed_j : joules of prefill (also in prefill_j) of requests that had been preempted.
    parts_j : component -> joules of all steps. gaps : histogram of time between tokens (see `itl`).
    bin, power : seconds of a bin and (bins, 5) watts by `PHASES`. duration : s from 0 to the last token.
    steps, busy_s, awake_s : engine steps, replica-seconds in them, replica-seconds not switched off.
    clock_s : (L,) seconds at each of `clocks`.
    gone : (n,) whether a request left before it was begun; it counts as late and has no output. urgency : (n,) class.
    filling : requests that were let in first, which fill a closed loop at once and whose latencies are not counted.
    outside : (n,) seconds that the client waits besides for the first token: HTTP, tokeniser, first flush.
    """

    arrival: Array
    prompt: Ints
    output: Ints
    replica: Ints
    begun: Array
    first: Array
    end: Array
    cached: Ints
    preempted: Ints
    prefill_j: Array
    decode_j: Array
    transfer_j: Array
    idle_j: float
    cold_j: float
    recomputed_j: float
    parts_j: Mapping[str, float]
    gaps: Array
    duration: float
    bin: float
    power: Array
    steps: int
    busy_s: float
    awake_s: float
    awake_by_pool: tuple[float, ...]
    replicas: int
    clocks: Array
    clock_s: Array
    policy: str
    limits: Limits
    seed: int
    provenance: str
    source: str
    uncertainty: float
    time_uncertainty: float
    filling: int = 0
    gone: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    urgency: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    outside: Array | float = 0.0

    # ---- latency
    @property
    def ttft(self) -> Array:
        """(n,) seconds from arrival to the first token, as the client sees it."""
        return np.asarray(self.first - self.arrival + self.outside)

    @property
    def tpot(self) -> Array:
        """(n,) mean seconds per token after the first; 0 for requests of one token."""
        return np.asarray((self.end - self.first) / np.maximum(self.output - 1, 1))

    @property
    def latency(self) -> Array:
        """(n,) seconds from arrival to the last token, as the client sees it."""
        return np.asarray(self.end - self.arrival + self.outside)

    def itl(self, percentile: float) -> float:
        """Return seconds between tokens at a percentile of tokens, within 0.6 %; NaN where none followed another."""
        total = np.cumsum(self.gaps)
        if total[-1] <= 0:
            return float("nan")
        k = int(np.searchsorted(total, percentile / 100.0 * total[-1]))
        return float(10.0 ** ((k + 0.5) / PER_DECADE + SMALLEST))

    @property
    def counted(self) -> NDArray[np.bool_]:
        """(n,) whether a request's latencies count."""
        out = np.ones(len(self.arrival), bool)
        out[np.argsort(self.begun, kind="stable")[: self.filling]] = False
        return out

    @property
    def promised(self) -> bool:
        """Whether there is a promise."""
        return self.limits.ttft is not None or self.limits.tpot is not None

    @property
    def left(self) -> NDArray[np.bool_]:
        """(n,) whether a request gave up."""
        return self.gone if len(self.gone) else np.zeros(len(self.arrival), bool)

    @property
    def classes(self) -> dict[str, dict[str, Any]]:
        """Latencies and late requests of each class of urgency, where there are several."""
        out: dict[str, dict[str, Any]] = {}
        for one in np.unique(self.urgency) if len(np.unique(self.urgency)) > 1 else ():
            mine = (self.urgency == one) & self.counted
            served = mine & ~self.left
            out[str(int(one))] = {
                "requests": int(mine.sum()), "gave_up": int((mine & self.left).sum()),
                "ttft_s": _percentiles(self.ttft[served]),
                "tpot_s": _percentiles(self.tpot[served & (self.output > 1)]),
            }  # fmt: skip
        return out

    @property
    def violations(self) -> dict[str, int]:
        """Requests that missed each promise, and any of them."""
        late = np.zeros(len(self.arrival), bool)
        slow = np.zeros(len(self.arrival), bool)
        if self.limits.ttft is not None:
            late = ((self.ttft > self.limits.ttft) | self.left) & self.counted
        if self.limits.tpot is not None:
            slow = (self.tpot > self.limits.tpot) & self.counted
        return {"ttft": int(late.sum()), "tpot": int(slow.sum()), "any": int((late | slow).sum())}

    @property
    def kept(self) -> bool:
        """Whether the promise held at its percentile."""
        allowed = (1.0 - self.limits.percentile / 100.0) * (len(self.arrival) - self.filling)
        return self.violations["ttft"] <= allowed + 1e-9 and self.violations["tpot"] <= allowed + 1e-9

    # ---- energy
    @property
    def phases_j(self) -> dict[str, float]:
        """Joules by phase: of requests in prefill, decode and transfer, of idling, and of starting and parking."""
        return {
            "prefill": float(self.prefill_j.sum()),
            "decode": float(self.decode_j.sum()),
            "idle": self.idle_j,
            "cold": self.cold_j,
            "transfer": float(self.transfer_j.sum()),
        }

    @property
    def energy_j(self) -> float:
        """Joules of all chips and links over the run."""
        return float(sum(self.phases_j.values()))

    @property
    def integral_j(self) -> float:
        """Integral of power over time, counted apart from `energy_j`."""
        return float(self.power.sum() * self.bin)

    @property
    def tokens(self) -> int:
        """Output tokens."""
        return int(self.output.sum())

    @property
    def request_j(self) -> Array:
        """(n,) joules of each request, idling left out."""
        return np.asarray(self.prefill_j + self.decode_j + self.transfer_j)

    @property
    def breakdown_j(self) -> dict[str, float]:
        """Joules by component: those of steps, then idling, starting and parking, transfers."""
        out = {f"chip.{name}": joules for name, joules in self.parts_j.items() if joules}
        extra = {"idle": self.idle_j, "cold": self.cold_j, "transfer": self.phases_j["transfer"]}
        return out | {name: joules for name, joules in extra.items() if joules}

    # ---- telling
    def to_dict(self) -> dict[str, Any]:
        """Return plain values under stable JSON keys, SI units in their names."""
        tokens, n, counted = self.tokens, len(self.arrival), self.counted
        phases = self.phases_j
        return {
            "policy": self.policy,
            "requests": n,
            "prompt_tokens": int(self.prompt.sum()),
            "output_tokens": tokens,
            "duration_s": self.duration,
            "energy_j": self.energy_j,
            "energy_per_token_j": self.energy_j / tokens,
            "energy_per_request_j": {"mean": float(self.request_j.mean()), **_percentiles(self.request_j)},
            "average_power_w": self.energy_j / self.duration if self.duration > 0 else 0.0,
            "phases_j": phases,
            "prefill_j_per_prompt_token": phases["prefill"] / float(self.prompt.sum()),
            "decode_j_per_output_token": phases["decode"] / tokens,
            "breakdown_j": self.breakdown_j,
            "throughput_tokens_per_s": tokens / self.duration if self.duration > 0 else 0.0,
            "ttft_s": _percentiles(self.ttft[counted & ~self.left]),
            "tpot_s": _percentiles(self.tpot[counted & (self.output > 1)]),
            "latency_s": _percentiles(self.latency[counted & ~self.left]),
            "itl_s": {f"p{p}": self.itl(p) for p in PERCENTILES},
            "violations": self.violations,
            "gave_up": int(self.left.sum()),
            "classes": self.classes,
            "promise_kept": self.kept if self.promised else None,
            "cached_prompt_tokens": int(self.cached.sum()),
            "preemptions": int(self.preempted.sum()),
            "recomputed_j": self.recomputed_j,
            "steps": self.steps,
            "replicas": self.replicas,
            "mean_replicas_awake": self.awake_s / self.duration if self.duration > 0 else 0.0,
            "busy": self.busy_s / self.awake_s if self.awake_s > 0 else 0.0,
            "clock_share": {
                f"{c / 1e6:.0f}": float(s) for c, s in zip(self.clocks, self._shares(), strict=True) if s > 0
            },
            "power": {
                "bin_s": self.bin,
                **{f"{name}_w": self.power[:, k].tolist() for k, name in enumerate(PHASES) if self.power[:, k].any()},
            },
            "energy_check": {"integral_j": self.integral_j, "relative_difference": self._difference()},
            "uncertainty": {"energy": self.uncertainty, "time": self.time_uncertainty},
            "provenance": {"kind": self.provenance, "source": self.source},
            "seed": self.seed,
        }

    def _shares(self) -> Array:
        total = self.clock_s.sum()
        return np.asarray(self.clock_s / total if total > 0 else self.clock_s)

    def _difference(self) -> float:
        return abs(self.integral_j - self.energy_j) / self.energy_j if self.energy_j > 0 else 0.0

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return one column per quantity of the requests, for tables."""
        return {
            "arrival_s": self.arrival, "prompt_tokens": self.prompt, "output_tokens": self.output,
            "replica": self.replica, "scheduled_s": self.begun, "first_token_s": self.first, "end_s": self.end,
            "ttft_s": self.ttft, "tpot_s": self.tpot, "latency_s": self.latency, "cached_tokens": self.cached,
            "preemptions": self.preempted, "prefill_j": self.prefill_j, "decode_j": self.decode_j,
            "transfer_j": self.transfer_j, "energy_j": self.request_j,
        }  # fmt: skip


def _percentiles(values: Array) -> dict[str, float]:
    if not len(values):
        return {}
    found = np.percentile(values, PERCENTILES)
    return {f"p{p}": float(x) for p, x in zip(PERCENTILES, found, strict=True)} | {"max": float(values.max())}


def write_parquet(run: Run, path: Path) -> None:
    """Write one row per request; the file is complete or not there at all."""
    try:
        pa: Any = import_module("pyarrow")
        pq: Any = import_module("pyarrow.parquet")
    except ImportError:
        raise MissingExtraError("Parquet needs pyarrow; pip install 'wattline[parquet]'") from None
    beside = path.with_name(f".{path.name}.part")
    try:
        pq.write_table(pa.table(run.columns()), beside, compression="zstd")
        beside.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        beside.unlink(missing_ok=True)
