"""Tests for `wattline.workload.diffusion_config` and `wattline.workload.unet`: models from the files they ship with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.core.errors import InputError
from wattline.workload.diffusion import Diffuser, Picture, denoise_operators, diffuser, frame_operators
from wattline.workload.diffusion_config import CLASSES, from_configs, guessed, read
from wattline.workload.operator import Gemm
from wattline.workload.unet import Unet

# The configs that ship with each model, typed in: what differs from the class's defaults.
CONFIGS = {
    "sana-1.5-1.6b": {"_class_name": "SanaTransformer2DModel", "num_layers": 20, "num_attention_heads": 70,
                      "attention_head_dim": 32, "mlp_ratio": 2.5, "patch_size": 1},
    "pixart-sigma": {"_class_name": "PixArtTransformer2DModel", "num_layers": 28, "num_attention_heads": 16,
                     "attention_head_dim": 72},
    "stable-diffusion-3.5-medium": {"_class_name": "SD3Transformer2DModel", "num_layers": 24, "num_attention_heads": 24,
                                    "attention_head_dim": 64, "qk_norm": "rms_norm",
                                    "dual_attention_layers": list(range(13))},
    "flux.1-dev": {"_class_name": "FluxTransformer2DModel", "num_layers": 19, "num_single_layers": 38,
                   "num_attention_heads": 24, "attention_head_dim": 128, "guidance_embeds": True},
    "wan-2.1-14b": {"_class_name": "WanTransformer3DModel", "num_layers": 40, "num_attention_heads": 40,
                    "attention_head_dim": 128, "ffn_dim": 13824},
    "cogvideox-1.5-5b": {"_class_name": "CogVideoXTransformer3DModel", "num_layers": 42, "num_attention_heads": 48,
                         "attention_head_dim": 64, "patch_size_t": 2, "use_rotary_positional_embeddings": True,
                         "max_text_seq_length": 224},
}  # fmt: skip
XL = {"_class_name": "UNet2DConditionModel", "block_out_channels": [320, 640, 1280], "layers_per_block": 2,
      "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
      "transformer_layers_per_block": [1, 2, 10], "attention_head_dim": [5, 10, 20], "cross_attention_dim": 2048}  # fmt: skip


def weights(model: Diffuser | Unet, picture: Picture) -> float:
    products = [o for o in denoise_operators(model, picture) if isinstance(o, Gemm) and o.name != "linear_attention"]
    return sum(o.n * o.k * o.repeat for o in products)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_says_what_the_catalog_says(name: str) -> None:
    """Layers, widths and what a layer's kernels touch come out of the config as they stand in the catalog."""
    found, known = from_configs(name, CONFIGS[name]), diffuser(name)
    assert isinstance(found, Diffuser)
    assert isinstance(known, Diffuser)
    fields = ("layers", "hidden", "heads", "ffn", "ffn_matrices", "text", "joint", "single", "second", "linear", "stride",
              "frames_stride", "patch", "patch_frames", "touched", "kernels", "skips", "guided")  # fmt: skip
    assert {f: getattr(found, f) for f in fields} == {f: getattr(known, f) for f in fields}


@pytest.mark.parametrize(
    ("name", "billions"), [("stable-diffusion-1.5", 0.86), ("sdxl-1.0", 2.57), ("ssd-1b", 1.33), ("stable-diffusion-2.1", 0.87)]
)  # fmt: skip
def test_a_unet_has_the_parameters_its_maker_states(name: str, billions: float) -> None:
    """Convolutions and attention counted level by level are the published number of parameters, within a tenth."""
    model = diffuser(name)
    assert weights(model, Picture(height=512, width=512)) == pytest.approx(1e9 * billions, rel=0.1)


def test_a_pipelines_folder_is_read(tmp_path: Path) -> None:
    """model_index.json says the text encoders and the autoencoder, the denoiser's config the rest."""
    index = {"_class_name": "WanPipeline", "text_encoder": ["transformers", "UMT5EncoderModel"],
             "vae": ["diffusers", "AutoencoderKLWan"]}  # fmt: skip
    (tmp_path / "transformer").mkdir()
    (tmp_path / "model_index.json").write_text(json.dumps(index), "utf-8")
    (tmp_path / "transformer" / "config.json").write_text(json.dumps(CONFIGS["wan-2.1-14b"]), "utf-8")
    found = read(tmp_path)
    assert isinstance(found, Diffuser)
    assert (found.encoder, found.decoder, found.frames_stride) == (5.7e9, 8.5e6, 4)
    (tmp_path / "transformer" / "config.json").write_text(json.dumps(XL), "utf-8")
    assert isinstance(read(tmp_path), Unet)


def test_a_unet_of_a_config_is_the_catalogs() -> None:
    """The UNet of a config does the work of the catalog's."""
    picture = Picture(height=1024, width=1024)
    assert weights(from_configs("xl", XL), picture) == weights(diffuser("sdxl-1.0"), picture)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"_class_name": "FluxTransformer3DModel"}, "did you mean 'FluxTransformer2DModel'"),
        ({"_class_name": "PixArtTransformer2DModel"}, "num_layers"),
        ({"_class_name": "UNet2DConditionModel"}, "block_out_channels"),
        ({}, "is not known"),
    ],
)
def test_a_config_that_cannot_be_read_says_why(config: dict[str, object], message: str) -> None:
    """An unknown class names the nearest, a missing size is named."""
    with pytest.raises(InputError, match=message):
        from_configs("x", config)


def test_files_that_are_no_config_are_sentences(tmp_path: Path) -> None:
    """A folder without an index, and a file that is no JSON, are refused with what is read."""
    with pytest.raises(InputError, match=r"no model_index\.json"):
        read(tmp_path)
    (tmp_path / "config.json").write_text("[1", "utf-8")
    with pytest.raises(InputError, match="cannot be read as JSON"):
        read(tmp_path / "config.json")


@given(st.floats(2e8, 2e10), st.booleans())
def test_a_guess_has_about_the_parameters_asked(parameters: float, video: bool) -> None:
    """The usual transformer of a size has that size within a third, and says that it was guessed."""
    model = guessed("x", parameters, video)
    counted = weights(model, Picture(height=512, width=512))
    assert 0.6 * parameters < counted < 1.5 * parameters
    assert model.guessed


@given(st.sampled_from(sorted(CLASSES)), st.integers(1, 4))
def test_more_pictures_are_more_work(kind: str, batch: int) -> None:
    """Law: work of steps and ends grows with the pictures generated at once, whatever the class."""
    config = {
        "_class_name": kind,
        "num_layers": 12,
        "num_attention_heads": 16,
        "attention_head_dim": 64,
        "ffn_dim": 4096,
    }
    model = from_configs("x", config)

    def work(count: int) -> float:
        picture = Picture(height=256, width=256, batch=count)
        return sum(o.flops * o.repeat for o in (*denoise_operators(model, picture), *frame_operators(model, picture)))

    assert work(batch + 1) > work(batch)
