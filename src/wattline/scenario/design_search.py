"""A frontier of designs without looking at all of them: NSGA-II, then the neighbours of what it found.

    population --ask--> designs --evaluated together--> tell --> next population
    frontier so far --every single change of its members--> until none is new, or the evaluations are used up

The first spreads over the space, the second finishes: a design left out is at least no single change away from
the frontier. Designs over a budget are told by how much, so that the search finds its way back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..core.errors import MissingExtraError
from ..frontier.answer import Array
from .design_space import undominated

Choice = tuple[int, ...]
# (energy, time, area) or None, and by how much the budgets are missed.
Cost = tuple[Array | None, float]
Evaluate = Callable[[Sequence[Choice]], list[Cost]]

POPULATION = 64
# Share of the evaluations kept for the neighbours.
FINISH = 0.4


def optimise(sizes: Sequence[int], evaluate: Evaluate, evaluations: int, seed: int = 0) -> dict[Choice, Cost]:
    """Return every design evaluated: at most `evaluations` distinct ones of `sizes[i]` options on axis i."""
    known: dict[Choice, Cost] = {}

    def ask(choices: Sequence[Choice]) -> list[Cost]:
        new = list(dict.fromkeys(c for c in choices if c not in known))[: evaluations - len(known)]
        known.update(zip(new, evaluate(new), strict=True))
        return [known.get(c, (None, 1.0)) for c in choices]

    _evolve(sizes, ask, known, int((1 - FINISH) * evaluations), seed)
    _finish(sizes, ask, known, evaluations)
    return known


def _evolve(sizes: Sequence[int], ask: Evaluate, known: dict[Choice, Cost], evaluations: int, seed: int) -> None:
    try:
        import optuna
    except ImportError:
        raise MissingExtraError(
            'searching this many designs needs Optuna, which is not installed; pip install "wattline[design]", or '
            'design.search = "grid"'
        ) from None
    goals = 4 if any(cost is not None and len(cost) == 4 for cost, _ in known.values()) else 3
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    population = min(POPULATION, max(8, evaluations // 8))
    sampler = optuna.samplers.NSGAIISampler(population_size=population, seed=seed)
    study = optuna.create_study(directions=["minimize"] * goals, sampler=sampler)
    idle = 0
    while len(known) < evaluations and idle < 3:
        before = len(known)
        trials = [study.ask() for _ in range(population)]
        choices = [tuple(t.suggest_int(str(i), 0, n - 1) for i, n in enumerate(sizes)) for t in trials]
        for trial, (cost, over) in zip(trials, ask(choices), strict=True):
            trial.set_constraint("budgets", over)
            # What has no cost is never among the best: it misses a constraint.
            study.tell(trial, [1e9] * goals if cost is None else [float(v) for v in cost])
        idle = idle + 1 if len(known) == before else 0


def _finish(sizes: Sequence[int], ask: Evaluate, known: dict[Choice, Cost], evaluations: int) -> None:
    done: set[Choice] = set()
    while len(known) < evaluations:
        best = [c for c in _best(known) if c not in done]
        if not best:
            return
        done.update(best)
        ask(list(dict.fromkeys(n for c in best for n in _neighbours(sizes, c))))


def _best(known: dict[Choice, Cost]) -> list[Choice]:
    rows = [(choice, cost) for choice, (cost, _) in known.items() if cost is not None]
    if not rows:
        return []
    return [rows[i][0] for i in undominated(np.array([cost for _, cost in rows]))]


def _neighbours(sizes: Sequence[int], choice: Choice) -> Iterator[Choice]:
    for i, n in enumerate(sizes):
        for c in range(n):
            if c != choice[i]:
                yield (*choice[:i], c, *choice[i + 1 :])
