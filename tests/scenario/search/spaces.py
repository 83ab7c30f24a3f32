"""Random small spaces of configurations, and the best of each by simulating every one."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass

import numpy as np

from wattline.core.errors import WattlineError
from wattline.hardware.chip import lockable
from wattline.scenario import scenario as sc
from wattline.scenario.search.confirm import confirm
from wattline.scenario.search.space import Variant, placed, variants
from wattline.scenario.search.sure import odds
from wattline.serving.candidates import Candidate, Part
from wattline.serving.simulate.choose import TRUST
from wattline.serving.step import clock_grid
from wattline.source.base import Device

KINDS = (
    ("llama-3.2-1b", ("l4", "a10g", "t4")), ("llama-3.1-8b", ("l40s", "a100-sxm-80gb", "h100-pcie")),
    ("qwen3-4b", ("l4", "l40s", "a10g")), ("gpt-oss-20b", ("h100-sxm", "h200-sxm", "l40s")),
)  # fmt: skip


def draw(number: int, count: int = 400) -> sc.Scenario:
    """Return a random scenario with a space of some hundred settings; the same number, the same one."""
    random = np.random.default_rng([77, number])
    model, chips = KINDS[random.integers(len(KINDS))]
    some = sorted(random.choice(chips, 2, replace=False).tolist())
    prompt, output = int(random.choice([128, 512, 1024])), int(random.choice([64, 128, 256]))
    tokens = float(np.exp(random.uniform(np.log(300), np.log(1500))))
    first = int(random.integers(1, 3))
    return sc.parse({
        "model": {"name": model}, "hardware": {"chip": some[0]}, "site": {"pue": 1.2},
        "serve": {
            "rate": f"{tokens / output:.4g} req/s", "count": count, "prompt": prompt, "output": output, "max_batch": 128,
            "task": str(random.choice(["chat", "code", "summarise"])),
            "arrivals": str(random.choice(["poisson", "gamma"])), "variation": 1.5,
            "ttft": f"{random.choice([500, 1000, 2000])} ms", "tpot": f"{random.choice([30, 60, 100])} ms",
            "percentile": int(random.choice([90, 95])),
            "search": {
                "chips": some, "tensor": [1, 2] if random.random() < 0.5 else [1], "pools": ["one"],
                "replicas": [first, first + 1, first + 2], "batches": [8, 32, 128], "chunks": [8192], "phases": False,
                "confirm": 6,
            },
        },
    })  # fmt: skip


@dataclass(frozen=True)
class Best:
    """The cheapest setting that is sure to keep the promise, in joules, and how many were simulated."""

    energy: float
    settings: int


def exhaustive(stated: sc.Scenario) -> Best | None:
    """Simulate every setting; of those that keep the promise take the cheapest that fresh seeds are sure of."""
    every = variants(stated)
    rows = []
    for i, variant in enumerate(every):
        try:
            cluster = placed(stated, variant)[0]
            clocks = lockable(cluster.chip, clock_grid(Device(cluster.chip, cluster.node)))
            for replicas, batch, clock in itertools.product(
                stated["serve.search.replicas"], stated["serve.search.batches"], np.unique(clocks)
            ):
                parts = (Part(i, "both", replicas, batch, float(clock)),)
                rows.append((_confirm(stated, every, parts), parts))
        except WattlineError:
            continue
    kept = sorted((r for r in rows if r[0]["kept"]), key=lambda r: r[0]["energy_j"])
    for row, parts in kept:
        c = Candidate(parts, 1.0, 1.0, 1.0, 1.0, 1.0)
        if odds(stated, every, c, row, lambda points: [confirm(stated, point) for point in points]) >= TRUST:
            return Best(row["energy_j"] / row["tokens"], len(rows))
    return None


def _confirm(stated: sc.Scenario, every: list[Variant], parts: tuple[Part, ...]) -> dict[str, float]:
    return confirm(stated, {"parts": [(asdict(every[p.variant]), asdict(p)) for p in parts]})
