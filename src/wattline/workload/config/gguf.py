"""The header of a GGUF file: sizes under llama.cpp's names, and every tensor with its type (ggml-org/ggml,
docs/gguf.md).

Only the header is read, never the weights.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final

from ...core.errors import InputError
from ..model import Model
from ..shapes import Weights

# Values per block and bytes per block of ggml's types, by number (ggml/src/ggml-common.h).
_TYPES: Final = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36), 10: (256, 84),
    11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66), 17: (256, 74),
    18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2),
    26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17),
}  # fmt: skip
# Plain values by number: struct format.
_PLAIN: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
# A broken file should not ask for more than any header has.
_MOST: Final = 1 << 26

# llama.cpp's architectures whose name is another than the model type.
_KINDS: Final = {
    "qwen2moe": "qwen2_moe", "qwen3moe": "qwen3_moe", "gemma3": "gemma3_text", "deepseek2": "deepseek_v3",
    "gpt-oss": "gpt_oss", "glm4moe": "glm4_moe", "command-r": "cohere", "gptneox": "gpt_neox", "llama4": "llama4_text",
    "qwen3vl": "qwen3_vl_text", "qwen2vl": "qwen2_vl_text", "phi2": "phi",
}  # fmt: skip
_NAMES: Final = {
    "embedding_length": "hidden_size", "block_count": "num_hidden_layers", "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads", "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim", "attention.sliding_window": "sliding_window", "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok", "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_count": "n_shared_experts", "leading_dense_block_count": "first_k_dense_replace",
    "attention.kv_lora_rank": "kv_lora_rank", "attention.q_lora_rank": "q_lora_rank", "vocab_size": "vocab_size",
    "expert_shared_feed_forward_length": "shared_expert_intermediate_size", "rope.dimension_count": "rotary_dim",
}  # fmt: skip
# Parts of tensor names -> part of the model, the first that is found.
_PARTS: Final = (
    ("norm", "norms"), ("_exps", "experts"), ("_shexp", "shared"), ("ffn_gate_inp", "router"), ("ssm_", "recurrent"),
    ("attn", "attention"), ("ffn", "dense"), ("token_embd", "embedding"), ("output.", "head"),
)  # fmt: skip


@dataclass(frozen=True)
class Header:
    """What a header says: metadata by key, and for each tensor (name, values, bytes)."""

    metadata: Mapping[str, Any]
    tensors: tuple[tuple[str, float, float], ...]


def header(path: Path) -> Header:
    """Read the header of a GGUF file."""
    try:
        with path.open("rb") as file:
            return _header(file, path)
    except OSError as error:
        raise InputError(f"model file {str(path)!r} cannot be read: {error.strerror}") from None
    except (struct.error, UnicodeDecodeError, MemoryError, OverflowError):
        raise InputError(
            f"model file {str(path)!r} ends within its header, or is no GGUF file; fetch it again"
        ) from None


def _header(file: BinaryIO, path: Path) -> Header:
    magic, version = file.read(4), _one(file, "I")
    if magic != b"GGUF" or version not in (2, 3):
        raise InputError(f"model file {str(path)!r} is not GGUF of version 2 or 3; give a config.json")
    tensors, keys = _one(file, "Q"), _one(file, "Q")
    if max(tensors, keys) > _MOST:
        raise struct.error
    metadata = {_text(file): _value(file, _one(file, "I")) for _ in range(keys)}
    return Header(metadata, tuple(_tensor(file, path) for _ in range(tensors)))


def _tensor(file: BinaryIO, path: Path) -> tuple[str, float, float]:
    name, count = _text(file), 1.0
    for _ in range(_one(file, "I")):
        count *= _one(file, "Q")
    kind = _one(file, "I")
    _one(file, "Q")
    if kind not in _TYPES:
        raise InputError(f"model file {str(path)!r}: tensor {name!r} has type {kind}, which is not known")
    values, size = _TYPES[kind]
    return name, count, count / values * size


def _one(file: BinaryIO, form: str) -> Any:
    return struct.unpack("<" + form, file.read(struct.calcsize("<" + form)))[0]


def _text(file: BinaryIO) -> str:
    length = _one(file, "Q")
    if length > _MOST:
        raise struct.error
    return file.read(length).decode("utf-8")


def _value(file: BinaryIO, kind: int) -> Any:
    if kind in _PLAIN:
        return _one(file, _PLAIN[kind])
    if kind == _STRING:
        return _text(file)
    if kind != _ARRAY:
        raise struct.error
    inner, count = _one(file, "I"), _one(file, "Q")
    if count > _MOST:
        raise struct.error
    if inner in _PLAIN:
        return list(struct.unpack(f"<{count}{_PLAIN[inner]}", file.read(count * struct.calcsize("<" + _PLAIN[inner]))))
    return [_value(file, inner) for _ in range(count)]


def config(found: Header) -> dict[str, Any]:
    """Return the header's sizes under Hugging Face's names."""
    kind = str(found.metadata.get("general.architecture", ""))
    out: dict[str, Any] = {"model_type": _KINDS.get(kind, kind)}
    for key, value in found.metadata.items():
        name = _NAMES.get(key.removeprefix(f"{kind}."))
        if name is not None:
            out[name] = value
    if "vocab_size" not in out and isinstance(tokens := found.metadata.get("tokenizer.ggml.tokens"), list):
        out["vocab_size"] = len(tokens)
    if "kv_lora_rank" in out:  # keys are told with their rotary part
        rope = int(found.metadata.get(f"{kind}.rope.dimension_count", 64))
        whole = int(found.metadata.get(f"{kind}.attention.key_length_mla", out.get("head_dim", 192)))
        value = found.metadata.get(
            f"{kind}.attention.value_length_mla", found.metadata.get(f"{kind}.attention.value_length")
        )
        out |= {"qk_rope_head_dim": rope, "qk_nope_head_dim": whole - rope, "v_head_dim": value or 128}
        out.pop("head_dim", None)
    names = {name for name, _, _ in found.tensors}
    out["tie_word_embeddings"] = "output.weight" not in names
    return out


def stored(model: Model, found: Header) -> Model:
    """Return `model` with the precision and bytes that the tensors have; where they count otherwise, that is told."""
    sizes, values = Counter[str](), Counter[str]()
    for name, count, size in found.tensors:
        part = next((part for word, part in _PARTS if word in name), "norms")
        sizes[part] += size  # type: ignore[assignment]
        values[part] += count  # type: ignore[assignment]
    mean = {part: sizes[part] / values[part] for part in values if values[part]}
    plain = {part: "int4" if size < 0.8 else "int8" if size < 1.5 else "bf16" for part, size in mean.items()}
    held = {part: plain.get(part, "bf16") for part in ("attention", "recurrent", "dense", "experts", "shared")}
    ends = {part: plain.get(part, "bf16") for part in ("router", "norms", "embedding", "head")}
    weights = Weights(**held, **ends, density=tuple(sorted(mean.items())))
    total = float(sum(values.values()))
    doubts = model.doubts
    if total and abs(model.parameters / total - 1) > 0.01:
        doubts = (
            *doubts,
            f"its tensors hold {total / 1e9:.3g} B values, its header's sizes {model.parameters / 1e9:.3g} B",
        )
    return replace(model, weights=weights, doubts=doubts, source="GGUF header")
