"""Tests for `wattline.workload.memory` and `wattline.workload.fits`."""

import csv
from dataclasses import replace
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.core.errors import CapacityError
from wattline.training.validate_training import read_run
from wattline.workload.catalog import model
from wattline.workload.fits import check_serving, check_training
from wattline.workload.memory import (
    LOGIT,
    cache_bytes_per_token,
    in_flight,
    layer_activations,
    max_batch,
    sequence_bytes,
    serving_footprint,
    serving_weights,
    stage_parameters,
    training_footprint,
)
from wattline.workload.model import Layer
from wattline.workload.parallel import Parallel
from wattline.workload.tuning import ADAM_BF16_MOMENTS

GPT, LLAMA, BIG, DEEPSEEK = (model(n) for n in ("gpt3-175b", "llama-3.1-8b", "llama-3.1-70b", "deepseek-v3"))
GB = 1e9


@pytest.mark.parametrize("name", ["megatron-22b", "gpt3-175b", "megatron-530b", "megatron-1t"])
@pytest.mark.parametrize("t", [1, 4, 8])
def test_activations_equal_table_two_of_korthikanti_et_al(name, t):
    """Bytes per GPT layer equal the published formulas for each way to recompute and to split."""
    m, s, b = model(name), 2048, 2
    h, a = m.hidden, m.heads
    formula = {
        ("none", False): s * b * h * (10 + 24 / t + 5 * a * s / (h * t)),
        ("none", True): s * b * h / t * (34 + 5 * a * s / h),
        ("selective", False): s * b * h * (10 + 24 / t),
        ("selective", True): s * b * h * 34 / t,
        ("full", False): s * b * h * 2,
    }
    for (recompute, split), expected in formula.items():
        p = Parallel(tensor=t, sequence=split)
        found = layer_activations(m, p, Layer(), s, b, recompute, flash=False, dropout=True)
        assert found == pytest.approx(expected, rel=1e-12)


def test_state_is_eighteen_bytes_per_parameter():
    """Weights, gradients and Adam's state of one device sum to 18 bytes per parameter, 14 with bf16 moments."""
    for optimizer, each in (({}, 18), ({"optimizer": ADAM_BF16_MOMENTS}, 14)):
        f = training_footprint(LLAMA, Parallel(), 2048, 1, 1, **optimizer)
        assert f.weights + f.gradients + f.optimizer == pytest.approx(each * LLAMA.parameters)


@pytest.mark.parametrize(("zero", "each"), [(0, 18), (1, 6 + 12 / 4), (2, 2 + 16 / 4), (3, 18 / 4)])
def test_zero_shards_one_state_after_another(zero, each):
    """ZeRO 1, 2 and 3 shard optimizer, gradients and weights over the data ranks (arXiv 1910.02054, figure 1)."""
    f = training_footprint(LLAMA, Parallel(data=4, zero=zero), 2048, 1, 1)
    assert f.weights + f.gradients + f.optimizer == pytest.approx(each * LLAMA.parameters)


@given(st.integers(1, 16), st.sampled_from([1, 2, 4, 8]))
def test_stages_and_ranks_hold_every_parameter(stages, tensor):
    """Summed over stages and tensor ranks, no parameter is lost; only norms and tied tables come twice."""
    p = Parallel(pipeline=stages, tensor=tensor)
    held = tensor * sum(sum(stage_parameters(GPT, p, s)) for s in range(stages))
    again = (tensor - 1) * GPT.parts["norms"] + (GPT.vocab * GPT.hidden if stages > 1 else 0)
    assert held == pytest.approx(GPT.parameters + again, rel=1e-3)
    assert held >= GPT.parameters * (1 - 1e-12)


@given(st.integers(0, 7), st.integers(1, 64))
def test_one_forward_one_backward_keeps_one_microbatch_per_stage_ahead(stage, microbatches):
    """1F1B holds min(m, p - i) microbatches, GPipe all."""
    p = Parallel(pipeline=8)
    assert in_flight(p, stage, microbatches) == min(microbatches, 8 - stage)
    assert in_flight(p, stage, microbatches, "gpipe") == microbatches


def test_interleaving_keeps_a_few_chunks_more():
    """The first stage of an interleaved schedule holds 1 + (p - 1) / (p v) times as much."""
    p, v = 8, 4
    assert in_flight(Parallel(pipeline=p, virtual=v), 0, 64) / p == pytest.approx(1 + (p - 1) / (p * v))


@given(st.sampled_from([512, 1024, 2048, 4096]), st.integers(1, 4), st.sampled_from([LLAMA, DEEPSEEK, GPT]))
def test_memory_grows_with_sequence_and_batch_and_falls_with_recomputation(sequence, batch, m):
    """More tokens need more; recomputing more needs less."""

    def need(s, b, recompute="none"):
        return training_footprint(m, Parallel(), s, b, 4, recompute=recompute, flash=False).activations

    assert need(sequence, batch) <= need(2 * sequence, batch)
    assert need(sequence, batch) <= need(sequence, batch + 1)
    p = Parallel(pipeline=1)
    kept = [layer_activations(m, p, Layer(), sequence, batch, r, flash=False) for r in ("none", "selective", "full")]
    assert kept == sorted(kept, reverse=True)


@pytest.mark.parametrize(("tensor", "share"), [(1, 1), (2, 1 / 2), (8, 1 / 8), (16, 1 / 8)])
def test_cache_is_divided_down_to_one_head_each(tensor, share):
    """Tensor ranks divide key-value heads until each has one; a latent cache is held whole by all."""
    assert cache_bytes_per_token(BIG, Parallel(tensor=tensor)) == pytest.approx(327680 * share)
    assert cache_bytes_per_token(DEEPSEEK, Parallel(tensor=tensor)) == 70272


def test_windowed_layers_cache_no_more_than_their_window():
    """Half of gpt-oss's layers stop growing at 128 tokens."""
    m = model("gpt-oss-20b")
    assert sequence_bytes(m, Parallel(), 10_000) == 12 * 2 * 8 * 64 * 2 * (10_000 + 128)


def test_recurrent_layers_hold_a_state_of_fixed_size():
    """A hybrid model's memory grows only with its attention layers."""
    m = model("nemotron-nano-9b-v2")
    state = sequence_bytes(m, Parallel(), 0)
    assert state > 0
    assert sequence_bytes(m, Parallel(), 1000) - state == 1000 * m.kv_bytes_per_token


@pytest.mark.parametrize("m", [LLAMA, DEEPSEEK, model("gpt-oss-120b")])
def test_serving_weights_of_one_device_are_the_model(m):
    """One device holds every weight once, in its stored precision."""
    assert serving_weights(m, Parallel(section="serve")) == pytest.approx(m.weight_bytes, rel=1e-9)
    assert serving_weights(m, Parallel(section="serve", tensor=8)) < m.weight_bytes / 7


def test_the_largest_batch_fits_and_one_more_does_not():
    """`max_batch` is the edge of what `check_serving` accepts."""
    p, context = Parallel(section="serve"), 2048
    most = max_batch(LLAMA, p, 80 * GB, context)
    assert check_serving(LLAMA, p, 80 * GB, context, most).total <= 72 * GB
    with pytest.raises(CapacityError):
        check_serving(LLAMA, p, 80 * GB, context, most + 1)


@given(st.integers(1, 300), st.integers(1, 8000))
def test_serving_memory_grows_with_batch_and_context(batch, context):
    """More requests or longer ones never need less."""
    p = Parallel(section="serve")
    f = serving_footprint(LLAMA, p, batch, context).total
    assert f <= serving_footprint(LLAMA, p, batch + 1, context).total
    assert f <= serving_footprint(LLAMA, p, batch, context + 1).total


def test_a_serving_model_too_large_is_answered_with_a_layout_that_fits():
    """The message says need, capacity and the smallest change that fits; that change is then accepted."""
    need = r"llama-3\.1-70b does not fit: needs 143\.\d GB on each device \(weights 141\.\d GB\)"
    words = need + r", has 72\.0 GB usable of 80\.0 GB; try serve\.tensor = 4"
    with pytest.raises(CapacityError, match=words):
        check_serving(BIG, Parallel(section="serve"), 80 * GB, 4096)
    check_serving(BIG, Parallel(section="serve", tensor=4), 80 * GB, 4096)


def test_too_many_requests_are_answered_with_how_many_fit():
    """If the weights fit, the batch is what to change."""
    with pytest.raises(CapacityError, match=r"try serve\.max_batch = \d+"):
        check_serving(LLAMA, Parallel(section="serve"), 80 * GB, 4096, 8000)


def test_a_training_job_too_large_is_answered_with_the_smallest_change():
    """Recomputation first, then sharding, then more ranks; what is suggested is then accepted."""
    p = Parallel(tensor=8, pipeline=8)
    with pytest.raises(CapacityError, match=r'activations .* try train\.recompute = "full"'):
        check_training(BIG, p, 8192, 1, 128, 80 * GB)
    check_training(BIG, p, 8192, 1, 128, 80 * GB, recompute="full")
    with pytest.raises(CapacityError, match=r'try train\.recompute = "full" and train\.zero = 2'):
        check_training(BIG, Parallel(tensor=8, data=8), 8192, 1, 16, 80 * GB)
    check_training(BIG, Parallel(tensor=8, data=8, zero=2), 8192, 1, 16, 80 * GB, recompute="full")
    with pytest.raises(CapacityError, match=r"try train\.tensor = 8 and train\.pipeline = 12"):
        check_training(GPT, Parallel(), 2048, 1, 64, 80 * GB)
    check_training(GPT, Parallel(tensor=8, pipeline=12), 2048, 1, 64, 80 * GB)


def test_nothing_fits_on_a_very_small_device():
    """Where no layout helps, the message says so."""
    with pytest.raises(CapacityError, match="device with more memory"):
        check_serving(model("megatron-1t"), Parallel(section="serve"), 1 * GB, 2048)
    with pytest.raises(CapacityError, match="device with more memory"):
        check_training(replace(model("megatron-1t"), name="big"), Parallel(), 2048, 1, 8, 1 * GB)


def test_published_megatron_runs_fit_on_eighty_gigabytes():
    """The layouts of Korthikanti et al. 2022 (table 3) fit as they reported: selective recomputation, split norms."""
    for name, p, batch, m in (
        ("megatron-22b", Parallel(tensor=8, sequence=True), 4, 1),
        ("gpt3-175b", Parallel(tensor=8, pipeline=8, virtual=3, sequence=True), 1, 64),
        ("megatron-530b", Parallel(tensor=8, pipeline=35, virtual=3, sequence=True), 1, 280),
        ("megatron-1t", Parallel(tensor=8, pipeline=64, sequence=True), 1, 512),
    ):
        check_training(
            model(name), p, 2048, batch, m, 80 * GB, recompute="selective", flash=False, dropout=True, usable=0.95
        )


def open_rows():
    """Published set-ups with their whole layout, one mapping each."""
    text = (resources.files("wattline.training") / "data" / "open_training.csv").read_text("utf-8")
    return list(csv.DictReader(text.splitlines()))


def test_what_is_documented_to_run_is_accepted():
    """Published set-ups on their own hardware are not refused, but for one whose recomputation is not stated."""
    refused = []
    for row in open_rows():
        run = read_run(row)
        job, capacity = run.job, run.cluster.chip["memory.hbm.capacity"]
        try:
            check_training(
                job.model,
                job.parallel,
                job.sequence,
                job.microbatch,
                job.microbatches,
                capacity,
                sure=True,
                usable=1.0,
                recompute=job.recompute,
                schedule=job.schedule,
                precision=job.precision,
                adapter=job.adapter,
                logit=LOGIT,
            )
        except CapacityError:
            refused.append(row["row_id"])
    assert refused == ["open-153"]


def test_published_peaks_lie_within_the_interval():
    """Reserved memory that trainers publish lies between the low and the high end, for layouts without a pipeline."""
    for row in open_rows():
        if not row["memory_gib"] or int(row["num_devices"]) > 64:
            continue
        run = read_run(row)
        job = run.job
        told = check_training(
            job.model,
            job.parallel,
            job.sequence,
            job.microbatch,
            job.microbatches,
            run.cluster.chip["memory.hbm.capacity"],
            sure=True,
            usable=1.0,
            recompute=job.recompute,
            precision=job.precision,
            adapter=job.adapter,
            logit=LOGIT,
        )
        assert told.low * 0.98 <= float(row["memory_gib"]) * 2**30 <= told.high, row["row_id"]
