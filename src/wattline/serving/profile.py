"""What an engine does with a model: which kernels its experts run on, what it captures, how its host works.

    (engine and version, switches, architecture of the chip, scheme of the weights) -> Profile

The rules are data, ``data/engines.toml``, each with its source; what they do to operators is here.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any, Final

from ..core.errors import ScenarioError, nearest
from ..workload.model import Model
from ..workload.operator import Attention, Elementwise, Gemm, GroupedGemm, Operator

ENGINES: Final = ("vllm", "sglang", "trtllm")

# Names that launch files and benchmark tables give them.
_ALIASES: Final = {"trt": "trtllm", "tensorrt-llm": "trtllm", "trt-llm": "trtllm", "vllm-openai": "vllm"}

# Rows that a padded grouped product gives every expert of a rank, less the one it may need (DeepGEMM's alignment).
PAD: Final = 127.0


@dataclass(frozen=True)
class Engine:
    """An engine as launched. `version`: (major, minor). `switches`: NAME=VALUE of environment and arguments."""

    name: str = "vllm"
    version: tuple[int, ...] = (0, 11)
    switches: frozenset[str] = frozenset()

    @staticmethod
    def parse(text: str, switches: Iterable[str] = ()) -> Engine:
        """Read "vllm", "vllm 0.14", "vllm-0.5.4" or "sglang:v0.5.6"; raise ScenarioError naming the engines known."""
        found = re.fullmatch(r"([A-Za-z][A-Za-z-]*[A-Za-z])(?:[\s:=@-]*v?(\d+(?:\.\d+)*)\S*)?", text.strip())
        name = found[1].lower() if found else text
        name = _ALIASES.get(name, name)
        if name not in ENGINES:
            raise ScenarioError(f'serve.engine = {text!r} is not known; {nearest(name, ENGINES)}, as in "vllm 0.11"')
        version = tuple(int(x) for x in found[2].split(".")[:2]) if found and found[2] else _USUAL[name]
        return Engine(name, version, frozenset(switches))


# What measured rows without a column for it ran on.
VLLM: Final = Engine()

_USUAL: Final = {"vllm": (0, 11), "sglang": (0, 5), "trtllm": (1, 2)}


@dataclass(frozen=True)
class Profile:
    """What the rules set, see ``data/engines.toml``."""

    graph: float = 512.0
    experts: str = "grouped"
    narrow: str = ""
    asynchronous: bool = True
    factors: str = ""
    hidden: float = 0.0


@functools.cache
def _rules() -> tuple[Mapping[str, Any], ...]:
    text = (resources.files(__package__) / "data" / "engines.toml").read_text("utf-8")
    return tuple(tomllib.loads(text)["rule"])


def scheme(model: Model) -> str:
    """Return how the experts' weights are scaled: "block", "channel", "fp4", "int4", or "none" for 16 bits.

    fp8 in blocks of 128 x 128 is what those convert who convert attention too (DeepSeek-V3, arXiv 2412.19437,
    section 3.3; Qwen); one scale a channel, attention left in 16 bits, is Meta's recipe (arXiv 2407.21783, 6.2).
    """
    part = "experts" if model.moe else "dense"
    stored = model.weights.of(part)
    if stored == "fp8":
        density = dict(model.weights.density).get(part)  # bytes a weight, its scale's share included
        blocks = density > 1.0 if density else model.weights.of("attention") == "fp8"
        return "block" if blocks else "channel"
    return stored if stored in ("fp4", "int4", "int8") else "none"


@functools.lru_cache(maxsize=512)
def profile(engine: Engine, model: Model, chip: str) -> Profile:
    """Return what `engine` does with `model` on a chip of architecture `chip`."""
    facts = {"engine": engine.name, "chip": chip, "scheme": scheme(model), "chunked": model.chunked}
    out: dict[str, Any] = {}
    for rule in _rules():
        if any(rule.get(key, value) != value for key, value in facts.items()):
            continue
        if "switch" in rule and rule["switch"] not in engine.switches:
            continue
        if "since" in rule and engine.version < _version(rule["since"]):
            continue
        if "before" in rule and engine.version >= _version(rule["before"]):
            continue
        out |= rule["set"]
    return Profile(**out)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(x) for x in text.split("."))


def as_run(operators: tuple[Operator, ...], p: Profile) -> tuple[Operator, ...]:
    """Return a step's operators as the engine launches them."""
    if p.narrow:
        operators = tuple(_narrow(o, p.narrow) for o in operators)
    operators = tuple(_latent(o) for o in operators)
    return _padded(operators) if p.experts == "padded" else operators


def _narrow(o: Operator, arithmetic: str) -> Operator:
    if isinstance(o, Gemm | GroupedGemm) and o.b == "fp4":
        return replace(o, precision=arithmetic, a=arithmetic)
    return o


def _latent(o: Operator) -> Operator:
    """Return new tokens' attention to latents as the kernel that every engine has for it."""
    if isinstance(o, Attention) and o.shared_kv and o.phase == "decode":
        return replace(o, kernel="mla")
    return o


def _padded(operators: tuple[Operator, ...]) -> tuple[Operator, ...]:
    """Give every expert of a rank `PAD` rows more, and what sorts, scales and activates rows the whole buffer.

    The buffer has room for all assignments of all tokens, those of other ranks' experts too.
    """
    grouped = next((o for o in operators if isinstance(o, GroupedGemm) and o.b == "fp8"), None)
    if grouped is None or not grouped.rows:
        return operators
    room = (grouped.tokens * grouped.top_k + PAD * grouped.local_experts) / grouped.rows
    out: list[Operator] = []
    inside = False
    for o in operators:
        if isinstance(o, GroupedGemm):
            inside = not inside  # between the first product and the second
            filled = (o.rows + PAD * o.local_experts) / o.rows
            out += [_scaled(o, room), replace(o, name=f"{o.name}_padded", tokens=filled * o.tokens)]
        elif isinstance(o, Elementwise) and (o.name == "permute" or (inside and o.name == "activation")):
            out.append(replace(o, read=room * o.read, write=room * o.write, ops=room * o.ops))
        else:
            out.append(o)
    return tuple(out)


def _scaled(o: GroupedGemm, room: float) -> Elementwise:
    """Return the pass that finds the scales of a product's rows and stores them in 8 bits."""
    values = room * o.rows * o.k
    return Elementwise(
        name="expert_scale", precision="fp32", repeat=o.repeat, read=2.0 * values, write=values, ops=4.0 * values
    )


def padded(operator: Operator) -> bool:
    """Whether an operator is a grouped product over padded rows."""
    return isinstance(operator, GroupedGemm) and operator.name.endswith("_padded")
