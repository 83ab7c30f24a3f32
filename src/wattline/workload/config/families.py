"""What the modelling code of a family fixes and its config.json does not say.

Class defaults of sizes are facts of huggingface/transformers 5.24 (src/transformers/models/*/configuration_*.py,
Apache-2.0), kept in data/families.json with the role of each model type: decoder, encoder, encoder-decoder,
multimodal, image or speech. `FAMILIES` adds what stands in the modelling code (modeling_*.py) instead:

`plain` feed-forward of two matrices (else three, gated); `biased` linear layers; `layernorm` with biases; `table` of
learned positions (`extra_positions` rows more); `norms` per layer; `shared_norm`, `parallel` blocks; `qk_norm`;
`qkv_bias`; `shared_gate` of the shared expert; `gate`: output gate of attention, "queries" where the query projection
is doubled, "full" where it has a matrix of its own; `cross` attention in every layer; `head_transform`: a square
matrix before the head; `own_head`: a head of its own whatever the config says of ties; `encoder`: no token follows
another; `mixer`: how special mixers are read (`special`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, Final

_PLAIN: Final = {"plain": True, "layernorm": True}
_GPT: Final = {**_PLAIN, "biased": True, "table": True, "tie_word_embeddings": True}
_BERT: Final = {**_GPT, "encoder": True, "head_transform": True}
_ROBERTA: Final = {**_BERT}
_BART: Final = {**_PLAIN, "biased": True, "table": True, "cross": True, "tie_word_embeddings": True, "norms": 3}
_GEMMA: Final = {"head_dim": 256, "tie_word_embeddings": True}
_QWEN2: Final = {"qkv_bias": True, "use_sliding_window": False}
_QWEN3: Final = {"qk_norm": True}
_DELTA: Final = {"qk_norm": True, "gate": "queries", "shared_gate": True, "full_attention_interval": 4}

FAMILIES: Final[dict[str, dict[str, Any]]] = {
    # GPT and its kin
    "gpt2": _GPT, "gpt-sw3": _GPT, "gpt_bigcode": _GPT, "biogpt": {**_GPT, "extra_positions": 2},
    "openai-gpt": _GPT, "opt": {**_GPT, "extra_positions": 2}, "gpt_neo": {**_GPT, "qkv_bias": False},
    "bloom": {**_PLAIN, "biased": True, "tie_word_embeddings": True, "alibi": True},
    "mpt": {**_PLAIN, "tie_word_embeddings": True, "alibi": True},
    "falcon": {**_PLAIN, "tie_word_embeddings": True, "shared_norm": True},
    "RefinedWeb": {**_PLAIN, "tie_word_embeddings": True},
    "RefinedWebModel": {**_PLAIN, "tie_word_embeddings": True, "shared_norm": True},
    "gpt_neox": {**_PLAIN, "biased": True, "parallel": True},
    "gpt_neox_japanese": {**_PLAIN}, "gptj": {**_PLAIN, "shared_norm": True, "mlp_bias": True},
    "codegen": {**_PLAIN, "shared_norm": True, "mlp_bias": True}, "ctrl": {**_PLAIN, "biased": True},
    "phi": {**_PLAIN, "biased": True, "shared_norm": True}, "persimmon": {**_PLAIN, "biased": True},
    "fuyu": {**_PLAIN, "biased": True}, "stablelm": {"layernorm": True}, "jais2": {**_PLAIN, "biased": True},
    "starcoder2": {**_PLAIN, "biased": True, "tie_word_embeddings": True},
    "nemotron": {"plain": True, "layernorm": True}, "nemotron_h": {"plain": True},
    "apertus": {"plain": True}, "apertus1p5_text": {"plain": True}, "xglm": {**_PLAIN, "biased": True},
    "minitron": {"plain": True, "layernorm": True}, "arcee": {"plain": True}, "nanochat": {"plain": True},
    "xlm": {**_GPT}, "xlnet": {**_PLAIN, "relative": True}, "cpmant": {"plain": False, "own_head": True},
    "bitnet": {"plain": False}, "vaultgemma": {**_GEMMA, "plain": False}, "moshi": {"plain": False},
    "modernbert-decoder": {"plain": False, "head_transform": True, "tie_word_embeddings": True},
    # Qwen
    "qwen2": _QWEN2, "qwen2_moe": {**_QWEN2, "shared_gate": True}, "qwen2_vl_text": _QWEN2, "qwen2_vl": _QWEN2,
    "qwen2_5_vl": _QWEN2, "qwen2_5_vl_text": _QWEN2, "qwen2_5_omni_text": _QWEN2, "mimo": _QWEN2,
    "qwen": {"qkv_bias": True, "halved_ffn": True},
    "qwen3": {**_QWEN3, "use_sliding_window": False, "head_dim": 128},
    "qwen3_moe": {**_QWEN3, "use_sliding_window": False}, "qwen3_vl_text": _QWEN3, "qwen3_vl_moe_text": _QWEN3,
    "qwen3_omni_moe_text": _QWEN3, "qwen3_next": _DELTA, "qwen3_5": _DELTA, "qwen3_5_text": _DELTA,
    "qwen3_5_moe": _DELTA, "qwen3_5_moe_text": _DELTA, "lara_mini": {**_QWEN3, "shared_gate": True},
    # Gemma
    "gemma": _GEMMA, "gemma2": {**_GEMMA, "norms": 4, "sliding_window_pattern": 2},
    "gemma3_text": {
        **_GEMMA, "norms": 4, "sliding_window_pattern": 6, "qk_norm": True, "num_attention_heads": 8,
        "num_key_value_heads": 4, "vocab_size": 262208, "sliding_window": 4096,
    },
    "gemma3n_text": {**_GEMMA, "norms": 4, "qk_norm": True}, "gemma3n": {**_GEMMA, "norms": 4, "qk_norm": True},
    "gemma4_text": {"norms": 4, "qk_norm": True, "tie_word_embeddings": True},
    "gemma4_unified_text": {"norms": 4, "qk_norm": True, "tie_word_embeddings": True},
    "gemma4_unified_assistant": {"norms": 4, "qk_norm": True, "tie_word_embeddings": True},
    "recurrent_gemma": {**_GEMMA, "halved_ffn": True, "mixer": "rg_lru"},
    # Cohere, GPT-OSS, Llama-4, GLM, DBRX, Grok and others
    "cohere": {"tie_word_embeddings": True, "shared_norm": True},
    "cohere2": {"tie_word_embeddings": True, "shared_norm": True, "sliding_window_pattern": 4},
    "cohere2_moe": {"tie_word_embeddings": True, "shared_norm": True},
    "gpt_oss": {"expert_bias": True, "attention_bias": True, "sliding_window_pattern": 2},
    "llama4_text": {"no_rope_layer_interval": 4, "one_shared": True},
    "llama4": {"no_rope_layer_interval": 4, "one_shared": True},
    "hunyuan_v1_moe": {"one_shared": True, "qk_norm": True},
    "dbrx": {"layernorm": True}, "grok-1": {"norms": 4}, "glm4": {"norms": 4}, "glm": {}, "chatglm": {"qkv_bias": True},
    "jamba": {"attn_layer_period": 8, "attn_layer_offset": 4, "expert_layer_offset": 1}, "phi3": {}, "olmo2": {},
    "step3p5": {"gate": "none"}, "step3p7": {"gate": "none"}, "beam": {"gate": "full"}, "dory": {"gate": "full"},
    "hrm_text": {"gate": "full", "mixer": "hrm"}, "internlm2": {}, "internlm": {}, "baichuan": {}, "Yi": {},
    "minicpm": {},
    "afmoe": {"gate": "full"}, "aria_text": {}, "kimi_k2": {}, "minimax_m2": {"qk_norm": True}, "minimax_text_01": {},
    "exaone": {}, "xverse": {},
    "minimax_m1": {}, "MiniMaxText01": {}, "deepseek": {}, "kimi_k25": {}, "mistral_params": {},
    # Latent, indexed and compressed attention
    "deepseek_v2": {"first_k_dense_replace": 0}, "axk2": {"mixer": "double_latent"},
    "hy_v4": {"gate": "full"}, "deepseek_v4": {"mixer": "compressed"}, "longcat_flash": {"mixer": "shortcut"},
    "hy_v4_vl_text": {"gate": "full"}, "cosmos3_edge_text": {}, "glm4v_text": {}, "glm5_next_text": {},
    "glm_image_text": {},
    "glm_ocr_text": {}, "granite_docling_text": {}, "mistral_large4_text": {}, "molmo2_text": {},
    "minimax_m3_vl_text": {},
    "mllama_text_model": {}, "emu3_text_model": {}, "dots3_note": {}, "dots3_note_text": {},
    # Hybrids and recurrent models
    "mamba": {"mixer": "mamba"}, "falcon_mamba": {"mixer": "mamba"}, "mamba2": {"mixer": "mamba2"},
    "falcon_h1": {"mixer": "parallel"}, "zamba": {"mixer": "zamba"}, "zamba2": {"mixer": "zamba"},
    "kimi_linear": {"mixer": "kda"}, "bailing_hybrid": {"mixer": "kda", "full_rank": True},
    "lfm2": {"mixer": "conv", "qk_norm": True, "tie_word_embeddings": True},
    "lfm2_moe": {"mixer": "conv", "qk_norm": True, "tie_word_embeddings": True},
    "lfm3": {"mixer": "conv", "qk_norm": True}, "rwkv": {**_PLAIN, "mixer": "rwkv"}, "xlstm": {"mixer": "mlstm"},
    "minimax": {"mixer": "lightning"}, "jetmoe": {"mixer": "mixture"}, "zaya": {"mixer": "cca"},
    "inkling_text": {"mixer": "inkling"}, "inkling2_text": {"mixer": "inkling", "gate": "full"},
    "inkling2_loop_text": {"mixer": "inkling", "gate": "full"}, "nemotron-nas": {"mixer": "blocks"},
    # Encoders: no token follows another
    "bert": _BERT, "bert-generation": {**_GPT, "encoder": True}, "big_bird": {**_BERT, "pooler": True},
    "camembert": _ROBERTA, "data2vec-text": _ROBERTA, "electra": _BERT, "ernie": _BERT, "megatron-bert": _BERT,
    "rembert": {**_BERT, "tie_word_embeddings": False}, "roberta": _ROBERTA, "roberta-prelayernorm": _ROBERTA,
    "roc_bert": _BERT, "roformer": {**_BERT, "table": False}, "xlm-roberta": _ROBERTA, "xlm-roberta-xl": _ROBERTA,
    "xmod": _ROBERTA, "git": {**_GPT, "own_head": True}, "distilbert": _BERT, "mpnet": _BERT,
    "nomic_bert": {**_BERT, "table": False, "plain": False}, "new": {**_BERT, "table": False, "plain": False},
    "modernbert": {"encoder": True, "head_transform": True, "plain": False, "tie_word_embeddings": True},
    "eurobert": {"encoder": True}, "albert": {**_BERT, "one_layer": True},
    # Encoder-decoders: the decoder, with the encoder beside
    "bart": {**_BART, "extra_positions": 2}, "mvp": {**_BART, "extra_positions": 2},
    "mbart": {**_BART, "extra_positions": 2}, "plbart": {**_BART, "extra_positions": 2}, "pegasus": _BART,
    "bigbird_pegasus": {**_BART, "own_head": True}, "blenderbot": _BART,
    "blenderbot-small": _BART, "marian": _BART, "whisper": _BART, "prophetnet": {**_BART, "ngram_table": True},
    "trocr": {**_BART, "extra_positions": 2}, "m2m_100": {**_BART, "table": False},
    "t5": {"cross": True, "plain": True, "norms": 3}, "mt5": {"cross": True, "norms": 3},
    "umt5": {"cross": True, "norms": 3},
}  # fmt: skip


@cache
def _known() -> Mapping[str, Mapping[str, Any]]:
    text = resources.files(__package__.rpartition(".")[0]).joinpath("data/families.json").read_text(encoding="utf-8")
    known: Mapping[str, Mapping[str, Any]] = json.loads(text)
    return known


def class_defaults(kind: str) -> Mapping[str, Any]:
    """Return the sizes that the family's configuration class sets where a config leaves them out."""
    return {k: v for k, v in _known().get(kind, {}).items() if k != "role"}


def of_architecture(name: str) -> str:
    """Return the model type whose class is called `name`, "" where none is."""
    return str(_known()["_architectures"].get(name, ""))


def role(kind: str) -> str:
    """Return what models of this type do: "decoder", "encoder", ..., "" where it is not known."""
    if FAMILIES.get(kind, {}).get("encoder"):
        return "encoder"
    return str(_known().get(kind, {}).get("role", ""))


def tested(kind: str) -> bool:
    """Whether counts of this type were compared with its own modelling code."""
    if kind in FAMILIES:
        return True
    if kind in _UNCOUNTED or kind.endswith(("_text", "text_model")):
        return False
    return role(kind) == "decoder"


# Decoders whose default config transformers 5.24 cannot build, so that nothing was compared.
_UNCOUNTED: Final = frozenset({"qwen4_exp", "gemma4_assistant", "musicgen", "musicgen_melody", "led", "nllb-moe"})
