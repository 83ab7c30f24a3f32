"""Tests for site/simulate/site.py and its core: closed forms, C and Python, conservation, controllers and their limits."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wattline.core import kernels
from wattline.core.errors import InputError
from wattline.hardware.power_tree import Overhead, PowerTree
from wattline.site.simulate import _site
from wattline.site.simulate._site_make import live, plant, tally
from wattline.site.simulate.breaker import CURVES, TripCurve
from wattline.site.simulate.controllers import (
    CONTROLLERS,
    Prices,
    Reading,
    Uncapped,
    capped,
    controller,
    room,
)
from wattline.site.simulate.model import Crew, Limit, Physics, Site
from wattline.site.simulate.play import play

from .plain_site import Plain
from .plain_site import chance as plain_chance
from .sites import node, one, sites

FEW = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
PLANNING = ("uniform", "proportional", "prices")


class Fixed:
    """Caps that never change."""

    name, interval = "fixed", 1e9

    def __init__(self, watts: float) -> None:
        self.watts = watts

    def start(self, site: Site) -> None:
        self.nodes = len(site.place)

    def act(self, now: Reading) -> np.ndarray:
        return np.full(self.nodes, self.watts)


# ---- closed forms ----------------------------------------------------------------------------------


def test_a_node_warms_as_its_thermal_rc_does() -> None:
    """After t seconds at constant power: inlet + rise * (1 - exp(-t / tau)), from idle, in steps of any length."""
    for dt in (1.0, 7.0):
        site = one(step=dt, warming=90.0, rise=40.0, supply=300.0, cooling=0.0)
        p = plant(site, 0, 100)
        s, out = live(site, p), tally(site, 100, 10, 0)
        _site.advance(p, s, out, site.tree.row_limit, 0, 30, False)
        begun = 300 + 40 * 0.2
        assert s.temperature[0] == pytest.approx(340 + (begun - 340) * math.exp(-30 * dt / 90.0), abs=1e-9)


@given(ratio=st.floats(1.01, 6.0), curve=st.sampled_from(["very-inverse", "extremely-inverse", "iec-60898-c"]))
@FEW
def test_a_breaker_opens_at_the_time_of_its_curve(ratio: float, curve: str) -> None:
    """Under a constant load the integrating breaker opens in the step that the curve's closed form says."""
    tree = PowerTree.read([{"name": "feed", "limit": 1000.0 / ratio}])
    tree = replace(tree, limit=np.array([1000.0 / ratio]))
    site = Site(tree, (Crew("job", node(), [("feed", 1)]),), Physics(breaker=CURVES[curve], cooling=0.0))
    expected = CURVES[curve].time(ratio)
    run = play(site, Uncapped(), lasts=math.ceil(expected) + 5.0, traced=10**6)
    dark = np.flatnonzero(run.flows[:, 0] == 0.0)
    assert run.trips.tolist() == [1]
    assert dark[0] == pytest.approx(expected, abs=1.0 + 1e-6 * expected)


def test_iec_trip_times_are_the_tabled_ones() -> None:
    """IEC curve C at 1.5, 2 and 10 times the setting: 64.0, 26.67 and 0.808 s; curve B at 2: 13.5 s; reset from cold load."""
    assert [CURVES["extremely-inverse"].time(m) for m in (1.5, 2.0, 10.0)] == pytest.approx(
        [64.0, 26.667, 0.8081], rel=1e-3
    )
    assert CURVES["very-inverse"].time(2.0) == 13.5
    assert CURVES["extremely-inverse"].times(2.0).time(2.0) == pytest.approx(53.333, rel=1e-4)
    assert CURVES["extremely-inverse"].reset_time(0.0) == 58.2
    assert CURVES["none"].time(9.0) == math.inf
    assert CURVES["inverse"].time(1.0) == math.inf
    with pytest.raises(InputError, match="k, alpha and reset > 0"):
        TripCurve(0.0, 2.0, 1.0)


def test_tables_of_standards_hold_at_their_points() -> None:
    """IEC 60898-1 above 32 A: for ever at 1.12 times, within an hour at 1.45, 120 s at 2.55, at once at C's 10."""
    c = CURVES["iec-60898-c"]
    assert [c.time(m) for m in (1.12, 1.45, 2.55, 5.0, 10.0)] == pytest.approx([math.inf, 3600, 120, 30, 0.1])
    assert c.time(20.0) == pytest.approx(0.025)
    assert 120 > c.time(3.5) == pytest.approx(math.sqrt(120 * 30), rel=0.1)
    assert CURVES["iec-60947-2"].time(1.3) == 7200
    assert CURVES["ul-489-225"].times(0.5).time(2.0) == 300
    for curve in CURVES.values():
        times = [curve.time(m) for m in np.linspace(1.01, 30, 300)]
        assert all(a >= b for a, b in itertools.pairwise(times))
    with pytest.raises(InputError, match="ratios that rise"):
        TripCurve(1.0, 2.0, 1.0, ((2.0, 60.0), (1.5, 600.0)))


def test_a_trace_is_played_task_by_task() -> None:
    """Two nodes and three tasks of 100 s that come at once: two run, the third waits, and energy is theirs."""
    crew = Crew("traced", node(), [("feed", 2)], tasks=(np.zeros(3), np.full(3, 100.0)))
    site = Site(PowerTree.read([{"name": "feed"}]), (crew,), Physics(cooling=0.0))
    run = play(site, Uncapped(), lasts=300.0)
    assert run.tasks_done.tolist() == [3]
    assert run.tasks["waited_s"] == pytest.approx(100 / 3, abs=1.0)
    with pytest.raises(InputError, match="take the place of arrivals"):
        Crew("traced", node(), [("feed", 2)], arrivals=1.0, stay=1.0, tasks=(np.zeros(1), np.ones(1)))


def test_a_breaker_forgets_below_its_rating() -> None:
    """Loaded for half its trip time and rested for its reset time, it carries the same again; without rest it opens."""
    tree = PowerTree.read([{"name": "feed", "limit": 1e4}])
    site = Site(replace(tree, limit=np.array([800.0])), (Crew("job", node(), [("feed", 1)]),), Physics(cooling=0.0))
    half = 0.6 * CURVES["extremely-inverse"].time(1000 / 800)

    class Bursts(Fixed):
        interval = 1.0

        def __init__(self, rest: float) -> None:
            self.rest = rest

        def act(self, now: Reading) -> np.ndarray:
            loud = now.time < half or half + self.rest <= now.time < 2 * half + self.rest
            return np.full(1, 1000.0 if loud else 480.0)

    assert play(site, Bursts(200.0), lasts=1000.0).trips[0] == 0
    assert play(site, Bursts(2.0), lasts=1000.0).trips[0] == 1


def test_tasks_on_ample_nodes_are_m_g_infinity() -> None:
    """The mean number in service is rate * stay and its variance the same (Poisson), whatever the sizes."""
    tree = PowerTree.read([{"name": "feed", "limit": 1e6}])
    crew = Crew("batch", node(idle=0.0), [("feed", 80)], arrivals=0.2, stay=100.0)
    run = play(Site(tree, (crew,), Physics(cooling=0.0)), Uncapped(), lasts=60_000.0, traced=60_000)
    busy = run.flows[2000:, 0] / 1000.0
    assert busy.mean() == pytest.approx(20.0, rel=0.05)
    assert busy.var() == pytest.approx(20.0, rel=0.25)
    assert run.tasks["waited_s"] < 1.0
    assert run.tasks["until_done_s"] == pytest.approx(100.0, rel=0.04)


def test_failures_take_the_share_of_time_they_should() -> None:
    """Nodes alone are down for repair / (failing + repair) of the time."""
    tree = PowerTree.read([{"name": "feed", "limit": 1e6}])
    site = Site(tree, (Crew("job", node(), [("feed", 200)]),), Physics(failing=900.0, repair=100.0))
    run = play(site, Uncapped(), lasts=20_000.0)
    assert run.lost_by()["failed"] == pytest.approx(0.1, rel=0.06)


def test_a_gang_waits_for_its_slowest() -> None:
    """One straggler at half pace halves the gang; the others draw in between what they draw waiting and at work."""
    tree = PowerTree.read([{"name": "feed", "limit": 1e6}])
    site = Site(tree, (Crew("train", node(), [("feed", 4)], gangs=1),), Physics(slowing=1.0, slowed=1e12, pace=0.5))
    run = play(site, Uncapped(), lasts=400.0, traced=400)
    assert run.loads[-1, 0] == pytest.approx(4 * 1000.0)  # all are stragglers in the end, and draw as if they were not
    p = plant(site, 0, 10)
    s, out = live(site, p), tally(site, 10, 10, 10)
    s.turn[:] = np.inf
    s.pace[1] = 0.5
    _site.advance(p, s, out, tree.row_limit, 0, 1, False)
    assert out.done[0] == pytest.approx(4 * 0.5)
    assert s.power.tolist() == pytest.approx([600.0, 1000.0, 600.0, 600.0])


# ---- the obvious program ---------------------------------------------------------------------------


@given(site=sites(), seed=st.integers(0, 9), watts=st.floats(200, 1200))
@FEW
def test_the_core_agrees_with_plain_python(site: Site, seed: int, watts: float) -> None:
    """Every node's power and temperature, every flow, every breaker and all work, step by step for 250 s."""
    p = plant(site, seed, 250)
    fast, slow = (live(site, p), tally(site, 250, 50, 250)), (live(site, p), tally(site, 250, 50, 0))
    plain = Plain(p, *slow)
    for s in (fast[0], slow[0]):
        s.cap[::2] = watts
    for k in range(250):
        limit = site.limit(k, k)
        reached = _site.advance(p, *fast, limit, k, k + 1, True)
        event = plain.step(k, limit)
        assert reached == k + 1 or event
        for name in ("power", "temperature", "flow", "heat", "off", "left", "removed"):
            np.testing.assert_allclose(
                getattr(fast[0], name), getattr(slow[0], name), rtol=1e-9, atol=1e-9, err_msg=name
            )
    for name in ("done", "wanted", "lost", "trips"):
        np.testing.assert_allclose(getattr(fast[1], name), getattr(slow[1], name), rtol=1e-9, atol=1e-9, err_msg=name)
    np.testing.assert_allclose(fast[1].over[:, 0], slow[1].over[:, 0])
    assert fast[1].events[2] == slow[1].events[2]


@given(site=sites(), seed=st.integers(0, 9), name=st.sampled_from(["uncapped", "proportional", "prices"]))
@FEW
def test_c_and_python_give_the_same_bits(site: Site, seed: int, name: str) -> None:
    """Under every controller, whatever fails: not one bit of one figure differs."""
    compiled = play(site, controller(name), lasts=150.0, seed=seed, traced=150)
    with kernels.plain():
        plainly = play(site, controller(name), lasts=150.0, seed=seed, traced=150)
    for field in vars(compiled):
        if field != "thought":  # seconds of this machine
            one, other = getattr(compiled, field), getattr(plainly, field)
            assert one == other if isinstance(one, dict) else np.array_equal(one, other), field


def test_the_hash_is_the_stated_one() -> None:
    """Random numbers are those of plain Python, and even."""
    draws = [_site.chance(7, i, 3) for i in range(4000)]
    assert draws[:50] == [plain_chance(7, i, 3) for i in range(50)]
    assert np.mean(draws) == pytest.approx(0.5, abs=0.02)
    assert np.corrcoef(draws[:-1], draws[1:])[0, 1] == pytest.approx(0.0, abs=0.05)


# ---- laws ------------------------------------------------------------------------------------------


@given(site=sites(), seed=st.integers(0, 9), name=st.sampled_from(sorted(CONTROLLERS)))
@FEW
def test_power_is_conserved_at_every_part_at_every_step(site: Site, seed: int, name: str) -> None:
    """What flows in is (1 + loss) times standing, own load and what hangs below; or nothing, where a breaker is open."""
    run = play(site, controller(name), lasts=300.0, seed=seed, traced=300)
    tree = site.tree
    below = run.loads + tree.standing
    for part in np.argsort(-tree.level, kind="stable")[:-1]:
        below[:, tree.parent[part]] += run.flows[:, part]
    parts = [part for part in range(len(tree)) if part != tree.root]
    expected = below * (1 + tree.loss)
    on = run.flows > 0
    np.testing.assert_allclose(run.flows[:, parts], np.where(on, expected, 0.0)[:, parts], rtol=1e-12, atol=1e-9)
    removed, share = (run.flows - expected)[:, tree.root] - tree.overhead.fixed, tree.overhead.at(None)
    lit = on[:, tree.root]
    if site.physics.cooling == 0:
        np.testing.assert_allclose(removed[lit], share * below[lit, tree.root], rtol=1e-9, atol=1e-6)
        if not run.trips.any():
            np.testing.assert_allclose(run.flows, tree.flows(run.loads), rtol=1e-9, atol=1e-9)
    else:  # the heat that cooling takes goes towards what is drawn, by its time constant
        keep = lit[1:] & lit[:-1]
        toward = removed[:-1] + (share * below[1:, tree.root] - removed[:-1]) * (1 - math.exp(-1 / 50.0))
        np.testing.assert_allclose(removed[1:][keep], toward[keep], rtol=1e-9, atol=1e-6)
    assert run.energy == pytest.approx(run.flows[:, tree.root].sum())
    assert run.joules.sum() == pytest.approx(run.loads.sum())


@given(site=sites(), seed=st.integers(0, 9), name=st.sampled_from(sorted(CONTROLLERS)))
@FEW
def test_work_wanted_is_done_or_lost_for_a_reason(site: Site, seed: int, name: str) -> None:
    """Done and lost (capped, failed, waiting, dark) sum to what was wanted, for every crew; the same seed, the same bytes."""
    run, again = (play(site, controller(name), lasts=300.0, seed=seed) for _ in range(2))
    np.testing.assert_allclose(run.done + run.lost.sum(axis=1), run.wanted, rtol=1e-9)
    assert (run.lost >= -1e-9).all()
    assert run.to_dict() == again.to_dict()
    assert run.history.tobytes() == again.history.tobytes()


@given(site=sites(), seed=st.integers(0, 9), name=st.sampled_from(PLANNING), at=st.sampled_from([0.0, 75.0, 120.0]))
@settings(max_examples=40, deadline=None)
def test_no_plan_exceeds_a_limit_under_its_own_model(site: Site, seed: int, name: str, at: float) -> None:
    """All nodes at their caps, and cooling as it is, stay within every limit, unless even the least power does not fit."""
    made = controller(name)
    made.start(site)
    s = live(site, plant(site, seed, 10))
    rng = np.random.default_rng(seed)
    s.state[rng.random(len(s.state)) < 0.2] = 1
    limit = site.limit(at, at + 40.0)
    now = replace(Reading.of(site, s, at, limit), asked=np.array([1.0, 0.8, 1.0]))
    caps = made.act(now)
    tree, share = site.tree, site.tree.overhead.at(None)
    assert (caps >= site.floor - 1e-9).all()

    def worst(power: np.ndarray) -> np.ndarray:
        load = site.load(power)
        flows = tree.row_flows(load)
        steady = (flows[tree.root] - tree.overhead.fixed) / (1 + share)
        flows[tree.root] += share * max(0.0, now.removed - steady)
        return flows

    least = worst(site.floor)
    flows = worst(np.maximum(caps, site.floor))
    fits = (least <= limit * (1 + 1e-9)).all()
    if fits:
        assert (flows <= limit * (1 + 1e-6)).all()
    else:
        assert name != "uniform" or caps == pytest.approx(site.floor)


def test_cooling_that_lags_tightens_the_feed() -> None:
    """While cooling still takes the heat of a larger load, equipment gets what that leaves."""
    tree = PowerTree.read([{"name": "feed", "limit": 1200.0}], overhead=Overhead(100.0, (0.25,)))
    assert room(tree, tree.row_limit, 0.0)[0] == 1200.0
    safe = room(tree, tree.row_limit, 2000.0)[0]
    below = (safe - 100.0) / 1.25
    assert below + 0.25 * 2000 + 100 == pytest.approx(1200.0)


def test_the_planner_knows_what_a_cap_costs_in_each_phase() -> None:
    """Under any cap the work it expects, and no more than the cap in watts, is what nodes with phases then do."""
    crew = Crew("serve", node(), [("feed", 400)], load=0.95, quiet=0.6, lasts=(10.0, 20.0))
    tree = PowerTree.read([{"name": "feed", "limit": 1e6}])
    expected = capped(crew, 0.95)
    assert len(expected) > 3
    for k in range(len(expected)):
        cap = float(expected.average_power[k])
        run = play(Site(tree, (crew,)), Fixed(cap), lasts=600.0, traced=600)
        assert run.done[0] / (400 * 600.0) == pytest.approx(1 / expected.time[k], rel=0.004)
        assert run.loads.max() <= 400 * cap * (1 + 1e-9)


# ---- controllers -----------------------------------------------------------------------------------


def curtailed() -> Site:
    """Twelve nodes of a job worth much and twelve of one worth little; a quarter of the power goes for five minutes."""
    rows = [{"name": "feed", "limit": 24e3}, *({"name": f"row-{r}", "on": "feed", "limit": 13e3} for r in (1, 2))]
    tree = PowerTree.read(rows, overhead=Overhead(0.0, (0.1,)))
    crews = (Crew("dear", node(), [("row-1", 12)], weight=3.0), Crew("cheap", node(), [("row-2", 12)], weight=1.0))
    return Site(tree, crews, Physics(cooling=60.0), (Limit(0, 18e3, 600.0, 900.0, 540.0),))


def test_planners_keep_a_curtailment_that_uncapped_breaks() -> None:
    """With a minute's notice no planner is a second above a limit; prices lose least of the weighted work."""
    runs = {name: play(curtailed(), controller(name), lasts=1500.0) for name in CONTROLLERS}
    assert runs["uncapped"].over_s > 250
    assert runs["uncapped"].trips.sum() == 1
    for name in PLANNING:
        assert runs[name].over_s == 0, name
        assert runs[name].trips.sum() == 0, name
    assert runs["prices"].done.sum() > runs["uniform"].done.sum() * 1.005
    shares = runs["prices"].done / runs["prices"].wanted
    assert shares[0] > 0.98
    assert shares[1] < 0.9
    assert runs["prices"].done.sum() >= runs["proportional"].done.sum()


def test_thresholds_lock_cheap_work_first() -> None:
    """Over the first threshold only work of less weight is slowed; at the limit all brake."""
    site = curtailed()
    made = controller("thresholds")
    made.start(site)
    s = live(site, plant(site, 0, 10))
    seen = Reading.of(site, s, 10.0, site.tree.row_limit)
    one_ = made.act(replace(seen, feed=0.85 * 24e3))
    assert (one_[:12] == 1000.0).all()
    assert (one_[12:] < 1000.0).all()
    assert made.act(replace(seen, feed=0.85 * 24e3)) is None
    assert (made.act(replace(seen, feed=24.1e3)) == site.floor).all()
    assert (made.act(replace(seen, feed=0.5 * 24e3)) == 1000.0).all()


def test_an_owed_minimum_that_does_not_fit_is_dropped_and_counted() -> None:
    """The planner then spends what there is where it does most, and says so."""
    site = curtailed()
    crews = tuple(replace(crew, minimum=1.0) for crew in site.crews)
    run = play(replace(site, crews=crews), Prices(), lasts=900.0)
    assert run.dropped > 0
    assert run.over_s == 0


def test_what_cannot_be_played_is_refused() -> None:
    """No crews, no nodes, half an arrival process, a gang with less than full load, unknown controllers, no time."""
    tree = PowerTree.read([{"name": "feed", "limit": 1e4}])
    with pytest.raises(InputError, match="at least one crew"):
        Site(tree, ())
    with pytest.raises(InputError, match="needs nodes"):
        Crew("a", node(), [])
    with pytest.raises(InputError, match="arrivals and stay are due together"):
        Crew("a", node(), [("feed", 1)], arrivals=1.0)
    with pytest.raises(InputError, match="gangs are always at full load"):
        Crew("a", node(), [("feed", 2)], gangs=1, load=0.5)
    with pytest.raises(InputError, match="load and swing"):
        Crew("a", node(), [("feed", 2)], load=1.5)
    with pytest.raises(InputError, match="phases must last"):
        Crew("a", node(), [("feed", 2)], lasts=(0.0, 1.0))
    with pytest.raises(InputError, match="uniform"):
        controller("unifrom")
    with pytest.raises(InputError, match="one step of 1 s"):
        play(one(), Uncapped(), lasts=0.0)
    with pytest.raises(InputError, match="must be > 0"):
        Physics(step=0.0)
    with pytest.raises(InputError, match="0 or more"):
        Physics(actuation=-1.0)
