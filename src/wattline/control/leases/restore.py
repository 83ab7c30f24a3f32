"""Putting back what was found, whoever does it: a lease at its end, a daemon after a kill, a guard.

What is put back never exceeds what the device takes, nor what the administrator's policy states: a record may be older
than either.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from .actuator import Actuator, ControlError, Knob, describe, same
from .audit import Audit
from .journal import Record

# What the administrator has set of a knob where it is known, else None.
Standing = Callable[[Actuator, Knob], float | None]


def restore(
    actuator: Actuator, record: Record, audit: Audit, owner: str = "", standing: Standing = lambda _a, _k: None
) -> list[str]:
    """Put back what was found; what someone else has set since is left. Returns what could not be put back.

    Knobs are put back last first. One that fails stays in the record, to be tried again later. A record that is
    `unsure` of what was set last cannot tell another tool's setting from ours: what was found is put back all the same.
    """
    notes = []
    for knob, recorded in reversed(list(record.found.items())):
        facts = {"device": actuator.uuid, "owner": owner, "knob": knob}
        try:
            found, why = _bounded(actuator, knob, recorded, standing)
            if why:
                notes.append(why)
            step, readable = actuator.range(knob).step, actuator.range(knob).readable
            # A lock that cannot be read is put back whoever set it last: what was found is all that is known.
            now = actuator.read(knob) if readable else None
            if readable and same(now, found, step):
                record.forget(knob)
                continue
            # What we asked for last, or the time before if we were stopped in between, is ours to undo.
            theirs = not any(same(now, ours, step) for ours in record.ours.get(knob, ()))
            if readable and theirs and not record.unsure:
                notes.append(f"another tool set {describe({knob: now})} on {actuator.uuid}, which is left as it is")
                audit.tell("conflict", before=now, after=now, asked=found, **facts)
                record.forget(knob)
                continue
            actuator.write(knob, found)
            got = actuator.observe(knob, found)
            audit.tell("restore", before=now, asked=found, after=got, **facts)
            if same(got, found, step) or not readable or actuator.range(knob).rounds(found, got):
                record.forget(knob)
            else:
                notes.append(
                    f"{actuator.uuid} was to go back to {describe({knob: found})} and took {describe({knob: got})}"
                )
        except ControlError as error:
            notes.append(f"{actuator.uuid} could not be put back to {describe({knob: recorded})}: {error.reason}")
            audit.tell("restore failed", asked=recorded, reason=error.reason, code=error.code, **facts)
    return notes


def _bounded(actuator: Actuator, knob: Knob, found: float | None, standing: Standing) -> tuple[float | None, str]:
    """What may be put back of what was found, and a sentence where that is less."""
    if found is None:
        return None, ""
    span, stands = actuator.range(knob), standing(actuator, knob)
    most = min(span.high, math.inf if stands is None else stands)
    if not math.isfinite(found) or found > most + span.step:
        whose = "the administrator's limit" if most < span.high else "the most that the device takes"
        told = f"{actuator.uuid} was recorded with {describe({knob: found})}, above {describe({knob: most})}, {whose}"
        return most, f"{told}; that was put back instead"
    if found < span.low - span.step:
        told = f"{actuator.uuid} was recorded with {describe({knob: found})}, below {describe({knob: span.low})}"
        return span.low, f"{told}, the least that the device takes; that was put back instead"
    return found, ""
