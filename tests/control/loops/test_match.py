"""Tests for `wattline.control.loops.match`: a plan for other devices or another schedule is refused, and nothing is changed."""

from __future__ import annotations

import pytest

from wattline.control.leases.actuator import ControlError
from wattline.control.loops.match import same_job, settable

PLAN = {"schedule": "1f1b", "stages": 4, "microbatches": 8}


@pytest.mark.parametrize("change", [{"schedule": "gpipe"}, {"stages": 8}, {"microbatches": 16}])
def test_a_plan_for_another_schedule_is_refused(change):
    """Schedule, stages and microbatches must be those that were planned for; the message says both."""
    same_job(PLAN, PLAN)
    with pytest.raises(ControlError, match="here: ") as caught:
        same_job(PLAN, PLAN | change)
    assert caught.value.code == "plan"
    with pytest.raises(ControlError, match="cannot be told"):
        same_job({"title": "x"}, PLAN)


def test_a_plan_for_other_devices_is_refused(keeper, gpu):
    """Names, knobs and clocks that these devices do not have are refused before the first setting."""
    with keeper.take("0") as lease:
        settable([lease], [{"clock": 1.2e9}, {"power_limit": 300.0}], ["Simulated GPU"])
        for settings, names, said in (
            ([{"clock": 1.2e9}], ["H100"], "is for H100, and SIM-0 is Simulated GPU"),
            ([{"clock": 1.2e9}, {"clock": 2.1e9}], [], "clock 2.1 GHz on SIM-0"),
            ([{"clock": 1.207e9}], [], "nearest is 1.2 GHz"),
            ([{"fan": 1.0}], [], "does not have"),
        ):
            with pytest.raises(ControlError, match=said) as caught:
                settable([lease], settings, names)
            assert caught.value.code == "plan"
    assert gpu.writes == 0
