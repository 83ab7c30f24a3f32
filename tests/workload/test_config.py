"""Tests for `wattline.workload.config` and `wattline.workload.quantization`."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.core.errors import InputError
from wattline.workload.config import ALIASES, read

from .configs import CONFIGS
from .families import FAMILIES

LLAMA = CONFIGS["llama"][0]


def scheme(bits, kind):
    return {"group_0": {"weights": {"num_bits": bits, "type": kind}}}


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters_match_published_within_one_percent(name):
    """The config.json of every family gives the published parameter count."""
    config, published = CONFIGS[name]
    assert read(config).parameters == pytest.approx(published, rel=0.01)


def test_a_file_a_folder_and_a_dictionary_read_alike(tmp_path):
    """The three ways to give a config lead to the same sizes."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(LLAMA), encoding="utf-8")
    models = [read(given, "m") for given in (LLAMA, path, str(path), tmp_path)]
    assert models.count(models[0]) == 4


def test_a_model_is_named_after_its_folder(tmp_path):
    """A config.json says little about its name; the folder does."""
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA), encoding="utf-8")
    assert read(folder / "config.json").name == "my-model"


@pytest.mark.parametrize(
    ("key", "fact"), [("hidden_size", "hidden"), ("num_hidden_layers", "layers"), ("vocab_size", "vocab")]
)
def test_a_missing_key_is_named_with_its_aliases(key, fact):
    """What is missing is named, with every key that would do."""
    config = {k: v for k, v in LLAMA.items() if k != key}
    with pytest.raises(InputError, match=f"no '{key}'.*{ALIASES[fact][1]}"):
        read(config)


@pytest.mark.parametrize("value", [-1, 1.5, "many", True, float("nan")])
def test_a_size_must_be_a_whole_number(value):
    """Negative, fractional, textual and NaN sizes are refused by name."""
    with pytest.raises(InputError, match=r"num_hidden_layers = .* must be a whole number"):
        read(LLAMA | {"num_hidden_layers": value})


def test_a_missing_file_is_an_input_error(tmp_path):
    """A path that does not exist is said so."""
    with pytest.raises(InputError, match=r"does not exist; give the path of a config\.json"):
        read(tmp_path / "nothing.json")


@pytest.mark.parametrize(("text", "words"), [("{", "not JSON"), ("[1]", "holds a list")])
def test_a_file_that_is_no_table_is_an_input_error(tmp_path, text, words):
    """A broken file is named with what is wrong."""
    path = tmp_path / "config.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=words):
        read(path)


def test_an_encoder_decoder_is_its_decoder_with_the_encoder_beside():
    """What generates tokens is the model; the encoder is told apart, and that it is not priced."""
    config = {
        "model_type": "whisper", "d_model": 1280, "decoder_layers": 32, "decoder_attention_heads": 20, "vocab_size": 51866,
        "decoder_ffn_dim": 5120, "encoder_layers": 32, "encoder_ffn_dim": 5120, "encoder_attention_heads": 20,
        "num_mel_bins": 128, "max_target_positions": 448, "max_source_positions": 1500, "is_encoder_decoder": True,
    }  # fmt: skip
    model = read(config)
    assert model.parameters + model.towers_parameters == pytest.approx(1.543e9, rel=0.01)  # whisper-large-v3's card
    assert model.towers[0][0] == "encoder"
    assert "neither is priced" in model.doubts[0]


@pytest.mark.parametrize(
    ("kind", "words"), [("vit", "image model"), ("wav2vec2", "speech model"), ("blt", "byte latent")]
)
def test_models_of_other_kinds_are_named_as_such(kind, words):
    """What is no language model is refused as what it is."""
    with pytest.raises(InputError, match=words):
        read({"model_type": kind, "hidden_size": 768, "num_hidden_layers": 12, "vocab_size": 260})


def test_unknown_families_are_read_by_their_keys():
    """A model type never seen before is read through the aliases."""
    assert read(LLAMA | {"model_type": "brand_new"}).parameters == pytest.approx(8.03e9, rel=1e-3)


def test_an_unknown_layer_type_is_refused():
    """A mixer that is not known is an error that lists those that are."""
    with pytest.raises(InputError, match="layer_types has 'retention'; known: full_attention"):
        read(LLAMA | {"layer_types": ["retention"] * 32})


def test_windows_follow_the_pattern_of_the_family():
    """Gemma-3 has one full layer in six, gpt-oss one in two, Qwen2 none unless switched on."""
    kinds = {name: read(CONFIGS[name][0]).kinds for name in ("gemma3", "gpt_oss", "qwen2")}
    assert (kinds["gemma3"]["full"], kinds["gemma3"]["window"]) == (10, 52)
    assert (kinds["gpt_oss"]["full"], kinds["gpt_oss"]["window"]) == (18, 18)
    assert "window" not in kinds["qwen2"]


@pytest.mark.parametrize(
    ("table", "stored"),
    [
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "gptq", "bits": 4}, "int4"),
        ({"quant_method": "gptq", "bits": 8}, "int8"),
        ({"quant_method": "awq", "bits": 4}, "int4"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "int4"),
        ({"load_in_8bit": True}, "int8"),
        ({"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}}}, "int4"),
        ({"quant_method": "torchao", "quant_type": "int4_weight_only"}, "int4"),
        ({"quant_method": "torchao", "quant_type": {"default": {"_type": "Float8WeightOnlyConfig"}}}, "fp8"),
        ({"quant_method": "auto-round", "bits": 4, "group_size": 128, "sym": True}, "int4"),
        ({"quant_method": "aqlm", "nbits_per_codebook": 16, "num_codebooks": 1, "in_group_size": 8}, "int4"),
        ({"quant_method": "quanto", "weights": "int8"}, "int8"),
        ({"quant_method": "compressed-tensors", "config_groups": scheme(8, "float")}, "fp8"),
        ({"quant_method": "compressed-tensors", "config_groups": scheme(4, "int")}, "int4"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "fp4"),
    ],
)  # fmt: skip
def test_quantisation_tables_give_the_stored_precision(table, stored):
    """Each way of writing quantisation leads to the precision of the linear layers."""
    weights = read(LLAMA | {"quantization_config": table}).weights
    assert (weights.attention, weights.dense, weights.head) == (stored, stored, "bf16")


def test_modules_left_out_keep_their_precision():
    """Parts listed for all layers, or for most of them by number, are not quantised."""
    named = {"quant_method": "fp8", "modules_to_not_convert": ["re:.*self_attn"]}
    numbered = {"quant_method": "fp8", "ignore": [f"model.layers.{i}.self_attn.q_proj" for i in range(32)]}
    few = {"quant_method": "fp8", "ignore": ["model.layers.0.self_attn.q_proj"]}
    stored = [read(LLAMA | {"quantization_config": t}).weights for t in (named, numbered, few)]
    assert [w.attention for w in stored] == ["bf16", "fp8", "fp8"]
    assert {w.dense for w in stored} == {"fp8"}
    queries = 4096 / (4096 + 2 * 1024 + 4096)  # of attention's weights, and these stay in bf16
    assert [w.bytes("attention") for w in stored] == pytest.approx([2, 1 + queries, 1], rel=1e-3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"quantization_config": {"quant_method": "fp9"}}, "quant_method = 'fp9' is not known; did you mean 'fp8'"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 5}}, "5-bit"),
        ({"quantization_config": {"quant_method": "compressed-tensors"}}, "states no weight precision"),
        ({"torch_dtype": "bfloat61"}, "did you mean 'bfloat16'"),
    ],
)
def test_unknown_precisions_are_refused(change, words):
    """A precision that is not known is an error with the nearest one."""
    with pytest.raises(InputError, match=words):
        read(LLAMA | change)


@st.composite
def broken(draw):
    """A real config with one or two of its values replaced by anything JSON can hold."""
    config = dict(CONFIGS[draw(st.sampled_from(sorted(CONFIGS)))][0])
    anything = st.one_of(
        st.none(), st.booleans(), st.integers(-5, 5000), st.floats(), st.text(max_size=5), st.lists(st.integers(0, 3)),
        st.dictionaries(st.text(max_size=3), st.integers()),
    )  # fmt: skip
    for key in draw(st.lists(st.sampled_from(sorted(config)), min_size=1, max_size=2)):
        config[key] = draw(anything)
    return config


@given(broken())
def test_a_broken_config_is_an_input_error_or_a_model(config):
    """Whatever a config.json holds, the answer is a model or one clear error."""
    with suppress(InputError):
        assert read(config).parameters > 0


def test_a_pattern_shorter_than_the_model_is_refused():
    """One entry of layer_types per layer, no more and no less."""
    with pytest.raises(InputError, match="layer_types has 2 entries for 32 layers"):
        read(LLAMA | {"layer_types": ["full_attention"] * 2})


def test_an_absurd_number_of_layers_is_refused():
    """A typing error in a count does not fill the memory."""
    with pytest.raises(InputError, match="1000000000 layers are more than any model has"):
        read(LLAMA | {"num_hidden_layers": 10**9})


@pytest.mark.parametrize("kind", FAMILIES)
def test_families_are_counted_as_their_own_code_counts_them(kind):
    """Each family's default sizes give the parameters that its modelling code has, within one percent."""
    sizes, count = FAMILIES[kind]
    model = read({"model_type": kind, **sizes})
    assert model.parameters == pytest.approx(count, rel=0.01)


@pytest.mark.parametrize("key", ["num_attention_sinks_per_head", "engram_table_size", "expert_adapter_rank"])
def test_a_size_that_nothing_reads_is_told(key):
    """A key that may state a size and that no rule reads is named, whatever the model type."""
    assert read(LLAMA).doubts == ()
    assert any(key in text for text in read(LLAMA | {key: 64}).doubts)


def test_a_model_type_never_compared_is_told():
    """Sizes of an unknown type are read by their usual names, and that is said."""
    assert "'brand_new' is none of those compared" in read(LLAMA | {"model_type": "brand_new"}).doubts[0]


def test_latent_experts_work_in_their_own_width():
    """Experts of a latent width are counted in it, with the two matrices that lead there and back."""
    config = {
        "model_type": "nemotron_h", "hidden_size": 4096, "vocab_size": 131072, "hybrid_override_pattern": "ME*E",
        "num_attention_heads": 32, "num_key_value_heads": 2, "n_routed_experts": 512, "num_experts_per_tok": 22,
        "moe_intermediate_size": 2688, "moe_latent_size": 1024, "moe_shared_expert_intermediate_size": 5376,
    }  # fmt: skip
    model = read(config)
    assert model.parts["experts"] == 2 * 512 * 2 * 2688 * 1024
    assert model.active_parameters == model.parameters - model.parts["experts"] * (1 - 22 / 512)


def test_compressed_layers_cache_one_entry_for_many_tokens():
    """DeepSeek-V4 caches one value of head_dim for four tokens or for 128, an index beside the former, a window whole."""
    config = {
        "model_type": "deepseek_v4", "hidden_size": 4096, "num_hidden_layers": 3, "vocab_size": 129280,
        "compress_ratios": [0, 4, 128], "sliding_window": 128,
    }  # fmt: skip
    model = read(config)
    assert [layer.mixer for layer in model.pattern] == ["window", "full", "full"]
    assert model.kv_bytes_per_token == 2 * 512 + (2 * 512 + 128 * (1 + 4 / 128)) / 4 + 2 * 512 / 128


def test_what_lies_beside_a_config_says_how_it_is_stored(tmp_path):
    """hf_quant_config.json gives the scheme, what it leaves out layer by layer, and the precision of the cache."""
    left_out = ["lm_head", *(f"model.layers.{i}.self_attn*" for i in range(16))]
    beside = {"quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8", "exclude_modules": left_out}}
    (tmp_path / "config.json").write_text(json.dumps(LLAMA), encoding="utf-8")
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(beside), encoding="utf-8")
    model = read(tmp_path)
    attention, dense = model.parts["attention"], model.parts["dense"]
    rest = 2 * (model.parameters - attention - dense)
    assert model.kv == "fp8"
    assert model.weight_bytes == pytest.approx((attention * (2 + 0.5625) / 2) + dense * 0.5625 + rest)


def test_mistrals_own_format_is_read():
    """params.json names the same sizes in other words."""
    params = {
        "dim": 4096, "n_layers": 32, "head_dim": 128, "hidden_dim": 14336, "n_heads": 32, "n_kv_heads": 8,
        "vocab_size": 32000, "norm_eps": 1e-05, "moe": {"num_experts_per_tok": 2, "num_experts": 8},
    }  # fmt: skip
    assert read(params).parameters == pytest.approx(46.7e9, rel=0.001)


def test_mambas_own_format_is_read():
    """The original Mamba-2 config has its own names, and pads the vocabulary."""
    config = {"d_model": 2560, "n_layer": 64, "vocab_size": 50277, "ssm_cfg": {"layer": "Mamba2"}, "tie_embeddings": True,
              "pad_vocab_size_multiple": 16}  # fmt: skip
    assert read(config).parameters == pytest.approx(2.70e9, rel=0.01)  # state-spaces/mamba2-2.7b
