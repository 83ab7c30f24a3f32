"""Tests for `wattline.serving.closed_loop`: benchmarks with as many requests at once as stated."""

from __future__ import annotations

from typing import Any

import pytest

from wattline.serving import closed_loop
from wattline.source.roofline.source import Roofline

BENCH: dict[str, Any] = {
    "hw": "b200", "framework": "sglang", "model": "deepseek-r1", "precision": "fp4", "isl": 1024, "osl": 1024, "conc": 8,
    "tp": 8, "ep": 8, "dp_attention": "false",
}  # fmt: skip


@pytest.mark.parametrize(("requests", "steps"), [(8, 10.0), (16, 30.0)])
def test_public_recipes_say_how_a_server_was_launched(requests: int, steps: float) -> None:
    """SGLang on B200 looked for new requests every tenth step, from sixteen requests on every thirtieth, cache in fp8."""
    row = closed_loop.row_of({**BENCH, "conc": requests}, 0)
    assert (row.receive, row.replica.precision.kv) == (steps, "fp8")
    assert closed_loop.row_of({**BENCH, "hw": "h200", "precision": "fp8"}, 0).receive == 1.0


def test_a_stated_cache_is_not_the_recipe_s() -> None:
    """What a table says of its own launch goes before what the public recipe says."""
    assert closed_loop.row_of({**BENCH, "kv_cache_dtype": "bf16"}, 0).replica.precision.kv == "bf16"


def test_requests_wait_half_the_steps_between_two_looks() -> None:
    """At thirty steps a look, the first token comes fourteen and a half mean steps later than at one."""
    often = closed_loop.row_of({**BENCH, "conc": 16}, 0)
    found = closed_loop.predict([often, closed_loop.replace(often, receive=1.0)], Roofline())
    later = found["median_ttft"][0] - found["median_ttft"][1]
    assert later == pytest.approx(14.5 * found["median_tpot"][0])
