"""Tests for `wattline.workload.diffusion`: diffusion transformers counted out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.core.errors import InputError
from wattline.workload.diffusion import (
    Diffuser,
    Picture,
    denoise_operators,
    diffuser,
    diffusers,
    frame_operators,
)
from wattline.workload.operator import Attention, Gemm, Operator

IMAGE = Picture(height=1024, width=1024)
VIDEO = Picture(height=480, width=832, frames=81)


def flops(operators: tuple[Operator, ...]) -> float:
    return sum(o.flops * o.repeat for o in operators)


@pytest.mark.parametrize(
    ("name", "picture", "tokens"),
    [
        ("pixart-sigma", IMAGE, 4096),
        ("sana-1.5-1.6b", IMAGE, 1024),
        ("wan-2.1-14b", VIDEO, 32760),
        ("cogvideox-2b", Picture(height=480, width=720, frames=49), 17550),
    ],
)
def test_tokens_are_as_published(name: str, picture: Picture, tokens: float) -> None:
    """The latent has the tokens that the papers state."""
    assert diffuser(name).tokens(picture.height, picture.width, picture.frames) == tokens


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("pixart-sigma", 0.6e9), ("wan-2.1-1.3b", 1.3e9), ("wan-2.1-14b", 14e9), ("cogvideox-5b", 5e9), ("sana-1.5-1.6b", 1.6e9)],
)  # fmt: skip
def test_weights_in_the_layers_are_near_the_published_count(name: str, parameters: float) -> None:
    """The matrices of a step are the parameters the makers state, less modulation and embeddings."""
    model = diffuser(name)
    products = [o for o in denoise_operators(model, IMAGE) if isinstance(o, Gemm) and o.name != "linear_attention"]
    counted = sum(o.n * o.k * o.repeat for o in products if not o.name.startswith("text_"))
    assert 0.65 * parameters < counted < 1.1 * parameters


@pytest.mark.parametrize("name", [n for n in diffusers() if isinstance(diffuser(n), Diffuser)])
def test_splitting_the_sequence_splits_the_work(name: str) -> None:
    """Each of eight devices does an eighth of the floating-point work, and a single one sends nothing."""
    model = diffuser(name)
    one, eight = (denoise_operators(model, VIDEO, u, r) for u, r in ((1, 1), (2, 4)))
    assert flops(eight) == pytest.approx(flops(one) / 8, rel=0.05)
    assert not [o for o in one if o.kind == "collective"]
    assert {o.name for o in eight if o.kind == "collective"} == {"swap", "ring"}


@given(batch=st.integers(1, 32))
def test_work_grows_with_the_batch(batch: int) -> None:
    """Twice the pictures are twice the work of a step and of what surrounds it."""
    model = diffuser("stable-diffusion-3.5-medium")
    few, many = (Picture(height=512, width=512, batch=b) for b in (batch, 2 * batch))
    assert flops(denoise_operators(model, many)) == pytest.approx(2 * flops(denoise_operators(model, few)))
    assert flops(frame_operators(model, many)) == pytest.approx(2 * flops(frame_operators(model, few)))


def test_linear_attention_has_no_square_term() -> None:
    """Four times the tokens are four times the work where attention is linear, more where it is not."""
    for name, square in (("sana-1.5-1.6b", False), ("pixart-sigma", True)):
        model = diffuser(name)
        small, large = (
            flops(denoise_operators(model, Picture(height=side, width=side))) - flops(_text(name, side))
            for side in (512, 1024)
        )
        assert (large / small > 4.2) == square


def _text(name: str, side: int) -> tuple[Operator, ...]:
    operators = denoise_operators(diffuser(name), Picture(height=side, width=side))
    return tuple(
        o for o in operators if o.name == "cross_kv" or (isinstance(o, Attention) and o.name.startswith("cross"))
    )


def test_names_are_found_by_id_and_unknown_ones_refused() -> None:
    """A model is known by its Hugging Face id; an unknown one names the nearest."""
    assert diffuser("black-forest-labs/FLUX.1-dev").guided == 1
    with pytest.raises(InputError, match=r"'wan-2\.1-14b'"):
        diffuser("wan-2.1-15b")


def test_an_empty_picture_is_refused() -> None:
    """A picture has at least a pixel."""
    with pytest.raises(InputError, match="frames of at least 1"):
        diffuser("pixart-sigma").tokens(0, 512)
