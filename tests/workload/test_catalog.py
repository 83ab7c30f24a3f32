"""Tests for `wattline.workload.catalog`."""

import json

import pytest

from wattline.core.errors import InputError
from wattline.workload.catalog import hub_id, ids, model, models


def test_there_are_at_least_twenty_five_models():
    """The catalog is broad enough to be useful."""
    assert len(models()) >= 25


def test_more_than_three_hundred_ids_are_known():
    """Models are known by the ids that people have, base models and their tuned versions alike."""
    assert len(ids()) > 400
    assert {model(i).name for i in ("Qwen/QwQ-32B", "mistralai/Mistral-Nemo-Instruct-2407")} <= set(models())


def test_a_model_in_the_local_cache_is_read(tmp_path, monkeypatch):
    """An id whose config lies in the cache of Hugging Face's client is found there, without the network."""
    folder = tmp_path / "models--someone--own-model" / "snapshots" / "abc"
    folder.mkdir(parents=True)
    config = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 100, "intermediate_size": 128,
              "num_attention_heads": 4}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert model.__wrapped__("someone/own-model").hidden == 64
    with pytest.raises(InputError, match="nothing is fetched from the network"):
        model.__wrapped__("someone/another-model")


@pytest.mark.parametrize("name", models())
def test_parameters_match_published_within_one_percent(name):
    """Every model has a source and the parameter count its makers publish (Llama-4 Scout's counts vision too)."""
    m = model(name)
    assert m.source
    assert m.published or name == "llama-4-scout"
    if m.published:
        assert m.parameters == pytest.approx(m.published, rel=0.012)


@pytest.mark.parametrize("name", [n for n in models() if model(n).published_active])
def test_active_parameters_match_published(name):
    """Parameters per token agree with the rounded figures of model cards."""
    m = model(name)
    active = m.active_parameters - (0 if m.active_embedding else m.parts["embedding"])
    assert active == pytest.approx(m.published_active, rel=0.02)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("llama-3.1-70b", "llama-3.1-70b"),
        ("LLAMA-3.1-70B", "llama-3.1-70b"),
        ("meta-llama/Llama-3.1-70B-Instruct", "llama-3.1-70b"),
        ("deepseek-ai/deepseek-r1", "deepseek-v3"),
        ("gpt-3", "gpt3-175b"),
        ("someone/Qwen3-8B", "qwen3-8b"),
    ],
)
def test_short_names_and_hub_ids_find_a_model(given, found):
    """A model is found by its short name or id, in any case, from any owner."""
    assert model(given).name == found


@pytest.mark.parametrize("name", ["llama-3.1-8b", "llama-3.1-70b", "deepseek-v3", "gpt3-175b", "dense-200b"])
def test_the_models_of_the_examples_are_there(name):
    """The names that examples use exist."""
    assert model(name).layers > 0


def test_an_unknown_name_gets_the_nearest_ones():
    """A typing error is answered with what was meant."""
    with pytest.raises(InputError, match=r"'llama-3\.1-71b' is not in the catalog; did you mean 'llama-3\.1-70b'"):
        model("llama-3.1-71b")
    with pytest.raises(InputError, match=r"there is deepseek-v4-flash, deepseek-v4-pro"):
        model("deepseek-v4")
    with pytest.raises(InputError, match=r"`wattline catalog models` lists \d+ \(or give config"):
        model("zzzz")


@pytest.mark.parametrize(
    ("name", "talking", "said"),
    [
        ("qwen3-8b", True, "Qwen/Qwen3-8B"),
        ("qwen3-30b-a3b", True, "Qwen/Qwen3-30B-A3B"),
        ("gemma-3-4b-pt", True, "google/gemma-3-4b-it"),
        ("llama-3.1-8b", True, "meta-llama/Llama-3.1-8B-Instruct"),
        ("llama-3.1-8b", False, "meta-llama/Llama-3.1-8B"),
        ("Qwen/Qwen3-VL-8B-Instruct", True, "Qwen/Qwen3-VL-8B-Instruct"),
        ("megatron-1t", True, "megatron-1t"),
        ("kimi-k2.5", True, "moonshotai/Kimi-K2.5"),
        ("glm-4.7", True, "zai-org/GLM-4.7"),
        ("MiniMax-M2.7", True, "MiniMaxAI/MiniMax-M2.7"),
        ("deepseek-v3.2", True, "deepseek-ai/DeepSeek-V3.2"),
        ("qwen3.5-397b-a17b", True, "Qwen/Qwen3.5-397B-A17B"),
        ("glm-5.2", True, "zai-org/GLM-5.2"),
    ],
)
def test_the_id_to_load_is_of_the_model_asked_for_and_not_of_one_of_its_shape(name, talking, said):
    """One entry may stand for a chat, a coder's and a vision model; only its own name is loaded."""
    assert hub_id(name, talking=talking) == said
