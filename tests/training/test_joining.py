"""Tests for `wattline.training.joining` and `switching`: changes of clock that a device has no time for."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from wattline.hardware import catalog
from wattline.training.joining import joined
from wattline.training.switching import switching

ROWS = st.lists(st.tuples(st.sampled_from([1.0, 1.2, 1.4]), st.floats(0.001, 1.0)), min_size=1, max_size=12)


@given(ROWS, st.floats(0.0, 2.0))
def test_no_computation_becomes_slower_and_no_run_is_too_short(row: list[tuple[float, float]], latency: float) -> None:
    """What is joined is never slower than planned, and every run lasts as long as a change takes, or is the only one."""
    clocks, seconds = [c for c, _ in row], [s for _, s in row]
    made = joined(clocks, seconds, latency)
    assert all(after >= before for before, after in zip(clocks, made, strict=True))
    runs: list[tuple[float, float]] = []
    for clock, length in zip(made, seconds, strict=True):
        if runs and runs[-1][0] == clock:
            runs[-1] = clock, runs[-1][1] + length
        else:
            runs.append((clock, length))
    assert len(runs) == 1 or all(length >= latency * (1 - 1e-9) for _, length in runs)


def test_a_saving_that_changes_of_clock_leave_is_said_and_one_they_do_not_touch_is_not() -> None:
    """The note names the chip's figure with its source; where nothing is lost there is none."""
    chip = catalog.chip("a100-sxm-80gb")
    (said,) = switching(chip, chip["clock.switch"], [100.0, 90.0, 96.0], 1.01)
    assert "20 ms" in said
    assert "Perseus" in said
    assert "keeps 4.0 of the 10.0 %" in said
    assert switching(chip, chip["clock.switch"], [100.0, 90.0, 90.0], 1.01) == []
    bare = replace(chip, facts={k: v for k, v in chip.facts.items() if k != "clock.switch"})
    assert switching(bare, 0.0, [100.0, 90.0, 96.0], 1.01) == []
