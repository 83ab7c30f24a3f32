"""Random serving scenarios, and a plan's settings played again."""

from __future__ import annotations

import numpy as np

from wattline.frontier.answer import Answer
from wattline.scenario import scenario as sc
from wattline.scenario import simulate_serving as simulation

# Models and the chips of a replica that holds them.
KINDS = (
    ("llama-3.1-8b", "h100-sxm", 1), ("llama-3.1-8b", "a100-sxm-80gb", 1), ("qwen3-8b", "l40s", 1),
    ("llama-3.1-70b", "h100-sxm", 4), ("mixtral-8x7b", "h200-sxm", 2), ("gpt-oss-20b", "h100-sxm", 1),
)  # fmt: skip


def draw(number: int) -> sc.Scenario:
    """Return a random scenario; the same number, the same one."""
    random = np.random.default_rng([2026, number])
    model, chip, tensor = KINDS[random.integers(len(KINDS))]
    prompt, output = int(random.choice([128, 512, 1024, 4096])), int(random.choice([32, 128, 256, 512]))
    serve = {
        "prompt": prompt, "output": output, "tensor": tensor,
        "ttft": f"{random.choice([300, 500, 1000, 2000])} ms", "tpot": f"{random.choice([25, 40, 60, 100])} ms",
        "task": str(random.choice(["chat", "code", "reasoning", "summarise"])),
        "percentile": int(random.choice([90, 95, 99])),
        "arrivals": str(random.choice(["poisson", "gamma", "uniform"])),
    }  # fmt: skip
    tokens = float(np.exp(random.uniform(np.log(100), np.log(3000))))
    serve |= {"rate": f"{tokens / output:.4g} req/s"} if random.random() < 0.8 else {"concurrency": 32}
    return sc.parse({
        "model": {"name": model}, "hardware": {"chip": chip, "chips_per_node": tensor}, "serve": serve,
        "site": {"pue": 1.2},
    })  # fmt: skip


def played(stated: sc.Scenario, answer: Answer, seed: int, count: int) -> simulation.Simulation:
    """Return a plan's printed settings simulated on requests of another seed."""
    (knob,) = answer.chosen.knobs
    changes = {
        "serve.clock": f"{knob['clock_hz']!r} Hz", "serve.max_batch": knob["max_batch"], "serve.policy": "fixed",
        "serve.chunk": knob["max_step_tokens"], "serve.seed": seed, "serve.count": count,
    }  # fmt: skip
    if stated.get("serve.rate") is None and stated.get("serve.requests") is None:
        replicas = stated.get("serve.replicas") or 1
        changes["serve.concurrency"] = knob["max_batch"] * replicas
    return simulation.run(stated.with_(changes))
