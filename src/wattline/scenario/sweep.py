"""Many changed scenarios at once: on this machine's cores, or on a Ray cluster.

    grid -> changes (one mapping per point) -> chunks -> workers -> rows, in the order of the grid

A worker gets the scenario once and then only changes. The same functions, `whatif.summaries` and
`whatif.sketches`, answer chunks of points everywhere, so every engine gives the same rows.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ..core.errors import InputError, MissingExtraError, nearest
from .stated import Scenario
from .whatif import Changes, Row, sketches, summaries

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

S = TypeVar("S")  # what every worker keeps: a scenario, or a study
Evaluate = Callable[[Scenario, Changes], Row]
Chunk = Callable[[Scenario, Sequence[Changes]], list[Row]]
Progress = Callable[[int], None]
Work = Callable[[Sequence[Changes], Progress], list[Row]]

# Most points that are each solved exactly; training sweeps beyond it are sketched, and their rows say so.
EXACT: Final = 64
# The same for serving, whose plans are simulated (seconds each); by the mean step from there on.
PLAYED: Final = 8

ENGINES: Final = ("local", "ray")

# Seconds a sweep runs in this process before it starts others: a small one never pays for a pool.
PATIENCE: Final = 1.0
# Most points sent to a worker at once, and about how many seconds of work: progress must show.
CHUNK, STRIDE = 64, 0.5

# How the libraries under numpy are told how many threads to use.
_THREADS: Final = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")

# Sections that change what a plan is worth and not how it is found: points that differ only here
# are answered one after the other, by the same worker, which can keep what they share.
_LIGHT: Final = ("goal.", "site.")


def grid(axes: Mapping[str, Sequence[Any]], fixed: Changes | None = None) -> list[dict[str, Any]]:
    """Return the cartesian product of `axes` on top of the `fixed` changes, the last axis fastest.

    >>> grid({"a": [1, 2], "b": [3]}, {"c": 4})
    [{'c': 4, 'a': 1, 'b': 3}, {'c': 4, 'a': 2, 'b': 3}]
    """
    twice = sorted(set(axes) & set(fixed or ()))
    if twice:
        raise InputError(f"{twice[0]} is both set and swept; take it out of one of the two")
    empty = [key for key, values in axes.items() if not values]
    if empty:
        raise InputError(f"the grid gives {empty[0]} no value; write it as {empty[0]}=a,b,c")
    return [{**(fixed or {}), **dict(zip(axes, point, strict=True))} for point in itertools.product(*axes.values())]


def sweep(
    scenario: Scenario,
    points: Sequence[Changes],
    *,
    engine: str = "local",
    jobs: int | None = None,
    progress: Progress | None = None,
    evaluate: Evaluate | None = None,
) -> list[Row]:
    """Return one row per point, in order.

    Parameters
    ----------
    engine : "local" (processes on this machine) or "ray" (the cluster of RAY_ADDRESS, else a local one).
    jobs : workers; all cores this process may use where None. An existing Ray cluster decides itself.
    progress : called with the number of points done since the last call.
    evaluate : answers one point; a function of a module, found by workers by its name. Where None,
        `whatif.summaries` for up to `EXACT` points (`PLAYED` of serving) and `whatif.sketches` for more.
    """
    if evaluate is not None:  # what is then swept is its own affair, and no scenario perhaps
        answer: Chunk = functools.partial(_each, evaluate)
    else:
        answer = summaries if len(points) <= (PLAYED if scenario.has("serve") else EXACT) else sketches
    order = sorted(range(len(points)), key=lambda i: _heavy(points[i]))
    with crew(scenario, answer, engine=engine, jobs=jobs) as work:
        rows = work([points[i] for i in order], progress or (lambda _: None))
    out: list[Row] = [{}] * len(rows)
    for place, row in zip(order, rows, strict=True):
        out[place] = row
    return out


@contextlib.contextmanager
def crew(
    shared: S, answer: Callable[[S, Sequence[Changes]], list[Row]], *, engine: str = "local", jobs: int | None = None
) -> Iterator[Work]:
    """Yield a function (points, progress) -> rows in order, over workers that stay from one call to the next.

    A worker gets `shared` once; `answer` is a function of a module. `engine` and `jobs` are those of `sweep`.
    """
    if engine not in ENGINES:
        raise InputError(f"engine {engine!r} is not known; {nearest(engine, ENGINES)}")
    if jobs is not None and jobs < 1:
        raise InputError(f"jobs must be 1 or more, got {jobs}")
    make = _local if engine == "local" else _ray
    with make(shared, answer, jobs or _cores()) as work:
        yield work


def _heavy(point: Changes) -> str:
    return repr([(key, value) for key, value in point.items() if not key.startswith(_LIGHT)])


def _each(evaluate: Evaluate, scenario: Scenario, points: Sequence[Changes]) -> list[Row]:
    return [evaluate(scenario, point) for point in points]


@contextlib.contextmanager
def _local(shared: S, answer: Callable[[S, Sequence[Changes]], list[Row]], workers: int) -> Iterator[Work]:
    pool: ProcessPoolExecutor | None = None
    patience, each = PATIENCE if workers > 1 else float("inf"), 0.0

    def work(points: Sequence[Changes], tell: Progress) -> list[Row]:
        nonlocal pool, patience, each
        rows: list[Row] = []
        if pool is None:
            start = time.monotonic()
            rows, each = _here(shared, points, tell, answer, patience)
            patience = max(0.0, patience - (time.monotonic() - start))
        rest = points[len(rows) :]
        if not rest:
            return rows
        chunks = _chunks(rest, workers, each)
        pool = pool or _pool(shared, workers, answer)
        with _one_thread_each():
            answers = pool.map(_answer, chunks)  # starts the workers, which read the environment
        for answered in answers:
            rows += answered
            tell(len(answered))
        return rows

    try:
        yield work
    finally:
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _here(
    shared: S,
    points: Sequence[Changes],
    tell: Progress,
    answer: Callable[[S, Sequence[Changes]], list[Row]],
    patience: float,
) -> tuple[list[Row], float]:
    """Answer points in this process until patience runs out; return the rows so far, and seconds per point.

    The first point may cost more than all others, for what they share; so at least one more is answered.
    """
    end = time.monotonic() + patience
    rows: list[Row] = []
    size, chunks, each = 1, 0, 0.0
    while len(rows) < len(points) and (chunks < 2 or time.monotonic() <= end):
        start = time.monotonic()
        some = answer(shared, points[len(rows) : len(rows) + size])
        seconds = time.monotonic() - start
        tell(len(some))
        rows += some
        chunks, each = chunks + 1, seconds / len(some)
        # Chunks grow for as long as progress shows.
        size = min(2 * size, CHUNK) if seconds < STRIDE / 2 else max(1, size // 2)
    return rows, each


def _chunks(points: Sequence[Changes], workers: int, each: float = 0.0) -> list[Sequence[Changes]]:
    """Cut the points into chunks, several per worker so that none waits long; `each`: seconds per point."""
    size = max(1, min(CHUNK, len(points) // (8 * workers), int(STRIDE / each) if each else CHUNK))
    return [points[i : i + size] for i in range(0, len(points), size)]


# ---- this machine --------------------------------------------------------------------------------

_mine: tuple[Any, Callable[[Any, Sequence[Changes]], list[Row]]] | None = None


def _start(shared: S, answer: Callable[[S, Sequence[Changes]], list[Row]]) -> None:
    """Make a worker ready: it keeps what is shared, and an interrupt ends it at once and without a word."""
    global _mine
    _mine = shared, answer
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _answer(points: Sequence[Changes]) -> list[Row]:
    assert _mine is not None
    shared, answer = _mine
    return answer(shared, points)


def _pool(shared: S, workers: int, answer: Callable[[S, Sequence[Changes]], list[Row]]) -> ProcessPoolExecutor:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    # "spawn" behaves the same on every system, and is safe beside the threads of a progress bar.
    return ProcessPoolExecutor(workers, get_context("spawn"), _start, (shared, answer))


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let workers started inside use one thread each: more would only wait for one another's cores."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


# ---- Ray -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _ray(shared: S, answer: Callable[[S, Sequence[Changes]], list[Row]], workers: int) -> Iterator[Work]:
    try:
        import ray
    except ImportError:
        raise MissingExtraError('engine "ray" needs Ray, which is not installed; pip install "wattline[ray]"') from None
    mine = not ray.is_initialized()
    if mine:
        quiet = {"log_to_driver": False, "logging_level": "ERROR"}
        # On an existing cluster the cluster says how many workers there are.
        local = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": workers, "include_dashboard": False}
        ray.init(**quiet, **local)
    try:
        kept = ray.put((shared, answer))
        yield lambda points, tell: list(_gather(ray, kept, points, tell))
    finally:
        if mine:
            ray.shutdown()


def _gather(ray: Any, shared: Any, points: Sequence[Changes], tell: Progress) -> Iterator[Row]:
    """Keep every worker of the cluster busy, hold few results in flight, and yield rows in order."""
    workers = max(1, int(ray.cluster_resources().get("CPU", 1)))
    task = ray.remote(_answer_shared)
    chunks = _chunks(points, workers)
    sent: dict[Any, int] = {}
    done: dict[int, list[Row]] = {}
    turn = 0
    for number, chunk in enumerate(chunks):
        sent[task.remote(shared, chunk)] = number
        while len(sent) >= 4 * workers or (number == len(chunks) - 1 and sent):
            ready, _ = ray.wait(list(sent), num_returns=1)
            done[sent.pop(ready[0])] = ray.get(ready[0])
            while turn in done:
                rows = done.pop(turn)
                tell(len(rows))
                yield from rows
                turn += 1


def _answer_shared(
    shared: tuple[S, Callable[[S, Sequence[Changes]], list[Row]]], points: Sequence[Changes]
) -> list[Row]:
    kept, answer = shared
    return answer(kept, points)
