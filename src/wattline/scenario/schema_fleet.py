"""The keys of a fleet scenario: jobs, the power tree, the grid, and what is asked. One table, as in `schema`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..core.errors import ScenarioError, nearest
from ..site.layers import LAYERS
from ..site.simulate.breaker import CURVES
from .schema import Key


def _table() -> tuple[Key, ...]:
    def key(path: str, kind: str, default: Any, text: str, **more: Any) -> Key:
        section, _, name = path.rpartition(".")
        return Key(section, name, kind, default, text, **more)

    tiny = 1e-12
    return (
        key("job.name", "text", None, "What the job is called"),
        key("job.scenario", "text", None, "Scenario file of a training job or a serving replica, relative to this one"),
        key("job.speeds", "list", None, "Instead of a scenario: shares of full speed, e.g. [1, 0.8, 0.6]"),
        key("job.powers", "list", None, "Instead of a scenario: power at each speed, equipment only, e.g. [\"1 MW\", \"700 kW\", \"500 kW\"]"),
        key("job.chips", "whole", None, "Instead of a scenario: chips used, for the value of the work", low=1),
        key("job.idle", "W", None, "Power of the equipment with nothing to do; from the chip's and node's facts where left out"),
        key("job.count", "whole", 1, "Copies: replicas, or equal jobs", low=1),
        key("job.at", "names", None, "Parts of the tree it draws from: a name, a pattern such as row-*, or several"),
        key("job.together", "flag", None, "One job over all its parts (training), or a job of its own in each (serving)"),
        key("job.weight", "", 1.0, "Value of a chip at full speed beside those of other jobs"),
        key("job.minimum", "", None, "Least share of full speed, or of the traffic; all of the traffic for serving, none for others", high=1),
        key("job.pause", "flag", False, "May be paused"),
        key("job.paused", "W", None, "Power of one copy while paused; its idle power where left out"),
        key("job.resume", "s", 0.0, "Work lost at each start after a pause: checkpoint, restart, warm-up"),
        key("job.due", "s", None, "Work due, as hours at full speed, e.g. 60 h"),
        key("job.dwell", "s", 0.0, "Least time it stays on once started, and off once paused"),
        key("job.release", "s", None, "When work on what is due may begin, from the start of the plan"),
        key("job.deadline", "s", None, "When it must be done, from the start of the plan"),
        key("job.embodied", "g", None, "Carbon of making one copy's equipment, e.g. 1.2 tCO2e"),
        key("job.life", "s", None, "How long that equipment is used; 5 years where left out", low=tiny),
        key("job.pools", "names", None, "With [[pool]]: the pools it may run on, all of them where left out"),
        key("job.demand", "demand", None, "With [[pool]]: work needed in all, e.g. 2000 req/s of a service or 5M tokens/s of training"),
        key("job.burst", "", 0.0, "With [[pool]]: share by which the demand may jump", low=0),
        key("job.within", "s", 0.0, "With [[pool]]: how soon the burst must be carried"),
        key("job.nodes", "whole", None, "Simulation: nodes that a copy runs on and that are capped one by one; those of the scenario for training, else 1", low=1),
        key("job.load", "", 1.0, "Simulation: share of full speed that is asked for", high=1),
        key("job.swing", "", 0.0, "Simulation: relative swing of the load over a day", high=1),
        key("job.every", "s", None, "Simulation: instead of a load, tasks arrive this often on average, for all copies together", low=tiny),
        key("job.stay", "s", None, "Simulation: seconds at full speed that a task takes, on average", low=tiny),
        key("job.quiet", "", 1.0, "Simulation: share of its power above idle that a node draws in its quiet phase", low=tiny, high=1),
        key("job.loud_lasts", "s", None, "Simulation: mean length of a loud phase", low=tiny),
        key("job.quiet_lasts", "s", None, "Simulation: mean length of a quiet phase", low=tiny),
        key("pool.name", "text", None, "Name of a pool of equal nodes"),
        key("pool.chip", "text", None, "Its chip, as hardware.chip"),
        key("pool.node", "text", None, "Its node, as hardware.node; the chip's usual one where left out"),
        key("pool.nodes", "whole", None, "How many nodes", low=0),
        key("pool.at", "text", None, "Part of the power tree they hang on; the site's feed where left out"),
        key("pool.idle", "W", None, "Power of a node that runs nothing; from the chip's and node's facts where left out"),
        key("pool.asleep", "W", None, "Power of a sleeping node; without it nodes do not sleep"),
        key("pool.wake", "s", 0.0, "Time a sleeping node takes to wake"),
        key("job.option.layer", "choice", None, "Layer this other way to do the job belongs to", choices=LAYERS),
        key("job.option.name", "text", None, "What it is called"),
        key("job.option.speeds", "list", None, "As job.speeds; full speed is that of the job itself"),
        key("job.option.powers", "list", None, "As job.powers"),
        key("job.option.speed", "", 1.0, "Full speed of this way over that of the job, where its scenario cannot say", low=tiny),
        key("site.pue", "", 1.0, "Facility power over IT power, where [site.feed] gives no cooling", low=1, high=5),
        key("site.wue", "L/J", None, "Water used at the site per energy of the jobs, e.g. 1.1 L/kWh", low=0),
        key("site.feed.name", "text", "feed", "Name of the site's feed"),
        key("site.feed.limit", "W", None, "Most power of the whole site", low=tiny),
        key("site.feed.loss", "", 0.0, "Watts lost per watt passed on", high=1),
        key("site.feed.overhead", "W", 0.0, "Power of the site whatever the load: pumps, lights, standing losses"),
        key("site.feed.cooling", "pairs", None, "Watts per watt of equipment by outdoor temperature, e.g. [[\"10 degC\", \"8 %\"], [\"35 degC\", \"25 %\"]]"),
        key("site.feed.outdoor", "temperature", None, "Outdoor temperature, e.g. 20 degC"),
        key("site.feed.part.name", "text", None, "Name of a part: a UPS, row, rack, PDU or node"),
        key("site.feed.part.on", "text", None, "What feeds it; the site's feed where left out"),
        key("site.feed.part.count", "whole", 1, "How many hang on each of what feeds them; they are called name-1, name-1.2", low=1),
        key("site.feed.part.limit", "W", None, "Most power that may flow in; 0 W is a part without power, and what hangs on it is off"),
        key("site.feed.part.standing", "W", 0.0, "Power of its own, whatever the jobs do"),
        key("site.feed.part.loss", "", 0.0, "Watts lost per watt passed on", high=1),
        key("site.feed.group.name", "text", None, "Name of a redundancy group"),
        key("site.feed.group.members", "names", None, "Parts that take over for one another, siblings or not: names or patterns"),
        key("site.feed.group.spare", "whole", 1, "How many may be lost", low=1),
        key("site.feed.group.sharing", "choice", "fixed", "How the load of a lost one moves: in fixed proportions, at will, or to the last member, which stands by", choices=("fixed", "free", "catcher")),
        key("grid.price", "series USD/J", None, "Price of electricity: a value, or a CSV file with a column USD/MWh"),
        key("grid.carbon", "series g/J", None, "Carbon intensity: a value, or a CSV file with a column g/kWh"),
        key("grid.carbon_market", "series g/J", None, "Carbon intensity of what is contracted, or of the residual mix: the market-based line"),
        key("grid.carbon_marginal", "series g/J", None, "Carbon intensity of what answers one joule more: the marginal line"),
        key("grid.water", "L/J", None, "Water used at power plants per energy bought, e.g. 1.8 L/kWh", low=0),
        key("grid.pue", "series fraction", None, "PUE over time, in place of site.pue and cooling: a value, or a CSV file with a column fraction"),
        key("grid.limit", "series W", None, "Most power of the site over time: a value, or a CSV file with a column MW"),
        key("grid.outdoor", "series K", None, "Outdoor temperature over time: a value, or a CSV file with a column degC"),
        key("grid.start", "instant", None, "When the plan begins: an ISO 8601 time, or seconds; the first moment of the series where left out"),
        key("grid.lasts", "s", None, "Length of the plan; with it the fleet is planned over time", low=tiny),
        key("grid.step", "s", 3600.0, "Length of a period", low=tiny),
        key("grid.fill", "choice", None, "What to do about gaps in series, which are refused otherwise", choices=("hold", "line")),
        key("grid.forecast_error", "", None, "Relative error far ahead of a forecast; with it, planning again at every period is played too"),
        key("grid.zone", "text", None, "Time zone of clock times in the scenario and of files without offsets, e.g. Europe/Berlin; UTC where left out"),
        key("grid.sell", "W", 0.0, "Most power that may be sold to the grid"),
        key("grid.sell_price", "series USD/J", None, "Price got for it: a value, or a CSV file"),
        key("grid.ramp", "W/s", None, "Most change of the power bought, from mean to mean of neighbouring periods, e.g. 2 MW/h"),
        key("grid.gap", "", None, "Relative distance from the bound at which a search over pauses may stop; 0.01 % where left out"),
        key("grid.nodes", "whole", None, "Nodes of that search after which the best plan so far is taken; 20,000 where left out", low=1),
        key("tariff.name", "text", None, "Name of a tariff; it stands in the bill"),
        key("tariff.energy", "money/J", None, "Price of energy in its hours, in place of grid.price, e.g. 120 EUR/MWh"),
        key("tariff.demand", "money/W", None, "Price of a month's highest power in its hours, e.g. 15 USD/kW"),
        key("tariff.hours", "hours", None, "Hours of the day it holds in, e.g. 16:00-21:00; all day where left out"),
        key("tariff.days", "choice", None, "Days it holds on; all where left out", choices=("weekdays", "weekends")),
        key("tariff.months", "list", None, "Months it holds in, e.g. [6, 7, 8, 9]; all where left out"),
        key("tariff.peak_so_far", "W", 0.0, "The first month's highest power in its hours before the plan begins"),
        key("tariff.past_peak", "W", 0.0, "Highest power of earlier months, for the ratchet"),
        key("tariff.ratchet", "", 0.0, "Share of the past peak that is billed at the least", high=1),
        key("tariff.prorate", "flag", False, "Count only the plan's share of a 30-day month"),
        key("storage.name", "text", None, "Name of a battery, or of the UPS as one"),
        key("storage.energy", "J", None, "Energy it holds, e.g. 4 MWh", low=tiny),
        key("storage.power", "W", None, "Most power in and out", low=tiny),
        key("storage.round_trip", "", 0.88, "Share of what goes in that comes out", low=tiny, high=1),
        key("storage.wear", "money/J", 0.0, "Price of wear per energy given, e.g. 20 USD/MWh"),
        key("storage.start", "", 0.5, "Share held at the beginning and, at the least, at the end", high=1),
        key("storage.reserve", "", 0.0, "Share that stays in it, for ride-through", high=1),
        key("source.name", "text", None, "Name of a source of the site's own: solar, wind, a contract, a generator"),
        key("source.power", "series W", None, "Power there is: a value, or a CSV file with a column MW or a share of source.peak"),
        key("source.peak", "W", None, "Power of which the file's column fraction is a share"),
        key("source.cost", "money/J", 0.0, "Price of its energy, e.g. 55 USD/MWh of a contract or a generator's fuel"),
        key("source.carbon", "g/J", 0.0, "Carbon of its energy"),
        key("source.takes", "flag", False, "All of it must be taken"),
        key("service.name", "text", None, "Name of a service sold to the grid: a reserve, a curtailment programme"),
        key("service.pays", "money/J", None, "Paid per power held ready and time, e.g. 20 USD/MWh for each MW and hour"),
        key("service.most", "W", None, "Most power that is sold", low=tiny),
        key("service.hours", "hours", None, "Hours of the day it is offered in; all where left out"),
        key("service.days", "choice", None, "Days it is offered on; all where left out", choices=("weekdays", "weekends")),
        key("service.calls", "whole", 0, "Calls expected within the plan; that much work and charge is kept spare"),
        key("service.lasts", "s", 3600.0, "Length of a call", low=tiny),
        key("grid.event.part", "text", None, "Part whose limit changes; the site's feed where left out"),
        key("grid.event.start", "s", None, "When, from the start of the plan"),
        key("grid.event.lasts", "s", None, "For how long", low=tiny),
        key("grid.event.limit", "W", None, "Its limit then; 0 W is an outage or maintenance: what hangs on it is off"),
        key("grid.event.notice", "s", 60.0, "Simulation: how long before its start it is announced"),
        key("simulate.controllers", "names", None, "Who sets the caps: uncapped, uniform, proportional, prices (Wattline's plan), thresholds; the first four where left out"),
        key("simulate.lasts", "s", 3600.0, "Time that is played", low=tiny),
        key("simulate.step", "s", 1.0, "Length of a step", low=tiny),
        key("simulate.seed", "whole", 0, "Seed of failures, tasks and phases"),
        key("simulate.runs", "whole", 1, "Runs of each controller, with seeds that follow one another", low=1),
        key("simulate.interval", "s", 30.0, "Time between decisions of a controller; events are answered at once", low=tiny),
        key("simulate.actuation", "s", 1.0, "Time from a decision to the caps being in force"),
        key("simulate.failing", "s", None, "Mean time between failures of a node; none where left out", low=tiny),
        key("simulate.repair", "s", 21600.0, "Mean time to repair a node that works alone", low=tiny),
        key("simulate.restart", "s", 600.0, "Time until a training run goes on with a spare node"),
        key("simulate.rework", "s", 300.0, "Work that a task loses when its node fails"),
        key("simulate.slowing", "s", None, "Mean time between slow spells of a node; none where left out", low=tiny),
        key("simulate.slowed", "s", 600.0, "Mean length of a slow spell", low=tiny),
        key("simulate.pace", "", 0.8, "Speed of a straggler", low=tiny, high=1),
        key("simulate.breaker", "choice", "extremely-inverse", "Trip curve of every limited part (IEC 60255-151)", choices=tuple(CURVES)),
        key("simulate.breaker_time", "", 1.0, "Time multiplier of the trip curve", low=tiny),
        key("simulate.margin", "", 1.0, "Load that a breaker carries for ever, of the part's limit", low=tiny),
        key("simulate.reclose", "s", 1800.0, "Time until a tripped part is on again", low=tiny),
        key("simulate.cooling", "s", 300.0, "Time constant with which cooling follows the load"),
        key("simulate.warming", "s", 120.0, "Time constant of a node's temperature", low=tiny),
        key("simulate.rise", "K", 40.0, "Kelvin by which a node at full power is above its inlet", low=tiny),
        key("simulate.supply", "temperature", 298.15, "Temperature of the air that cooling supplies, e.g. 25 degC"),
        key("simulate.room", "K", 0.0, "Kelvin by which the inlet is above the supply at the site's full power"),
        key("simulate.hottest", "temperature", 358.15, "Temperature at which a node throttles itself, e.g. 85 degC"),
        key("goal.most_work", "flag", None, "Most weighted work within all limits (the goal where none is stated)"),
        key("goal.work", "", None, "Least power for this share of the work at full speed", low=tiny, high=1),
        key("goal.least_energy", "flag", None, "Least energy with all that is due done"),
        key("goal.least_carbon", "flag", None, "Least carbon with all that is due done"),
        key("goal.least_cost", "flag", None, "Least cost with all that is due done"),
        key("goal.more", "text", None, "How many more copies of this job the site carries within goal.loss"),
        key("goal.loss", "", 0.01, "With goal.more: share of all work that may be lost to limits", high=1),
        key("goal.give_up", "W", 1e6, "Power whose cheapest order of measures is shown", low=tiny),
    )  # fmt: skip


KEYS: Final[Mapping[str, Key]] = {key.path: key for key in _table()}
SECTIONS: Final = ("job", "pool", "site", "grid", "tariff", "storage", "source", "service", "goal", "simulate")


def inside(section: str) -> list[str]:
    """Return the names a section may hold."""
    return [key.name for key in KEYS.values() if key.section == section]


def lookup(section: str, name: str) -> Key:
    """Return a key, or raise naming the nearest of its section."""
    found = KEYS.get(f"{section}.{name}")
    if found is None:
        raise ScenarioError(f"unknown key {section}.{name}; {nearest(name, inside(section))}")
    return found
