"""Small studies of designs, fast enough to be solved in tests."""

from __future__ import annotations

from typing import Any

from wattline.scenario.design_file import Study, parse_study

SERVING: dict[str, Any] = {
    "model": {"name": "llama-3.1-8b"},
    "serve": {"rate": "8 req/s", "prompt": 1024, "output": 256, "ttft": "500 ms", "tpot": "50 ms"},
}
TRAINING: dict[str, Any] = {
    "model": {"name": "llama-3.1-8b"},
    "train": {"tokens": "10G", "global_batch": 32, "tensor": 2, "pipeline": 2},
}
VARY: dict[str, Any] = {
    "level.l2.capacity": ["25 MB", "50 MB", "100 MB"],
    "level.hbm.memory": ["hbm2e", "hbm3", "hbm4"],
    "fanout.cores.size": [100, 132, 144],
}


def study(works: list[dict[str, Any]] | None = None, vary: dict[str, Any] | None = None, **design: Any) -> Study:
    """Return a study on one H100-like chip of serving an 8B model, or of other works."""
    data = {
        "hardware": {"chip": "h100-like", "chips_per_node": 1},
        "design": {"vary": VARY if vary is None else vary, "work": works or [{"name": "chat", **SERVING}], **design},
    }
    return parse_study(data)
