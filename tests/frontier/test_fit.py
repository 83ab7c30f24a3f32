"""Tests of `wattline.frontier.fit`: known truths are recovered, error bars cover, luck and outliers are set aside."""

from __future__ import annotations

import functools
import itertools
import math
import re

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from wattline import InputError
from wattline.frontier.fit import Fitted, _active_set, _convex, _student, fit

from ..strategies import convex_frontiers

# Power-limit sweeps, 40 training steps each, one sample per limit: (W, s, J). Traces of Zeus (You, Chung,
# Chowdhury, NSDI 2023; Apache-2.0): A40 with ResNet-50, and with ShuffleNet v2, whose saturated top is noise.
RESNET50_A40 = [
    (100, 69.363, 8033.6), (125, 56.476, 7071.9), (150, 36.850, 5512.2), (175, 27.939, 4867.5), (200, 25.185, 5017.5),
    (225, 24.548, 5500.0), (250, 24.163, 5915.6), (275, 24.062, 6122.3), (300, 24.012, 6224.9),
]  # fmt: skip
SHUFFLENET_A40 = [
    (100, 4.410, 439.5), (125, 2.275, 286.2), (150, 1.785, 268.7), (175, 1.818, 306.2), (200, 1.696, 330.2),
    (225, 1.688, 336.6), (250, 1.711, 328.8), (275, 1.695, 328.7), (300, 1.679, 328.7),
]  # fmt: skip

LONG = 1.8


def truth(time):
    """Total joules of an invented device at `time` seconds: dynamic energy falls with time, leakage grows."""
    return 200.0 / time + 60.0 * time


def sample(seed: int, settings: int, repeats: int, noise: float, time_noise: float = 0.0):
    """Draw noisy sweeps of the invented device: times, energies and knobs of every sample."""
    rng = np.random.default_rng(seed)
    time = np.repeat(np.linspace(1.0, LONG, settings), repeats)
    energy = truth(time) * (1 + noise * rng.standard_normal(time.size))
    knobs = [{"clock": k} for k in range(settings) for _ in range(repeats)]
    return time * (1 + time_noise * rng.standard_normal(time.size)), energy, knobs


@functools.cache
def studies(settings: int, repeats: int, time_noise: float, runs: int = 40) -> tuple[Fitted, ...]:
    """Fit many noisy sweeps at 2 % noise."""
    out = []
    for seed in range(runs):
        time, energy, knobs = sample(seed, settings, repeats, 0.02, time_noise)
        out.append(fit(time, energy, knobs=knobs))
    return tuple(out)


STUDIES = [(12, 5, 0.0), (20, 3, 0.005), (15, 1, 0.0)]


@pytest.mark.parametrize("study", STUDIES)
def test_intervals_cover_the_truth_about_as_often_as_they_say(study):
    """Of 95 % intervals, with known truth, 90 to 99 % hold it: from repeats, with noisy times, from single samples."""
    held = []
    for f in studies(*study):
        low, high = f.interval(0.95)
        held.append((low <= truth(f.time)) & (truth(f.time) <= high))
    assert 0.90 <= np.mean(held) <= 0.99


@pytest.mark.parametrize("study", STUDIES)
def test_the_fit_is_nearer_the_truth_than_the_raw_hull(study):
    """At 2 % noise the raw hull is biased low; regression halves the bias and lowers the largest error."""
    bias, error = {"raw": [], "fit": []}, {"raw": [], "fit": []}
    for f in studies(*study):
        for name, hull in (("raw", f.raw.hull()), ("fit", f.hull)):
            bias[name].append(np.mean(hull.energy / truth(hull.time) - 1))
            grid = np.linspace(max(f.hull.time[0], f.raw.time[0]), LONG * 0.98, 40)
            error[name].append(max(abs(hull.by(t).energy / truth(t) - 1) for t in grid))
    assert np.mean(bias["raw"]) < -0.005
    assert abs(np.mean(bias["fit"])) < 0.5 * abs(np.mean(bias["raw"]))
    assert np.mean(error["fit"]) < 0.85 * np.mean(error["raw"])


@pytest.mark.parametrize("study", STUDIES)
def test_the_noise_is_found(study):
    """The noise of one sample is estimated within a fifth on average, and honestly counted."""
    seen = [f.noise for f in studies(*study)]
    assert np.mean(seen) == pytest.approx(0.02, rel=0.2)
    for f in studies(*study):
        assert f.uncertainty == pytest.approx(f.frontier.at(-1).uncertainty)
        assert 0 < f.uncertainty < 0.05


@given(convex_frontiers(most=8, spread=1), st.integers(1, 3))
def test_convex_samples_without_noise_come_back_exactly(truth, repeats):
    """Noise-free convex samples are their own fit, to the last bit, and say that they know no noise or none."""
    assume(truth.time[0] > 0 and truth.energy[-1] > 0)
    time, energy = np.repeat(truth.time, repeats), np.repeat(truth.energy, repeats)
    knobs = [{"k": k} for k in range(len(truth)) for _ in range(repeats)]
    f = fit(time, energy, knobs=knobs)
    np.testing.assert_allclose(f.fitted, truth.energy, rtol=1e-9)
    np.testing.assert_allclose(f.frontier.time, truth.time, rtol=1e-12)
    assert not f.above.any()
    assert not f.outlier.any()
    assert math.isnan(f.noise) or f.noise < 1e-6


@given(
    st.lists(st.tuples(st.floats(1, 100), st.floats(1, 100)), min_size=1, max_size=12),
    st.sampled_from([None, 0.05]),
    st.sampled_from([0.0, 2.0]),
)
def test_any_samples_make_a_frontier(rows, sigma, watts):
    """Whatever is measured, the answer is a frontier, its hull convex, and every number finite or marked unknown."""
    time, energy = (np.array(column) for column in zip(*rows, strict=True))
    f = fit(time, energy, waiting_power=watts, sigma=sigma)
    assert len(f.frontier) >= 1
    assert (np.diff(f.frontier.energy) < 0).all()
    slopes = np.diff(f.hull.energy) / np.diff(f.hull.time)
    assert (np.diff(slopes) >= -1e-9 * np.abs(slopes[:-1])).all()
    assert np.isfinite(f.fitted).all()
    assert np.isfinite(f.standard_error).all() or math.isnan(f.noise)
    np.testing.assert_allclose(f.residual, f.measured - f.fitted)
    on = ~f.above
    order = np.lexsort((f.fitted[on], f.time[on]))
    t, e = f.time[on][order], f.fitted[on][order]
    for a, b, c in itertools.combinations(range(t.size), 3):
        if t[a] < t[b] < t[c]:
            chord = e[a] + (e[c] - e[a]) * (t[b] - t[a]) / (t[c] - t[a])
            assert e[b] <= chord + 1e-6 * max(e)


@given(st.randoms(use_true_random=False))
def test_the_order_of_samples_does_not_matter(random):
    """Samples shuffled give the same frontier."""
    time, energy, knobs = sample(3, 8, 3, 0.02, 0.01)
    order = list(range(time.size))
    random.shuffle(order)
    one, two = fit(time, energy, knobs=knobs), fit(time[order], energy[order], knobs=[knobs[k] for k in order])
    np.testing.assert_allclose(one.frontier.time, two.frontier.time, rtol=1e-12)
    np.testing.assert_allclose(one.frontier.energy, two.frontier.energy, rtol=1e-9)
    assert one.noise == pytest.approx(two.noise)


@given(st.integers(0, 50), st.integers(3, 9))
def test_the_regression_equals_the_best_of_all_faces(seed, size):
    """The active set finds what trying every set of bends finds: least squares among convex curves."""
    rng = np.random.default_rng(seed)
    t, unit = np.sort(rng.random(size)), 0.5 + rng.random(size)
    e = 4 * (t - 0.6) ** 2 + 0.5 * rng.standard_normal(size)
    line = _convex(t, e, unit)
    got = float((((e - line.at(t)) / unit) ** 2).sum())
    x = (t - t[0]) / (t[-1] - t[0])
    best = math.inf
    for count in range(size - 1):
        for bends in itertools.combinations(range(1, size - 1), count):
            rows = np.column_stack([np.ones(size), x, *(np.maximum(x - x[k], 0) for k in bends)]) / unit[:, None]
            c = np.linalg.lstsq(rows, e / unit, rcond=None)[0]
            if (c[2:] >= -1e-12).all():
                best = min(best, float(((e / unit - rows @ c) ** 2).sum()))
    assert got == pytest.approx(best, rel=1e-7, abs=1e-12)


def test_the_active_set_meets_the_conditions_of_an_optimum():
    """On 60 noisy points no unused hinge would help, and every used one bends the right way."""
    rng = np.random.default_rng(5)
    x = np.linspace(0, 1, 60)
    y = (x - 0.5) ** 2 + 0.05 * rng.standard_normal(60)
    full = np.column_stack([np.ones(60), x, np.maximum(x[:, None] - x[1:-1], 0)])
    active = _active_set(full, y, 2)
    c = np.linalg.lstsq(full[:, active], y, rcond=None)[0]
    assert (c[2:] > 0).all()
    assert (full.T @ (y - full[:, active] @ c)).max() < 1e-9


def test_waiting_power_only_tilts_the_answer():
    """The same samples above another waiting power give the same total energies on the curve."""
    time, energy, knobs = sample(1, 10, 4, 0.02)
    plain, tilted = fit(time, energy, knobs=knobs), fit(time, energy - 50 * time, knobs=knobs, waiting_power=50)
    np.testing.assert_allclose(plain.fitted, tilted.fitted + 50 * tilted.time, rtol=1e-9)
    assert tilted.frontier.waiting_power == 50
    assert tilted.noise == pytest.approx(plain.noise)


def test_a_bad_sample_among_repeats_is_set_aside():
    """One reading 20 % low among five neither passes for efficiency nor moves its setting."""
    time, energy, knobs = sample(2, 12, 5, 0.02)
    energy[31] *= 0.8
    f = fit(time, energy, knobs=knobs)
    assert f.outlier[31]
    assert f.repeats[6] == 5 - np.count_nonzero(f.outlier[30:35])
    assert f.fitted[6] == pytest.approx(truth(f.time[6]), rel=0.03)


def test_of_two_repeats_that_disagree_neither_is_the_outlier():
    """Nothing tells which of two is wrong, so both count."""
    time, energy, knobs = sample(2, 6, 2, 0.01)
    energy[4] *= 1.5
    assert not fit(time, energy, knobs=knobs).outlier.any()


def test_a_single_lucky_sample_is_set_aside():
    """Without repeats, a sample 20 % below what convexity allows beside the others is set aside."""
    time, energy, knobs = sample(4, 15, 1, 0.01)
    energy[7] *= 0.8
    f = fit(time, energy, knobs=knobs)
    assert np.flatnonzero(f.outlier).tolist() == [7]
    assert f.fitted[7] == pytest.approx(truth(time[7]), rel=0.02)
    assert f.raw.by(LONG).energy < 0.85 * truth(LONG)
    assert f.frontier.by(LONG).energy == pytest.approx(truth(LONG), rel=0.03)


def test_a_setting_above_the_curve_keeps_its_own_energy():
    """A setting that is truly worse (another memory clock, say) is neither smoothed away nor bends the curve."""
    time, energy, knobs = sample(6, 12, 5, 0.01)
    energy[30:35] *= 1.15
    f = fit(time, energy, knobs=knobs)
    assert np.flatnonzero(f.above).tolist() == [6]
    assert f.fitted[6] == f.measured[6]
    rest = np.arange(12) != 6
    np.testing.assert_allclose(f.fitted[rest], truth(f.time[rest]), rtol=0.03)


def test_a_measured_sweep_with_a_clean_shape_keeps_it():
    """Of ResNet-50 on an A40 no limit is set aside; slower *and* costlier limits are off the frontier, not lies."""
    watts, time, energy = zip(*RESNET50_A40, strict=True)
    f = fit(time, energy, knobs=[{"power_limit": w} for w in watts], source="zeus")
    assert not f.outlier.any()
    assert not f.above.any()
    assert [f.frontier.plan(k)[0].knobs["power_limit"] for k in range(len(f.frontier))] == [
        300,
        275,
        250,
        225,
        200,
        175,
    ]
    np.testing.assert_allclose(f.fitted, energy, rtol=0.01)
    assert f.frontier.plan(0)[0].leaf.provenance == "measured"


def test_a_measured_sweep_that_is_mostly_noise_says_so():
    """ShuffleNet v2 hardly notices the limit: the answer is uncertain by several percent, and not the lucky point."""
    watts, time, energy = zip(*SHUFFLENET_A40, strict=True)
    f = fit(time, energy, knobs=[{"power_limit": w} for w in watts])
    assert f.noise > 0.03
    assert f.uncertainty > 0.02
    assert f.hull.least_energy.energy > f.raw.least_energy.energy


def test_a_given_noise_is_believed():
    """sigma= sets the error bars: one setting, four samples, half the noise."""
    f = fit([2.0] * 4, [10.0] * 4, knobs=[{"k": 1}] * 4, sigma=0.1)
    assert (f.noise, f.degrees) == (0.1, math.inf)
    assert f.standard_error == pytest.approx([0.5])
    assert f.uncertainty == pytest.approx(0.05)
    low, high = f.interval(0.6827)
    assert (low[0], high[0]) == pytest.approx((9.5, 10.5), rel=1e-3)


def test_one_sample_is_a_frontier_of_unknown_error():
    """A single reading is taken as it is, and its uncertainty is NaN rather than zero."""
    f = fit([2.0], [10.0])
    assert (f.frontier.time[0], f.frontier.energy[0]) == (2.0, 10.0)
    assert math.isnan(f.noise)
    assert math.isnan(f.uncertainty)
    assert np.isnan(f.standard_error).all()


def test_settings_are_told_apart_by_value_not_by_order_of_keys():
    """Knobs equal as mappings are one setting, and its first mapping goes to the plan."""
    f = fit([1, 1, 2], [3, 3, 2], knobs=[{"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1, "b": 3}])
    assert f.knobs == ({"a": 1, "b": 2}, {"a": 1, "b": 3})
    assert f.repeats.tolist() == [2, 1]
    assert f.frontier.plan(0)[0].knobs == {"a": 1, "b": 2}


@pytest.mark.parametrize(("level", "degrees", "quantile"), [(0.95, 10, 2.228), (0.95, 5, 2.571), (0.99, 30, 2.750)])
def test_the_quantile_of_student_is_that_of_the_table(level, degrees, quantile):
    """Two-sided quantiles agree with the printed table of Student's t within one percent."""
    assert _student(level, degrees) == pytest.approx(quantile, rel=0.01)


MESSAGES = [
    (lambda: fit([], []), "two lists of one length >= 1, got shapes (0,), (0,)"),
    (lambda: fit([1, 2], [1]), "two lists of one length >= 1, got shapes (2,), (1,)"),
    (lambda: fit([[1]], [[1]]), "two lists of one length"),
    (lambda: fit([1, math.nan], [1, 1]), "every time must be finite and > 0 s, but sample 1 is nan"),
    (lambda: fit([0, 1], [1, 1]), "every time must be finite and > 0 s, but sample 0 is 0.0"),
    (lambda: fit([1, 1], [1, math.inf]), "every energy must be finite, but sample 1 is inf"),
    (lambda: fit([1, 1], [1, -1]), "every total energy must be > 0 J, but sample 1 is -1.0 J with waiting"),
    (lambda: fit([1, 1], [1, 1], knobs=[{}]), "knobs must name the setting of each of the 2 samples, got 1"),
    (lambda: fit([1], [1], sigma=-1), "sigma must be a relative standard deviation >= 0, got -1"),
    (lambda: fit([1], [1], waiting_power=math.nan), "waiting_power must be a finite number of watts >= 0, got nan"),
    (lambda: fit([1], [1]).interval(95), "an interval's level lies between 0 and 1, got 95"),
]


@pytest.mark.parametrize(("call", "message"), MESSAGES, ids=[m for _, m in MESSAGES])
def test_messages_say_the_rule_and_what_was_received(call, message):
    """Samples that cannot be used raise, naming the sample."""
    with pytest.raises(InputError, match=re.escape(message)):
        call()
