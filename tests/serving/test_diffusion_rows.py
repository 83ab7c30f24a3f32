"""Tests for `wattline.serving.diffusion_rows`: measured image and video generation beside predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from wattline.core.errors import InputError
from wattline.hardware import catalog
from wattline.scenario.validate import configurations
from wattline.serving.diffusion_rows import TARGETS, legacy, predict, rows_of, validate
from wattline.source.base import Device
from wattline.source.roofline.source import Roofline

SOURCE = Roofline()


def table(**changes: list[object]) -> dict[str, list[object]]:
    columns: dict[str, list[object]] = {
        "model_id": ["PixArt-alpha/PixArt-Sigma-XL-2-1024-MS", "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"] * 2,
        "gpu": ["H100", "H100", "B200", "B200"],
        "batch_size": [1, 2, 4, 8],
        "inference_steps": [20, 50, 20, 50],
        "height": [1024, 480] * 2,
        "width": [1024, 832] * 2,
        "num_frames": [1, 81] * 2,
        "ulysses_degree": [1, 2, 1, 2],
    }
    return columns | changes


def test_energy_times_throughput_is_power() -> None:
    """Joules per generation times generations per second are the watts of all devices."""
    guess = predict(rows_of(table()), SOURCE)
    devices = np.array([1, 2, 1, 2])
    assert guess["energy_per_gen_j"] * guess["throughput_gen_s"] == pytest.approx(devices * guess["power_per_gpu_w"])
    batch = np.array([1, 2, 4, 8])
    assert guess["throughput_gen_s"] * guess["batch_latency_s"] == pytest.approx(batch)


def test_more_steps_take_longer() -> None:
    """Time grows with the denoising steps, by less than in proportion: encoder and decoder run once."""
    few, many = (predict(rows_of(table(inference_steps=[n] * 4)), SOURCE)["batch_latency_s"] for n in (10, 40))
    assert (many > few).all()
    assert (many < 4 * few).all()


def test_every_row_has_an_interval_and_groups() -> None:
    """Rows are predicted with intervals, and errors grouped, by default with images and videos apart."""
    guess = {name: values.tolist() for name, values in predict(rows_of(table()), SOURCE).items()}
    found = validate(table(), SOURCE, guess)
    assert found["rows"] == 4
    assert set(found["metrics"]) == set(TARGETS)
    assert set(found["groups"]["task"]) == {"text-to-image", "text-to-video"}
    low, high = found["predictions"][0]["batch_latency_s_interval"]
    assert low < found["predictions"][0]["batch_latency_s"] < high


def test_what_is_missing_or_unknown_is_named() -> None:
    """A missing column and an unknown model are errors that list what is known."""
    columns = table()
    del columns["inference_steps"]
    with pytest.raises(InputError, match="lack column 'inference_steps'"):
        validate(columns, SOURCE)
    with pytest.raises(InputError, match="is not in the catalog"):
        validate(table(model_id=["nothing"] * 4), SOURCE)


def test_attention_of_2020_loses_on_newer_chips() -> None:
    """The framework's own attention runs at the A100's rate there, and at a falling share of later chips'."""
    factors = [legacy(Device(catalog.chip(n), catalog.default_node(catalog.chip(n)))) for n in ("a100", "h100", "b200")]
    assert factors[0] == 1
    assert factors[1] == pytest.approx(1 / 0.62, rel=0.05)
    assert factors[2] == pytest.approx(2 / 0.62, rel=0.05)


def test_a_picture_larger_than_any_fitted_is_marked() -> None:
    """A row outside what was measured is extrapolated, and says by what."""
    lines = validate(table(width=[4096, 832] * 2), SOURCE)["predictions"]
    assert [line["extrapolated"] for line in lines] == [False] * 4  # tokens lie below those of a video
    lines = validate(table(num_frames=[1, 801] * 2), SOURCE)["predictions"]
    assert [line.get("beyond", []) for line in lines] == [[], ["tokens"]] * 2


def test_no_file_is_lost_for_a_row() -> None:
    """An unknown model, chip or cell marks its row with a reason; parameters alone make a model; drivers' names are chips."""
    rows = table(
        model_id=["PixArt-Sigma-XL-2-1024-MS", "no/such-model", "no/such-model", "sdxl-turbo"],
        gpu=["NVIDIA H100 80GB HBM3", "H100", "H100", "Z9"], total_params_b=["", "", 8.0, ""],
    )  # fmt: skip
    del rows["height"]
    told = validate(rows, SOURCE, None)
    assert [r["row_id"] for r in told["refused"]] == [1, 3]
    assert "total_params_b" in told["refused"][0]["reason"]
    assert [p["row_id"] for p in told["predictions"]] == [0, 2]
    assert "facts" in told["predictions"][1]["beyond"]
    assert told["notes"] == ["column height is not there and was taken as the model's own"]


def test_columns_of_the_second_leaderboard_are_read() -> None:
    """Energy an image and time of a batch imply throughput and power; sizes are the pipeline's own."""
    rows = {
        "Model": ["stabilityai/stable-diffusion-2-1"], "GPU": ["NVIDIA A100-SXM4-40GB"], "Batch size": [4],
        "Denoising steps": [25], "Energy/image (J)": [600.0], "Energy/video (J)": [float("nan")],
        "Batch latency (s)": [8.0],
    }  # fmt: skip
    assert set(validate(rows, SOURCE)["metrics"]) == set(TARGETS)


def test_a_file_of_the_second_leaderboard_is_compared(tmp_path: Path) -> None:
    """Its own column names reach the errors and the figures measured of each prediction; a row that is not known is told."""
    path = tmp_path / "v2.csv"
    path.write_text(
        "Model,GPU,Energy/image (J),Batch latency (s),Batch size,Denoising steps,Frames\n"
        "stabilityai/stable-diffusion-2-1,NVIDIA H100 80GB HBM3,400,8.0,4,25,\n"
        "nobody/knows,NVIDIA H100 80GB HBM3,400,8.0,4,25,\n",
        "utf-8",
    )
    told = configurations("diffusion", path)
    assert [r["row_id"] for r in told["refused"]] == [1]
    assert told["predictions"][0]["measured"]["throughput_gen_s"] == 0.5
    assert told["predictions"][0]["group"] == "stabilityai/stable-diffusion-2-1"
