"""Questions foreseen: what one device was asked is asked for many at once, and answered from memory later.

    listener = Listener(source, device)      plan one scenario with it: its questions are noted
    foresee(source, questions, devices)      one evaluation of the source for all devices
      -> a source per device                 plan each scenario with its own: the same answers, no waiting

Nothing rests on the guess that other devices will be asked the same. A question that differs, in its
operators, its clocks or any fact of the chip, goes to the source itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..hardware.facts import Fact
from ..workload.operator import Operator
from .base import Array, Device, Points, PointsTable, Source, stacks, tables

Pieces = tuple[tuple[Operator, ...], ...]


@dataclass(frozen=True)
class Question:
    """Work asked about at `clocks`, on a chip with some facts replaced by `facts`."""

    pieces: Pieces
    clocks: Array | None
    facts: Mapping[str, Fact]

    def of(self, device: Device) -> Device:
        """Return the device asked about, where `device` is the asker's own."""
        if not self.facts:
            return device
        return replace(device, chip=replace(device.chip, facts={**device.chip.facts, **self.facts}))


@dataclass
class Listener:
    """A source that notes what it is asked about one device, and lets another answer."""

    source: Source
    device: Device
    questions: list[Question] = field(default_factory=list)

    def points(self, operators: Sequence[Operator], device: Device, clocks: Array | None = None) -> Points:
        """Return the source's points."""
        found: Points = self.tables([operators], device, clocks)[0]
        return found

    def tables(self, pieces: Sequence[Sequence[Operator]], device: Device, clocks: Array | None = None) -> PointsTable:
        """Return the source's tables."""
        asked = tuple(tuple(piece) for piece in pieces)
        if device.node.facts == self.device.node.facts:
            mine, theirs = self.device.chip.facts, device.chip.facts
            changed = {key: fact for key, fact in theirs.items() if mine.get(key) != fact}
            self.questions.append(Question(asked, clocks, changed))
        return tables(self.source, asked, device, clocks)


@dataclass(frozen=True)
class Foreseen:
    """A source that knows some answers: (question, device asked about, table)."""

    source: Source
    known: Sequence[tuple[Question, Device, PointsTable]]

    def points(self, operators: Sequence[Operator], device: Device, clocks: Array | None = None) -> Points:
        """Return points known, or the source's."""
        found: Points = self.tables([operators], device, clocks)[0]
        return found

    def tables(self, pieces: Sequence[Sequence[Operator]], device: Device, clocks: Array | None = None) -> PointsTable:
        """Return a table known, or the source's."""
        asked = tuple(tuple(piece) for piece in pieces)
        for question, about, table in self.known:
            if (
                len(asked) == len(question.pieces)
                and _same(clocks, question.clocks)
                and device.chip.facts == about.chip.facts
                and device.node.facts == about.node.facts
                and asked == question.pieces
            ):
                return table
        return tables(self.source, asked, device, clocks)


def _same(one: Array | None, two: Array | None) -> bool:
    if one is None or two is None:
        return one is two
    return np.array_equal(one, two)


def foresee(source: Source, questions: Sequence[Question], devices: Sequence[Device]) -> list[Source]:
    """Return a source per device that knows the answers to `questions`; `source` itself where it cannot tell them."""
    known: list[list[tuple[Question, Device, PointsTable]]] = [[] for _ in devices]
    for question in questions:
        asked = [question.of(device) for device in devices]
        answers = stacks(source, question.pieces, asked, question.clocks)
        if answers is not None:
            for mine, about, table in zip(known, asked, answers, strict=True):
                mine.append((question, about, table))
    return [Foreseen(source, mine) if mine else source for mine in known]
