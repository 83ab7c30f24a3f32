"""How the weights of a checkpoint are stored, matrix by matrix: what config.json and the files beside it say.

A table names a scheme (how many bits, how many values share a factor) and modules that it does not touch, or that
another
scheme touches. Each matrix of each layer is looked up by the names modules go by; a part of a layer takes the precision
that most of its weights have, and its mean bytes per weight.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final

from ..core.errors import InputError, nearest
from .model import Layer, Model
from .modules import Listed, Named, matrices_by_name
from .schemes import Scheme, scheme, scheme_of_algorithm
from .shapes import INNER, PARTS, Weights, stored_bytes

if TYPE_CHECKING:
    from .config.facts import Facts

# torch dtype -> precision. Weights published in fp32 are loaded as they are.
DTYPES: Final = {
    "bfloat16": "bf16", "float16": "fp16", "float32": "fp32", "half": "fp16", "float": "fp32", "float64": "fp64",
    "float8_e4m3fn": "fp8", "float8_e5m2": "fp8", "bf16": "bf16", "fp16": "fp16", "fp32": "fp32", "auto": "bf16",
}  # fmt: skip

# Keys that list modules left as they are.
_KEPT: Final = (
    "ignore", "modules_to_not_convert", "ignored_layers", "exclude_modules", "exclude", "llm_int8_skip_modules",
    "unconverted_modules", "skip_modules",
)  # fmt: skip


@dataclass(frozen=True)
class _Table:
    """What a quantisation table says: one scheme for all linear layers, others for some, and what is left out."""

    linear: Scheme | None
    kept: Listed
    groups: tuple[tuple[Listed, Scheme], ...] = ()
    only: Mapping[str, Scheme] | None = None
    experts: Scheme | None = None
    head: bool = False
    kv: str = ""


def weights(model: Model, x: Facts, beside: Mapping[str, Any]) -> Model:
    """Return `model` with the stored precision of every part, as its config and what lies beside it say.

    `beside`: the content of hf_quant_config.json, or empty.
    """
    dtype = str(x.stated.get("torch_dtype") or x.stated.get("dtype") or "")
    dtype = (dtype or str(x.outer.get("torch_dtype") or x.outer.get("dtype") or "bfloat16")).removeprefix("torch.")
    if dtype not in DTYPES:
        raise InputError(f"model {x.name!r}: torch_dtype = {dtype!r} is not known; {nearest(dtype, DTYPES)}")
    base = DTYPES[dtype]
    table = _table(x, beside)
    if table is None:
        return replace(model, weights=Weights.all(base))
    return _spread(model, table, base)


def _table(x: Facts, beside: Mapping[str, Any]) -> _Table | None:
    stated = x.stated.get("quantization_config") or x.outer.get("quantization_config") or x.outer.get("quantization")
    table: dict[str, Any] = dict(stated) if isinstance(stated, Mapping) else {}
    inner = beside.get("quantization")
    if isinstance(inner, Mapping):  # ModelOpt's own file says more than what a config repeats of it
        table = {**table, **inner, "quant_method": table.get("quant_method", "modelopt")}
    if not table:
        return None
    kept = [str(item) for key in _KEPT for item in _list(table.get(key))]
    for key, change in _dict(table.get("dynamic")).items():  # GPTQModel: "-:regex" leaves out
        if str(key).startswith("-:"):
            kept.append("re:" + str(key)[2:])
        elif isinstance(change, Mapping):
            x.doubt(f"quantization_config.dynamic gives {key!r} bits of its own, which are not counted")
    kv = _kv(table)
    groups = tuple((Listed(_list(g.get("targets")) or ["Linear"]), s) for g, s in _groups(table, x.name))
    algorithms = _dict(table.get("quantized_layers"))
    if algorithms:
        only = {name: _algorithm(entry, x.name) for name, entry in algorithms.items()}
        rest = scheme(table, x.name) if str(table.get("quant_method")) == "fp8" else None
        return _Table(rest, Listed(kept), only=only, kv=kv)
    of_linear = next((s for g, s in groups if "Linear" in g.plain), None)
    linear = of_linear if groups else scheme(table, x.name)
    expert = x.stated.get("expert_dtype")
    experts = scheme_of_algorithm("MXFP4") if expert in ("fp4", "mxfp4") else None
    return _Table(linear, Listed(kept), groups, None, experts, bool(table.get("lm_head")), kv)


def _list(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [value]
    return list(value) if isinstance(value, list | tuple) else []


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _groups(table: Mapping[str, Any], name: str) -> list[tuple[Mapping[str, Any], Scheme]]:
    out = []
    for group in _dict(table.get("config_groups")).values():
        if isinstance(group, Mapping) and isinstance(group.get("weights"), Mapping):
            found = scheme({**table, "config_groups": {"group_0": group}, "quant_method": "compressed-tensors"}, name)
            if found is not None:
                out.append((group, found))
    return out


def _algorithm(entry: Any, name: str) -> Scheme:
    algorithm = entry.get("quant_algo") if isinstance(entry, Mapping) else entry
    return scheme_of_algorithm(str(algorithm), _dict(entry).get("group_size"), name)


def _kv(table: Mapping[str, Any]) -> str:
    """Precision of the cache that the checkpoint brings scales for, "" where it says none."""
    algorithm = str(table.get("kv_cache_quant_algo") or "").upper()
    if algorithm:
        return {"FP8": "fp8", "NVFP4": "fp4", "INT8": "int8"}.get(algorithm, "")
    bits = _dict(table.get("kv_cache_scheme")).get("num_bits")
    floating = _dict(table.get("kv_cache_scheme")).get("type", "float") == "float"
    return {(8, True): "fp8", (8, False): "int8", (4, True): "fp4"}.get((bits, floating), "") if bits else ""


def _spread(model: Model, table: _Table, base: str) -> Model:
    """Look every matrix up and give each layer the precision of its parts."""
    found: list[Weights] = []
    memory: dict[tuple[Any, ...], Weights] = {}
    for place, layer in enumerate(model.pattern):
        key = (layer, table.kept.signature(place), _only_signature(table, place))
        if key not in memory:
            memory[key] = _of_layer(model, layer, place, table, base)
        found.append(memory[key])
    common = Counter(found).most_common(1)[0][0]
    if table.head and table.linear:
        common = replace(common, head=table.linear.precision, density=_with(common.density, "head", table.linear.bytes))
        found = [w if w != common else common for w in found]
    pattern = tuple(
        layer if _same(w, common) else Layer(layer.mixer, layer.mlp, (*layer.shape, ("weights", w)))
        for layer, w in zip(model.pattern, found, strict=True)
    )
    return replace(model, pattern=pattern, weights=common, kv=table.kv or model.kv)


def _same(one: Weights, other: Weights) -> bool:
    return all(one.of(p) == other.of(p) and one.bytes(p) == other.bytes(p) for p in INNER)


def _only_signature(table: _Table, place: int) -> Any:
    return place if table.only is not None else None


def _with(density: tuple[tuple[str, float], ...], part: str, value: float) -> tuple[tuple[str, float], ...]:
    return tuple(sorted({**dict(density), part: value}.items()))


def _of_layer(model: Model, layer: Layer, place: int, table: _Table, base: str) -> Weights:
    held: dict[str, Counter[tuple[str, float]]] = {}
    for named in matrices_by_name(model, layer):
        chosen = _scheme_of(named, place, table)
        value = (chosen.precision, chosen.bytes) if chosen else (base, stored_bytes(base))
        held.setdefault(named.part, Counter())[value] += named.parameters  # type: ignore[assignment]
    plain = dict.fromkeys((f.name for f in fields(Weights) if f.name in PARTS), base)
    density: dict[str, float] = {}
    for part, counts in held.items():
        total = sum(counts.values())
        if not total:
            continue
        by_precision: Counter[str] = Counter()
        for (precision, _), n in counts.items():
            by_precision[precision] += n
        plain[part] = by_precision.most_common(1)[0][0]
        mean = sum(size * n for (_, size), n in counts.items()) / total
        if abs(mean - stored_bytes(plain[part])) > 1e-12:
            density[part] = mean
    return Weights(**plain, density=tuple(sorted(density.items())))


def _scheme_of(named: Named, place: int, table: _Table) -> Scheme | None:
    if named.part in ("router", "norms", "embedding", "head"):
        return None
    if table.only is not None:
        names = named.full(place)
        for name in names:
            if (hit := _prefixed(table.only, name)) is not None:
                return hit
        if table.linear is None or table.kept.hit(named, place):
            return table.linear if table.linear and named.part != "experts" else None
        return table.linear
    if table.kept.hit(named, place):
        return None
    if table.experts is not None and named.part == "experts":
        return table.experts
    for targets, own in table.groups:
        if "Linear" not in targets.plain and targets.hit(named, place):
            return own
    return table.linear


def _prefixed(table: Mapping[str, Scheme], name: str) -> Scheme | None:
    """Scheme of a module or of one that holds it."""
    while name:
        if name in table:
            return table[name]
        name = name.rpartition(".")[0]
    return None
