"""The keys of one config.json, read by what they mean: one table of the names that the same fact goes by.

Families name the same fact differently (`hidden_size`, `n_embd`, `d_model`) and leave out what equals their class
default; `ALIASES` here and the defaults in `families` hold both. Every key that is read is remembered, so that a
size that nobody read can be told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ...core.errors import InputError
from .families import FAMILIES, class_defaults, of_architecture

Config = Mapping[str, Any]

# Multimodal configs nest the language model under one of these; a nested one may nest again.
NESTS: Final = ("text_config", "llm_config", "language_config", "thinker_config", "decoder_config")

# What a fact is called, most common name first. A dot reaches into a nested table.
ALIASES: Final[dict[str, tuple[str, ...]]] = {
    "layers": (
        "num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "num_decoder_layers", "num_blocks",
        "num_transformer_layers",
    ),
    "hidden": ("hidden_size", "n_embd", "d_model", "hidden_dim", "model_dim", "n_embed", "emb_dim", "embedding_dim"),
    "heads": (
        "num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads", "attention_heads",
        "num_decoder_attention_heads", "num_query_heads",
    ),
    "kv_heads": (
        "num_key_value_heads", "num_kv_heads", "n_head_kv", "n_kv_heads", "multi_query_group_num",
        "attn_config.kv_n_heads", "num_attention_groups", "num_query_groups", "num_kv_head",
    ),
    "head_dim": ("head_dim", "attention_head_dim", "kv_channels", "dim_head", "d_head", "d_kv"),
    "value_dim": ("v_head_dim",),
    "ffn": (
        "intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size", "ffn_config.ffn_hidden_size", "inner_size",
        "intermediate_dim", "decoder_ffn_dim", "dim_ff", "dff", "d_inner", "d_ff",
    ),
    "vocab": ("vocab_size", "padded_vocab_size", "n_vocab"),
    "positions": (
        "max_position_embeddings", "n_positions", "max_target_positions", "n_ctx", "max_seq_len", "seq_length",
    ),
    "experts": (
        "n_routed_experts", "num_local_experts", "num_experts", "moe_num_experts", "ffn_config.moe_num_experts",
        "n_experts", "num_moe_experts",
    ),
    "top_k": (
        "num_experts_per_tok", "experts_per_token", "num_selected_experts", "moe_top_k", "moe_k",
        "num_experts_per_token", "ffn_config.moe_top_k", "moe_router_topk", "moe_topk", "top_k_experts",
    ),
    "expert_ffn": ("moe_intermediate_size", "expert_ffn_hidden_size", "moe_ffn_hidden_size", "expert_dim"),
    "shared_experts": (
        "n_shared_experts", "num_shared_experts", "num_shared_expert", "moe_num_shared_experts",
    ),
    "shared_ffn": (
        "shared_expert_intermediate_size", "moe_shared_expert_intermediate_size", "shared_intermediate_size",
        "share_expert_dim", "shared_experts_intermediate_size",
    ),
    "window": (
        "sliding_window", "attention_chunk_size", "sliding_window_size", "local_window_size", "attention_window_size",
        "local_attention",
    ),
    "first_dense": ("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index"),
    "moe_every": (
        "decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_interval", "expert_layer_period",
    ),
    "expert_hidden": ("moe_latent_size", "routed_expert_hidden_size"),
    "activation": (
        "hidden_act", "hidden_activation", "activation_function", "activation", "mlp_hidden_act", "ff_activation",
    ),
}  # fmt: skip


class Facts:
    """The keys of one config.json. `seen` are the names of those that were asked for."""

    def __init__(self, config: Config, name: str) -> None:
        self.name = name
        self.outer = config
        own = config
        for _ in range(3):
            inner = next((own[key] for key in NESTS if isinstance(own.get(key), Mapping)), None)
            if inner is None:
                break
            own = inner
        self.nested = own is not config
        self.kind = _kind(own, config)
        # A null leaves the class default in force, except that it switches a window off.
        self.stated = {key: v for key, v in own.items() if v is not None or key == "sliding_window"}
        self.flags: Mapping[str, Any] = FAMILIES.get(self.kind, {})
        self.defaults = class_defaults(self.kind)
        known = {key: v for key, v in self.defaults.items() if key not in _LEFT_OUT and key not in own}
        self.config: dict[str, Any] = {**known, **self.flags, **self.stated}
        if self.nested and isinstance(config.get("tie_word_embeddings"), bool):  # the outer model's word holds
            self.config["tie_word_embeddings"] = config["tie_word_embeddings"]
        self.seen: set[str] = set()
        self.told: list[str] = []

    def of_layer(self, i: int) -> Facts:
        """Return the facts as layer `i` has them, where the config lists changes by layer."""
        changes = self.raw("per_layer_config")
        own = next((v for k, v in changes.items() if str(k).isdigit() and int(k) == i), None) if changes else None
        if not isinstance(own, Mapping):
            return self
        out = object.__new__(Facts)
        out.__dict__.update(self.__dict__)
        out.config = {**self.config, **own}
        return out

    def raw(self, key: str, default: Any = None) -> Any:
        """Value under `key`, which may reach into a nested table with a dot."""
        table, _, rest = key.partition(".")
        self.seen.add(table)
        value = self.config.get(table)
        if rest:
            value = value.get(rest) if isinstance(value, Mapping) else None
        return default if value is None else value

    def maybe(self, fact: str, i: int | None = None) -> int:
        """Whole number known under any alias of `fact`, that of layer `i` where they are listed; 0 if absent."""
        # What the config states under any name comes before what the family's class sets.
        names = sorted(ALIASES[fact], key=lambda name: self.stated.get(name.partition(".")[0]) is None)
        for key in names:
            value = self.raw(key)
            if isinstance(value, list) and value:
                if i is not None and i < len(value):
                    value = value[i]
                elif all(v == value[0] for v in value):
                    value = value[0]  # some configs list one value per layer
            if value is not None and value is not False:
                for other in ALIASES[fact]:  # the same fact said twice
                    if self.raw_quiet(other) == self.raw_quiet(key):
                        self.seen.add(other)
                return self.whole(key, value)
        return 0

    def raw_quiet(self, key: str) -> Any:
        """Value under a plain key, not counted as read."""
        return self.config.get(key)

    def need(self, fact: str, i: int | None = None) -> int:
        """As `maybe`, but the fact must be there."""
        value = self.maybe(fact, i)
        if not value:
            known = ", ".join(ALIASES[fact])
            raise InputError(
                f"model {self.name!r}: config.json has no {ALIASES[fact][0]!r}; any of these would do: {known}"
            )
        return value

    def whole(self, key: str, value: Any) -> int:
        """Return a value as a whole number, or say that it is none."""
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise InputError(f"model {self.name!r}: {key} = {value!r} must be a whole number of at least 0")
        return value

    def number(self, key: str, default: int = 0) -> int:
        """Whole number under `key`."""
        return self.whole(key, self.raw(key, default))

    def yes(self, key: str, default: bool = False) -> bool:
        """Whether `key` is true."""
        return bool(self.raw(key, default))

    def listed(self, key: str) -> list[Any]:
        """List under `key`, empty where there is none."""
        value = self.raw(key)
        return list(value) if isinstance(value, list | tuple) else []

    def flag(self, key: str) -> Any:
        """What is known of the family, whatever the config says."""
        return self.flags.get(key)

    def doubt(self, text: str) -> None:
        """Remember something that was not understood."""
        if text not in self.told:
            self.told.append(text)


def _kind(own: Config, outer: Config) -> str:
    """Return the model type, or that of the architecture's class where the type is not known but the class is."""
    kind = str(own.get("model_type") or outer.get("model_type") or "")
    if own is not outer and not own.get("model_type") and class_defaults(f"{kind}_text"):
        return f"{kind}_text"  # the language model of a multimodal type
    if kind and (kind in FAMILIES or class_defaults(kind)):
        return kind
    for table in (own, outer):
        for name in table.get("architectures") or ():
            if found := of_architecture(str(name)):
                return found
    return kind


# Class defaults that a config without them does not mean: lists by layer fit the default's number of layers alone, and
# a config without its hidden size, layers or vocabulary is no config to guess from.
_LEFT_OUT: Final = frozenset(
    {"layer_types", "layers_block_type", "mlp_layer_types", "indexer_types", "block_types", "hybrid_layer_ids",
     "num_attention_heads_per_layer", "full_attn_idxs", "languages", "sliding_window", "per_layer_config",
     *ALIASES["hidden"], *ALIASES["layers"], *ALIASES["vocab"]}
)  # fmt: skip
