"""Tests for `wattline.serving.serving_rows`: measured serving configurations beside predictions."""

from __future__ import annotations

import numpy as np
import pytest

from wattline.core.errors import InputError
from wattline.serving.beside import metrics
from wattline.serving.serving_rows import TARGETS, predict, rows_of, validate
from wattline.source.roofline.source import Roofline

SOURCE = Roofline()


def table(**changes: list[object]) -> dict[str, list[object]]:
    columns: dict[str, list[object]] = {
        "row_id": ["a", "b", "c"],
        "task": ["lm-arena-chat", "lm-arena-chat", "gpqa"],
        "model_id": ["meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen3-30B-A3B-Instruct-2507", "Qwen/Qwen3-32B"],
        "gpu": ["H100", "B200", "H100"],
        "attn_tp": [1, 1, 2],
        "avg_batch_size": [8.0, 64.0, 400.0],
        "avg_output_len": [390.0, 920.0, 7000.0],
    }
    return columns | changes


def test_every_row_is_predicted_with_an_interval() -> None:
    """Rows of several chips come back in order, each target inside its own interval."""
    found = validate(table(), SOURCE)
    assert found["rows"] == 3
    assert found["metrics"] == {}
    assert [p["row_id"] for p in found["predictions"]] == ["a", "b", "c"]
    for line in found["predictions"]:
        for name in TARGETS:
            low, high = line[f"{name}_interval"]
            assert low < line[name] < high


def test_energy_per_token_times_throughput_is_power() -> None:
    """The three figures of a row agree exactly."""
    guess = predict(rows_of(table()), SOURCE)
    devices = np.array([1, 1, 2])
    assert guess["energy_per_token_j"] * guess["throughput_tok_s"] == pytest.approx(devices * guess["power_per_gpu_w"])


def test_a_perfect_measurement_has_no_error() -> None:
    """What was measured exactly as predicted has errors of zero, in every group."""
    guess = {name: values.tolist() for name, values in predict(rows_of(table()), SOURCE).items()}
    found = validate(table(), SOURCE, guess)
    assert set(found["metrics"]) == set(TARGETS)
    for line in found["metrics"].values():
        assert line["mape"] == pytest.approx(0)
        assert line["coverage_90"] == 1
    assert set(found["groups"]) == {"family", "batch", "num_gpus", "task", "interval"}
    assert set(found["groups"]["batch"]) == {"0 to 12", "48 to 100", "over 300"}


def test_errors_are_of_the_measurement() -> None:
    """Relative errors are taken of what was measured."""
    found = metrics(np.array([1.1, 0.8, 1.0]), np.ones(3))
    assert found["mape"] == pytest.approx(0.1)
    assert found["median_ape"] == pytest.approx(0.1)
    assert found["bias"] == pytest.approx(0.0)


def test_columns_in_text_are_read_as_numbers() -> None:
    """A table read without types predicts the same."""
    text = {name: [str(cell) for cell in column] for name, column in table().items()}
    for name, values in predict(rows_of(text), SOURCE).items():
        assert values == pytest.approx(predict(rows_of(table()), SOURCE)[name])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gpu": ["H101"] * 3}, "chip 'H101' is not in the catalog"),
        ({"model_id": ["nobody/nothing"] * 3}, "model 'nobody/nothing' is not in the catalog"),
        ({"task": ["singing"] * 3}, "task 'singing' has no default prompt; known: gpqa"),
        ({"avg_batch_size": ["many"] * 3}, "column avg_batch_size must hold numbers"),
        ({"attn_tp": [1.5] * 3}, "column attn_tp must hold whole numbers"),
        ({"throughput_tok_s": [1.0, -1.0, 1.0]}, "column throughput_tok_s must hold a positive number"),
    ],
)
def test_what_is_not_known_is_refused_by_name(changes: dict[str, list[object]], message: str) -> None:
    """Unknown chips, models and tasks, and cells that are no number, are errors that list what is known."""
    with pytest.raises(InputError, match=message):
        validate(table(**changes), SOURCE)


def test_one_row_that_cannot_be_read_costs_no_other() -> None:
    """An unknown chip or model marks its row with the reason; names as drivers print them and short ids are known."""
    found = validate(
        table(
            gpu=["H101", "NVIDIA H100 80GB HBM3", "NVIDIA B200"],
            model_id=["Qwen/Qwen3-32B", "Llama-3.1-8B-Instruct", "Qwen3-32B"],
            throughput_tok_s=["100", "", "200"],
        ),
        SOURCE,
    )
    assert found["rows"] == 3
    assert [p["row_id"] for p in found["predictions"]] == ["b", "c"]
    assert [r["row_id"] for r in found["refused"]] == ["a"]
    assert "chip 'H101' is not in the catalog" in found["refused"][0]["reason"]
    assert found["metrics"]["throughput_tok_s"]["mape"] > 0
    assert any(note.startswith("column engine is not there") for note in found["notes"])


def test_columns_of_the_second_leaderboard_are_known() -> None:
    """Model, GPU, TP and joules per request of ML.ENERGY v2 are read, on vLLM 0.5 with its synchronous host."""
    found = rows_of(
        {
            "Model": ["meta-llama/Meta-Llama-3.1-8B-Instruct"], "GPU": ["NVIDIA A100-SXM4-40GB"], "TP": [1], "PP": [1],
            "Avg BS (reqs)": [30.0], "Avg Output Tokens": [300.0], "kind": ["llm_text_generation/chat"],
        }
    )[0]  # fmt: skip
    assert (found.device.chip.name, found.replica.engine.version) == ("a100-sxm-40gb", (0, 5))
    assert not found.replica.ahead(found.device)


def test_a_missing_column_is_named() -> None:
    """A table without a needed column is refused with the list of columns."""
    columns = table()
    del columns["avg_output_len"]
    with pytest.raises(InputError, match="lack column 'avg_output_len'; needed: model_id, gpu"):
        validate(columns, SOURCE)


def test_a_stated_prompt_replaces_the_default() -> None:
    """A column of prompt lengths wins over the task's default, and lets the task be unknown."""
    longer = table(task=["singing"] * 3, prompt_len=[4000, 4000, 4000])
    assert (
        predict(rows_of(longer), SOURCE)["energy_per_token_j"] > predict(rows_of(table()), SOURCE)["energy_per_token_j"]
    ).all()


def test_requests_that_do_not_fit_have_shorter_contexts() -> None:
    """Where more ran together than fit at the stated length, their mean context is what the memory holds."""
    crowded = rows_of(table(avg_batch_size=[1200.0, 64.0, 400.0]))[0]
    roomy = rows_of(table())[0]
    assert crowded.load.seen < roomy.load.seen
    # 2 MB of logits per request are held besides its cache, hence nearly.
    assert crowded.replica.capacity(crowded.load, crowded.device) == pytest.approx(1200, rel=0.05)


def test_a_prompt_sent_again_is_cached_as_far_as_the_cache_holds() -> None:
    """Of prompts sent twice, half the tokens are found again if all fit the cache, fewer if they do not."""
    sent = table(n_requests_sampled=[2048] * 3, num_unique_requests=[1024] * 3)
    small, large, tight = rows_of(sent)
    assert small.load.cached == pytest.approx(0.5 * small.replica.capacity(small.load, small.device) / 1024)
    assert large.load.cached == 0.5
    assert tight.load.cached < small.load.cached
    assert all(r.load.cached == 0 for r in rows_of(table()))


def test_a_model_that_scales_pictures_has_tokens_of_its_own() -> None:
    """Gemma 3 sees 256 tokens of every picture, whatever its size; others those of the task."""
    rows = rows_of(
        table(
            task=["image-chat"] * 3, model_id=["google/gemma-3-12b-it", "Qwen/Qwen3-VL-8B-Instruct", "Qwen/Qwen3-32B"]
        )
    )
    assert (rows[0].load.visual, rows[0].load.patches) == (256, 4096)
    assert rows[1].load.visual == rows[2].load.visual != 256


def test_a_row_unlike_the_fitted_ones_has_a_wider_interval() -> None:
    """A chip never measured and experts in a format never fitted are named, and their interval is wider."""
    known, strange = validate(
        table(
            model_id=["Qwen/Qwen3-32B"] * 2, gpu=["H100", "A100"], task=["gpqa"] * 2, attn_tp=[2, 2],
            avg_batch_size=[32.0, 32.0], avg_output_len=[900.0] * 2, row_id=["a", "b"],
        ),
        SOURCE,
    )["predictions"]  # fmt: skip
    assert not known["extrapolated"]
    assert strange["extrapolated"]
    assert strange["beyond"] == ["chip"]
    for name in TARGETS:
        (low, high), (least, most) = known[f"{name}_interval"], strange[f"{name}_interval"]
        assert most / least > (high / low) ** 1.2
