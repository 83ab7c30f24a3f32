"""Tests of `wattline.frontier.algebra`: its laws, its fast paths against obvious ones, its queries and messages."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import re

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from wattline import NEVER, ZERO, Frontier, GoalError, InputError, best, total
from wattline.frontier.pruning import hull_index, prune
from wattline.frontier.sums import FILTER_PAIRS

from ..strategies import (
    QUARTERS,
    close,
    convex_frontiers,
    exact_frontiers,
    exact_points,
    rough_frontiers,
    same,
    trees,
)

SOME = exact_frontiers()
EDGE = exact_frontiers(edge=True)
ANY_WATTS = exact_frontiers(None, edge=True)
OPERATORS = {"+": Frontier.__add__, "&": Frontier.__and__, "|": Frontier.__or__}


def obvious_prune(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Keep what no other point beats, by trying every pair."""
    distinct = sorted(set(points))
    return [p for p in distinct if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in distinct)]


def points(f: Frontier) -> list[tuple[float, float]]:
    return list(zip(f.time.tolist(), f.energy.tolist(), strict=True))


def frontier(time, energy, watts=0.0, **kwargs) -> Frontier:
    return Frontier.of(time, energy, waiting_power=watts, **kwargs)


# ---- laws ----------------------------------------------------------------------------------------


def test_sums_forgive_the_last_bits_of_a_waiting_power() -> None:
    """Watts that were summed in another order, 0.1 + 0.2 and 0.3, are of one device."""
    one, other = frontier([1, 2], [2, 1], 0.1 + 0.2), frontier([1, 2], [2, 1], 0.3)
    assert len(one + other) == len(one + one)
    assert len(one | other) == 2


@given(EDGE, EDGE, EDGE)
def test_law_1_sums_are_associative_and_commutative(a, b, c):
    """law 1: work in any order and grouping takes the same seconds and joules."""
    same((a + b) + c, a + (b + c))
    same(a + b, b + a)
    same(total([a, b, c]), a + b + c)


@given(ANY_WATTS, ANY_WATTS, ANY_WATTS)
def test_law_2_barriers_are_associative_and_commutative(a, b, c):
    """law 2: neighbours at a barrier may be named in any order and grouping."""
    same((a & b) & c, a & (b & c))
    same(a & b, b & a)


@given(SOME, SOME, SOME)
def test_law_3_either_is_associative_commutative_and_idempotent(a, b, c):
    """law 3: the lower envelope is that of a set."""
    same((a | b) | c, a | (b | c))
    same(a | b, b | a)
    same(a | a, a)


@given(SOME, st.integers(1, 4))
def test_law_4_the_same_choice_n_times_never_beats_free_choices(a, n):
    """law 4: at every deadline n * a costs at least a + ... + a."""
    free, tied = total([a] * n), n * a
    assert tied.fastest.time == free.fastest.time
    for time, energy in points(tied):
        assert free.by(time).energy <= energy
    assert set(points(tied)) <= {(n * t, n * e) for t, e in points(a)}


@given(SOME, st.integers(1, 5))
def test_law_4_on_hulls_the_same_choice_n_times_is_as_good(a, n):
    """law 4: where points may be mixed, n * a and a + ... + a are one frontier."""
    close(n * a.hull(), total([a.hull()] * n))


@given(SOME, st.integers(1, 5))
def test_law_10_copies_on_hulls_are_as_good_as_choosing_apart(a, n):
    """law 10: n equal devices on hulls, all choosing alike, are a & ... & a; no time or waiting is lost."""
    tied, free = a.hull().copies(n), functools.reduce(Frontier.__and__, [a.hull()] * n)
    close(tied, free)
    assert tied.waiting_power == n * a.waiting_power


@given(EDGE, st.integers(1, 4))
def test_copies_unroll_to_each_device_and_reproduce_their_point(a, n):
    """law 8 for copies: n times the child's choices, side by side, sum to the point's energy and not to its time."""
    made = a.copies(n)
    np.testing.assert_array_equal(made.time, a.time)
    for i in range(len(made)):
        plan = made.plan(i)
        assert len(plan) == n * len(a.plan(i))
        assert sum(c.energy for c in plan) == pytest.approx(made.energy[i])


def test_no_copies_are_no_work_and_half_a_copy_is_refused():
    """copies(0) is ZERO; a count that is not whole says so."""
    same(frontier([1, 2], [3, 1], 1.0).copies(0), ZERO)
    with pytest.raises(InputError, match="whole number"):
        frontier([1, 2], [3, 1], 1.0).copies(1.5)


def test_indices_lead_back_to_the_raw_points():
    """A frontier of raw points knows where each of its points stood; a composed one refuses to guess."""
    raw = frontier([3, 1, 2], [1, 9, 10])
    assert raw.indices.tolist() == [1, 0]
    with pytest.raises(InputError, match="made from raw points"):
        _ = (raw + raw).indices


@given(ANY_WATTS)
def test_law_5_zero_and_never_are_identities(a):
    """law 5: ZERO is neutral for + and &; NEVER is neutral for | and absorbs + and &."""
    for f in (a, a.hull()):
        same(f + ZERO, f)
        same(ZERO + f, f)
        same(f & ZERO, f)
        same(ZERO & f, f)
        same(f | NEVER, f)
        same(NEVER | f, f)
        for absorbed in (f + NEVER, NEVER + f, f & NEVER, NEVER & f):
            same(absorbed, NEVER)
        same(0 * f, ZERO)
        same(1 * f, f)


@given(SOME, SOME, exact_frontiers(edge=True))
def test_law_6_sum_and_barrier_distribute_over_either(a, b, c):
    """law 6: choosing before or after composing is the same."""
    same((a | b) + c, (a + c) | (b + c))
    same((a | b) & c, (a & c) | (b & c))


@given(convex_frontiers(spread=1), convex_frontiers(spread=1), convex_frontiers(spread=1))
def test_law_6_on_hulls_holds_for_sums_alone(a, b, c):
    """law 6: in the hull reading + distributes over |, and & need not."""
    close((a | b) + c, (a + c) | (b + c))
    close((a + b) + c, a + (b + c))
    close((a & b) & c, a & (b & c))
    close((a | b) | c, a | (b | c))
    x, y = frontier([1], [4]).hull(), frontier([3], [0]).hull()
    either = (x | y) & frontier([1, 3], [4, 0]).hull()
    assert either.by(2).energy == 4.0
    z = frontier([2], [0]).hull()
    assert ((x | y) & z).by(2).energy < ((x & z) | (y & z)).by(2).energy


@given(exact_points(), exact_points())
def test_law_7_pruning_early_loses_nothing(x, y):
    """law 7: composing raw points then pruning equals composing pruned frontiers."""
    a, b = frontier(*x), frontier(*y)
    pairs = list(itertools.product(zip(*x, strict=True), zip(*y, strict=True)))
    assert points(a + b) == obvious_prune([(t + s, e + d) for (t, e), (s, d) in pairs])
    assert points(a & b) == obvious_prune([(max(t, s), e + d) for (t, e), (s, d) in pairs])
    assert points(a | b) == obvious_prune([*zip(*x, strict=True), *zip(*y, strict=True)])


@given(st.data(), trees(hull=False, kinds="+&|nt"))
def test_law_8_a_discrete_plan_reproduces_its_point(data, tree):
    """law 8: replaying every leaf's choice, through any nesting, gives the point's time and energy exactly."""
    point = tree.frontier.at(data.draw(st.integers(0, len(tree.frontier) - 1)))
    assert all(c.share == 1.0 for c in point.plan)
    assert tree.replay(point.plan) == (point.time, point.energy)


@given(st.data(), trees(hull=True, kinds="+|n"))
def test_law_8_a_mixed_plan_reproduces_its_point(data, tree):
    """law 8: a point between two vertices unrolls into shares that take its time and its energy."""
    f = tree.frontier
    where = data.draw(st.floats(float(f.time[0]), float(f.time[-1])))
    point = f.by(where)
    time, energy = tree.replay(point.plan)
    assert time == pytest.approx(point.time, rel=1e-9, abs=1e-9)
    assert energy == pytest.approx(point.energy, rel=1e-9, abs=1e-9)
    assert point.time <= where


@given(st.data(), trees(hull=True, kinds="+&|nt"))
def test_law_8_a_mixed_plan_with_barriers_is_never_late(data, tree):
    """law 8: with barriers inside, a mixture spends its energy and ends by its time."""
    f = tree.frontier
    point = f.by(data.draw(st.floats(float(f.time[0]), float(f.time[-1]) + 1)))
    time, energy = tree.replay(point.plan)
    assert time <= point.time * (1 + 1e-9) + 1e-9
    assert energy == pytest.approx(point.energy, rel=1e-9, abs=1e-9)


@given(st.data(), convex_frontiers(spread=6), convex_frontiers(spread=6), convex_frontiers(spread=6))
def test_law_8_holds_where_rounding_hides_a_vertex(data, a, b, c):
    """law 8: segments of nearly equal price, or lost beside longer ones, still plan to their own seconds."""
    for f, time in (
        (a + b + c, lambda s: s[0] + s[1] + s[2]),
        ((a & b) & c, max),
        (a & (b + c), lambda s: max(s[0], s[1] + s[2])),
    ):
        point = f.by(data.draw(st.floats(float(f.time[0]), float(f.time[-1]))))
        spent = [0.0, 0.0, 0.0]
        leaves = [g._origin.child._origin for g in (a, b, c)]
        for choice in point.plan:
            spent[leaves.index(choice.leaf)] += choice.time
        scale = sum(float(g.energy[0]) for g in (a, b, c))
        assert time(spent) == pytest.approx(point.time, rel=1e-9)
        assert sum(x.energy for x in point.plan) == pytest.approx(point.energy, rel=1e-9, abs=1e-9 * scale)


def test_law_8_a_hidden_vertex_between_unequal_segments_is_mixed_not_walked():
    """law 8: where a neighbour's joules round a vertex away, the two ends are mixed, not the positions."""
    a = frontier([0, 1, 10], [10 + 1e-13, 9, 0]).hull()
    assert len(a) == 3
    for other in (frontier([0, 10], [1e6, 0]).hull(), frontier([0, 10], [10, 0]).hull()):
        for f, seconds in ((a & other, 5.0), (a + other, None)):
            point = f.by(5.0)
            mine = [c for c in point.plan if c.leaf is a._origin.child._origin]
            assert sum(c.energy for c in point.plan) == pytest.approx(point.energy, rel=1e-9)
            if seconds:
                assert sum(c.time for c in mine) == pytest.approx(seconds)
            else:
                assert sum(c.time for c in point.plan) == pytest.approx(5.0)


@pytest.mark.parametrize("name", OPERATORS)
def test_law_9_readings_do_not_mix(name):
    """law 9: composing a hull with a discrete frontier raises, names the law and the remedy."""
    a = frontier([1, 2], [2, 1])
    with pytest.raises(InputError, match=r"law 9: .* call \.hull\(\) on the discrete frontier first"):
        OPERATORS[name](a, a.hull())
    with pytest.raises(InputError, match="law 9"):
        best(a, a.hull())


def test_law_9_each_reading_answers_in_its_own_way():
    """law 9: between two points the discrete reading picks one and the hull reading mixes both."""
    a = frontier([1, 3], [4, 2])
    assert a.by(2).energy == 4.0
    assert a.hull().by(2).energy == 3.0
    assert [(c.share, c.time) for c in a.hull().by(2).plan] == [(0.5, 0.5), (0.5, 1.5)]
    assert a.within(energy=3).time == 3.0
    assert a.hull().within(energy=3).time == 2.0


# ---- fast against obvious ------------------------------------------------------------------------


@given(exact_points(12))
def test_pruning_keeps_what_nothing_beats(raw):
    """Frontier.of keeps exactly the points that no other beats, strictly ordered both ways."""
    f = frontier(*raw)
    assert points(f) == obvious_prune(list(zip(*raw, strict=True)))
    assert (np.diff(f.time) > 0).all()
    assert (np.diff(f.energy) < 0).all()


def test_of_equal_points_the_first_given_stays():
    """Two settings with equal time and energy: the plan names the first."""
    f = frontier([2, 1, 1], [1, 5, 5], knobs=[{"k": "slow"}, {"k": "first"}, {"k": "second"}])
    assert f.plan(0)[0].knobs == {"k": "first"}


@given(exact_points(12))
def test_the_hull_is_the_greatest_convex_curve_below(raw):
    """A vertex stays if and only if no chord between two other points passes at or below it."""
    f = frontier(*raw)
    p = points(f)

    def below_a_chord(i: int) -> bool:
        (t, e) = p[i]
        return any(
            (e - p[a][1]) * (p[b][0] - p[a][0]) >= (p[b][1] - p[a][1]) * (t - p[a][0])
            for a in range(i)
            for b in range(i + 1, len(p))
        )

    want = [i for i in range(len(p)) if not below_a_chord(i)]
    assert hull_index(f.time, f.energy).tolist() == want
    assert f.hull().reading == "hull"


def test_prune_of_nothing_is_nothing():
    """No points make no frontier, which is NEVER in all but name."""
    assert prune(np.zeros(0), np.zeros(0)).size == 0
    assert len(frontier([], [])) == 0


def shapes(rng: np.random.Generator, n: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Two strictly falling frontiers' worth of points, in quarters where sums must tie."""
    if name == "convex":
        t = np.arange(1, n + 1) / 4
        return t, np.cumsum(np.arange(n, 0, -1)) / 4 * -1 + n * n
    if name == "random":
        return rng.random(n), rng.random(n)
    if name == "falling":
        return np.cumsum(rng.random(n)), np.cumsum(rng.random(n))[::-1]
    if name == "integers":
        return rng.integers(0, 3 * n, 3 * n) / 4, rng.integers(0, 3 * n, 3 * n) / 4
    if name == "clustered":
        centre = rng.integers(0, 4, n)
        return centre * 100 + np.sort(rng.random(n)), (4 - centre) * 100 + np.sort(rng.random(n))[::-1]
    if name == "plateau":
        return np.sort(rng.random(n)), np.where(np.arange(n) < n // 2, 1e6, 0) + np.linspace(1e-3, 0, n)
    if name == "duplicates":
        return np.repeat(np.arange(n // 2), 2) / 4, np.repeat(np.arange(n // 2)[::-1], 2) / 4
    if name == "range":
        return 10.0 ** np.linspace(-12, 9, n), 10.0 ** np.linspace(12, -9, n)
    if name == "offset":
        return 1e6 + np.sort(rng.random(n)) * 1e-6, np.sort(rng.random(n))[::-1] * 1e-9
    if name == "one":
        return np.array([1e20]), np.array([1.0])
    raise AssertionError(name)


SHAPES = ["convex", "random", "falling", "integers", "clustered", "plateau", "duplicates", "range", "offset"]


@pytest.mark.parametrize(
    "pair", [*itertools.combinations_with_replacement(SHAPES[:6], 2), *((s, s) for s in SHAPES[6:])]
)
def test_a_big_discrete_sum_equals_brute_force(pair):
    """Beyond the size where pairs are filtered, the sum is still the pruned set of all pairs, to the last bit."""
    rng = np.random.default_rng(7)
    a, b = (frontier(*shapes(rng, n, name)) for n, name in zip((260, 190), pair, strict=True))
    if "random" not in pair:
        assert len(a) * len(b) > FILTER_PAIRS or {"integers", "duplicates", "clustered"} & set(pair)
    t, e = np.add.outer(a.time, b.time).ravel(), np.add.outer(a.energy, b.energy).ravel()
    keep = prune(t, e)
    f = a + b
    np.testing.assert_array_equal(f.time, t[keep])
    np.testing.assert_array_equal(f.energy, e[keep])
    for k in (0, len(f) // 2, len(f) - 1):
        x, y = f.plan(k)
        assert (x.time + y.time, x.energy + y.energy) == (f.time[k], f.energy[k])


def test_a_big_sum_with_a_huge_constant_beside_short_times_is_exact():
    """A filter by time must survive times that vanish beside a longer one."""
    n = FILTER_PAIRS + 1
    a, b = frontier([1e20], [1.0]), frontier(np.arange(n), np.arange(n)[::-1])
    f = a + b
    t, e = 1e20 + b.time, 1.0 + b.energy
    keep = prune(t, e)
    np.testing.assert_array_equal(f.time, t[keep])
    np.testing.assert_array_equal(f.energy, e[keep])


@given(st.lists(convex_frontiers(spread=2), min_size=1, max_size=6))
def test_a_sum_of_many_hulls_equals_sums_of_two(many):
    """Merging all slopes at once equals adding one hull after another, and the hull of all sums."""
    once = total(many)
    close(once, functools.reduce(Frontier.__add__, many))
    discrete = total([frontier(f.time, f.energy, f.waiting_power) for f in many[:3]]).hull()
    close(total(many[:3]), discrete)
    assert (np.diff(once.time) > 0).all()
    assert (np.diff(once.energy) < 0).all()


@given(st.lists(convex_frontiers(spread=5), min_size=2, max_size=6))
def test_a_sum_of_hulls_is_as_fast_as_its_fastest_points(many):
    """However segments round, the fast end of a sum is the sum of the fast ends, and no time is below 0 s."""
    f = total(many)
    assert f.fastest.time == pytest.approx(sum(g.time[0] for g in many), rel=1e-15, abs=0)
    assert f.by(float(f.time[0])).energy <= sum(g.energy[0] for g in many) * (1 + 1e-15)


def test_a_sum_of_hulls_does_not_round_below_zero_seconds():
    """A sum that starts at 0 s still does after its slow end has been rounded."""
    a, b = frontier([0, 0.14330126, 1.14330126], [2.4, 1, 0]).hull(), frontier([0], [1]).hull()
    for k in (1, 3, 7):
        assert total([a, b, *[frontier([0, k / 7], [k, 0]).hull()] * 3]).time[0] == 0.0


@given(convex_frontiers(None, spread=2), convex_frontiers(None, spread=2), st.floats(0, 1))
def test_a_barrier_of_hulls_equals_both_by_each_deadline(a, b, where):
    """In the hull reading a & b costs, at any deadline, what both cost there."""
    f = a & b
    end = max(a.time[-1], b.time[-1])
    deadline = float(f.time[0] + where * (end - f.time[0]))
    assert f.waiting_power == a.waiting_power + b.waiting_power
    scale = a.energy[0] + b.energy[0]
    assert f.by(deadline).energy == pytest.approx(
        a.by(deadline).energy + b.by(deadline).energy, rel=1e-9, abs=1e-9 * scale
    )


@given(rough_frontiers(), rough_frontiers())
def test_results_are_frontiers_whatever_the_values(a, b):
    """Every operation returns strictly rising times and strictly falling energies, in both readings."""
    for x, y in ((a, b), (a.hull(), b.hull())):
        for f in (x + y, x & y, x | y, 3 * x, best(x, y), x.thin(2), x.hull(), total([x, y, x])):
            assert (np.diff(f.time) > 0).all()
            assert (np.diff(f.energy) < 0).all()


@given(st.lists(exact_frontiers(None), min_size=1, max_size=4))
def test_best_compares_totals(many):
    """best() is the pruned union of (time, total energy), each point its own device's waiting included."""
    f = best(*many)
    raw = [(t, e + g.waiting_power * t) for g in many for t, e in points(g)]
    assert points(f) == obvious_prune(raw)
    for k in range(len(f)):
        (choice,) = f.plan(k)
        assert choice.energy + choice.leaf.waiting_power * choice.time == f.energy[k] == f.at(k).total


# ---- thinning ------------------------------------------------------------------------------------


@given(exact_frontiers(most=20), st.integers(2, 8), st.booleans())
def test_thinning_keeps_its_bound_at_every_deadline(a, size, hull):
    """A thinned frontier meets every deadline the full one meets, within `slack` joules."""
    full = a.hull() if hull else a
    thin = full.thin(size)
    assert len(thin) <= size
    for deadline in [*full.time, *(0.5 * (full.time[1:] + full.time[:-1])), full.time[-1] + 1]:
        lost = thin.by(deadline).energy - full.by(deadline).energy
        assert -1e-9 <= lost <= thin.slack + 1e-9


@given(exact_frontiers(most=20), exact_frontiers(most=20), st.integers(2, 5))
def test_the_bound_of_thinning_composes(a, b, size):
    """Sums, barriers, envelopes, repeats and totals of thinned frontiers stay within their slack."""
    x, y = a.thin(size), b.thin(size)
    for full, thin in (
        (a + b, x + y),
        (a & b, x & y),
        (a | b, x | y),
        (3 * a, 3 * x),
        (best(a, b), best(x, y)),
        ((a + b).thin(3), (x + y).thin(3)),
        (a.hull() + b.hull(), x.hull() + y.hull()),
    ):
        assert thin.time[0] == full.time[0]
        for deadline in full.time:
            assert thin.by(deadline).energy <= full.by(deadline).energy + thin.slack + 1e-9


@given(exact_frontiers(most=20))
def test_thinning_that_drops_nothing_costs_nothing(a):
    """A frontier that is small enough is returned as it is."""
    assert a.thin(max(2, len(a))) is a
    assert a.slack == 0.0


@pytest.mark.parametrize("size", [1, 0, -3])
def test_thinning_below_two_points_is_refused(size):
    """Fastest and least energy always stay, so fewer than two points make no sense."""
    with pytest.raises(InputError, match=rf"thin\(points\) needs points >= 2, got {size}"):
        frontier([1, 2], [2, 1]).thin(size)


# ---- queries -------------------------------------------------------------------------------------

F = frontier([1, 2, 4], [9, 5, 4], 0.0, knobs=[{"clock": 3}, {"clock": 2}, {"clock": 1}])


@given(exact_frontiers(), QUARTERS)
def test_by_returns_the_least_energy_that_ends_in_time(a, deadline):
    """by() equals a search over all points, and refuses what the fastest cannot meet."""
    ok = [(e, t) for t, e in points(a) if t <= deadline]
    if ok:
        point = a.by(deadline)
        assert (point.energy, point.time) == min(ok)
        assert a.total(deadline) == point.energy + a.waiting_power * deadline
    else:
        with pytest.raises(GoalError, match="no choice ends by"):
            a.by(deadline)


@given(exact_frontiers(None), st.floats(0, 100))
def test_within_returns_the_fastest_choice_under_the_limit(a, limit):
    """within() equals a search over all points, by average power or by total energy."""
    for kind in ("power", "energy"):
        value = (lambda p: p.average_power if p.energy or p.time else 0.0) if kind == "power" else (lambda p: p.total)
        ok = [p for p in map(a.at, range(len(a))) if value(p) <= limit]
        if ok:
            assert a.within(**{kind: limit}).time == ok[0].time
        else:
            with pytest.raises(
                GoalError, match=r"no choice keeps (average power|total energy) within .*; the least is"
            ):
                a.within(**{kind: limit})


@given(convex_frontiers(None, spread=1), st.floats(0.01, 0.99))
def test_within_on_a_hull_mixes_to_the_limit(a, share):
    """In the hull reading the fastest choice within a limit may be a mixture, which spends just the limit."""
    assume(len(a) > 1 and a.time[0] > 0)
    low, high = a.least_energy.total, a.fastest.total
    limit = low + share * (high - low)
    point = a.within(energy=limit)
    assert point.total <= limit * (1 + 1e-9)
    assert point.time <= a.least_energy.time
    if point.time > a.fastest.time:
        assert point.total == pytest.approx(limit, rel=1e-9)
    watts = float(a.average_power[-1] + share * (a.average_power[0] - a.average_power[-1]))
    assert a.within(power=watts).average_power == pytest.approx(watts, rel=1e-9)
    assert sum(c.energy for c in a.within(power=watts).plan) == pytest.approx(a.within(power=watts).energy)


@given(exact_frontiers(None))
def test_a_limit_that_a_point_just_meets_admits_it(a):
    """The average power or total energy of a point, given back as the limit, returns that point or a faster one."""
    for f in (a, a.hull()):
        for k in range(len(f)):
            point = f.at(k)
            assert f.within(energy=point.total).time <= point.time
            if point.time > 0:
                assert f.within(power=point.average_power).time <= point.time


@given(exact_frontiers(None))
def test_fastest_least_energy_and_knee_are_ends_and_middle(a):
    """fastest has the least time, least_energy the least total, and knee lies between, farthest below the chord."""
    assert a.fastest.time == a.time.min()
    totals = a.energy + a.waiting_power * a.time
    assert a.least_energy.total == totals.min()
    knee = a.knee
    assert a.fastest.time <= knee.time <= a.least_energy.time
    end = a.least_energy
    if end.position >= 2:
        wide, tall = end.time - a.fastest.time, a.fastest.total - end.total

        def depth(k: int) -> float:
            return 1.0 - (a.time[k] - a.time[0]) / wide - (totals[k] - end.total) / tall

        assert depth(int(knee.position)) == pytest.approx(max(depth(k) for k in range(int(end.position) + 1)))


def test_queries_answer_on_a_frontier_one_can_read():
    """The five queries on three points, by hand."""
    assert F.fastest.plan[0].knobs == {"clock": 3}
    assert F.least_energy.plan[0].knobs == {"clock": 1}
    assert F.knee.plan[0].knobs == {"clock": 2}
    assert F.by(3.9).plan[0].knobs == {"clock": 2}
    assert F.within(power=2.5).plan[0].knobs == {"clock": 2}
    assert F.total(3) == 5.0
    np.testing.assert_array_equal(F.average_power, [9, 2.5, 1])
    assert F.at(-1).time == 4.0
    assert repr(F) == "Frontier(3 points, discrete, 1 s to 4 s, waiting 0 W)"
    assert repr(NEVER) == "Frontier(never)"


def test_waiting_power_moves_the_least_energy():
    """What is cheap above waiting may be dear in total: a slow choice keeps everyone waiting."""
    assert frontier([1, 2, 4], [9, 5, 4], 0.4).least_energy.time == 4.0
    assert frontier([1, 2, 4], [9, 5, 4], 1.0).least_energy.time == 2.0
    assert frontier([1, 2, 4], [9, 5, 4], 9.0).least_energy.time == 1.0


def test_pruning_is_right_only_above_waiting():
    """The example of the design: plain pruning on totals would drop the better neighbour."""
    a = frontier([1, 5], [10 - 1, 11 - 5], 1.0)
    neighbour = frontier([5], [0.0], 0.0)
    both = a & neighbour
    assert len(both) == 1
    assert both.total(5) == 11.0
    assert both.plan(0)[0].time == 5.0


MESSAGES = [
    (lambda: F.by(0.5), GoalError, "no choice ends by 500 ms; the fastest needs 1 s"),
    (lambda: F.by(math.nan), GoalError, "no choice ends by nan s"),
    (lambda: F.within(power=0.5), GoalError, "no choice keeps average power within 500 mW; the least is 1 W"),
    (lambda: F.within(energy=3), GoalError, "no choice keeps total energy within 3 J; the least is 4 J"),
    (lambda: F.within(), InputError, "within() takes one limit: power= in watts or energy= in joules"),
    (lambda: F.within(power=1, energy=1), InputError, "within() takes one limit"),
    (lambda: F.at(3), InputError, "point 3 is not among the 3 points of this frontier"),
    (lambda: F.at(-4), InputError, "point -4 is not among the 3 points"),
    (lambda: F.plan(9), InputError, "point 9 is not among the 3 points"),
    (lambda: F.total(math.inf), InputError, "total(time) needs a finite number of seconds, got inf"),
    (lambda: NEVER.fastest, GoalError, "this work has no choice at all (NEVER); one of its parts is impossible"),
    (lambda: NEVER.least_energy, GoalError, "NEVER"),
    (lambda: NEVER.knee, GoalError, "NEVER"),
    (lambda: NEVER.by(1), GoalError, "NEVER"),
    (lambda: NEVER.within(power=1), GoalError, "NEVER"),
    (lambda: NEVER.at(0), InputError, "point 0 is not among the 0 points"),
    (lambda: frontier([1, 2], [1]), InputError, "two lists of one length, got shapes (2,), (1,)"),
    (lambda: frontier([[1]], [[1]]), InputError, "two lists of one length"),
    (lambda: frontier([1, math.nan], [1, 2]), InputError, "every time must be finite, but point 1 is nan"),
    (lambda: frontier([1, 2], [-math.inf, 2]), InputError, "every energy must be finite, but point 0 is -inf"),
    (lambda: frontier([1, -2], [1, 2]), InputError, "every time must be >= 0 s, but point 1 is -2.0 s"),
    (lambda: frontier([1], [1], -1), InputError, "waiting_power must be a finite number of watts >= 0, got -1"),
    (lambda: frontier([1], [1], math.nan), InputError, "waiting_power must be a finite number of watts >= 0, got nan"),
    (lambda: frontier([1, 2], [2, 1], knobs=[{}]), InputError, "knobs must name each of the 2 points, got 1"),
    (lambda: frontier([1], [1], uncertainty=-0.1), InputError, "uncertainty must be a relative standard deviation"),
    (lambda: frontier([1], [1], parts={"hbm": [1, 2]}), InputError, "parts['hbm'] must be 1 finite joules"),
    (lambda: frontier([1], [1], parts={"hbm": [math.nan]}), InputError, "parts['hbm'] must be 1 finite joules"),
    (lambda: F + frontier([1], [1], 2), InputError, "waiting powers must be equal, got 0 W, 2 W; use & or best()"),
    (lambda: F | frontier([1], [1], 2), InputError, "waiting powers must be equal, got 0 W and 2 W; best() compares"),
    (lambda: best(F) + F, InputError, "totals from best() do not compose"),
    (lambda: best(F) & F, InputError, "totals from best() do not compose"),
    (lambda: F | best(F), InputError, "totals from best() do not compose"),
    (lambda: 2 * best(F).hull(), InputError, "totals from best() do not compose"),
    (lambda: best(F).thin(2) + F, InputError, "totals from best() do not compose"),
    (lambda: -1 * F, InputError, "n * frontier needs a whole number n >= 0, got -1"),
    (lambda: 1.5 * F, InputError, "n * frontier needs a whole number n >= 0, got 1.5"),
    (lambda: np.float64(2) * F, InputError, "n * frontier needs a whole number n >= 0, got np.float64(2.0)"),
]


@pytest.mark.parametrize(("call", "error", "message"), MESSAGES, ids=[m for _, _, m in MESSAGES])
def test_messages_say_the_rule_and_what_was_received(call, error, message):
    """Bad input and unreachable goals raise, each with its own sentence."""
    with pytest.raises(error, match=re.escape(message)):
        call()


# ---- nothing, one, many --------------------------------------------------------------------------


def test_no_work_costs_nothing():
    """ZERO takes no time and no energy, plans nothing and draws nothing."""
    assert (ZERO.fastest.time, ZERO.fastest.total, ZERO.plan(0)) == (0.0, 0.0, ())
    assert ZERO.within(power=0).time == 0.0
    assert ZERO.fastest.uncertainty == 0.0
    assert ZERO.fastest.parts == {"waiting": 0.0}
    assert total([]) is ZERO
    same(0 * NEVER, ZERO)
    same(best(), NEVER)
    same(best(NEVER, F), best(F))


def test_numpy_counts_repeat_a_frontier():
    """A count read from an array multiplies like any whole number."""
    f = np.int64(3) * F
    assert isinstance(f, Frontier)
    np.testing.assert_array_equal(f.time, 3 * F.time)
    assert len(f.plan(0)) == 3


def test_a_sum_far_deeper_than_the_stack_still_plans():
    """A thousand sums and more, one inside the other, unroll without recursion."""
    f = functools.reduce(Frontier.__add__, [frontier([1, 2], [2, 1])] * 3)
    for _ in range(1200):
        f = f.thin(2) + F.thin(2)
    assert len(f.plan(0)) == 1203


# ---- breakdown and uncertainty -------------------------------------------------------------------


@given(st.data(), trees(hull=False))
def test_the_parts_of_a_point_sum_to_its_total(data, tree):
    """Joules by component, waiting included, are the total."""
    point = tree.frontier.at(data.draw(st.integers(0, len(tree.frontier) - 1)))
    assert sum(point.parts.values()) == pytest.approx(point.total, abs=1e-9)


def test_parts_follow_the_chosen_point_through_every_operator():
    """Each leaf adds its own component at the chosen point, shares of mixed points included."""
    a = frontier([1, 3], [4, 2], 1.0, parts={"hbm": [1, 0.5], "waiting": [9, 9]})
    b = frontier([1, 3], [4, 2], 1.0, parts={"sram": [2, 1]})
    assert (a + b).at(0).parts == {"hbm": 1.0, "sram": 2.0, "waiting": 10.0 - 3.0}
    assert (2 * a & b).at(-1).parts == {"hbm": 1.0, "sram": 1.0, "waiting": 6.0 + 12.0 - 2.0}
    assert a.hull().by(2).parts == {"hbm": 0.75, "waiting": 3.0 + 2.0 - 0.75}


def test_the_breakdown_of_a_million_steps_needs_no_million_choices():
    """Parts and uncertainty weigh what is repeated instead of unrolling it."""
    a = frontier([1, 3], [4, 2], 1.0, parts={"hbm": [1, 0.5]}, source="model", uncertainty=0.1)
    point = (10**12 * (2 * a + a)).at(0)
    assert point.parts == {"hbm": 3e12, "waiting": 12e12}
    assert point.uncertainty == pytest.approx(0.1)


def test_errors_of_one_source_add_and_of_two_in_quadrature():
    """The same model errs the same way everywhere; two meters err apart."""
    a = frontier([1], [3], 1.0, source="model", uncertainty=0.1)
    b = frontier([1], [3], 1.0, source="model", uncertainty=0.1)
    c = frontier([1], [3], 1.0, source="meter", uncertainty=0.1)
    assert (a + b).at(0).uncertainty == pytest.approx(0.1)
    assert (a + c).at(0).uncertainty == pytest.approx(0.1 / math.sqrt(2))
    assert (4 * a).at(0).uncertainty == pytest.approx(0.1)
    assert (a & frontier([9], [0])).at(0).uncertainty == pytest.approx(0.1)
    assert math.isnan((a + frontier([1], [1], 1.0, source="?", uncertainty=math.nan)).at(0).uncertainty)


@given(st.data(), trees(hull=False))
def test_composing_never_makes_an_answer_more_uncertain_than_its_leaves(data, tree):
    """With 10 % at every leaf the whole is at most 10 %, and not zero."""
    point = tree.frontier.at(data.draw(st.integers(0, len(tree.frontier) - 1)))
    assume(any(c.energy + c.leaf.waiting_power * c.time for c in point.plan))
    assert 0.1 / math.sqrt(3) - 1e-12 <= point.uncertainty <= 0.1 + 1e-12


# ---- immutability --------------------------------------------------------------------------------


def test_a_frontier_does_not_change():
    """Neither its fields, nor its arrays, nor those it was made from can move it."""
    time, energy = np.array([1.0, 2.0]), np.array([2.0, 1.0])
    f = frontier(time, energy, parts={"hbm": energy})
    time[:], energy[:] = 7.0, 7.0
    assert points(f) == [(1.0, 2.0), (2.0, 1.0)]
    assert [(c.time, c.energy) for c in f.plan(1)] == [(2.0, 1.0)]
    assert f.at(1).parts["hbm"] == 1.0
    for g in (f, f + f, f & f, f | f, 2 * f, f.hull(), f.hull() + f.hull(), best(f), f.thin(2), ZERO, NEVER):
        for values in (g.time, g.energy):
            with pytest.raises(ValueError, match="read-only"):
                values[...] = 0.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        f.waiting_power = 3.0


def test_choices_compare_by_the_leaf_they_came_from():
    """Two plans of one point are equal; the same numbers from another source are another choice."""
    assert F.plan(0) == F.plan(0)
    assert F.plan(0) != F.plan(1)
    assert F.plan(0) != frontier(F.time, F.energy, knobs=[{"clock": 3}, {"clock": 2}, {"clock": 1}]).plan(0)
    assert repr(F.plan(0)[0]) == "Choice(knobs={'clock': 3}, share=1.0, time=1.0, energy=9.0, index=0)"


# ---- rounding, case by case ----------------------------------------------------------------------


def test_a_segment_lost_to_rounding_leaves_no_two_points_at_one_time():
    """Beside a second, 1e-20 s vanish: the sum keeps the cheaper of two points that became simultaneous."""
    f = frontier([0, 1e-20], [1, 0]).hull() + frontier([1, 2], [1, 0]).hull()
    assert points(f) == [(1.0, 1.0), (2.0, 0.0)]


def test_a_hull_an_ulp_from_convex_still_plans_its_own_seconds():
    """law 8: segments whose prices rounding put out of order are taken in order, not each for the other."""
    dented = dataclasses.replace(frontier([0, 1, 10], [10, 9 + 1e-14, 0]), reading="hull")
    for other in (frontier([0, 1], [1, 0]).hull(), frontier([0, 1], [100, 0]).hull(), frontier([1], [1]).hull()):
        f = dented + other
        for deadline in np.linspace(float(f.time[0]), float(f.time[-1]), 23):
            assert sum(c.time for c in f.by(deadline).plan) == pytest.approx(deadline, abs=1e-12)


def test_the_envelope_of_a_thinned_and_a_full_frontier_keeps_the_larger_slack():
    """What is chosen may come from either side, so the looser bound holds."""
    thin = frontier([1, 2, 3], [3, 2, 1]).thin(2)
    full = frontier([9], [0])
    assert thin.slack == 1.0
    assert [(thin | full).slack, (full | thin).slack, best(thin, full).slack] == [1.0, 1.0, 1.0]


def test_frontiers_behave_as_numbers_do():
    """They add up with sum(), multiply from both sides, iterate, compare by content, and leave strangers alone."""
    f = Frontier.of([1.0, 2.0, 3.0], [9.0, 4.0, 2.0])
    assert sum([f, f]) == f + f
    assert f * 3 == 3 * f
    assert [point.time for point in f] == [1.0, 2.0, 3.0]
    assert f == Frontier.of([1.0, 2.0, 3.0], [9.0, 4.0, 2.0])
    assert len({f, Frontier.of([1.0, 2.0, 3.0], [9.0, 4.0, 2.0])}) == 1
    assert f != f.hull()
    assert (f == 3) is False
    for strange in (lambda: f + 3, lambda: "a" + f, lambda: f & 1, lambda: f | None, lambda: f * "a"):
        with pytest.raises(TypeError):
            strange()
