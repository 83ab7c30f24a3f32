"""Hugging Face config.json -> Model: one table of the names that the same fact goes by.

Families name the same fact differently (`hidden_size`, `n_embd`, `d_model`) and leave out what
equals their class default; `ALIASES` and `DEFAULTS` hold both in one place.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ..core.errors import InputError
from .model import Latent, Layer, Model, Recurrent, hybrid
from .quantization import weights

Config = Mapping[str, Any]

# What a fact is called, most common name first. A dot reaches into a nested table.
ALIASES: Final[dict[str, tuple[str, ...]]] = {
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "hidden": ("hidden_size", "n_embd", "d_model", "hidden_dim", "model_dim", "n_embed"),
    "heads": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    "kv_heads": (
        "num_key_value_heads",
        "num_kv_heads",
        "n_head_kv",
        "multi_query_group_num",
        "attn_config.kv_n_heads",
        "num_query_groups",
        "num_kv_head",
    ),
    "head_dim": ("head_dim", "attention_head_dim", "kv_channels"),
    "value_dim": ("v_head_dim_plain",),
    "ffn": (
        "intermediate_size",
        "ffn_dim",
        "n_inner",
        "ffn_hidden_size",
        "ffn_config.ffn_hidden_size",
        "inner_size",
        "intermediate_dim",
    ),
    "vocab": ("vocab_size", "padded_vocab_size", "n_vocab"),
    "positions": ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length"),
    "experts": (
        "n_routed_experts",
        "num_local_experts",
        "num_experts",
        "moe_num_experts",
        "ffn_config.moe_num_experts",
        "n_experts",
        "num_moe_experts",
    ),
    "top_k": (
        "num_experts_per_tok",
        "experts_per_token",
        "num_selected_experts",
        "moe_top_k",
        "moe_k",
        "num_experts_per_token",
        "ffn_config.moe_top_k",
        "moe_router_topk",
        "moe_topk",
    ),
    "expert_ffn": (
        "moe_intermediate_size",
        "expert_ffn_hidden_size",
        "moe_ffn_hidden_size",
        "expert_dim",
    ),
    "shared_experts": (
        "n_shared_experts",
        "num_shared_experts",
        "num_shared_expert",
        "moe_num_shared_experts",
    ),
    "shared_ffn": (
        "shared_expert_intermediate_size",
        "moe_shared_expert_intermediate_size",
        "shared_intermediate_size",
    ),
    "window": (
        "sliding_window",
        "attention_chunk_size",
        "sliding_window_size",
        "local_window_size",
    ),
    "first_dense": ("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index"),
    "moe_every": (
        "decoder_sparse_step",
        "interleave_moe_layer_step",
        "moe_layer_interval",
        "expert_layer_period",
    ),
    "activation": (
        "hidden_act",
        "hidden_activation",
        "activation_function",
        "activation",
        "mlp_hidden_act",
    ),
}

# Values of the family's configuration class where a config.json may leave the key out
# (huggingface/transformers, src/transformers/models/*/configuration_*.py), and what its modelling
# code fixes: `plain` feed-forward of two matrices, `biased` linear layers, `layernorm`, `table` of
# learned positions, `shared_norm` one norm before a parallel block.
_PLAIN: Final = {"plain": True, "layernorm": True}
_GPT: Final = {**_PLAIN, "biased": True, "table": True, "tie_word_embeddings": True}
_GEMMA: Final = {"head_dim": 256, "tie_word_embeddings": True}
DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    "gpt2": _GPT,
    "gpt_bigcode": _GPT,
    "opt": {**_GPT, "extra_positions": 2},
    "gpt_neo": {**_GPT, "qkv_bias": False},
    "bloom": {**_PLAIN, "biased": True, "tie_word_embeddings": True, "alibi": True},
    "mpt": {**_PLAIN, "tie_word_embeddings": True, "alibi": True},
    "falcon": {**_PLAIN, "tie_word_embeddings": True, "shared_norm": True},
    "RefinedWeb": {**_PLAIN, "tie_word_embeddings": True},
    "RefinedWebModel": {**_PLAIN, "tie_word_embeddings": True, "shared_norm": True},
    "gpt_neox": {**_PLAIN, "biased": True, "parallel": True},
    "gptj": {**_PLAIN, "shared_norm": True, "mlp_bias": True},
    "phi": {**_PLAIN, "biased": True, "shared_norm": True},
    "stablelm": {"layernorm": True},
    "starcoder2": {**_PLAIN, "biased": True, "tie_word_embeddings": True},
    "nemotron": {"plain": True, "layernorm": True},
    "nemotron_h": {"plain": True},
    "qwen2": {"qkv_bias": True, "use_sliding_window": False},
    "qwen2_moe": {"qkv_bias": True, "use_sliding_window": False, "shared_gate": True},
    "qwen2_vl_text": {"qkv_bias": True, "use_sliding_window": False},
    "qwen2_5_vl": {"qkv_bias": True, "use_sliding_window": False},
    "qwen2_5_vl_text": {"qkv_bias": True, "use_sliding_window": False},
    "qwen3": {"qk_norm": True, "use_sliding_window": False, "head_dim": 128},
    "qwen3_moe": {"qk_norm": True, "use_sliding_window": False},
    "qwen3_vl_text": {"qk_norm": True},
    "qwen3_vl_moe_text": {"qk_norm": True},
    "qwen3_next": {"qk_norm": True, "attn_output_gate": True, "shared_gate": True, "full_attention_interval": 4},
    "gemma": _GEMMA,
    "gemma2": {**_GEMMA, "norms": 4, "sliding_window_pattern": 2},
    "gemma3_text": {
        **_GEMMA, "norms": 4, "sliding_window_pattern": 6, "qk_norm": True, "num_attention_heads": 8,
        "num_key_value_heads": 4, "vocab_size": 262208, "sliding_window": 4096,
    },
    "phi3": {},
    "cohere": {"tie_word_embeddings": True, "shared_norm": True},
    "cohere2": {"tie_word_embeddings": True, "shared_norm": True, "sliding_window_pattern": 4},
    "gpt_oss": {"expert_bias": True, "attention_bias": True, "sliding_window_pattern": 2},
    "llama4_text": {"no_rope_layer_interval": 4},
    "deepseek_v2": {"first_k_dense_replace": 0},
    "dbrx": {"layernorm": True},
    "grok-1": {"norms": 4},
    "glm4": {"norms": 4},
    "chatglm": {"qkv_bias": True},
    "jamba": {"attn_layer_period": 8, "attn_layer_offset": 4, "expert_layer_offset": 1},
}  # fmt: skip

# A typing error should not build a pattern that fills the memory.
MOST_LAYERS: Final = 10_000

# Values of `layer_types` -> mixer.
_TYPES: Final = {
    "full_attention": "full", "attention": "full", "global": "full", "hybrid": "full",
    "sliding_attention": "window", "chunked_attention": "window", "local_attention": "window",
    "linear_attention": "recurrent", "mamba": "recurrent", "mamba2": "recurrent",
}  # fmt: skip


def read(config: Config | str | Path, name: str = "") -> Model:
    """Return the Model of a config.json, given as a dictionary, a file or its folder."""
    if not isinstance(config, Mapping):
        path = Path(config)
        name = name or (path.parent.name if path.name == "config.json" else path.stem)
        config = _load(path)
    facts = _Facts(config, name or str(config.get("_name_or_path") or config.get("model_type") or "model"))
    return _model(facts)


def _load(path: Path) -> Config:
    if path.is_dir():
        path = path / "config.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"model config {str(path)!r} does not exist; give the path of a config.json") from None
    except OSError as error:
        raise InputError(f"model config {str(path)!r} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"model config {str(path)!r} is not JSON: {error}; give a Hugging Face config.json") from None
    if not isinstance(content, dict):
        raise InputError(f"model config {str(path)!r} holds a {type(content).__name__}, not a table of keys")
    return content


class _Facts:
    """The keys of one config.json, read by what they mean."""

    def __init__(self, config: Config, name: str) -> None:
        self.name = name
        outer = config
        # Multimodal configs nest the language model.
        for key in ("text_config", "llm_config", "language_config", "thinker_config"):
            if isinstance(config.get(key), Mapping):
                config = config[key]
        if isinstance(config.get("text_config"), Mapping):
            config = config["text_config"]
        self.kind = str(config.get("model_type") or outer.get("model_type") or "")
        # A null leaves the class default in force, except that it switches a window off.
        stated = {key: v for key, v in config.items() if v is not None or key == "sliding_window"}
        self.config: dict[str, Any] = {**DEFAULTS.get(self.kind, {}), **stated}
        quantised = config.get("quantization_config") or outer.get("quantization_config")
        self.quantization: Config = quantised if isinstance(quantised, Mapping) else {}
        self.dtype = str(config.get("torch_dtype") or config.get("dtype") or outer.get("torch_dtype") or "bfloat16")
        if outer is not config and "tie_word_embeddings" in outer and "tie_word_embeddings" not in config:
            self.config["tie_word_embeddings"] = outer["tie_word_embeddings"]
        if config.get("is_encoder_decoder"):
            raise InputError(f"model {name!r}: encoder-decoder models are not supported; give a decoder-only one")

    def raw(self, key: str, default: Any = None) -> Any:
        """Value under `key`, which may reach into a nested table with a dot."""
        table, _, rest = key.partition(".")
        value = self.config.get(table)
        if rest:
            value = value.get(rest) if isinstance(value, Mapping) else None
        return default if value is None else value

    def maybe(self, fact: str) -> int:
        """Whole number known under any alias of `fact`, 0 if absent."""
        for key in ALIASES[fact]:
            value = self.raw(key)
            if isinstance(value, list) and value and all(v == value[0] for v in value):
                value = value[0]  # some configs list one value per layer
            if value is not None and value is not False:
                return self.whole(key, value)
        return 0

    def need(self, fact: str) -> int:
        """As `maybe`, but the fact must be there."""
        value = self.maybe(fact)
        if not value:
            known = ", ".join(ALIASES[fact])
            raise InputError(
                f"model {self.name!r}: config.json has no {ALIASES[fact][0]!r}; any of these would do: {known}"
            )
        return value

    def whole(self, key: str, value: Any) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise InputError(f"model {self.name!r}: {key} = {value!r} must be a whole number of at least 0")
        return value

    def number(self, key: str, default: int = 0) -> int:
        return self.whole(key, self.raw(key, default))

    def yes(self, key: str, default: bool = False) -> bool:
        return bool(self.raw(key, default))


def _model(x: _Facts) -> Model:
    hidden, heads = x.need("hidden"), x.maybe("heads")
    pattern = _pattern(x)
    attends = any(layer.mixer in ("full", "window") for layer in pattern)
    heads = x.need("heads") if attends else heads
    experts = x.maybe("experts") if any(layer.mlp == "experts" for layer in pattern) else 0
    biased = x.yes("biased")
    qkv_bias = x.raw("qkv_bias", x.raw("add_qkv_bias", x.raw("use_qkv_bias", x.raw("attention_bias", biased))))
    latent = _latent(x)
    shared = x.maybe("shared_ffn") or x.maybe("shared_experts") * (x.maybe("expert_ffn") or x.maybe("ffn"))
    if x.kind == "llama4_text":  # one shared expert as wide as a routed one, not in the config
        shared = x.need("ffn")
    return Model(
        name=x.name,
        pattern=pattern,
        hidden=hidden,
        heads=heads,
        kv_heads=_kv_heads(x, heads),
        head_dim=_head_dim(x, hidden, heads),
        vocab=x.need("vocab"),
        ffn=_ffn(x, hidden) if any(layer.mlp == "dense" for layer in pattern) else 0,
        ffn_matrices=2 if _plain(x) else 3,
        tied=x.yes("tie_word_embeddings"),
        positions=x.maybe("positions") + x.number("extra_positions") if x.yes("table") else 0,
        rotary=not (x.yes("table") or x.yes("alibi")),
        window=x.maybe("window") if any(layer.mixer == "window" for layer in pattern) else 0,
        norms=_norms(x),
        norm_bias=x.yes("layernorm"),
        qk_norm=x.yes("qk_norm", x.yes("use_qk_norm")),
        qkv_bias=bool(qkv_bias),
        out_bias=x.yes("attention_out_bias", biased or (x.yes("attention_bias") and x.kind != "qwen2")),
        mlp_bias=x.yes("mlp_bias", x.yes("use_mlp_bias", biased)),
        attention_gate=x.yes("attn_output_gate"),
        parallel_block=x.yes("shared_norm") or x.yes("parallel"),
        experts=experts,
        top_k=x.need("top_k") if experts else 0,
        expert_ffn=(x.maybe("expert_ffn") or x.need("ffn")) if experts else 0,
        shared_ffn=shared if experts else 0,
        shared_gate=x.yes("shared_gate"),
        expert_bias=x.yes("expert_bias"),
        latent=latent,
        recurrent=_recurrent(x, hidden) if any(layer.mixer == "recurrent" for layer in pattern) else None,
        weights=weights(x.quantization, x.dtype, len(pattern), x.name),
        source="config.json",
    )


def _plain(x: _Facts) -> bool:
    """Whether the feed-forward part has two matrices (no gate)."""
    if x.kind in DEFAULTS:
        return x.yes("plain")
    for key in ALIASES["activation"]:
        if isinstance(value := x.raw(key), str):
            return value.startswith(("relu", "gelu")) and "glu" not in value.removeprefix("gelu")
    return False


def _ffn(x: _Facts, hidden: int) -> int:
    width = x.number("intermediate_size_mlp") or x.maybe("ffn")  # llama4: dense layers are wider
    if width:
        return width
    # GPT-2, BLOOM, Falcon and MPT leave it out: four (or expansion_ratio) times the hidden size.
    if _plain(x):
        return x.number("expansion_ratio", 4) * hidden
    return x.need("ffn")


def _kv_heads(x: _Facts, heads: int) -> int:
    if x.kind in ("falcon", "RefinedWeb", "RefinedWebModel"):
        if x.yes("new_decoder_architecture") or x.kind == "RefinedWeb":
            return x.maybe("kv_heads") or heads
        return 1 if x.yes("multi_query", True) else heads
    if x.kind == "gpt_bigcode":
        return 1 if x.yes("multi_query", True) else heads
    return x.maybe("kv_heads") or heads


def _head_dim(x: _Facts, hidden: int, heads: int) -> int:
    if found := x.maybe("head_dim"):
        return found
    if not heads:
        return 0
    if hidden % heads:
        raise InputError(f"model {x.name!r}: hidden_size = {hidden} is not a multiple of {heads} heads; give head_dim")
    return hidden // heads


def _norms(x: _Facts) -> int:
    if x.yes("new_decoder_architecture") and x.number("num_ln_in_parallel_attn", 2) == 2:
        return 2
    return x.number("norms", 1 if x.yes("shared_norm") else 2)


def _latent(x: _Facts) -> Latent | None:
    if not x.number("kv_lora_rank"):
        return None
    return Latent(
        rank=x.number("kv_lora_rank"),
        rope=x.number("qk_rope_head_dim", 64),
        nope=x.number("qk_nope_head_dim", 128),
        value=x.number("v_head_dim", 128),
        query_rank=x.number("q_lora_rank"),
    )


def _recurrent(x: _Facts, hidden: int) -> Recurrent:
    if x.number("linear_num_value_heads"):
        return Recurrent(
            heads=x.number("linear_num_value_heads"),
            head_dim=x.number("linear_value_head_dim", 128),
            state=x.number("linear_key_head_dim", 128),
            groups=x.number("linear_num_key_heads", 16),
            gates=2,
            conv=x.number("linear_conv_kernel_dim", 4),
        )
    heads = x.number("mamba_num_heads") or x.number("mamba_n_heads")
    if heads:
        return Recurrent(
            heads=heads,
            head_dim=x.number("mamba_head_dim") or x.number("mamba_d_head", 64),
            state=x.number("ssm_state_size") or x.number("mamba_d_state", 128),
            groups=x.number("n_groups") or x.number("mamba_n_groups", 1),
            conv=x.number("conv_kernel") or x.number("mamba_d_conv", 4),
        )
    ranks = [0 if x.raw(key) == "auto" else x.number(key) for key in ("mamba_dt_rank", "time_step_rank")]
    return Recurrent(
        heads=(x.number("mamba_expand") or x.number("expand", 2)) * hidden,
        head_dim=1,
        state=x.number("mamba_d_state") or x.number("state_size", 16),
        conv=x.number("mamba_d_conv") or x.number("conv_kernel", 4),
        dt_rank=max(ranks) or math.ceil(hidden / 16),
    )


# ------------------------------------------------------------------ the pattern of layers
def _pattern(x: _Facts) -> tuple[Layer, ...]:
    letters = x.raw("hybrid_override_pattern")
    if isinstance(letters, str):
        return hybrid(letters)
    count = x.need("layers")
    if count > MOST_LAYERS:
        raise InputError(
            f"model {x.name!r}: {count} layers are more than any model has; at most {MOST_LAYERS} are read"
        )
    mlp = "none" if x.kind in ("mamba", "mamba2", "falcon_mamba") else ""
    return tuple(Layer(_mixer(x, i, count), mlp or _mlp(x, i)) for i in range(count))


def _mixer(x: _Facts, i: int, count: int) -> str:
    types = x.raw("layer_types", x.raw("layers_block_type"))
    if isinstance(types, list):
        if len(types) != count:
            raise InputError(
                f"model {x.name!r}: layer_types has {len(types)} entries for {count} layers; give one each"
            )
        if types[i] not in _TYPES:
            raise InputError(f"model {x.name!r}: layer_types has {types[i]!r}; known: {', '.join(_TYPES)}")
        return _TYPES[types[i]]
    if x.kind in ("mamba", "mamba2", "falcon_mamba"):
        return "recurrent"
    if period := x.number("attn_layer_period"):
        return "full" if i % period == x.number("attn_layer_offset") else "recurrent"
    if every := x.number("full_attention_interval"):
        return "full" if (i + 1) % every == 0 else "recurrent"
    if x.raw("attention_chunk_size") and (every := x.number("no_rope_layer_interval")):
        return "full" if (i + 1) % every == 0 else "window"
    if not x.maybe("window") or not x.yes("use_sliding_window", True):
        return "full"
    if every := x.number("sliding_window_pattern"):
        return "full" if (i + 1) % every == 0 else "window"
    if x.raw("max_window_layers") is not None:
        return "window" if i >= x.number("max_window_layers") else "full"
    return "window"


def _mlp(x: _Facts, i: int) -> str:
    if x.maybe("experts") <= 1:
        return "dense"
    listed = x.raw("mlp_only_layers")
    if isinstance(listed, list) and i in listed:
        return "dense"
    if isinstance(layers := x.raw("moe_layers"), list):
        return "experts" if i in layers else "dense"
    if isinstance(frequency := x.raw("moe_layer_freq"), list):
        return "experts" if i < len(frequency) and frequency[i] else "dense"
    if i < x.maybe("first_dense"):
        return "dense"
    every = x.maybe("moe_every") or x.number("moe_layer_freq", 1) or 1
    offset = x.number("expert_layer_offset", every - 1)
    return "experts" if i % every == offset else "dense"
