"""What would work where work does not fit the hardware it was given: changes that were tried, the smallest first.

Every change named in a message has been applied and found to fit; nothing is guessed from one number alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import product
from typing import Any, Final

from ..core.errors import WattlineError
from ..hardware import catalog as hardware
from ..workload.fits import check_serving, check_training
from .serving_job import serving_job
from .stated import Scenario, cluster_of, model_of
from .training_job import training

Changes = dict[str, Any]

# Ends of messages that name a change, which one that was tried replaces.
_HINTS: Final = ("; try ", "; no change of parallelism")
_ASSIGN: Final = re.compile(r"\b((?:serve|train|hardware)\.\w+) = \"?([\w.%/ -]+?)\"?(?= and |[,;:)]| or |$| \()")
# Changes tried before giving up: each costs about a millisecond.
_MOST: Final = 600
_DEGREES: Final = (1, 2, 4, 8, 16, 32, 64)


def advised(scenario: Scenario, error: WattlineError) -> WattlineError:
    """Return `error` with a change that was tried and fits in the place of its own hint, where that does not."""
    text = str(error)
    with suppress(WattlineError):
        if (own := stated_hint(text)) and _works(scenario, own):
            return error
        found = fitting(scenario)
        start = min((at for hint in _HINTS if (at := text.find(hint)) >= 0), default=len(text))
        end = (
            f"try {words(found)}"
            if found
            else f"no layout on up to {_chips(scenario)} chips was found that fits, try a smaller model"
        )
        return type(error)(f"{text[:start]}; {end}")
    return error


def stated_hint(message: str) -> Changes:
    """Return what a message says to try: the assignments after "try", or the first value for the key it names."""
    said = re.search(r"; try (.*)$", message)
    if said is None or " devices" in said[1]:
        return {}
    found = {k: v.strip() for k, v in _ASSIGN.findall(said[1] + ";")}
    named, first = re.match(r"\W*((?:serve|train|hardware)\.\w+) = ", message), re.match(r"['\"]?([\w.-]+)", said[1])
    return found or ({named[1]: first[1]} if named and first else {})


def _works(scenario: Scenario, changes: Changes) -> bool:
    with suppress(WattlineError):
        return _fits(scenario.with_(changes))
    return False


def words(changes: Changes) -> str:
    """Write changes as one would type them."""
    return " and ".join(f'{k} = "{v}"' if isinstance(v, str) else f"{k} = {v}" for k, v in changes.items())


def fitting(scenario: Scenario) -> Changes | None:
    """Return the smallest change of layout, precision or hardware under which the work fits."""
    tried = _serving(scenario) if scenario.has("serve") else _training(scenario)
    for number, changes in enumerate(tried):
        if number >= _MOST:
            return None
        if _works(scenario, changes):
            return changes
    return None


def _fits(scenario: Scenario) -> bool:
    if scenario.has("serve"):
        job, cluster = serving_job(scenario), cluster_of(scenario)
        r = job.replica
        check_serving(
            r.model, r.parallel, cluster.chip["memory.hbm.capacity"], job.load.entering + job.load.output, 1.0,
            precision=r.precision.weights, kv=r.precision.kv, step_tokens=r.chunk, usable=r.memory,
        )  # fmt: skip
        return True
    train, cluster = training(scenario)
    check_training(
        train.model, train.parallel, train.sequence, train.microbatch, train.microbatches,
        cluster.chip["memory.hbm.capacity"], recompute=train.recompute, flash=train.flash, schedule=train.schedule,
    )  # fmt: skip
    return True


def _places(scenario: Scenario) -> Iterator[tuple[int, Changes]]:
    """Numbers of chips with what says so: as stated, fewer in a node, then more in it, then more nodes."""
    cluster = cluster_of(_on_one_node(scenario))
    stated = cluster_of(scenario).devices if _placed(scenario) else 0
    if stated:
        yield stated, {}
    most = (
        int(hardware.default_node(cluster.chip)["chips"])
        if scenario.get("hardware.node") is None
        else cluster.chips_per_node
    )
    inside = [n for n in _DEGREES if n <= most]
    for n in sorted(inside, key=lambda n: (abs(n - stated), n)):
        if n != stated:
            yield n, {"hardware.chips_per_node": n, "hardware.nodes": 1}
    for nodes in (2, 4, 8, 16, 32, 64, 128):
        if nodes * most <= _chips(scenario) or nodes == 2:
            yield nodes * most, {"hardware.chips_per_node": most, "hardware.nodes": nodes}


def _chips(scenario: Scenario) -> int:
    """Most chips that are looked at: one replica that serves, or a job that trains."""
    return 64 if scenario.has("serve") else 1024


def _placed(scenario: Scenario) -> bool:
    with suppress(WattlineError):
        return cluster_of(scenario).devices > 0
    return False


def _on_one_node(scenario: Scenario) -> Scenario:
    """The same on one chip of one node, where the stated number of chips has no node."""
    return scenario if _placed(scenario) else scenario.with_({"hardware.chips_per_node": 1, "hardware.nodes": 1})


def _changed(scenario: Scenario, changes: Changes) -> Changes:
    """Leave out what is so already."""
    return {k: v for k, v in changes.items() if scenario.get(k) != v}


def _layouts(scenario: Scenario, n: int) -> list[dict[str, int]]:
    """Ways to serve one replica on `n` chips, those nearest to what was asked first."""
    asked = scenario["serve.tensor"]
    experts = model_of(scenario).moe
    out: list[dict[str, int]] = [
        {"serve.tensor": t, "serve.data": n // t, "serve.expert": e}
        for t in _DEGREES
        if n % t == 0
        for e in sorted({1, n if experts else 1})
    ]
    return sorted(out, key=lambda c: (abs(c["serve.tensor"] - asked), c["serve.data"], c["serve.expert"]))


def _serving(scenario: Scenario) -> Iterator[Changes]:
    for precision in (None, "fp8", "fp4"):
        narrow = {"serve.precision": precision} if precision else {}
        for n, place in _places(scenario):
            for layout in _layouts(scenario, n):
                yield _changed(scenario, {**layout, **place, **narrow})
    for n, place in _places(scenario):
        for layout in _layouts(scenario, n):
            yield _changed(scenario, {**layout, **place, "serve.chunk": 2048, "serve.precision": "fp4"})


def _training(scenario: Scenario) -> Iterator[Changes]:
    as_asked: Changes = {key: scenario[key] for key in ("train.microbatch", "train.recompute", "train.zero")}
    light: Changes = {"train.microbatch": 1, "train.recompute": "full", "train.zero": max(1, scenario["train.zero"])}
    tensor, pipeline = scenario["train.tensor"], scenario["train.pipeline"]
    experts = (1, 8) if model_of(scenario).moe else (1,)
    for n, place in _places(scenario):
        layouts = sorted(
            ((t, p, e) for t in _DEGREES[:4] for p in _DEGREES[:5] for e in experts if n % (t * p) == 0),
            key=lambda c: (abs(c[0] - tensor) + abs(c[1] - pipeline), c),
        )
        for kept, (t, p, e) in product((as_asked, light), layouts):
            layout = {"train.tensor": t, "train.pipeline": p, "train.data": n // (t * p), "train.expert": e}
            yield _changed(scenario, {**layout, **place, **kept})
