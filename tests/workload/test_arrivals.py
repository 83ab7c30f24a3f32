"""Tests for `wattline.workload.arrivals`: made-up requests."""

from __future__ import annotations

import numpy as np
import pytest

from wattline.core.errors import InputError
from wattline.workload.arrivals import DAY, Lengths, sessions, synthetic

TEXT = {"prompt": Lengths(500, 1.0), "output": Lengths(200, 0.5)}


@pytest.mark.parametrize("arrivals", ["poisson", "gamma", "uniform"])
def test_the_mean_rate_is_the_one_asked_for(arrivals: str) -> None:
    """20,000 requests come at their rate, whatever the process."""
    made = synthetic(5.0, 20_000, arrivals=arrivals, **TEXT)  # type: ignore[arg-type]
    assert made.rate == pytest.approx(5.0, rel=0.05)
    assert made.arrival[0] == 0.0


@pytest.mark.parametrize("variation", [0.5, 1.0, 3.0])
def test_gamma_gaps_vary_as_told(variation: float) -> None:
    """The coefficient of variation of the gaps is the parameter; 1 is Poisson's."""
    gaps = np.diff(synthetic(5.0, 40_000, arrivals="gamma", variation=variation, **TEXT).arrival)
    assert gaps.std() / gaps.mean() == pytest.approx(variation, rel=0.07)


def test_a_day_has_a_quiet_and_a_busy_hour() -> None:
    """The rate follows 1 - swing cos: least at midnight, most at noon, its mean as asked."""
    made = synthetic(2.0, round(2.0 * DAY), arrivals="diurnal", swing=0.8, **TEXT)
    assert made.arrival[-1] == pytest.approx(DAY, rel=0.03)
    hours = np.histogram(made.arrival, bins=24, range=(0, DAY))[0] / 3600.0
    assert hours[0] == pytest.approx(0.41, rel=0.2)
    assert hours[[11, 12]] == pytest.approx([3.58, 3.58], rel=0.1)


def test_lengths_have_their_mean_and_spread() -> None:
    """Log-normal lengths keep mean and variation, whole and at least 1; without variation all are alike."""
    drawn = Lengths(400, 1.2).draw(100_000, np.random.default_rng(0))
    assert drawn.mean() == pytest.approx(400, rel=0.02)
    assert drawn.std() / drawn.mean() == pytest.approx(1.2, rel=0.05)
    assert drawn.min() >= 1
    assert set(Lengths(400).draw(5, np.random.default_rng(0))) == {400}
    assert Lengths(400, 2.0, 500).draw(1000, np.random.default_rng(0)).max() == 500


def test_a_seed_is_a_trace() -> None:
    """Equal seeds, equal bytes; another seed, another trace."""
    one, two, other = (synthetic(1.0, 50, seed=s, **TEXT) for s in (3, 3, 4))
    assert one.arrival.tobytes() == two.arrival.tobytes()
    assert one.prompt.tobytes() == two.prompt.tobytes()
    assert one.arrival.tobytes() != other.arrival.tobytes()


def test_prefixes_in_common() -> None:
    """Each prompt starts with the pages of one of the texts, no longer than itself."""
    made = synthetic(1.0, 200, prompt=Lengths(100, 1.0), output=Lengths(10), prefix=64, prefixes=3)
    counts = np.diff(made.first)
    assert (counts * made.page <= made.prompt).all()
    assert counts.max() == 4
    assert made.pages.max() == 11
    starts = made.pages[made.first[:-1][counts > 0]]
    assert set(starts) == {0, 4, 8}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rate": 0.0}, "a rate above 0"),
        ({"count": 0}, "at least 1 request"),
        ({"arrivals": "weekly"}, "arrivals are one of poisson"),
        ({"swing": 1.5}, r"swing in \[0, 1\]"),
    ],
)
def test_what_cannot_be_made(change: dict[str, object], words: str) -> None:
    """The rule and what was received."""
    with pytest.raises(InputError, match=words):
        synthetic(**({"rate": 1.0, "count": 10} | TEXT | change))  # type: ignore[arg-type]


def test_lengths_need_a_mean() -> None:
    """No mean below one token."""
    with pytest.raises(InputError, match="mean of at least 1 token"):
        Lengths(0.5)


def test_a_turn_of_a_session_starts_with_all_that_was_said() -> None:
    """Of each session: pages of one turn begin the next, prompts grow by answer and question, thinking lies between."""
    made = sessions(
        4.0, 800, prompt=Lengths(100, 0.5), output=Lengths(50, 0.5), turns=4.0, think=5.0, pace=0.02, seed=3
    )
    last: dict[int, tuple[float, list[int], int]] = {}  # first page of a session -> its turn before
    later = 0
    for i in range(len(made)):
        pages = made.pages[made.first[i] : made.first[i + 1]].tolist()
        if not pages:
            continue
        if pages[0] in last:
            at, before, said = last[pages[0]]
            assert pages[: len(before)] == before
            assert made.prompt[i] > said
            assert made.arrival[i] > at
            later += 1
        last[pages[0]] = made.arrival[i], pages, int(made.prompt[i] + made.output[i])
    assert 400 < later < 700  # three of four turns are not a session's first
    assert made.rate == pytest.approx(4.0, rel=0.25)
