"""Tests that image and video generation keeps its promise: models of the day answered, errors within their targets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wattline.serving import engine
from wattline.serving.diffusion_rows import predict, rows_of
from wattline.source.roofline.source import Roofline

# Largest median error, of models left out of the fit.
PROMISED = {"energy_per_gen_j": 0.12, "throughput_gen_s": 0.12, "power_per_gpu_w": 0.10}


def row(model: str, **changes: object) -> dict[str, list[object]]:
    """Return one configuration as a table."""
    plain = {"gpu": "H100", "batch_size": 1, "inference_steps": 20, "height": 1024, "width": 1024, "num_frames": 1}
    return {k: [v] for k, v in {"model_id": model, **plain, "ulysses_degree": 1, **changes}.items()}


@pytest.mark.parametrize("chip", ["hopper", "blackwell", "other"])
@pytest.mark.parametrize("target", PROMISED)
def test_models_left_out_are_met_within_what_is_promised(chip: str, target: str) -> None:
    """Errors the fit stored of models it did not see, written by scripts/calibrate_diffusion.py."""
    assert engine.settings("diffusion")["residual"][chip][target][0] <= PROMISED[target]


@pytest.mark.parametrize(
    ("name", "larger", "least", "most", "changes"),
    [
        ("Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers", "Efficient-Large-Model/SANA1.5_4.8B_1024px_diffusers",
         1.5, 4.0, {}),
        ("THUDM/CogVideoX-2b", "zai-org/CogVideoX1.5-5B", 1.1, 3.0, {"num_frames": 49, "height": 480, "width": 720}),
    ],
)  # fmt: skip
def test_a_larger_model_of_a_family_costs_more_but_not_out_of_proportion(
    name: str, larger: str, least: float, most: float, changes: dict[str, object]
) -> None:
    """SANA1.5-4.8B and CogVideoX1.5-5B are answered beside the smaller models of their makers."""
    small, large = (predict(rows_of(row(n, **changes)), Roofline())["energy_per_gen_j"][0] for n in (name, larger))
    assert least < large / small < most


def test_a_model_nobody_fitted_is_answered_from_its_own_files(tmp_path: Path) -> None:
    """A folder with model_index.json stands for a model in a table; more layers cost more."""
    found = []
    for layers in (14, 28):
        folder = tmp_path / f"unseen-{layers}"
        (folder / "transformer").mkdir(parents=True)
        index = {"_class_name": "PixArtSigmaPipeline", "transformer": ["diffusers", "PixArtTransformer2DModel"],
                 "text_encoder": ["transformers", "T5EncoderModel"], "vae": ["diffusers", "AutoencoderKL"]}  # fmt: skip
        config = {"_class_name": "PixArtTransformer2DModel", "num_layers": layers, "num_attention_heads": 16,
                  "attention_head_dim": 72, "in_channels": 4, "out_channels": 8, "patch_size": 2,
                  "cross_attention_dim": 1152, "caption_channels": 4096}  # fmt: skip
        (folder / "model_index.json").write_text(json.dumps(index), "utf-8")
        (folder / "transformer" / "config.json").write_text(json.dumps(config), "utf-8")
        found.append(predict(rows_of(row(str(folder))), Roofline()))
    assert 1.2 < found[1]["batch_latency_s"][0] / found[0]["batch_latency_s"][0] < 2.0
    assert 100 < found[1]["power_per_gpu_w"][0] <= 700
