"""A profile: time and energy of every stage's computations at every clock, as measured, one row per setting.

    stage,instruction,frequency,time,energy       MHz, seconds, joules of one device; plain CSV or .gz
    0,forward,1410,0.0502,23.81
    0,forward,1395,0.0502,23.71

Further columns are further knobs (multiprocessors given to communication, launch timing). A column `partition` splits
an instruction into parts that run one after the other, each with settings of its own: computation and communication
overlapped inside a microbatch. Their frontiers are summed exactly.
"""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError, nearest
from ..frontier.fit import fit
from ..frontier.pruning import hull_index, prune
from .instructions import BACKWARD, BACKWARD_INPUT, BACKWARD_WEIGHT, FORWARD

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Knobs = Mapping[str, Any]

COLUMNS: Final = ("stage", "instruction", "frequency", "time", "energy")
RECOMPUTE: Final = "recompute"
INSTRUCTIONS: Final = (FORWARD, BACKWARD, BACKWARD_INPUT, BACKWARD_WEIGHT, RECOMPUTE)
# Most settings kept of a sum of partitions, besides every vertex of its hull: the hull stays exact.
SETTINGS: Final = 256


@dataclass(frozen=True, eq=False)
class Table:
    """One computation, or one part of it, at n settings.

    Attributes
    ----------
    time, energy : (n,) seconds and joules of one device, as measured.
    clock : (n,) hertz.
    knobs : n mappings, `clock_hz` first.
    line : (n,) where each row stands in the file.
    spread : relative standard deviation of the energy, NaN where unknown.
    """

    stage: int
    instruction: str
    partition: str
    time: Floats
    energy: Floats
    clock: Floats
    knobs: tuple[Knobs, ...]
    line: Ints
    spread: float = math.nan

    @property
    def name(self) -> str:
        """What the table is of, for messages."""
        return f"stage {self.stage} {self.instruction}" + (f" ({self.partition})" if self.partition else "")

    def scaled(self, share: float) -> Table:
        """Return a part of this computation: `share` of its time and energy at every setting."""
        return replace(self, time=share * self.time, energy=share * self.energy)


@dataclass(frozen=True)
class Profile:
    """Tables by (stage, instruction), each a sequence of partitions; stages are counted from 0."""

    name: str
    tables: Mapping[tuple[int, str], tuple[Table, ...]]
    lines: int = 0

    @property
    def stages(self) -> int:
        return 1 + max(stage for stage, _ in self.tables)

    @property
    def instructions(self) -> tuple[str, ...]:
        found = {what for _, what in self.tables}
        return tuple(what for what in INSTRUCTIONS if what in found)

    def below_waiting(self, waiting_power: float) -> list[Table]:
        """Return, of every table with such rows, the rows whose energy is less than waiting as long would take."""
        out = []
        for table in self._all():
            low = np.flatnonzero(table.energy < waiting_power * table.time)
            if len(low):
                out.append(_picked(table, low))
        return out

    def averaged(self) -> Profile:
        """Return the profile with repeated settings replaced by their means."""
        return self._mapped(_averaged)

    def regressed(self, waiting_power: float) -> tuple[Profile, int]:
        """Return the profile with energies on a convex curve through the noise, and how many samples were set aside."""
        aside = 0

        def smooth(table: Table) -> Table:
            nonlocal aside
            above = table.energy - waiting_power * table.time
            found = fit(table.time, above, knobs=table.knobs, waiting_power=waiting_power, source=self.name)
            aside += int(found.outlier.sum())
            energy = found.fitted + waiting_power * found.time
            first = _first_rows(table)
            clock = np.array([k["clock_hz"] for k in found.knobs])
            return replace(
                table, time=found.time, energy=energy, clock=clock, knobs=found.knobs, line=table.line[first],
                spread=found.uncertainty,
            )  # fmt: skip

        return self._mapped(smooth), aside

    def _all(self) -> Iterable[Table]:
        return (table for parts in self.tables.values() for table in parts)

    def _mapped(self, change: Any) -> Profile:
        return replace(self, tables={key: tuple(map(change, parts)) for key, parts in self.tables.items()})


def stage_map(stages: int, profiled: int) -> tuple[int, ...]:
    """Return which profiled stage each of `stages` is like: picked evenly where fewer, repeated where more.

    >>> stage_map(4, 8), stage_map(4, 2)
    ((0, 2, 5, 7), (0, 0, 1, 1))
    """
    if stages <= profiled:
        return tuple(round(i * (profiled - 1) / max(1, stages - 1)) for i in range(stages))
    return tuple(min(profiled - 1, i * profiled // stages) for i in range(stages))


# ---- reading -------------------------------------------------------------------------------------


class _Row(NamedTuple):
    line: int
    stage: int
    instruction: str
    partition: str
    time: float
    energy: float
    knobs: Knobs


def read(path: Path, *, repeats: bool = False, fixed: bool = False) -> Profile:
    """Read a profile.

    Parameters
    ----------
    path : CSV file, plain or .gz.
    repeats : several rows of one setting are samples of it; otherwise they are refused.
    fixed : a computation may have one setting only, because its clock cannot be chosen.
    """
    return parse(_text(path), str(path.name), repeats=repeats, fixed=fixed)


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
        return (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not a text file; a profile is CSV, plain or .gz") from None


def parse(text: str, name: str, *, repeats: bool = False, fixed: bool = False) -> Profile:
    """Read a profile from its text; `name` stands in messages. See `read`."""
    try:
        lines = [(n, row) for n, row in enumerate(csv.reader(text.splitlines()), 1) if any(c.strip() for c in row)]
    except csv.Error as error:
        raise InputError(f"{name}: is not a CSV file: {error}") from None
    if len(lines) < 2:
        raise InputError(f"{name}: holds no rows; a line of column names ({','.join(COLUMNS)}) and rows are needed")
    heads = [cell.strip().lower() for cell in lines[0][1]]
    _check_heads(heads, name)
    grouped: dict[tuple[int, str], dict[str, list[_Row]]] = defaultdict(lambda: defaultdict(list))
    for number, cells in lines[1:]:
        if len(cells) != len(heads):
            raise InputError(f"{name} line {number}: has {len(cells)} cells, expected {len(heads)}")
        row = _row(dict(zip(heads, (c.strip() for c in cells), strict=True)), number, f"{name} line {number}")
        grouped[row.stage, row.instruction][row.partition].append(row)
    tables = {key: tuple(_table(rows) for rows in parts.values()) for key, parts in sorted(grouped.items())}
    profile = Profile(name, tables, len(lines) - 1)
    _check_complete(profile)
    for parts in tables.values():
        _check_settings(parts, name, repeats=repeats, fixed=fixed)
    return profile


def _check_heads(heads: list[str], name: str) -> None:
    missing = [c for c in COLUMNS if c not in heads]
    if missing:
        raise InputError(
            f"{name}: has no column {missing[0]!r}; the columns are {','.join(COLUMNS)}, not {','.join(heads)}"
        )
    twice = [h for h in heads if heads.count(h) > 1]
    if twice:
        raise InputError(f"{name}: names column {twice[0]!r} twice; keep one")


def _row(cells: dict[str, str], number: int, where: str) -> _Row:
    stage = _number(cells["stage"], "stage", where)
    if stage < 0 or stage != int(stage):
        raise InputError(f"{where}: stage must be a whole number from 0, got {cells['stage']!r}")
    instruction = cells["instruction"].lower()
    if instruction not in INSTRUCTIONS:
        raise InputError(
            f"{where}: instruction {cells['instruction']!r} is not known; {nearest(instruction, INSTRUCTIONS)}"
        )
    values = {
        what: _positive(cells[what], what, unit, where)
        for what, unit in (("frequency", "MHz"), ("time", "s"), ("energy", "J"))
    }
    extra = {k: _plain(v) for k, v in cells.items() if k not in (*COLUMNS, "partition") and v}
    knobs = {"clock_hz": 1e6 * values["frequency"], **extra}
    partition = cells.get("partition", "")
    return _Row(number, int(stage), instruction, partition, values["time"], values["energy"], knobs)


def _number(cell: str, what: str, where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        raise InputError(f"{where}: {what} must be a number, got {cell!r}") from None
    if not math.isfinite(value):
        raise InputError(f"{where}: {what} must be a finite number, got {cell!r}")
    return value


def _positive(cell: str, what: str, unit: str, where: str) -> float:
    value = _number(cell, what, where)
    if value <= 0:
        raise InputError(f"{where}: {what} must be more than 0 {unit}, got {cell}")
    return value


def _plain(cell: str) -> Any:
    try:
        value = float(cell)
    except ValueError:
        return cell
    return int(value) if value == int(value) else value


def _table(rows: Sequence[_Row]) -> Table:
    first = rows[0]
    return Table(
        first.stage, first.instruction, first.partition,
        np.array([r.time for r in rows]), np.array([r.energy for r in rows]),
        np.array([r.knobs["clock_hz"] for r in rows]), tuple(r.knobs for r in rows), np.array([r.line for r in rows]),
    )  # fmt: skip


def _check_complete(profile: Profile) -> None:
    name, count, wanted = profile.name, profile.stages, profile.instructions
    for stage in range(count):
        have = [what for what in wanted if (stage, what) in profile.tables]
        if not have:
            raise InputError(
                f"{name}: stage {stage} has no rows, yet stages go up to {count - 1}; measure it or renumber"
            )
        lacking = [what for what in wanted if what not in have]
        if lacking:
            like = next(s for s in range(count) if (s, lacking[0]) in profile.tables)
            raise InputError(f"{name}: stage {stage} has no rows of {lacking[0]}, as stage {like} has; measure them")


def _check_settings(parts: tuple[Table, ...], name: str, *, repeats: bool, fixed: bool) -> None:
    for table in parts:
        seen: dict[tuple[tuple[str, Any], ...], int] = {}
        for knobs, line in zip(table.knobs, table.line.tolist(), strict=True):
            before = seen.setdefault(_key(knobs), line)
            if before != line and not repeats:
                raise InputError(
                    f"{name} line {line}: {table.name} at {knobs['clock_hz'] / 1e6:g} MHz was given on line {before} "
                    "already; keep one, or ask for the regression, which takes repeats"
                )
    if not fixed and all(len({_key(k) for k in table.knobs}) == 1 for table in parts):
        table = parts[0]
        raise InputError(
            f"{name} line {table.line[0]}: {table.name} has one clock only ({table.clock[0] / 1e6:g} MHz), so nothing "
            "can be chosen there; measure more clocks, or allow fixed computations if it has no other"
        )


# ---- repeats -------------------------------------------------------------------------------------


def _key(knobs: Knobs) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted((k, v) for k, v in knobs.items()))


def _first_rows(table: Table) -> list[int]:
    seen: dict[tuple[tuple[str, Any], ...], int] = {}
    for i, knobs in enumerate(table.knobs):
        seen.setdefault(_key(knobs), i)
    return list(seen.values())


def _picked(table: Table, rows: Any) -> Table:
    return replace(
        table, time=table.time[rows], energy=table.energy[rows], clock=table.clock[rows], line=table.line[rows],
        knobs=tuple(table.knobs[i] for i in rows),
    )  # fmt: skip


def _averaged(table: Table) -> Table:
    first = _first_rows(table)
    if len(first) == len(table.time):
        return table
    place = {_key(table.knobs[i]): n for n, i in enumerate(first)}
    group = np.array([place[_key(k)] for k in table.knobs])
    count = np.bincount(group)
    return replace(
        _picked(table, first),
        time=np.bincount(group, table.time) / count,
        energy=np.bincount(group, table.energy) / count,
    )


# ---- what can be chosen --------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Options:
    """What a computation can be run at: n settings, partitions composed.

    Attributes
    ----------
    time : (n,) seconds.
    times : (n, partitions) seconds.
    energy : (n,) joules above waiting.
    first, last : (n,) hertz, the clock it starts and ends with.
    knobs : n settings, each one mapping per partition.
    uniform : (n,) whether all its partitions run at one clock.
    hull : indices of the vertices of the lower convex hull, fastest first.
    top : index of the setting at maximum clocks (the fastest of them).
    """

    time: Floats
    times: Floats
    energy: Floats
    first: Floats
    last: Floats
    knobs: tuple[tuple[Knobs, ...], ...]
    uniform: NDArray[np.bool_]
    hull: Ints = field(repr=False)
    top: int = 0

    @staticmethod
    def fixed(time: float) -> Options:
        """Return what takes `time` seconds, cannot be chosen and takes no energy: a transfer."""
        nothing = np.zeros(1)
        return Options(
            np.array([time]),
            np.array([[time]]),
            nothing,
            nothing,
            nothing,
            (({},),),
            np.ones(1, bool),
            np.zeros(1, np.int64),
        )

    @property
    def corners(self) -> tuple[Floats, Floats]:
        """The hull's (time, energy above waiting)."""
        return self.time[self.hull], self.energy[self.hull]


def options(parts: Sequence[Table], waiting_power: float) -> Options:
    """Return the settings of a sequence of partitions; their hull is the exact sum of the partitions' hulls.

    A vertex of a sum of hulls is a sum of vertices, so keeping those keeps the hull exact, however many of the other
    combinations are left out.
    """
    table = parts[0]
    picks = np.arange(len(table.time))[:, None]
    time, energy = table.time, table.energy - waiting_power * table.time
    top = np.array([_top(p) for p in parts])
    for part in parts[1:]:
        i, j = (x.ravel() for x in np.indices((len(time), len(part.time))))
        time, energy = time[i] + part.time[j], energy[i] + (part.energy - waiting_power * part.time)[j]
        picks = np.c_[picks[i], j]
        keep = _few(time, energy, _clocks(parts, picks), (picks == top[: picks.shape[1]]).all(axis=1))
        time, energy, picks = time[keep], energy[keep], picks[keep]
    beaten = prune(time, energy)
    clock = _clocks(parts, picks)
    knobs = tuple(tuple(p.knobs[i] for p, i in zip(parts, row, strict=True)) for row in picks)
    at_top = int(np.flatnonzero((picks == top).all(axis=1))[0])
    times = np.stack([part.time[row] for part, row in zip(parts, picks.T, strict=True)], axis=1)
    return Options(
        time, times, energy, clock[:, 0], clock[:, -1], knobs, (clock == clock[:, :1]).all(axis=1),
        beaten[hull_index(time[beaten], energy[beaten])], at_top,
    )  # fmt: skip


def _clocks(parts: Sequence[Table], picks: Ints) -> Floats:
    """Return (n, partitions so far) hertz."""
    return np.stack([part.clock[row] for part, row in zip(parts, picks.T, strict=False)], axis=1)


def _top(table: Table) -> int:
    """Return the setting at maximum clock; the fastest where several have it."""
    highest = np.flatnonzero(table.clock == table.clock.max())
    return int(highest[np.argmin(table.time[highest])])


def _few(time: Floats, energy: Floats, clock: Floats, maximum: NDArray[np.bool_]) -> Ints:
    """Return which combinations to keep: the hull, some of what none beats, and the best of each single clock."""
    best = prune(time, energy)
    kept = [best[np.unique(np.linspace(0, len(best) - 1, SETTINGS).astype(np.int64))]]
    kept += [best[hull_index(time[best], energy[best])], np.flatnonzero(maximum)]
    one = (clock == clock[:, :1]).all(axis=1)
    for hertz in np.unique(clock[one, 0]):
        rows = np.flatnonzero(one & (clock[:, 0] == hertz))
        kept.append(rows[[np.argmin(time[rows]), np.argmin(energy[rows])]])
    found: Ints = np.unique(np.concatenate(kept))
    return found


def parts_of(profile: Profile, stage: int, instruction: str, split: float | None = None) -> tuple[Table, ...]:
    """Return the tables of an instruction at a profiled stage, put together from others where that is exact.

    A backward pass is its input part, then its weight part, and follows recomputation where the profile has that.
    `split` is the share of a whole backward pass that its input part takes, where only the whole was measured.
    """
    found = profile.tables.get((stage, instruction), ())
    if not found and instruction == BACKWARD:
        halves = [profile.tables.get((stage, what), ()) for what in (BACKWARD_INPUT, BACKWARD_WEIGHT)]
        found = tuple(t for half in halves for t in half) if all(halves) else ()
    if not found and instruction in (BACKWARD_INPUT, BACKWARD_WEIGHT) and split is not None:
        share = split if instruction == BACKWARD_INPUT else 1.0 - split
        found = tuple(t.scaled(share) for t in profile.tables.get((stage, BACKWARD), ()))
    if not found:
        raise InputError(_lacking(profile, stage, instruction))
    again = profile.tables.get((stage, RECOMPUTE), ())
    return (*again, *found) if instruction in (BACKWARD, BACKWARD_INPUT) else found


def _lacking(profile: Profile, stage: int, instruction: str) -> str:
    text = f"{profile.name}: stage {stage} has no rows of {instruction}, which the schedule runs"
    if instruction in (BACKWARD_INPUT, BACKWARD_WEIGHT) and BACKWARD in profile.instructions:
        return f"{text}; measure it, or state which share of backward its input part takes (0.5, say)"
    return f"{text}; the profile has {', '.join(profile.instructions)}"
