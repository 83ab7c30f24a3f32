"""`wattline fleet transient`: what a grid sees of synchronous jobs, lever by lever, against its limits."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from ...core.errors import InputError
from ...core.units import parse, show
from .output import Json, print_json, terminal


def transient(
    *,
    peak: Annotated[str, Parameter(help='Power while the chips compute, e.g. "10 MW".')],
    trough: Annotated[str, Parameter(help="Power while they exchange gradients.")],
    compute: Annotated[str, Parameter(help='Length of the computing phase of an iteration, e.g. "1.5 s".')],
    exchange: Annotated[str, Parameter(help="Length of the exchange.")],
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
    lasts: Annotated[str, Parameter(help="Time that is looked at.")] = "2 min",
    json: Json = False,
) -> int:
    """Say what a grid sees of synchronous training, ramps and swings, lever by lever; 1 where a limit is broken.

    Example: wattline fleet transient --peak "10 MW" --trough "4 MW" --compute "1.5 s" --exchange "500 ms" --battery
    "50 kWh" --battery-power "8 MW" --most-band "200 kW"
    """
    from ...site.transient import STEP, Wave, buffered, ride_through, seen, smoothed, staggered

    watts, seconds = _reader("W"), _reader("s")
    span = seconds("--lasts", lasts)
    if not 1 <= span <= 3600 or not 1 <= jobs <= 1000:
        raise InputError(f"--lasts must be 1 s to 1 h and --jobs 1 to 1,000, got {lasts} and {jobs}")
    if (battery is None) != (battery_power is None):
        raise InputError("--battery and --battery-power say one thing together; give both or none")
    wave = Wave(
        watts("--peak", peak), watts("--trough", trough), seconds("--compute", compute),
        seconds("--exchange", exchange), seconds("--edge", edge),
        float("inf") if every is None else seconds("--every", every), seconds("--writes", writes),
        watts("--trough", trough) if written is None else watts("--written", written),
    )  # fmt: skip
    power = staggered(wave, jobs, span, spread=False)
    rows: list[tuple[str, Any, float, float]] = [("the jobs alone", seen(power), 0.0, 0.0)]
    if stagger:
        power = staggered(wave, jobs, span, spread=True)[round(wave.period / STEP) :]
        rows.append((f"{jobs} jobs staggered", seen(power), 0.0, 0.0))
    if floor or ramp_up or ramp_down:
        per_s = _reader("W/s")
        calm = smoothed(
            power, floor=watts("--floor", floor) if floor else 0.0,
            up=per_s("--ramp-up", ramp_up) if ramp_up else float("inf"),
            down=per_s("--ramp-down", ramp_down) if ramp_down else float("inf"),
        )  # fmt: skip
        power = calm.power
        rows.append(("with smoothing", seen(power), calm.lost, calm.added))
    carried = None
    if battery is not None and battery_power is not None:
        energy, most = parse(battery, "J", key="--battery"), watts("--battery-power", battery_power)
        carried = ride_through(float(power.max()), energy, most)
        power = buffered(power, energy=energy, most=most).power
        rows.append(("with the battery", seen(power), 0.0, 0.0))
    last = rows[-1][1]
    broken = []
    if most_ramp is not None and last.ramps[1] > _reader("W/s")("--most-ramp", most_ramp):
        broken.append(f"{show(last.ramps[1], 'W')} a second is more than {most_ramp}")
    if most_band is not None and last.band > watts("--most-band", most_band):
        broken.append(f"{show(last.band, 'W')} between 0.1 and 20 Hz is more than {most_band}")
    if json:
        print_json(
            {"kind": "transient", "rows": [_told(*row) for row in rows], "ride_through_s": carried, "broken": broken}
        )
    else:
        _print(rows, carried, broken)
    return 1 if broken else 0


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
        table.add_column(head, justify="left" if k == 0 else "right")
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
