"""Putting back what was found, whoever does it: a lease at its end, a daemon after a kill, a guard."""

from __future__ import annotations

from .actuator import Actuator, ControlError, describe, same
from .audit import Audit
from .journal import Record


def restore(actuator: Actuator, record: Record, audit: Audit, owner: str = "") -> list[str]:
    """Put back what was found; what someone else has set since is left. Returns what could not be put back.

    Knobs are put back last first. One that fails stays in the record, to be tried again later.
    """
    notes = []
    for knob, found in reversed(list(record.found.items())):
        facts = {"device": actuator.uuid, "owner": owner, "knob": knob}
        try:
            step, readable = actuator.range(knob).step, actuator.range(knob).readable
            # A lock that cannot be read is put back whoever set it last: what was found is all that is known.
            now = actuator.read(knob) if readable else None
            if readable and same(now, found, step):
                record.forget(knob)
                continue
            # What we asked for last, or the time before if we were stopped in between, is ours to undo.
            if readable and not any(same(now, ours, step) for ours in record.ours.get(knob, ())):
                notes.append(f"another tool set {describe({knob: now})} on {actuator.uuid}, which is left as it is")
                audit.tell("conflict", before=now, after=now, asked=found, **facts)
                record.forget(knob)
                continue
            actuator.write(knob, found)
            got = actuator.observe(knob, found)
            audit.tell("restore", before=now, asked=found, after=got, **facts)
            if same(got, found, step) or not readable:
                record.forget(knob)
            else:
                notes.append(
                    f"{actuator.uuid} was to go back to {describe({knob: found})} and took {describe({knob: got})}"
                )
        except ControlError as error:
            notes.append(f"{actuator.uuid} could not be put back to {describe({knob: found})}: {error.reason}")
            audit.tell("restore failed", asked=found, reason=error.reason, code=error.code, **facts)
    return notes
