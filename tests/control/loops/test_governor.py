"""Tests for `wattline.control.loops.governor` and `scrape`: closed loops over HTTP with the serving simulator."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.control.daemon.client import Client
from wattline.control.devices.simulated import SimulatedGpu
from wattline.control.leases.actuator import ControlError
from wattline.control.leases.keeper import Keeper
from wattline.control.loops.governor import Governor, Promise, govern, seen, told
from wattline.control.loops.scrape import MetricsError, Reading, Scraper, parse
from wattline.core.errors import InputError
from wattline.serving.governor import Controller
from wattline.serving.simulate.outcome import Limits
from wattline.serving.simulate.pool import Fleet, Pool
from wattline.workload.traffic import Requests

from ...serving.simulate.fleets import table
from ..daemon.serve import serving
from .engine import ITL, Engine, Page, histogram, play, served

TPOT = 0.05


def fleet() -> Fleet:
    return Fleet((Pool(table=table(max_batch=256), max_batch=256),))


def traffic(rate: float, seconds: float, seed: int = 0, *, start: float = 0.0) -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(seed)
    n = int(rate * seconds)
    return (
        start + np.sort(random.uniform(0.0, seconds, n)),
        random.integers(200, 1200, n),
        random.integers(50, 250, n),
    )


def requests(*parts: tuple[np.ndarray, ...]) -> Requests:
    arrival, prompt, output = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Requests(arrival, prompt, output)


class Loop:
    """A governor on a simulated device, an engine behind HTTP, and what came of it."""

    def __init__(self, folder, promise: Promise, **how) -> None:
        self.gpu, self.page = SimulatedGpu(found=600.0), Page()
        self.keeper = Keeper([self.gpu], folder / "state")
        self.promise, self.how, self.looks = promise, how, []
        self.broken: tuple[float, float] = (math.inf, math.inf)  # when the metrics are away

    def run(self, made: Requests, limits: Limits):
        with served(self.page) as url, self.keeper.take("0") as held:
            governor = Governor([held], self.promise, Scraper(url).read, **self.how)

            def look(t: float) -> None:
                self.page.status = 500 if self.broken[0] <= t < self.broken[1] else 200
                self.looks.append((t, governor.look(), self.gpu.read("clock")))

            engine = Engine(self.gpu, self.page, look)
            self.run_ = play(engine, made, fleet(), limits)
            self.notes = governor.notes
            governor.close()
        assert self.gpu.read("clock") is None
        return self.run_


def free(made: Requests, limits: Limits):
    gpu = SimulatedGpu()
    return play(Engine(gpu, Page()), made, fleet(), limits)


def test_slack_becomes_energy_and_the_promise_is_kept(tmp_path):
    """With light traffic the clock comes down, energy is saved, and as few are late as promised."""
    made, limits = requests(traffic(8.0, 300.0)), Limits(tpot=TPOT, ttft=2.0)
    loop = Loop(tmp_path, Promise(tpot=TPOT, ttft=2.0))
    found, plain = loop.run(made, limits), free(made, limits)
    assert found.kept
    assert min(clock for _, _, clock in loop.looks if clock) < 0.75 * 1.98e9
    assert found.energy_j < 0.75 * plain.energy_j  # the best fixed clock, known beforehand, takes 0.59 of it


def test_a_burst_is_answered_at_once(tmp_path):
    """Traffic that grows sevenfold: the clock goes up within a few looks, and the promise is kept over the whole."""
    made = requests(traffic(5.0, 150.0), traffic(36.0, 100.0, 1, start=150.0), traffic(5.0, 100.0, 2, start=250.0))
    tpot = float(np.quantile(free(made, Limits(tpot=1.0)).tpot, 0.99)) * 1.15
    loop = Loop(tmp_path, Promise(tpot=tpot))
    found = loop.run(made, Limits(tpot=tpot, percentile=95.0))
    before = [clock for t, _, clock in loop.looks if 100.0 < t < 150.0]
    during = [clock for t, _, clock in loop.looks if 170.0 < t < 250.0]
    assert np.mean(during) > np.mean(before)
    assert found.kept
    assert found.energy_j < free(made, Limits(tpot=tpot)).energy_j


def test_without_metrics_the_device_runs_at_its_own_clock(tmp_path):
    """An engine that stops answering: after two looks the clock is free, and it is governed again when they are back."""
    made = requests(traffic(8.0, 200.0))
    loop = Loop(tmp_path, Promise(tpot=TPOT))
    loop.broken = (80.0, 140.0)
    loop.run(made, Limits(tpot=TPOT))
    blind = [clock for t, look, clock in loop.looks if 84.0 <= t < 140.0]
    assert blind
    assert set(blind) == {None}
    assert [look.move for t, look, _ in loop.looks if 80.0 <= t < 140.0] == ["blind"] * 60
    assert loop.looks[-1][2] is not None
    assert "at their own clocks" in loop.notes[0]
    assert "500" in loop.notes[0]


# ---- without a simulator ----


def reading(itl: list[float], *, running: float = 10.0, waiting: float = 0.0) -> str:
    values = np.array(itl)
    lines = histogram("vllm:inter_token_latency_seconds", ITL, values, np.ones(len(values)))
    return "\n".join([*lines, f"vllm:num_requests_running {running}", f"vllm:num_requests_waiting {waiting}"])


class Said:
    """An engine that says what it is told to, all tokens so far counted."""

    def __init__(self) -> None:
        self.tokens: list[float] = []
        self.waiting, self.running = 0.0, 10.0

    def __call__(self) -> Reading:
        return parse(reading(self.tokens, running=self.running, waiting=self.waiting))

    def more(self, seconds: float, count: int = 200, late: int = 0) -> None:
        self.tokens += [seconds] * (count - late) + [1.0] * late


@pytest.fixture
def said():
    return Said()


def test_the_controller_is_the_simulators(keeper, gpu, said):
    """What a live governor sets is what the controller says to what it saw: reading by reading."""
    with keeper.take("0") as held:
        governor = Governor([held], Promise(tpot=TPOT, ttft=1.0), said)
        alone = Controller(governor.promise, governor.clocks)
        governor.look()
        before = said()
        for k in range(60):
            said.more(0.02 if k % 9 else 0.2, late=k % 4)
            said.waiting = 30.0 if k % 11 == 10 else 0.0
            look, now = governor.look(), said()
            told = alone.look(seen(now, before, governor.promise, governor.interval))
            assert (look.move, look.clock, look.strain, look.why) == (told.move, told.clock, told.strain, told.why)
            assert gpu.read("clock") == told.clock
            before = now
        assert len({governor.controller.clock, governor.clocks[-1]}) >= 1


def test_down_is_slow_and_up_is_quick(keeper, gpu, said):
    """One notch down per two calm looks; tokens that come slowly raise it in the same look."""
    with keeper.take("0") as held:
        governor = Governor([held], Promise(tpot=TPOT), said)
        governor.look()
        for _ in range(6):
            said.more(0.02)
            governor.look()
        assert governor.controller.at == len(governor.clocks) - 1 - 3
        low = gpu.read("clock")
        said.more(0.09)
        assert governor.look().move in ("up", "top")
        assert gpu.read("clock") > low


def test_nothing_to_serve_changes_nothing(keeper, said):
    """An idle server leaves the clock."""
    with keeper.take("0") as held:
        governor = Governor([held], Promise(tpot=TPOT), said)
        governor.look()
        said.running = 0.0
        assert governor.look().move == "idle"
        assert "idle" in told(governor.look())


def test_a_server_that_begins_anew_is_understood(keeper, said):
    """Counters that fall are of a new server: what it says is taken as it is."""
    with keeper.take("0") as held:
        governor = Governor([held], Promise(tpot=TPOT), said)
        said.more(0.02, count=1000)
        governor.look()
        said.tokens.clear()
        said.more(0.2, count=100)
        assert governor.look().move == "stay"  # at the top already
        assert governor.controller.between.late == pytest.approx(1.0)  # no first token is told: counted as one request


def test_govern_frees_the_clock_however_it_ends(keeper, gpu, said):
    """The loop stops when told to, or by an error, and the device is at its own clock."""
    with keeper.take("0") as held:
        governor = Governor([held], Promise(tpot=TPOT), said)
        looks = []
        govern(governor, tell=looks.append, stop=lambda: len(looks) >= 3, sleep=lambda _s: said.more(0.02))
        assert len(looks) == 3
        assert gpu.read("clock") is None

        def fail(_seconds: float) -> None:
            assert gpu.read("clock") is not None
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            govern(governor, sleep=fail)
        assert gpu.read("clock") is None


def test_through_a_daemon_it_is_the_same(gpu, said, tmp_path):
    """A governor on a lease of the daemon brings the clock down and lets it free."""
    with serving([gpu], tmp_path), Client(tmp_path / "daemon.sock") as client, client.take("0") as held:
        governor = Governor([held], Promise(tpot=TPOT), said)
        for _ in range(6):
            said.more(0.02)
            governor.look()
        assert gpu.read("clock") == governor.controller.clock < 1.98e9
        governor.close()
        assert gpu.read("clock") is None


# ---- what is read ----


@given(
    st.lists(st.floats(1e-4, 100.0), min_size=1, max_size=60),
    st.floats(1e-3, 50.0),
    st.floats(0.01, 0.99),
)
def test_histograms_bound_the_truth(values, limit, share):
    """The share above a limit and a quantile lie within the bucket that holds them."""
    text = "\n".join(histogram("vllm:inter_token_latency_seconds", ITL, np.array(values), np.ones(len(values))))
    found = parse(text).itl
    data = np.array(values)
    edges = [0.0, *ITL, math.inf]
    k = next(i for i, edge in enumerate(edges) if limit < edge)
    least, most = (data > edges[k]).mean(), (data > edges[k - 1]).mean()
    assert least - 1e-9 <= found.above(limit) <= most + 1e-9
    true = np.sort(data)[math.ceil(share * len(data) - 1e-9) - 1]
    j = next(i for i, edge in enumerate(edges) if true <= edge)
    assert edges[j - 1] - 1e-9 <= found.quantile(share) <= (edges[j] if j <= len(ITL) else edges[j - 1]) + 1e-9
    assert found.mean == pytest.approx(data.mean())


def test_older_names_and_several_models_are_read():
    """Before version 0.11 the time between tokens had another name; series of several models are added up."""
    name = "vllm:time_per_output_token_seconds"
    text = "\n".join(
        f'{name}_bucket{{model_name="{m}",le="{edge}"}} {n}'
        for m in "ab"
        for edge, n in (("0.05", 3), ("0.1", 4), ("+Inf", 4))
    )
    now = parse(text + '\nvllm:num_requests_running{model_name="a"} 2\nvllm:num_requests_running{model_name="b"} 3\n')
    assert (now.itl.counts, now.running, now.ttft.count) == ((6.0, 8.0, 8.0), 5.0, 0.0)


@pytest.mark.parametrize(
    ("prefix", "names"),
    [
        ("vllm:", ("inter_token_latency", "num_requests_running", "num_requests_waiting")),
        ("sglang:", ("inter_token_latency", "num_running_reqs", "num_queue_reqs")),
        ("trtllm_", ("time_per_output_token", "num_requests_running", "num_requests_waiting")),
    ],
)
def test_every_engines_names_are_read(prefix, names):
    """vLLM, SGLang and TensorRT-LLM: first tokens, tokens or requests, and the two gauges; late ones are the same share."""
    between, running, waiting = names
    values = np.array([0.02] * 90 + [0.2] * 10)
    text = "\n".join(
        [*histogram(f"{prefix}time_to_first_token_seconds", ITL, values[:50], np.ones(50)),
         *histogram(f"{prefix}{between}_seconds", ITL, values, np.ones(100)),
         f'{prefix}{running}{{model_name="m"}} 7', f'{prefix}{waiting}{{model_name="m"}} 2']
    )  # fmt: skip
    now = parse(text)
    nothing = parse("\n".join(line.rpartition(" ")[0] + " 0" for line in text.splitlines()))
    told_ = seen(now, nothing, Promise(tpot=0.05, ttft=0.5), 1.0)
    assert (told_.running, told_.waiting, told_.firsts, told_.gaps) == (7.0, 2.0, 50.0, 100.0)
    assert told_.done_late / told_.done == pytest.approx(0.1)
    assert told_.gap_mean == pytest.approx(values.mean())


def test_what_an_engine_does_not_say_is_not_made_up(keeper, said):
    """Without gauges, running and waiting are not known: null in JSON, and no queue is seen."""
    text = "\n".join(histogram("trtllm_time_per_output_token_seconds", ITL, np.array([0.02] * 9), np.ones(9)))
    now = parse(text)
    assert math.isnan(now.running)
    assert math.isnan(now.waiting)
    with keeper.take("0") as held:
        governor = Governor([held], Promise(tpot=TPOT), lambda: now)
        governor.look()
        look = governor.look()
    assert look.move == "stay"
    assert told(look).endswith("(stay: no token came)")


@given(st.text(max_size=300))
def test_any_page_is_read_or_refused(text):
    """Arbitrary text is no reading, and never another error than the one for that."""
    with pytest.raises(MetricsError):
        parse(text)


def test_servers_that_answer_nonsense_are_refused():
    """Nobody there, an error, and a page without latencies: one sentence each."""
    page = Page()
    with served(page) as url:
        page.text = "up 1\n"
        with pytest.raises(MetricsError, match="has none of"):
            Scraper(url).read()
        page.status = 503
        with pytest.raises(MetricsError, match="503"):
            Scraper(url).read()
    with pytest.raises(MetricsError, match="did not answer"):
        Scraper(url, timeout=0.2).read()
    with pytest.raises(InputError, match="http address"):
        Scraper("file:///etc/passwd")


def test_what_cannot_be_governed_is_refused(keeper, gpu, said):
    """No promise, no lease, clocks the device does not have."""
    for how, words in (
        ({}, "a promise to keep"),
        ({"tpot": -1.0}, "finite number of seconds"),
        ({"tpot": 1.0, "percentile": 100.0}, "between 0 and 100"),
    ):
        with pytest.raises(InputError, match=words):
            Promise(**how)
    with keeper.take("0") as held:
        for held_, how, words in (
            ([], {}, "a lease of each"),
            ([held], {"notches": 1}, "at least 2"),
            ([held], {"clocks": [1.2e9]}, "2 clocks"),
            ([held], {"clocks": [1.2e9, 9e9]}, "the device's range"),
        ):
            with pytest.raises((InputError, ControlError), match=words):
                Governor(held_, Promise(tpot=TPOT), said, **how)
        with pytest.raises(InputError, match="interval"):
            Governor([held], Promise(tpot=TPOT), said, interval=0.0)
    assert gpu.writes <= 1


# ---- the command ----


def test_the_command_governs_a_simulated_device(capsys):
    """`wattline govern` prints what it does, in words or in JSON, and ends after as many looks as asked."""
    from wattline.show.cli.main import main

    page = Page()
    page.text = reading([0.02] * 500)
    with served(page) as url:
        base = ["govern", "--metrics", url, "--tpot", "50 ms", "--simulate", "--interval", "10 ms", "--looks", "3"]
        assert main(base) == 0
        assert "1.98 GHz" in capsys.readouterr().out
        assert main([*base, "--json"]) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [line["move"] for line in lines] == ["stay"] * 3
        assert lines[0]["clock_hz"] == 1.98e9
        page.status = 500
        assert main([*base, "--json", "--dry-run"]) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [(line["move"], line["clock_hz"], line["strain"]) for line in lines] == [("blind", None, None)] * 3
        assert main([*base[:3], "--simulate"]) == 2
        assert "a promise to keep" in capsys.readouterr().err
