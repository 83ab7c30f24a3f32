"""Redundancy of power: who takes over when a part is lost, and what each may carry so that it can.

A watt that a part *delivers* is what moves when it is lost, and whoever takes it over draws it with losses of its
own. So members are compared by what they can deliver, ``limit / (1 + loss)``, not by their inflow: a pair of 1 MW,
one of which loses 5 %, may not be filled to half of 2 MW.

Members that hang on the same part nest in the tree: each is derated ("fixed"), or their sum is bounded ("free").
Members that hang on different parts (dual-corded racks on two UPS, a catcher that stands by) do not, because what
moves also moves through other parts above; each loss then is a constraint of its own, `Contingency`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Group:
    """Parts that take over for one another: N + `spare`.

    `sharing`: the load of a lost one moves to the others in fixed proportions ("fixed"), at will ("free"), or all of it
    to the last member, which stands by ("catcher"). Members that are no siblings share in fixed proportions or have a
    catcher, and one of them may be lost.
    """

    name: str
    members: tuple[str, ...]
    spare: int = 1
    sharing: Literal["fixed", "free", "catcher"] = "fixed"


@dataclass(frozen=True)
class Contingency:
    """A part that must also carry what a lost one delivered: ``flow[part] + share * flow[lost] <= limit[part]``.

    `taking`: the parts that take over; while none of them has power there is nobody to ask.
    """

    name: str
    part: int
    lost: int
    share: float
    taking: tuple[int, ...]


def used(limit: Array, loss: Array, spare: int) -> float:
    """Return the share of its limit to which every member may be used so that the rest carries any `spare` lost."""
    able, spare = _able(limit, loss, spare)
    return float(able[: len(able) - spare].sum() / max(able.sum(), 1e-300))


def together(limit: Array, loss: Array, spare: int) -> float:
    """Return the watts that may flow into all members together so that the rest can deliver it."""
    able, spare = _able(limit, loss, spare)
    # Whoever loses least delivers most per watt of inflow.
    return float(able[: len(able) - spare].sum() * (1.0 + loss.min()))


def _able(limit: Array, loss: Array, spare: int) -> tuple[Array, int]:
    """Return what members can deliver, least first, and how many more may be lost: one of limit 0 is lost already."""
    able = np.sort((limit / (1.0 + loss))[limit > 0])
    return able, max(0, spare - (len(limit) - len(able)))


def contingencies(
    group: Group, index: Callable[[str], int], parent: Ints, factor: Array, limit: Array
) -> list[Contingency]:
    """Return what the loss of each member asks of those that take over and of all above them."""
    members = [index(name) for name in group.members]
    lost_ones = members[:-1] if group.sharing == "catcher" else members
    return [found for lost in lost_ones for found in _lost(group, lost, members, parent, factor, limit)]


def _lost(
    group: Group, lost: int, members: Sequence[int], parent: Ints, factor: Array, limit: Array
) -> list[Contingency]:
    taking = members[-1:] if group.sharing == "catcher" else [m for m in members if m != lost]
    able = limit[taking] / factor[taking]
    share = able / able.sum() if np.isfinite(able).all() and able.sum() > 0 else np.full(len(taking), 1 / len(taking))
    gone = _above(lost, parent, factor)
    more: dict[int, float] = {}
    for part, own in zip(taking, share, strict=True):
        for at, watts in _above(int(part), parent, factor).items():
            more[at] = more.get(at, 0.0) + float(own) * watts
    # Per watt that flowed into what is lost; a part above both passes on the one in place of the other.
    net = {at: (watts - gone.get(at, 0.0)) / gone[lost] for at, watts in more.items()}
    return [
        Contingency(f"{group.name}: part {at} without part {lost}", at, lost, share, tuple(taking))
        for at, share in net.items()
        if share > 1e-12
    ]


def _above(part: int, parent: Ints, factor: Array) -> dict[int, float]:
    """Return the watts that flow into a part and all above it per watt that it delivers."""
    out, watts = {}, 1.0
    while part >= 0:
        watts *= float(factor[part])
        out[part] = watts
        part = int(parent[part])
    return out
