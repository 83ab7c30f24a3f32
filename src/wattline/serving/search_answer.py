"""What a search for serving configurations answers: frontiers, the chosen one, its confirmation, and the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ..frontier.answer import Rates

LATENCIES: Final = ("ttft", "tpot", "latency")


@dataclass(frozen=True)
class Figures:
    """What a configuration does, analytic or simulated: facility joules per output token, seconds at the percentile."""

    energy: float
    ttft: float
    tpot: float
    latency: float
    power: float

    def to_dict(self) -> dict[str, float]:
        """Return plain values."""
        return {
            "energy_per_token_j": self.energy, "ttft_s": self.ttft, "tpot_s": self.tpot, "latency_s": self.latency,
            "average_power_w": self.power,
        }  # fmt: skip


@dataclass(frozen=True)
class Configuration:
    """One way to serve the trace.

    Attributes
    ----------
    pools : what to set, one mapping per pool. chips : of all pools.
    analytic : always there. simulated : where it was confirmed, and `kept`: whether the promise held then.
    breakdown_j : component -> facility joules per output token, of the simulated run; sums to its energy.
    phases_j : the chips' by phase. moved : whether it was found by simulation alone, the analytic figures being those
        of a neighbour. probability : chance that other requests like these are served within the promise.
    """

    pools: tuple[Mapping[str, Any], ...]
    chips: int
    analytic: Figures
    simulated: Figures | None = None
    kept: bool | None = None
    breakdown_j: Mapping[str, float] = field(default_factory=dict)
    phases_j: Mapping[str, float] = field(default_factory=dict)
    moved: bool = False
    probability: float | None = None

    @property
    def best(self) -> Figures:
        """The simulated figures where there are any."""
        return self.simulated or self.analytic

    @property
    def label(self) -> str:
        """The configuration in a line."""
        return " + ".join(_pool(pool) for pool in self.pools)

    def to_dict(self, rates: Rates, tokens: int) -> dict[str, Any]:
        """Return plain values."""
        per_million = rates.per_million(self.best.energy, self.chips * self.best.energy / self.best.power)
        whole = rates.figures(self.best.energy * tokens)
        out: dict[str, Any] = {
            "configuration": self.label, "chips": self.chips, **self.best.to_dict(), **per_million, **whole,
            "pools": [dict(pool) for pool in self.pools], "analytic": self.analytic.to_dict(),
        }  # fmt: skip
        if self.simulated is not None:
            out |= {
                "simulated": self.simulated.to_dict(), "promise_kept": self.kept,
                "breakdown_j": dict(self.breakdown_j), "phases_j": dict(self.phases_j),
            }  # fmt: skip
        if self.probability is not None:
            out["promise_probability"] = self.probability
        return out


def _pool(pool: Mapping[str, Any]) -> str:
    layout = [f"{name[0]}p{pool[key]}" for name, key in (("tensor", "tensor"), ("expert", "expert")) if pool[key] > 1]
    layout += [f"dp{pool['data']}"] if pool["data"] > 1 else []
    layout += [f"pp{pool['pipeline']}"] if pool.get("pipeline", 1) > 1 else []
    stored = pool["precision"] or ""
    kv = f"kv {pool['kv_precision']}" if pool["kv_precision"] else ""
    what = {"both": "", "prefill": "prefill", "decode": "decode"}[pool["role"]]
    which = {"all": "", "short": "short prompts", "long": "long prompts"}[pool["requests"]]
    size = "" if pool["role"] == "prefill" else f"batch {pool['max_batch']}"
    clock, read = pool["clock_hz"], pool.get("prefill_clock_hz", pool["clock_hz"])
    more = [f"prompts at {read / 1e6:.0f} MHz"] if read != clock else []
    more += [f"step of {pool['max_step_tokens']}"] if pool.get("chunk") else []
    more += [f"{pool['drafts']} drafts"] if pool.get("drafts") else []
    more += ["parked when idle"] if pool.get("parked") else []
    words = [
        f"{pool['replicas']} x {pool['chip']}", *layout, stored, kv, size, f"{clock / 1e6:.0f} MHz", *more, what, which,
    ]  # fmt: skip
    return " ".join(word for word in words if word)


@dataclass(frozen=True)
class SearchAnswer:
    """The answer to a search.

    Attributes
    ----------
    frontier : latency -> configurations, fastest first, each the least energy at its latency or faster (analytic).
    confirmed : the simulated ones, by simulated energy. baseline : maximum clocks, the fewest chips that keep it.
    apply : what to type, in order. settings, variants : how many were looked at. refused : variant -> why it was not.
    """

    title: str
    goal: str
    percentile: float
    frontier: Mapping[str, Sequence[Configuration]]
    chosen: Configuration
    baseline: Configuration
    confirmed: Sequence[Configuration]
    settings: int
    variants: int
    candidates: int
    refused: Mapping[str, str]
    requests: Mapping[str, float]
    tokens: int
    rates: Rates
    facts: Mapping[str, str]
    assumptions: tuple[str, ...]
    provenance: str
    source: str
    uncertainty: float
    time_uncertainty: float
    apply: tuple[str, ...] = ()

    @property
    def savings(self) -> dict[str, float]:
        """Relative savings of the chosen configuration against the baseline (negative: more)."""
        a, b = self.chosen.best, self.baseline.best
        return {
            "energy": 1.0 - a.energy / b.energy, "power": 1.0 - a.power / b.power,
            "chips": 1.0 - self.chosen.chips / self.baseline.chips,
        }  # fmt: skip

    @property
    def weighed(self) -> list[Configuration]:
        """Confirmed configurations that keep the promise, of which none beats another in joules and in money; cheapest
        in joules first. Empty where chips have no price."""
        if self.rates.chip is None or self.rates.price is None:
            return []
        kept = [c for c in self.confirmed if c.kept is not False and c.simulated is not None]
        out: list[Configuration] = []
        for c in sorted(kept, key=lambda c: (c.best.energy, self.dollars(c))):
            if not out or self.dollars(c) < self.dollars(out[-1]) * (1.0 - 1e-9):
                out.append(c)
        return out

    def dollars(self, c: Configuration) -> float:
        """Return USD per million tokens, electricity and chips."""
        return float(c.to_dict(self.rates, self.tokens)["cost_usd_per_million_tokens"])

    @property
    def agreement(self) -> dict[str, float]:
        """How the analytic figures of the confirmed ones compare: mean ratios to simulated, and of ranks (Spearman)."""
        every = [c for c in self.confirmed if c.simulated is not None]
        pairs = [(c.analytic, c.simulated) for c in [c for c in every if not c.moved] or every if c.simulated]
        out = {
            f"{name}_ratio": sum(getattr(a, name) / getattr(s, name) for a, s in pairs if getattr(s, name)) / len(pairs)
            for name in ("energy", *LATENCIES)
        }
        return out | {"rank_correlation": _spearman([a.energy for a, _ in pairs], [s.energy for _, s in pairs])}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values under stable JSON keys."""

        def told(c: Configuration) -> dict[str, Any]:
            return c.to_dict(self.rates, self.tokens)

        return {
            "kind": "serving search",
            "title": self.title,
            "work": "one output token",
            "goal": self.goal,
            "requests": dict(self.requests),
            "searched": {
                "settings": self.settings, "variants": self.variants, "unbeaten": self.candidates,
                "refused": dict(self.refused),
            },
            "frontier": {name: [told(c) for c in some] for name, some in self.frontier.items()},
            "chosen": told(self.chosen),
            "baseline": told(self.baseline),
            "savings": self.savings,
            "breakdown_j": dict(self.chosen.breakdown_j),
            "confirmed": [told(c) for c in self.confirmed],
            "energy_cost_frontier": [told(c) for c in self.weighed],
            "agreement": self.agreement,
            "provenance": {"kind": self.provenance, "sources": [self.source]},
            "uncertainty": {"energy": self.uncertainty, "time": self.time_uncertainty},
            "assumptions": list(self.assumptions),
            "facts": dict(self.facts),
            "apply": list(self.apply),
        }  # fmt: skip


def _spearman(a: Sequence[float], b: Sequence[float]) -> float:
    n = len(a)
    if n < 2:
        return 1.0
    ranks = [{i: k for k, i in enumerate(sorted(range(n), key=values.__getitem__))} for values in (a, b)]
    return 1.0 - 6.0 * sum((ranks[0][i] - ranks[1][i]) ** 2 for i in range(n)) / (n * (n * n - 1.0))
