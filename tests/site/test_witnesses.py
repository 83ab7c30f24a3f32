"""Plans and power beside what other tools publish of the same inputs: EMHASS, REopt and ExaDigiT's RAPS."""

from __future__ import annotations

import json

import numpy as np
import pytest

from wattline import Frontier
from wattline.core.errors import InputError
from wattline.hardware.power_tree import PowerTree
from wattline.site.curves import Job
from wattline.site.equipment import Equipment, Source, Storage, Tariff
from wattline.site.horizon import Conditions, Horizon, Task
from wattline.site.machines import machine

HOUR = 3600.0

# emhass 0.9, data/opt_res_perfect_optim_cost.csv (MIT): 9 and 10 October 2021, W of the house in half hours, and the sum of
# its column cost_fun_cost, EUR. The cost of this mode is that of all that is used, so the sun does not enter.
EMHASS_LOAD = (
    "217.0871 258.6417 236.6763 211.7117 261.976 210.5237 321.224 1016.6667 1340.7373 352.1057 260.2647 295.471 266.9063 "
    "247.5613 262.8467 220.495 322.924 352.621 271.2822 322.8747 236.865 248.77 488.0142 701.2717 799.749 1291.7113 "
    "841.6541 391.5968 376.7353 3380.8481 3726.522 3843.9806 3788.3697 3642.7932 3460.6853 2977.5047 2402.0709 1883.158 "
    "3435.7455 1202.8052 422.393 440.4543 435.4073 2053.4087 1235.721 1694.899 1814.5553 515.645",
    "374.3045 304.8917 321.968 272.234 241.2563 299.089 260.5723 321.692 327.51 229.2203 282.275 282.8683 223.8957 "
    "316.9897 356.6343 295.262 408.6853 466.716 384.2263 469.225 1603.551 1580.523 1424.8617 1804.7128 1117.1991 "
    "1241.7837 801.3872 360.9906 331.151 336.3363 332.5407 740.2597 894.3953 585.089 275.7826 428.4527 178.9375 1240.059 "
    "1541.6583 1161.8717 1084.133 297.3767 379.4877 352.5843 299.692 327.5069 250.385 286.4773",
)


def flat(name: str, watts: float, **more: float) -> Task:
    """Return a load that runs at one power."""
    return Task(Job(name, Frontier.of([1.0], [watts]), "feed", **more))


@pytest.mark.parametrize("day", [0, 1])
def test_two_days_of_emhass(day: int) -> None:
    """Two loads of 3 kW and 750 W with 2.5 h and 4 h due among a house's: the cost of the day is EMHASS' own."""
    load = np.array([float(x) for x in EMHASS_LOAD[day].split()])
    price = np.full(48, 0.1907)
    price[[*range(6), 31, 32, 33, 34, *range(41, 48)]] = 0.1419
    published = (load + emhass_deferrable(day)) @ price / 2000
    tree = PowerTree.read([{"name": "feed", "limit": 9e3}])
    tasks = [
        Task(Job(name, Frontier.of([1.0], [watts]), "feed", paused=0.0), due=hours * HOUR)
        for name, watts, hours in (("heater", 3000.0, 2.5), ("pump", 750.0, 4.0))
    ]
    plan = Horizon(tree, tasks, Conditions(np.arange(49) * 1800.0, price=price / 3.6e6)).plan("cost")
    assert plan.cost_usd is not None
    assert plan.cost_usd + load @ price / 2000 == pytest.approx(published, rel=1e-3)


def emhass_deferrable(day: int) -> np.ndarray:
    """Return the W that EMHASS published for both loads in each half hour."""
    out = np.zeros(48)
    if day == 0:
        out[[5, 43, 44, 45, 47]] += 3000.0
        out[[4, 31, 32, 33, 43, 44, 45, 46]] += 750.0
    else:
        out[[5, 43, 44, 45]] += 3000.0
        out[[31, 34, 47]] += [207.00697, 1228.3508, 1564.6423]
        out[[4, 31, 32, 33, 34, 43, 44, 45]] += 750.0
    return out


def test_reopts_day_ahead() -> None:
    """REopt.jl's test/scenarios/mpc.json: peaks stay at what the month owes already, and no sun is sold."""
    rates = np.array([0.1] * 6 + [0.15] * 7 + [0.2] * 3 + [0.3] + [0.2] * 3 + [0.1] * 4)
    sun = np.array([0.0] * 7 + [0.05, 0.10, 0.15, 0.30, 0.6, 0.5, 0.3, 0.02, 0.01, 0.005] + [0.0] * 7)
    late = np.arange(24) >= 15
    equipment = Equipment(
        tariffs=[
            Tariff("month", 10e-3, np.ones(24, bool), np.zeros(24, int), so_far=98e3),
            Tariff("evening", 15e-3, late, np.zeros(24, int), so_far=97e3),
        ],
        storages=[Storage("battery", 60 * 3.6e6, 30e3, round_trip=0.96 * 0.975 * 0.96, start=0.5, reserve=0.2)],
        sources=[Source("sun", 150e3 * sun), Source("generator", np.full(24, 30e3), cost=0.3 / 3.6e6)],
        sell=1e6,
        sell_price=np.full(24, 0.05 / 3.6e6),
    )
    tree = PowerTree.read([{"name": "feed"}])
    conditions = Conditions(np.arange(25) * HOUR, price=rates / 3.6e6)
    plan = Horizon(tree, [flat("site", 100e3)], conditions, equipment).plan("cost")
    assert plan.grid[:15].max() <= 98e3 * (1 + 1e-9)  # @test maximum(to_load_series_kw[1:15]) <= 98.0
    assert plan.grid[15:].max() <= 97e3 * (1 + 1e-9)  # @test maximum(to_load_series_kw[16:24]) <= 97.0
    assert plan.grid.min() >= 0  # @test sum(PV to_grid_series_kw) ≈ 0
    assert plan.bill["month"] + plan.bill["evening"] == pytest.approx(98 * 10 + 97 * 15, rel=1e-9)


def test_reopts_lookback_demand_charge() -> None:
    """Its tariff test: 100 kW once in January, 35 % of that billed in every other month, at two prices."""
    hours, month = np.arange(12 * 24), np.repeat(np.arange(12), 24)
    warm = (month >= 4) & (month <= 9)
    tariffs = [
        Tariff("cold", 10.5e-3, ~warm, month, ratchet=0.35),
        Tariff("warm", 11.5e-3, warm, month, ratchet=0.35, past=100e3),
    ]
    once = Task(Job("once", Frontier.of([1.0], [99e3]), "feed", paused=0.0), HOUR, 8 * HOUR, 9 * HOUR)
    conditions = Conditions(np.append(hours, len(hours)) * HOUR, price=np.full(len(hours), 1e-8))
    plan = Horizon(PowerTree.read([{"name": "feed"}]), [flat("site", 1e3), once], conditions, Equipment(tariffs)).plan(
        "cost"
    )
    published = 100 * (10.5 + 0.35 * 10.5 * 5 + 0.35 * 11.5 * 6)
    assert plan.bill["cold"] + plan.bill["warm"] == pytest.approx(published, rel=1e-9)


@pytest.mark.parametrize("name", ["frontier", "marconi100"])
@pytest.mark.parametrize("load", [0.0, 0.4, 1.0])
def test_raps_machines_draw_what_raps_says(name: str, load: float) -> None:
    """The power tree of a machine gives RAPS' sum over chassis, written here as RAPS writes it, node by node."""
    f = machine(name).facts
    node = f["cpus_per_node"] * (f["power_cpu_idle"] * (1 - load) + f["power_cpu_max"] * load)
    node += f["gpus_per_node"] * (f["power_gpu_idle"] * (1 - load) + f["power_gpu_max"] * load)
    node += f["power_mem"] + f["nics_per_node"] * f["power_nic"] + f["power_nvme"]
    inside = (node + f["sivoc_loss_constant"]) / f["sivoc_efficiency"]
    each = (
        f["nodes_per_rectifier"] * inside + f["switches_per_chassis"] * f["power_switch"] / f["rectifiers_per_chassis"]
    )
    chassis = f["rectifiers_per_chassis"] * (each + f["rectifier_loss_constant"]) / f["rectifier_efficiency"]
    whole = chassis * f["chassis_per_rack"] * f["racks"] + f["num_cdus"] * f["power_cdu"]
    assert machine(name).power(load, load) == pytest.approx(whole, rel=1e-12)


def test_frontier_draws_its_published_power() -> None:
    """28.2 MW full and 7.24 MW idle are what its twin's paper reports (SC24, arXiv 2410.05133; recalled, not re-read).

    The sum in RAPS' own `get_peak_power` over its configuration is the test above this one.
    """
    assert machine("frontier").nodes == 9472
    assert machine("frontier").power(1.0, 1.0) == pytest.approx(28.2e6, rel=0.02)
    assert machine("frontier").power(0.0, 0.0) == pytest.approx(7.24e6, rel=0.02)


def test_a_configuration_of_raps_is_read(tmp_path) -> None:
    """Its JSON, in capitals or not, in sections or not; what is missing is named."""
    facts = {key.upper(): value for key, value in machine("frontier").facts.items() if key != "racks"}
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"system": {**facts, "RACKS_PER_CDU": 3, "MISSING_RACKS": [41]}}))
    assert machine(str(path)).power(1.0, 1.0) == pytest.approx(machine("frontier").power(1.0, 1.0))
    path.write_text('{"NUM_CDUS": 3, "RACKS_PER_CDU": 2}')
    with pytest.raises(InputError, match="it lacks chassis_per_rack"):
        machine(str(path))
    with pytest.raises(InputError, match="no machine is called 'fronteer'"):
        machine("fronteer")


def test_carbonscalers_greedy() -> None:
    """CarbonScaler's rule (Hanafy et al. 2023): servers one by one where marginal work per gram is most, until done.

    The plan is between that rule and the rule less its last server, which it may take for part of an hour.
    """
    carbon = np.array([420, 410, 380, 300, 210, 150, 120, 140, 220, 330, 400, 430.0])
    throughput = np.array([1.0, 1.8, 2.4, 2.8])
    slots = sorted(
        ((more / grams, more, grams) for grams in carbon for more in np.diff(throughput, prepend=0.0)), reverse=True
    )
    done, greedy, last, due = 0.0, 0.0, 0.0, 13.0
    for _, more, grams in slots:
        if done >= due:
            break
        done, greedy, last = done + more, greedy + grams, grams
    speed = throughput[::-1] / throughput[-1]
    frontier = Frontier.of(1 / speed, 1000 * np.array([4.0, 3.0, 2.0, 1.0]) / speed)
    task = Task(Job("elastic", frontier, "feed", paused=0.0), due / throughput[-1] * HOUR)
    conditions = Conditions(np.arange(13) * HOUR, carbon=carbon / 3.6e6)
    plan = Horizon(PowerTree.read([{"name": "feed"}]), [task], conditions).plan("carbon")
    assert greedy - last - 1e-6 <= plan.carbon_g <= greedy + 1e-6
