"""A config.json, put together: layers, what stands outside them, how weights are stored, what is in doubt."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from ...core.errors import InputError
from ..model import Layer, Model
from ..quantization import weights
from . import ends as outside
from . import gguf
from .doubts import doubts
from .facts import Config, Facts
from .families import role
from .feedforward import feedforward, plain
from .mixers import attention, recurrent
from .pattern import Block, pattern
from .special import SPECIAL
from .whole import WHOLE

Fields = dict[str, Any]

# What Wattline can do for models that predict no token after another.
_ROLES: Final = {
    "image": "an image model: `wattline plan` knows image and video generators by name (`wattline catalog diffusion`)",
    "speech": "a speech model that writes no tokens",
}


def read(config: Config | str | Path, name: str = "") -> Model:
    """Return the Model of a config.json, given as a dictionary, a file or its folder."""
    beside: Config = {}
    if not isinstance(config, Mapping):
        path = Path(config)
        if path.suffix == ".gguf":
            return _from_gguf(path, name or path.stem)
        folder = path if path.is_dir() else path.parent
        plain_name = path.name in ("config.json", "params.json")
        name = name or (path.parent.name if plain_name else path.name if path.is_dir() else path.stem)
        config = _load(path)
        if (extra := folder / "hf_quant_config.json").exists():
            beside = _load(extra)
    config = translated(config)
    x = Facts(config, name or str(config.get("_name_or_path") or config.get("model_type") or "model"))
    _check_role(x)
    return _model(x, beside)


def _from_gguf(path: Path, name: str) -> Model:
    found = gguf.header(path)
    return gguf.stored(read(gguf.config(found), name), found)


def _load(path: Path) -> Config:
    if path.is_dir():
        path = path / ("params.json" if not (path / "config.json").exists() else "config.json")
        if not path.exists():
            path = path.with_name("config.json")
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


def translated(config: Config) -> Config:
    """Return a config with Hugging Face's names where it was written with others: Mistral's params.json, Mamba-2's."""
    if config.get("model_type") == "distilbert" and "dim" in config:
        return {
            **config,
            "hidden_size": config["dim"],
            "intermediate_size": config.get("hidden_dim"),
            "hidden_dim": None,
        }
    if "dim" in config and "n_layers" in config and "hidden_dim" in config and "model_type" not in config:
        return _from_params(config)
    own = config.get("ssm_cfg")
    if isinstance(own, Mapping) and "d_model" in config:
        return _from_mamba(config, own)
    return config


def _from_params(params: Config) -> Config:
    """Mistral's own format (mistralai/mistral-inference, src/mistral_inference/args.py)."""
    moe = params.get("moe") if isinstance(params.get("moe"), Mapping) else {}
    assert isinstance(moe, Mapping)
    out = {
        "model_type": "mistral_params",
        "hidden_size": params["dim"],
        "num_hidden_layers": params["n_layers"],
        "intermediate_size": params["hidden_dim"],
        "num_attention_heads": params.get("n_heads"),
        "num_key_value_heads": params.get("n_kv_heads"),
        "head_dim": params.get("head_dim"),
        "vocab_size": params.get("vocab_size"),
        "tie_word_embeddings": bool(params.get("tied_embeddings", False)),
        "sliding_window": params.get("sliding_window"),
        **{key: params[key] for key in ("q_lora_rank", "kv_lora_rank", "v_head_dim") if key in params},
        "num_experts": moe.get("num_experts", 0),
        "num_experts_per_tok": moe.get("num_experts_per_tok"),
        "moe_intermediate_size": moe.get("expert_hidden_dim"),
        "n_shared_experts": moe.get("num_shared_experts"),
        "first_k_dense_replace": moe.get("first_k_dense_replace"),
        **({"vision_config": params["vision_encoder"]} if isinstance(params.get("vision_encoder"), Mapping) else {}),
    }
    for key in ("qk_rope_head_dim", "qk_nope_head_dim"):
        if key in params:
            out[key] = params[key]
    return {key: value for key, value in out.items() if value is not None}


def _from_mamba(config: Config, own: Mapping[str, Any]) -> Config:
    """The original Mamba format (state-spaces/mamba, mamba_ssm/models/config_mamba.py and modules/mamba2.py)."""
    step = int(config.get("pad_vocab_size_multiple", 8))
    vocab = step * -(-int(config.get("vocab_size", 0)) // step)
    width, expand = int(config["d_model"]), int(own.get("expand", 2))
    out: dict[str, Any] = {
        "hidden_size": width, "num_hidden_layers": config.get("n_layer"), "vocab_size": vocab, "expand": expand,
        "tie_word_embeddings": config.get("tie_embeddings", True), "conv_kernel": own.get("d_conv", 4),
    }  # fmt: skip
    if own.get("layer") == "Mamba2":
        dim = int(own.get("headdim", 64))
        out |= {
            "model_type": "mamba2", "head_dim": dim, "num_heads": expand * width // dim,
            "state_size": own.get("d_state", 128), "n_groups": own.get("ngroups", 1),
        }  # fmt: skip
    else:
        out |= {"model_type": "mamba", "state_size": own.get("d_state", 16)}
    if attn := config.get("attn_layer_idx"):
        out["attn_layer_indices"] = attn
    return out


def _check_role(x: Facts) -> None:
    found = role(x.kind)
    if found in _ROLES and not x.nested:
        raise InputError(f"model {x.name!r}: model_type {x.kind!r} is {_ROLES[found]}; give a language model")
    if "blt" in (x.kind, x.outer.get("model_type")):
        raise InputError(
            f"model {x.name!r}: a byte latent transformer has four transformers of different widths that run at "
            "different rates; it is not read. Give a model of one stack of layers"
        )
    if x.kind == "reformer":
        raise InputError(f"model {x.name!r}: Reformer's hashed, reversible layers are not read; give another model")


# ------------------------------------------------------------------ put together
def _model(x: Facts, beside: Config) -> Model:
    hidden, vocab = x.need("hidden"), x.need("vocab")
    described = [(b, _filled(b, fields)) for b, fields in _described(x, pattern(x), hidden)]
    if plain_ffn := plain(x):
        x.seen.update(("hidden_act",))
    biased = x.yes("biased")
    qkv_bias = x.raw("qkv_bias", x.raw("add_qkv_bias", x.raw("use_qkv_bias", x.raw("attention_bias", biased))))
    shared = _common(described)
    whole: Fields = {
        "hidden": hidden,
        "vocab": vocab,
        "ffn_matrices": 2 if plain_ffn else 3,
        "tied": x.yes("tie_word_embeddings") and not x.flag("own_head"),
        "rotary": not (x.yes("table") or x.yes("alibi")),
        "norms": _norms(x),
        "norm_bias": x.yes("layernorm"),
        "qk_norm": x.yes("qk_norm", x.yes("use_qk_norm")),
        "qkv_bias": bool(qkv_bias),
        "out_bias": x.yes("attention_out_bias", biased or (x.yes("attention_bias") and not x.kind.startswith("qwen2"))),
        "mlp_bias": x.yes("mlp_bias", x.yes("use_mlp_bias", biased)),
        "attention_gate": x.flag("gate") == "queries" or x.yes("attn_output_gate"),
        "parallel_block": x.yes("shared_norm") or x.yes("parallel"),
        "shared_gate": x.yes("shared_gate"),
        "expert_bias": x.yes("expert_bias"),
        "role": "encoder" if role(x.kind) == "encoder" else "decoder",
        **outside.ends(x, hidden, vocab, len(described)),
        "towers": outside.towers(x.outer, x),
    }
    _say_unusual(x)
    base = {"heads": x.maybe("heads"), "kv_heads": x.maybe("kv_heads") or x.maybe("heads"), "head_dim": 0, **shared}
    layers = tuple(Layer(b.mixer, b.mlp, _other(fields, base)) for b, fields in described)
    chunked = bool(x.raw("attention_chunk_size")) and any(layer.mixer == "window" for layer in layers)
    model = Model(name=x.name, pattern=layers, chunked=chunked, source="config.json", **{**whole, **base})
    model = replace(weights(model, x, beside), doubts=doubts(x))
    for layer, _ in model.groups:
        model.at(layer)  # sizes of one layer that do not fit together are said here, not when first used
    return model


def _described(x: Facts, blocks: tuple[Block, ...], hidden: int) -> list[tuple[Block, Fields]]:
    """Return every layer with the fields that are its own."""
    special = x.flag("mixer")
    more = outside.of_each_layer(x, hidden)
    if special in WHOLE:
        described = WHOLE[special](x, blocks, hidden)
    else:
        described = [(b, _fields(x.of_layer(b.i), b, hidden, SPECIAL.get(str(special)))) for b in blocks]
    if more:
        described = [(b, {**fields, "extra": (*fields.get("extra", ()), *more)}) for b, fields in described]
    return _again(x, described)


def _fields(x: Facts, b: Block, hidden: int, special: Any) -> Fields:
    if special is not None and b.mixer != "none":
        mixer = special(x, b, hidden)
    elif b.mixer in ("full", "window"):
        mixer = attention(x, b, hidden)
    else:
        mixer = recurrent(x, hidden) if b.mixer == "recurrent" else {}
    part = feedforward(x, b, hidden)
    return {**mixer, **part, "extra": (*mixer.get("extra", ()), *part.get("extra", ()))}


def _again(x: Facts, described: list[tuple[Block, Fields]]) -> list[tuple[Block, Fields]]:
    """Repeat layers that are run in a loop: their weights are held once (Dory, Inkling-2-Loop, ALBERT)."""
    loops, first, last = x.number("n_recurrent_loops", 1), x.number("n_input_layers"), 0
    if loops > 1:
        last = first + x.number("n_recurrent_layers")
    if passes := x.number("loop_num_passes"):
        loops, first, last = passes, x.number("loop_layer_index_start"), x.number("loop_layer_index_end")
    if x.flag("one_layer"):
        return [(b, fields | {"borrowed": i > 0}) for i, (b, fields) in enumerate(described)]
    if loops < 2 or last <= first:
        return described
    part = [(b, fields | {"borrowed": True}) for b, fields in described[first:last]]
    return [*described[:last], *part * (loops - 1), *described[last:]]


# What a field is where a layer does not state it, by what the layer has: attention, any mixer, experts, anything.
_ATTENTION: Final = {"index": None, "kv_own": True, "value_from_key": False, "one_kv": False, "compress": 1}
_MIXER: Final = {"mixer_matrices": (), "mixer_hidden": 0}
_EXPERTS: Final = {"expert_hidden": 0, "empty_experts": 0}


def _filled(b: Block, fields: Fields) -> Fields:
    out: Fields = {"extra": (), "borrowed": False}
    if b.mixer in ("full", "window"):
        out |= _ATTENTION
    if b.mixer != "none":
        out |= _MIXER
    if b.mlp == "experts":
        out |= _EXPERTS
    return out | fields


def _common(described: list[tuple[Block, Fields]]) -> Fields:
    """Return for each field the value that most of the layers which have it share."""
    values: dict[str, Counter[Any]] = {}
    for _, fields in described:
        for key, value in fields.items():
            values.setdefault(key, Counter())[value] += 1
    out = {key: counts.most_common(1)[0][0] for key, counts in values.items()}
    out.pop("norms", None)
    return out


def _other(fields: Fields, base: Fields) -> tuple[tuple[str, Any], ...]:
    """Return what of a layer's fields is other than the model's."""
    return tuple((key, fields[key]) for key in sorted(fields) if key == "norms" or fields[key] != base[key])


def _norms(x: Facts) -> int:
    if x.yes("new_decoder_architecture") and x.number("num_ln_in_parallel_attn", 2) == 2:
        return 2
    return x.number("norms", 1 if x.yes("shared_norm") else 2)


def _say_unusual(x: Facts) -> None:
    if x.flag("cross"):
        x.doubt("the encoder runs once for each input, and its output is attended to: neither is priced")
    if x.number("zero_expert_num"):
        x.doubt(
            f"{x.number('zero_expert_num')} of the routes are zero-compute experts: they hold no weights here, "
            "though a framework may allocate rows for them, and a token runs fewer experts than num_experts_per_tok"
        )
