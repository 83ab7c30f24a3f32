"""Tests for `wattline.frontier.graph`, `wattline.frontier.periodic` and `wattline.frontier.rounding`."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from wattline.core.errors import GoalError, InputError
from wattline.frontier._unfold import settle
from wattline.frontier.graph import INFINITE, Dag, Network, State, solve
from wattline.frontier.periodic import _Climb, _Stretch, solve_family
from wattline.frontier.rounding import round_discrete, round_switch_once


def linear_program(dag, hulls, times):
    """Least energy above waiting at each of `times` by HiGHS: starts, durations and energies above the hull's lines."""
    n = len(dag.nodes)
    rows, cols, values, limits = [], [], [], []

    def row(entries, limit):
        for col, value in entries:
            rows.append(len(limits))
            cols.append(col)
            values.append(value)
        limits.append(limit)

    for a, b in dag.edges:
        row([(a, 1.0), (n + a, 1.0), (b, -1.0)], 0.0)
    for i in range(n):
        row([(i, 1.0), (n + i, 1.0)], np.nan)  # by the deadline
        t, e = hulls[dag.nodes[i]]
        for k in range(len(t) - 1):
            slope = (e[k + 1] - e[k]) / (t[k + 1] - t[k])
            row([(n + i, slope), (2 * n + i, -1.0)], slope * t[k] - e[k])
    matrix = sparse.csr_matrix((values, (rows, cols)), shape=(len(limits), 3 * n))
    low = np.r_[np.zeros(n), [hulls[c][0][0] for c in dag.nodes], [hulls[c][1][-1] for c in dag.nodes]]
    high = np.r_[np.full(n, np.inf), [hulls[c][0][-1] for c in dag.nodes], np.full(n, np.inf)]
    cost = np.r_[np.zeros(2 * n), np.ones(n)]
    tight = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    answers = []
    for time in times:
        limit = np.where(np.isnan(limits), time, limits)
        answer = linprog(cost, matrix, limit, bounds=np.c_[low, high], method="highs", options=tight)
        answers.append(answer.fun if answer.status == 0 else None)
    return answers


def makespan(dag, durations):
    """Longest path in seconds, one node after the other."""
    end = np.zeros(len(dag.nodes))
    before = [[] for _ in dag.nodes]
    for a, b in dag.edges:
        before[b].append(a)
    for v in dag.order:
        end[v] = max((end[u] for u in before[v]), default=0.0) + durations[v]
    return end.max()


def lower_hull(time, energy):
    """Lower convex hull of (time, energy) options, fastest first, energies falling."""
    points = []
    for x, y in sorted(zip(time.tolist(), energy.tolist(), strict=True)):
        if points and y >= points[-1][1]:
            continue
        while len(points) > 1 and (points[-1][1] - points[-2][1]) * (x - points[-2][0]) >= (y - points[-2][1]) * (
            points[-1][0] - points[-2][0]
        ):
            points.pop()
        points.append((x, y))
    t, e = np.array(points).T
    return t, e


def one_forward_one_backward(stages, microbatches, kinds=None):
    """1F1B: node classes 2 * stage (forward) and 2 * stage + 1 (backward)."""
    nodes, edges, place = [], [], {}
    for s in range(stages):
        warm = min(stages - s - 1, microbatches)
        row = [(0, m) for m in range(warm)]
        for m in range(microbatches - warm):
            row += [(0, warm + m), (1, m)]
        row += [(1, m) for m in range(microbatches - warm, microbatches)]
        for step, (k, m) in enumerate(row):
            place[s, k, m] = len(nodes)
            if step:
                edges.append((len(nodes) - 1, len(nodes)))
            nodes.append(2 * s + k)
    for (s, k, m), i in place.items():
        nearer = s + 1 if k == 0 else s - 1
        if 0 <= nearer < stages:
            edges.append((i, place[nearer, k, m]))
    return Dag(np.array(nodes), np.array(edges))


def noisy_profile(stages, seed, waiting=80.0):
    """Measured-looking options per class, joules above waiting: clocks 705 to 1410 MHz, power with noise."""
    random = np.random.default_rng(seed)
    clock = np.arange(705, 1411, 15) / 1410
    tables = []
    for s in range(stages):
        for work in (0.05, 0.09):
            busy = work * (1.08 if s == stages - 1 else 1.0)
            time = busy * (0.85 / clock + 0.15) * random.normal(1, 0.002, len(clock))
            power = 110 + 270 * clock**2.6 * random.normal(1, 0.01, len(clock))
            tables.append((time, (power - waiting) * time))
    return tables


@st.composite
def graphs(draw):
    """Small DAGs with few classes, whole numbers, ties, nodes of no length, single points and loose nodes."""
    classes = draw(st.integers(1, 3))
    hulls = []
    for _ in range(classes):
        widths = draw(st.lists(st.integers(1, 3), max_size=3))
        slopes = sorted(draw(st.lists(st.integers(1, 4), min_size=len(widths), max_size=len(widths))), reverse=True)
        t = np.cumsum([draw(st.integers(0, 3)), *widths]).astype(float)
        fall = np.cumsum([0, *(w * s for w, s in zip(widths, slopes, strict=True))])
        e = (draw(st.integers(-2, 9)) - fall).astype(float)
        hulls.append((t * draw(st.sampled_from([1.0, 0.1, 1 / 3])), e))
    n = draw(st.integers(1, 8))
    nodes = draw(st.lists(st.integers(0, classes - 1), min_size=n, max_size=n))
    pairs = [(a, b) for b in range(n) for a in range(b)]
    edges = draw(st.lists(st.sampled_from(pairs), max_size=14)) if pairs else []
    name = draw(st.permutations(range(n)))
    return Dag(np.array(nodes), np.array([(name[a], name[b]) for a, b in edges])), hulls


DIAMOND = Dag(np.array([0, 1, 1, 0]), np.array([(0, 1), (0, 2), (1, 3), (2, 3)]))
PAIR = [(np.array([1.0, 2.0]), np.array([5.0, 1.0])), (np.array([1.0, 3.0]), np.array([4.0, 2.0]))]


@settings(max_examples=800, deadline=None)
@given(graphs(), st.floats(0, 1), st.sampled_from([0.0, 0.0, 1.0, 3.5]))
@example((DIAMOND, PAIR), 0.5, 0.0)
def test_agrees_with_linear_program(graph, where, waiting):
    """At any time, on a breakpoint or between, the energy is the one that HiGHS finds, and a schedule attains it."""
    dag, hulls = graph
    frontier = solve(dag, hulls, waiting)
    middle = frontier.time[0] + where * (frontier.time[-1] - frontier.time[0])
    times = [frontier.time[-1], middle, frontier.time[len(frontier.time) // 2]]
    scale = 1 + sum(np.abs(hulls[c][1]).max() for c in dag.nodes)
    for time, expected in zip(times, linear_program(dag, hulls, times), strict=True):
        assert frontier.energy_at(time) == pytest.approx(expected, rel=0, abs=1e-9 * scale)
        plan = frontier.schedule(time)
        assert plan.energy == pytest.approx(frontier.energy_at(time), rel=0, abs=1e-9 * scale)
        assert makespan(dag, plan.duration) <= time * (1 + 1e-12) + 1e-15
        assert all(plan.start[b] >= plan.start[a] + plan.duration[a] - 1e-12 for a, b in dag.edges)


@settings(max_examples=400, deadline=None)
@given(graphs(), st.sampled_from([0.0, 1.0, 2.5]))
def test_is_convex_complete_and_tight(graph, waiting):
    """Times rise, energies fall ever slower, from the fastest possible to the least total energy."""
    dag, hulls = graph
    frontier = solve(dag, hulls, waiting)
    assert (np.diff(frontier.time) > 0).all()
    assert (np.diff(frontier.energy) < 0).all()
    assert (np.diff(frontier.price) <= 0).all()
    assert frontier.time[0] == pytest.approx(makespan(dag, [hulls[c][0][0] for c in dag.nodes]), rel=1e-12)
    everything = solve(dag, hulls, waiting, start_price=0.0)
    assert everything.time[-1] == pytest.approx(makespan(dag, [hulls[c][0][-1] for c in dag.nodes]), rel=1e-12)
    totals = everything.energy + waiting * everything.time
    least = frontier.total(frontier.time[-1])
    assert totals.min() == pytest.approx(least, rel=1e-9, abs=1e-9)


@settings(max_examples=150, deadline=None)
@given(graphs(), st.floats(0, 1))
def test_discrete_plan_is_feasible_and_certified(graph, where):
    """A discrete plan meets its deadline, costs what its options cost, and never beats the bound."""
    dag, hulls = graph
    frontier = solve(dag, hulls, 0.0)
    deadline = frontier.time[0] + where * (frontier.time[-1] - frontier.time[0])
    plan = round_discrete(dag, frontier, hulls, deadline)
    durations = np.array([hulls[c][0][o] for c, o in zip(dag.nodes, plan.option, strict=True)])
    energies = np.array([hulls[c][1][o] for c, o in zip(dag.nodes, plan.option, strict=True)])
    assert makespan(dag, durations) <= deadline * (1 + 1e-11) + 1e-15
    assert (durations == plan.duration).all()
    assert plan.energy == pytest.approx(energies.sum())
    assert plan.energy >= plan.bound - 1e-9 * (1 + abs(plan.bound))


@settings(max_examples=150, deadline=None)
@given(graphs(), st.floats(0, 1))
def test_switching_once_meets_the_bound(graph, where):
    """Two adjacent settings per node, with one switch inside, realise the bound exactly."""
    dag, hulls = graph
    frontier = solve(dag, hulls, 0.0)
    deadline = frontier.time[0] + where * (frontier.time[-1] - frontier.time[0])
    plan = round_switch_once(dag, frontier, hulls, deadline)
    mixed = np.zeros(len(dag.nodes))
    for i, c in enumerate(dag.nodes):
        t = hulls[c][0]
        mixed[i] = plan.share[i] * t[plan.fast[i]] + (1 - plan.share[i]) * t[plan.slow[i]]
    assert ((plan.slow - plan.fast >= 0) & (plan.slow - plan.fast <= 1)).all()
    assert makespan(dag, mixed) <= deadline * (1 + 1e-8) + 1e-12
    scale = 1 + sum(np.abs(hulls[c][1]).max() for c in dag.nodes)
    assert plan.energy == pytest.approx(plan.bound, rel=0, abs=1e-7 * scale)


@pytest.fixture(scope="module")
def pipeline():
    """A 4-stage 1F1B pipeline on noisy measurements, its options, hulls and frontier."""
    tables = noisy_profile(4, seed=3)
    hulls = [lower_hull(*table) for table in tables]
    dag = one_forward_one_backward(4, 8)
    return dag, tables, hulls, solve(dag, hulls, 320.0)


def test_pipeline_agrees_with_linear_program(pipeline):
    """On a pipeline the relative difference from HiGHS is below 1e-9 from the fastest to the least total energy."""
    dag, _, hulls, frontier = pipeline
    times = np.linspace(frontier.time[0] * (1 + 1e-9), frontier.time[-1], 9)
    expected = np.array(linear_program(dag, hulls, times), dtype=float)
    assert [frontier.energy_at(t) for t in times] == pytest.approx(expected, rel=1e-9)
    waiting = frontier.waiting_power
    totals = np.array(linear_program(dag, hulls, frontier.time[-1] * np.array([0.999, 1.001])), dtype=float)
    assert (totals + waiting * frontier.time[-1] * np.array([0.999, 1.001]) > frontier.total(frontier.time[-1])).all()


def test_pipeline_discrete_plans_are_near_the_bound(pipeline):
    """Over the frontier, one clock per computation costs 0.2 % more than the bound on average, 0.5 % at most."""
    dag, tables, _, frontier = pipeline
    times = np.linspace(frontier.time[0], frontier.time[-1], 15)
    gaps = np.array([round_discrete(dag, frontier, tables, t).gap for t in times])
    assert gaps.min() >= -1e-12
    assert gaps.mean() < 2e-3
    assert gaps.max() < 5e-3


def test_all_fastest_leaves_a_plan(pipeline):
    """At the fastest possible completion a discrete plan exists, and saves against everything at its fastest."""
    dag, tables, _, frontier = pipeline
    plan = round_discrete(dag, frontier, tables, frontier.time[0])
    hurried = sum(tables[c][1][tables[c][0].argmin()] for c in dag.nodes)
    assert plan.time <= frontier.time[0] * (1 + 1e-11)
    assert plan.energy < hurried


def integer_program(dag, tables, time):
    """Least energy of one option per node by `time`, by HiGHS; None if it was not proved in time."""
    n = len(dag.nodes)
    first = n + np.r_[0, np.cumsum([len(tables[c][0]) for c in dag.nodes])]
    matrix = sparse.lil_matrix((2 * n + len(dag.edges), first[-1]))
    low, high = np.full(matrix.shape[0], -np.inf), np.zeros(matrix.shape[0])
    cost = np.zeros(first[-1])
    for i, c in enumerate(dag.nodes):
        mine = slice(first[i], first[i + 1])
        cost[mine] = tables[c][1]
        matrix[i, mine], low[i], high[i] = 1.0, 1.0, 1.0
        matrix[n + i, mine], matrix[n + i, i], high[n + i] = tables[c][0], 1.0, time
    for k, (a, b) in enumerate(dag.edges):
        matrix[2 * n + k, slice(first[a], first[a + 1])] = tables[dag.nodes[a]][0]
        matrix[2 * n + k, a], matrix[2 * n + k, b] = 1.0, -1.0
    whole = np.r_[np.zeros(n), np.ones(first[-1] - n)]
    answer = milp(
        cost,
        constraints=LinearConstraint(matrix.tocsr(), low, high),
        integrality=whole,
        bounds=Bounds(np.zeros(first[-1]), np.r_[np.full(n, time), np.ones(first[-1] - n)]),
        options={"time_limit": 5.0, "mip_rel_gap": 1e-6},
    )
    return answer.fun if answer.status == 0 else None


def test_discrete_plan_is_near_the_integer_optimum():
    """On a pipeline small enough for an integer program, the plan is within 0.3 % of the best there is."""
    tables = [(t[::8], e[::8]) for t, e in noisy_profile(2, seed=5)]
    dag = one_forward_one_backward(2, 3)
    frontier = solve(dag, [lower_hull(*table) for table in tables], 160.0)
    for where in (0.0, 0.5):
        deadline = frontier.time[0] + where * (frontier.time[-1] - frontier.time[0])
        best = integer_program(dag, tables, deadline * (1 + 1e-9))
        plan = round_discrete(dag, frontier, tables, deadline)
        assert best is not None
        assert plan.bound <= best * (1 + 1e-6)
        assert plan.energy + 160 * deadline <= (best + 160 * deadline) * 1.003


def test_extends_a_family_exactly():
    """Past a few microbatches per stage the frontier is affine in their number, and so is solved from fewer."""
    hulls = [lower_hull(*table) for table in noisy_profile(4, seed=7)]

    def make(count):
        return one_forward_one_backward(4, count)

    far = solve_family(make, 120, hulls, 320.0, base=16)
    whole = solve(make(120), hulls, 320.0)
    assert far.method == "affine"
    assert whole.method == "direct"
    for time in np.linspace(whole.time[0] * (1 + 1e-9), whole.time[-1], 40):
        assert far.energy_at(time) == pytest.approx(whole.energy_at(time), rel=1e-11)
    middle = float(whole.time.mean())
    assert makespan(make(120), far.durations(middle)) <= middle * (1 + 1e-12)


def test_extends_from_price_zero():
    """From the slowest time on, too, and the schedules are optima that keep their times."""
    hulls = [lower_hull(*table) for table in noisy_profile(3, seed=11)]

    def make(count):
        return one_forward_one_backward(3, count)

    far, whole = solve_family(make, 60, hulls, 240.0, 0.0, base=6), solve(make(60), hulls, 240.0, 0.0)
    assert far.method == "affine"
    assert far.time[[0, -1]] == pytest.approx(whole.time[[0, -1]], rel=1e-12)
    for time in np.linspace(whole.time[0], whole.time[-1], 23):
        assert far.energy_at(time) == pytest.approx(whole.energy_at(time), rel=1e-11)
        plan = far.schedule(time)
        assert plan.energy == pytest.approx(far.energy_at(time), rel=1e-11)
        assert makespan(make(60), plan.duration) <= time * (1 + 1e-12)


@settings(max_examples=300, deadline=None)
@given(graphs(), st.floats(0, 1), st.integers(0, 99))
def test_warm_start_equals_cold_start(graph, where, seed):
    """Whatever guess it starts from, a state is an optimum for its price, and the climb ends at the same point."""
    dag, hulls = graph
    network = Network(dag, hulls)
    steepest = sum(np.max(-np.diff(e) / np.diff(t), initial=0.0) for t, e in (hulls[c] for c in dag.nodes))
    price = network.price(where * steepest)
    cold, *_ = network.advance(network.slowest, ceiling=price)
    if network.completion(cold.time) == network.completion(network.fastest()):
        return  # nothing is worth that much
    random = np.random.default_rng(seed)
    span = max(int(network.slowest.time.max()), 1)
    time, flow = random.integers(0, span, len(cold.time)), random.integers(0, price + 1, len(cold.flow))
    warm = settle(State(time, flow, price), network, patience=1 << 20)
    assert warm is not None
    plans = [network.read(state.time, state.flow) for state in (cold, warm)]
    dones = [network.completion(state.time) * network.tick for state in (cold, warm)]
    costs = [plan.energy + price * network.watt * done for plan, done in zip(plans, dones, strict=True)]
    assert costs[1] == pytest.approx(costs[0], rel=1e-9, abs=1e-9)
    _, after, prices, _ = network.advance(warm)
    assert after[-1] == network.completion(network.fastest())
    assert prices[-1] == INFINITE


def test_a_wrong_prediction_is_noticed():
    """Optima of the whole graph contradict what graphs too short foretell, and confirm what long ones do."""
    hulls = [lower_hull(*table) for table in noisy_profile(4, seed=7)]

    def make(count):
        return one_forward_one_backward(4, count)

    whole = Network(make(60), hulls)
    told = []
    for base in (4, 18):
        climb = _Climb(make, 60, hulls, whole, base)
        states = [m.network.advance(m.network.slowest, ceiling=whole.price(2500.0))[0] for m in climb.members]
        stretch = _Stretch(climb.members, tuple(states), (), np.zeros(0, np.int64), False)
        state = stretch.carried(climb.whole, 1000)
        told.append(stretch.foretells(climb.whole, state))
    assert told == [False, True]


def test_guard_falls_back_when_growth_is_not_affine():
    """A family that never settles, or is too short to be worth extending, is solved directly."""
    hulls = [(np.array([1.0, 2.0, 4.0]), np.array([9.0, 4.0, 1.0]))]

    def widening(count):
        return Dag(np.zeros(count * count, int), np.array([(i, i + 1) for i in range(count * count - 1)]))

    far = solve_family(widening, 40, hulls, 0.5, base=2)
    assert far.method == "direct"
    assert far.time == pytest.approx(solve(widening(40), hulls, 0.5).time)


def test_is_the_same_twice(pipeline):
    """The same input gives the same bytes."""
    dag, tables, hulls, frontier = pipeline
    again = solve(dag, hulls, 320.0)
    assert again.time.tobytes() == frontier.time.tobytes()
    assert again.energy.tobytes() == frontier.energy.tobytes()
    middle = float(frontier.time.mean())
    one, two = (round_discrete(dag, f, tables, middle) for f in (frontier, again))
    assert one.option.tobytes() == two.option.tobytes()


def test_unreachable_time_names_the_fastest():
    """A deadline before the fastest completion is refused, and the message says what is possible."""
    frontier = solve(DIAMOND, PAIR, 0.0)
    for ask in (frontier.energy_at, frontier.total, frontier.durations):
        with pytest.raises(GoalError, match="fastest possible is 3 s"):
            ask(2.5)


def test_slower_than_needed_completes_and_waits():
    """Beyond the slowest breakpoint nothing more is saved, and waiting is paid."""
    frontier = solve(DIAMOND, PAIR, 1.5)
    slowest = frontier.time[-1]
    assert frontier.energy_at(slowest + 1) == frontier.energy[-1]
    assert frontier.total(slowest + 1) == pytest.approx(frontier.total(slowest) + 1.5)


@pytest.mark.parametrize(
    ("nodes", "edges", "message"),
    [
        ([], [], "at least one node"),
        ([0, 0, 0], [(0, 1), (1, 2), (2, 1)], "node [12] is on one"),
        ([0], [(0, 0)], "node 0 is on one: 0"),
        ([0, 0], [(0, 2)], "must join nodes 0 to 1"),
        ([0, -1], [], "node 1 has -1"),
        ([0, 0], [(0, 1, 1)], "pairs"),
        ([0.5], [], "integers"),
    ],
)
def test_bad_graphs_are_refused(nodes, edges, message):
    """A graph that cannot be run is refused with the node or edge at fault."""
    with pytest.raises(InputError, match=message):
        Dag(np.array(nodes), np.array(edges))


@pytest.mark.parametrize(
    ("time", "energy", "message"),
    [
        ([1.0, 1.0], [2.0, 1.0], "times must rise"),
        ([1.0, 2.0], [1.0, 2.0], "energies fall"),
        ([1.0, 2.0, 3.0], [9.0, 8.0, 1.0], "convex"),
        ([-1.0], [1.0], "0 s or more"),
        ([np.nan], [1.0], "finite"),
        ([1.0, 2.0], [1.0], "equally long"),
        ([], [], "equally long"),
    ],
)
def test_bad_hulls_are_refused(time, energy, message):
    """A hull that is not one is refused with its class."""
    with pytest.raises(InputError, match=message):
        solve(Dag(np.array([0]), np.zeros((0, 2), int)), [(time, energy)], 0.0)


def test_missing_class_and_bad_waiting_power_are_refused():
    """A node without a hull, and a waiting power that is no power, are named."""
    with pytest.raises(InputError, match="node 1 has class 1"):
        solve(Dag(np.array([0, 1]), np.array([(0, 1)])), PAIR[:1], 0.0)
    with pytest.raises(InputError, match="waiting_power"):
        solve(DIAMOND, PAIR, float("nan"))
