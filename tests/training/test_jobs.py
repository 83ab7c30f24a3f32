"""Tests for `wattline.training.jobs`: what a recurring job takes, and the best fixed choice."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.core.errors import InputError
from wattline.training.jobs import Job, choice, default, oracle, read

EPOCHS = """dataset,network,batch_size,optimizer,target_metric,target_epoch,reached
d,n,16,sgd,0.6,10,True
d,n,16,sgd,0.6,12,True
d,n,32,sgd,0.6,8,True
d,n,32,sgd,0.6,,False
d,n,64,sgd,0.6,9,True
d,n,64,sgd,0.7,30,True
"""
POWER = """gpu,dataset,network,batch_size,optimizer,power_limit_w,time_per_epoch_s,average_power_w
g,d,n,16,sgd,100,10,90
g,d,n,16,sgd,200,8,150
g,d,n,32,sgd,100,7,95
g,d,n,32,sgd,200,5,160
g,d,n,64,sgd,100,6,98
g,d,n,64,sgd,200,4,170
g,d,n,128,sgd,100,6,98
"""


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def job(**changes: object) -> Job:
    words = {
        "gpu": "g",
        "dataset": "d",
        "network": "n",
        "optimizer": "sgd",
        "target_metric": 0.6,
        "max_epochs": 20.0,
        "batch": 16,
    }
    power = "\n".join(line for line in POWER.splitlines() if ",128," not in line)
    return read(rows(EPOCHS), rows(power), **{**words, **changes})


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    """Draw a job whose every batch size always arrives."""
    b, p = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    positive = st.floats(0.5, 50)
    table = lambda: np.array([[draw(positive) for _ in range(p)] for _ in range(b)])  # noqa: E731
    epochs = tuple(np.array([float(draw(st.integers(1, 9)))]) for _ in range(b))
    return Job(
        "j",
        tuple(2**i for i in range(b)),
        100.0 * np.arange(1, p + 1),
        table(),
        table(),
        epochs,
        10.0,
        draw(st.integers(0, b - 1)),
    )


def test_a_batch_size_that_once_failed_is_not_feasible():
    """One run short of the target rules a batch size out; other targets do not count."""
    assert job().feasible.tolist() == [True, False, True]
    assert job().mean_epochs.tolist() == [11.0, np.inf, 9.0]


def test_costs_weigh_energy_against_time_at_the_highest_limit():
    """The cost of an epoch is eta x energy + (1 - eta) x highest limit x time."""
    assert job().epoch_cost(0.25)[0].tolist() == [0.25 * 900 + 0.75 * 200 * 10, 0.25 * 1200 + 0.75 * 200 * 8]


def test_the_oracle_follows_the_weight():
    """Energy alone takes the low limit, time alone the high one."""
    best, fastest = oracle(job(), 1.0), oracle(job(), 0.0)
    assert (best.batch, best.limit, best.energy) == (64, 100.0, 9 * 6 * 98)
    assert (fastest.batch, fastest.limit, fastest.time) == (64, 200.0, 36.0)
    assert default(job(), 1.0).energy == 11 * 8 * 150


@given(jobs(), st.floats(0, 1))
def test_no_choice_beats_the_oracle(some: Job, eta: float):
    """The oracle costs least of all choices, looked at one by one."""
    every = [choice(some, i, k, eta).cost for i in range(len(some.batches)) for k in range(len(some.limits))]
    assert oracle(some, eta).cost == pytest.approx(min(every), rel=1e-12)


@given(jobs())
def test_the_frontier_holds_the_oracles_of_either_end(some: Job):
    """Least energy and least time over both knobs are the ends of the frontier, knobs with them."""
    frontier = some.frontier()
    assert frontier.energy[-1] == pytest.approx(oracle(some, 1.0).energy)
    assert frontier.time[0] == pytest.approx(oracle(some, 0.0).time)
    assert frontier.plan(0)[0].knobs["batch_size"] in some.batches


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 128}, "batch size 128 is not in both traces"),
        ({"max_epochs": 5.0}, "no batch size reached the target"),
    ],
)
def test_traces_that_cannot_answer_are_refused(changes: dict[str, object], message: str):
    """An unknown batch size and a target out of reach are named."""
    with pytest.raises(InputError, match=message):
        oracle(job(**changes), 1.0)


def test_a_batch_size_must_be_measured_at_every_limit():
    """A hole in the table of power is named with its place."""
    power = [r for r in rows(POWER) if (r["batch_size"], r["power_limit_w"]) != ("64", "200")]
    words = {
        "gpu": "g",
        "dataset": "d",
        "network": "n",
        "optimizer": "sgd",
        "target_metric": 0.6,
        "max_epochs": 20.0,
        "batch": 16,
    }
    with pytest.raises(InputError, match="batch size 64 has no measurement at 200 W"):
        read(rows(EPOCHS), power, **words)
    with pytest.raises(InputError, match="lacks the columns reached"):
        read([{k: v for k, v in r.items() if k != "reached"} for r in rows(EPOCHS)], power, **words)
    with pytest.raises(InputError, match="eta must lie between"):
        oracle(job(), 1.5)
