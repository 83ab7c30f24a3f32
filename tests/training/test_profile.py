"""Tests for `wattline.training.profile`: what a profile may hold, what is refused and how, and composed settings."""

import gzip
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattline.core.errors import InputError
from wattline.frontier.algebra import Frontier, total
from wattline.training.profile import Table, options, parse, parts_of, read, stage_map

from .profiles import HEAD, profile, text

LINES = [
    "0,forward,1400,1.0,300", "0,forward,1200,1.2,290", "0,backward,1400,2.0,600", "0,backward,1200,2.4,580",
    "1,forward,1400,1.0,300", "1,forward,1200,1.2,290", "1,backward,1400,2.0,600", "1,backward,1200,2.4,580",
]  # fmt: skip


def csv(*lines: str, head: str = HEAD) -> str:
    return "\n".join([head, *lines])


def changed(number: int, line: str) -> str:
    """The good file with the line of that number (the header is line 1) replaced."""
    lines = csv(*LINES).splitlines()
    lines[number - 1] = line
    return "\n".join(lines)


def test_a_profile_is_read_plain_and_compressed(tmp_path: Path) -> None:
    """Both spellings of a file give the same tables; capitals, blanks and empty lines do not matter."""
    plain, packed = tmp_path / "p.csv", tmp_path / "p.csv.gz"
    plain.write_text(csv(*LINES).replace("0,forward,1400", " 0, Forward ,1400") + "\n\n", "utf-8")
    packed.write_bytes(gzip.compress(csv(*LINES).encode()))
    one, two = read(plain), read(packed)
    assert one.stages == two.stages == 2
    assert one.instructions == ("forward", "backward")
    for key, (table,) in one.tables.items():
        assert np.array_equal(table.time, two.tables[key][0].time)
    assert one.tables[0, "forward"][0].knobs[0] == {"clock_hz": 1.4e9}
    assert one.tables[1, "backward"][0].line.tolist() == [8, 9]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no rows"),
        (HEAD, "holds no rows"),
        (csv(*LINES, head="stage,instruction,frequency,time"), "has no column 'energy'"),
        (csv(*LINES, head=HEAD + ",time"), "names column 'time' twice"),
        (changed(3, "0,forward,1200,1.2"), "line 3: has 4 cells, expected 5"),
        (changed(3, "0,forward,1200,-1.2,290"), "line 3: time must be more than 0 s, got -1.2"),
        (changed(3, "0,forward,1200,0,290"), "line 3: time must be more than 0 s, got 0"),
        (changed(3, "0,forward,1200,nan,290"), "line 3: time must be a finite number, got 'nan'"),
        (changed(3, "0,forward,1200,,290"), "line 3: time must be a number, got ''"),
        (changed(3, "0,forward,1200,1.2,inf"), "line 3: energy must be a finite number"),
        (changed(3, "0,forward,1200,1.2,-5"), "line 3: energy must be more than 0 J, got -5"),
        (changed(3, "0,forward,fast,1.2,290"), "line 3: frequency must be a number, got 'fast'"),
        (changed(3, "0,forward,0,1.2,290"), "line 3: frequency must be more than 0 MHz"),
        (changed(3, "0.5,forward,1200,1.2,290"), "line 3: stage must be a whole number from 0, got '0.5'"),
        (changed(3, "-1,forward,1200,1.2,290"), "line 3: stage must be a whole number from 0"),
        (changed(3, "0,foward,1200,1.2,290"), "line 3: instruction 'foward' is not known; did you mean 'forward'"),
        (changed(3, "0,forward,1400,1.2,290"), "line 3: stage 0 forward at 1400 MHz was given on line 2 already"),
        (csv(*LINES[:4], *(x.replace("1,", "2,", 1) for x in LINES[4:])), "stage 1 has no rows, yet stages go up to 2"),
        (csv(*LINES[:6]), "stage 1 has no rows of backward, as stage 0 has"),
        (csv(*LINES[:7]), "line 8: stage 1 backward has one clock only"),
    ],
)
def test_bad_input_is_refused_by_line(content: str, message: str) -> None:
    """Every fault is one sentence that names the row, what was wrong and what would do."""
    with pytest.raises(InputError, match=r"made-up\.csv") as caught:
        parse(content, "made-up.csv")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_profile_are_refused(tmp_path: Path) -> None:
    """A missing file, a folder, bytes and a broken archive each say so."""
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00\x80")
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(csv(*LINES).encode())[:40])
    (tmp_path / "false.csv.gz").write_bytes(b"\x1f\x8bnot really")
    for name in ("none.csv", ".", "bytes.csv", "cut.csv.gz", "false.csv.gz"):
        with pytest.raises(InputError, match=r"cannot be read|is not a text file"):
            read(tmp_path / name)


def test_one_clock_is_accepted_where_asked_for() -> None:
    """A computation whose clock cannot be chosen is fine once that is said."""
    assert parse(csv(*LINES[:7]), "p", fixed=True).tables[1, "backward"][0].time.tolist() == [2.0]


def test_rows_below_waiting_are_named() -> None:
    """Energy below what waiting as long would take is told with its lines."""
    (low,) = parse(changed(4, "0,backward,1400,2.0,100"), "p").below_waiting(75.0)
    assert low.line.tolist() == [4]
    assert low.name == "stage 0 backward"
    assert not parse(csv(*LINES), "p").below_waiting(75.0)


@pytest.mark.parametrize(
    ("stages", "profiled", "mapping"),
    [(8, 8, tuple(range(8))), (4, 8, (0, 2, 5, 7)), (1, 8, (0,)), (4, 2, (0, 0, 1, 1)), (5, 2, (0, 0, 0, 1, 1))],
)
def test_stages_are_picked_evenly_or_repeated(stages: int, profiled: int, mapping: tuple[int, ...]) -> None:
    """Fewer stages than profiled are spread over them, more repeat them in order."""
    assert stage_map(stages, profiled) == mapping


def test_repeats_are_samples_where_asked_for() -> None:
    """Repeated settings are refused, averaged, or smoothed by the regression; the regression keeps every setting."""
    twice = csv(*LINES, *(x.replace(",300", ",310") for x in LINES))
    with pytest.raises(InputError, match="ask for the regression"):
        parse(twice, "p")
    found = parse(twice, "p", repeats=True)
    assert found.averaged().tables[0, "forward"][0].energy.tolist() == [305.0, 290.0]
    smooth, aside = found.regressed(75.0)
    table = smooth.tables[0, "forward"][0]
    assert len(table.time) == 2
    assert aside == 0
    assert [k["clock_hz"] for k in table.knobs] == table.clock.tolist() == [1.4e9, 1.2e9]


def test_a_regression_pulls_lucky_points_up() -> None:
    """The raw hull of noisy samples lies below the truth; the regression lies closer."""
    clocks = tuple(range(800, 1401, 20))
    noisy = profile(stages=1, clocks=clocks, noise=0.02)
    truth = options(profile(stages=1, clocks=clocks, noise=0.0).tables[0, "forward"], 75.0)
    raw = options(noisy.tables[0, "forward"], 75.0)
    smooth = options(noisy.regressed(75.0)[0].tables[0, "forward"], 75.0)
    at = np.linspace(*truth.time[truth.hull][[1, -2]], 20)
    bias = [np.mean(np.interp(at, *o.corners) - np.interp(at, *truth.corners)) for o in (raw, smooth)]
    assert bias[0] < 0
    assert abs(bias[1]) < abs(bias[0])


def test_further_columns_are_knobs() -> None:
    """Settings may share a clock if another knob tells them apart."""
    head = HEAD + ",communication_sms,launch"
    lines = [f"{x},{sms},{when}" for x in LINES for sms, when in ((16, "early"), (32, "late"))]
    table = parse(csv(*lines, head=head), "p").tables[0, "forward"][0]
    assert table.knobs[1] == {"clock_hz": 1.4e9, "communication_sms": 32, "launch": "late"}


def tables(draw) -> Table:
    size = draw(st.integers(1, 5))
    clock = 1e6 * np.array(draw(st.lists(st.integers(1, 9), min_size=size, max_size=size, unique=True)), float)
    numbers = st.lists(st.integers(1, 50), min_size=size, max_size=size)
    time, energy = np.array(draw(numbers), float), np.array(draw(numbers), float)
    knobs = tuple({"clock_hz": c} for c in clock)
    return Table(0, "forward", "", time, energy, clock, knobs, np.arange(size))


@given(st.data())
def test_partitions_compose_to_the_sum_of_their_hulls(data) -> None:
    """The hull of the composed settings is the hull sum of the algebra, and every setting is a real combination."""
    parts = [tables(data.draw) for _ in range(data.draw(st.integers(1, 4)))]
    found = options(parts, 0.5)
    leaves = [Frontier.of(p.time, p.energy - 0.5 * p.time, waiting_power=0.5).hull() for p in parts]
    expected = total(leaves)
    time, energy = found.corners
    assert np.allclose(time[[0, -1]], expected.time[[0, -1]])
    assert np.allclose(np.interp(expected.time, time, energy), expected.energy)
    assert np.allclose(np.interp(time, expected.time, expected.energy), energy)
    assert np.allclose(found.times.sum(axis=1), found.time)
    for k, knobs in enumerate(found.knobs):
        rows = [p.knobs.index(knob) for p, knob in zip(parts, knobs, strict=True)]
        assert sum(p.time[r] for p, r in zip(parts, rows, strict=True)) == pytest.approx(found.time[k])
    assert [k["clock_hz"] for k in found.knobs[found.top]] == [p.clock.max() for p in parts]


def test_many_combinations_are_thinned_and_the_hull_is_kept() -> None:
    """With more combinations than are kept, no vertex of the exact hull is lost."""
    clocks = tuple(range(700, 1401, 20))
    parts = profile(stages=4, clocks=clocks, instructions=("forward",), noise=0.01)
    found = options([parts.tables[s, "forward"][0] for s in range(3)], 75.0)
    assert len(found.time) < 600
    every = [
        np.array([sum(c) for c in itertools.product(*(getattr(parts.tables[s, "forward"][0], name) for s in range(3)))])
        for name in ("time", "energy")
    ]
    exact = Frontier.of(every[0], every[1] - 75.0 * every[0], waiting_power=75.0).hull()
    assert np.allclose(np.interp(exact.time, *found.corners), exact.energy)


def test_a_backward_pass_is_put_together_from_what_there_is() -> None:
    """Split parts make a whole one, recomputation goes first, and a whole one is split only by a stated share."""
    split = profile(instructions=("forward", "backward_input", "backward_weight"))
    names = [t.instruction for t in parts_of(split, 0, "backward")]
    assert names == ["backward_input", "backward_weight"]
    again = profile(instructions=("forward", "recompute", "backward"))
    assert [t.instruction for t in parts_of(again, 0, "backward")] == ["recompute", "backward"]
    assert [t.instruction for t in parts_of(again, 0, "forward")] == ["forward"]
    whole = profile()
    with pytest.raises(InputError, match=r"stage 2 has no rows of backward_input, .* share of backward"):
        parts_of(whole, 2, "backward_input")
    shares = [parts_of(whole, 2, what, 0.6)[0].time for what in ("backward_input", "backward_weight")]
    assert np.allclose(sum(shares), whole.tables[2, "backward"][0].time)
    with pytest.raises(InputError, match="the profile has forward"):
        parts_of(profile(instructions=("forward",)), 0, "backward")


def test_text_is_what_the_helper_says() -> None:
    """The helper writes one row per stage, instruction and clock."""
    assert len(text().splitlines()) == 1 + 4 * 2 * 4
