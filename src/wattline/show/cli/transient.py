"""`wattline fleet transient`: what a grid sees of synchronous jobs, lever by lever, against its limits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from ...core.errors import InputError
from ...core.units import parse, show
from .output import Json, print_json, terminal


def transient(
    *,
    scenario: Annotated[
        Path | None,
        Parameter(help="A fleet scenario whose jobs state compute, exchange and trough; in place of a wave."),
    ] = None,
    peak: Annotated[str | None, Parameter(help='Power while the chips compute, e.g. "10 MW".')] = None,
    trough: Annotated[str | None, Parameter(help="Power while they exchange gradients.")] = None,
    compute: Annotated[
        str | None, Parameter(help='Length of the computing phase of an iteration, e.g. "1.5 s".')
    ] = None,
    exchange: Annotated[str | None, Parameter(help="Length of the exchange.")] = None,
    edge: Annotated[str, Parameter(help="Time that a change takes.")] = "5 ms",
    every: Annotated[str | None, Parameter(help='Time between checkpoints, e.g. "10 min".')] = None,
    writes: Annotated[str, Parameter(help="Length of a checkpoint.")] = "20 s",
    written: Annotated[str | None, Parameter(help="Power during a checkpoint; the trough where left out.")] = None,
    jobs: Annotated[int, Parameter(help="Equal jobs that share this power.")] = 1,
    stagger: Annotated[bool, Parameter(help="Spread the jobs' iterations over one period.")] = False,
    floor: Annotated[str | None, Parameter(help='Least power the chips hold, e.g. "8 MW".')] = None,
    ramp_up: Annotated[str | None, Parameter(help='Most rise, e.g. "5 MW/s".')] = None,
    ramp_down: Annotated[str | None, Parameter(help="Most fall.")] = None,
    battery: Annotated[str | None, Parameter(help='Energy of a battery or UPS, e.g. "200 kWh".')] = None,
    battery_power: Annotated[str | None, Parameter(help="Its power.")] = None,
    most_ramp: Annotated[
        str | None, Parameter(help='The grid\'s limit on change within a second, e.g. "2 MW/s".')
    ] = None,
    most_band: Annotated[
        str | None, Parameter(help='Its limit on swings between 0.1 and 20 Hz (rms), e.g. "200 kW".')
    ] = None,
    keep: Annotated[
        bool, Parameter(help="Let a controller keep --most-ramp and --most-band, with the battery where there is one.")
    ] = False,
    lasts: Annotated[str, Parameter(help="Time that is looked at.")] = "2 min",
    json: Json = False,
) -> int:
    """Say what a grid sees of synchronous training, ramps and swings, lever by lever; 1 where a limit is broken.

    Example: wattline fleet transient --peak "10 MW" --trough "4 MW" --compute "1.5 s" --exchange "500 ms" --battery
    "50 kWh" --battery-power "8 MW" --most-band "200 kW"
    """
    from ...site.transient import STEP, buffered, ride_through, seen, smoothed

    watts, seconds, per_s = _reader("W"), _reader("s"), _reader("W/s")
    span = seconds("--lasts", lasts)
    if not 1 <= span <= 3600 or not 1 <= jobs <= 1000:
        raise InputError(f"--lasts must be 1 s to 1 h and --jobs 1 to 1,000, got {lasts} and {jobs}")
    if (battery is None) != (battery_power is None):
        raise InputError("--battery and --battery-power say one thing together; give both or none")
    stated = {"--peak": peak, "--trough": trough, "--compute": compute, "--exchange": exchange}
    swings = _swings(scenario, stated, edge, (every, writes, written), jobs)
    power = swings.power(span, spread=False)
    rows: list[tuple[str, Any, float, float]] = [("the jobs alone", seen(power), 0.0, 0.0)]
    if stagger:
        power = swings.power(span, spread=True)[round(swings.period / STEP) :]
        count = sum(copies for _, _, copies in swings.waves)
        rows.append((f"{count} jobs staggered", seen(power), 0.0, 0.0))
    if floor or ramp_up or ramp_down:
        calm = smoothed(
            power, floor=watts("--floor", floor) if floor else 0.0,
            up=per_s("--ramp-up", ramp_up) if ramp_up else float("inf"),
            down=per_s("--ramp-down", ramp_down) if ramp_down else float("inf"),
        )  # fmt: skip
        power = calm.power
        rows.append(("with smoothing", seen(power), calm.lost, calm.added))
    limits = (
        float("inf") if most_ramp is None else per_s("--most-ramp", most_ramp),
        float("inf") if most_band is None else watts("--most-band", most_band),
    )
    energy = 0.0 if battery is None else parse(battery, "J", key="--battery")
    most = 0.0 if battery_power is None else watts("--battery-power", battery_power)
    carried = ride_through(float(power.max()), energy, most) if battery is not None else None
    if keep:
        from ...site.keeper import kept

        held = kept(power, ramp=limits[0], band=limits[1], energy=energy, most=most)
        rows.append(("with the controller", seen(held.power), held.lost, held.added))
    elif battery is not None:
        power = buffered(power, energy=energy, most=most).power
        rows.append(("with the battery", seen(power), 0.0, 0.0))
    last = rows[-1][1]
    broken = []
    if last.ramps[1] > limits[0] * (1 + 1e-9):
        broken.append(f"{show(last.ramps[1], 'W')} a second is more than {most_ramp}")
    if last.band > limits[1] * (1 + 1e-9):
        broken.append(f"{show(last.band, 'W')} between 0.1 and 20 Hz is more than {most_band}")
    if json:
        print_json(
            {"kind": "transient", "rows": [_told(*row) for row in rows], "ride_through_s": carried, "broken": broken}
        )
    else:
        _print(rows, carried, broken)
    return 1 if broken else 0


def _swings(
    scenario: Path | None,
    stated: dict[str, str | None],
    edge: str,
    pause: tuple[str | None, str, str | None],
    jobs: int,
) -> Any:
    """Return the waves of a scenario's jobs, or of the one that the options state."""
    from ...scenario import fleet
    from ...scenario.fleet_transient import Swings, swings_of
    from ...site.transient import Wave

    given = {key: text for key, text in stated.items() if text is not None}
    if scenario is not None:
        if given:
            raise InputError(f"--scenario says what its jobs draw; leave out {', '.join(given)}")
        return swings_of(fleet.load(scenario))
    if missing := [key for key in stated if key not in given]:
        raise InputError(f"give {', '.join(missing)}, or --scenario with a fleet whose jobs state them")
    watts, seconds = _reader("W"), _reader("s")
    every, writes, written = pause
    wave = Wave(
        watts("--peak", given["--peak"]), watts("--trough", given["--trough"]),
        seconds("--compute", given["--compute"]), seconds("--exchange", given["--exchange"]), seconds("--edge", edge),
        float("inf") if every is None else seconds("--every", every), seconds("--writes", writes),
        watts("--trough", given["--trough"]) if written is None else watts("--written", written),
    )  # fmt: skip
    return Swings((("jobs", wave, jobs),), 0.0)


def _reader(unit: str) -> Any:
    return lambda key, text: parse(text, unit, key=key)


def _told(name: str, told: Any, lost: float, added: float) -> dict[str, Any]:
    return {
        "name": name, "mean_w": told.mean, "peak_w": told.peak, "trough_w": told.trough, "swing": told.swing,
        "ramp_10ms_w_per_s": told.ramps[0], "ramp_1s_w_per_s": told.ramps[1], "ramp_1min_w_per_s": told.ramps[2],
        "band_w": told.band, "loudest_hz": told.loudest, "work_lost": lost, "energy_added": added,
    }  # fmt: skip


def _print(rows: list[tuple[str, Any, float, float]], carried: float | None, broken: list[str]) -> None:
    from rich.table import Table
    from rich.text import Text

    console = terminal()
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    heads = ("", "Peak", "Trough", "in 10 ms", "in 1 s", "in 1 min", "0.1 to 20 Hz", "Work lost", "Energy added")
    for k, head in enumerate(heads):
        table.add_column(head, justify="left" if k == 0 else "right", no_wrap=k == 0)
    for name, told, lost, added in rows:
        ramps = [f"{show(r, 'W')}/s" for r in told.ramps]
        table.add_row(
            name, show(told.peak, "W"), show(told.trough, "W"), *ramps, show(told.band, "W"), f"{100 * lost:.3g} %",
            f"{100 * added:.3g} %",
        )  # fmt: skip
    console.print(table)
    if carried is not None:
        told = f"carries the jobs' peak for {show(carried, 's')}" if carried else "has too little power for the peak"
        console.print(Text(f"The battery alone {told}."))
    for line in broken:
        console.print(Text(f"Broken: {line}"))
