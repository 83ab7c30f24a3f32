"""`follow(trainer)`: which trainer it is, and the hooks that tell a runtime what it runs.

    torch.distributed.pipelining schedule    its stages' chunks            a clock for every computation
    torchtitan Trainer                       its pp_schedule, or phases
    DeepSpeed PipelineEngine                 train_batch, and its table of instructions
    Megatron-LM                              forward_step, backward_step of core.pipeline_parallel.schedules
    FSDP2 or Accelerate model + optimizer    phases: forward, backward, step
    Hugging Face Trainer                     the same by its model and optimizer

Hooks are put on these objects alone; `Runtime.close` frees the clock, and what was hooked is put back.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ...core.errors import InputError
from ...measure.window import Window
from ..daemon.client import Held, lease
from ..leases.actuator import ControlError
from .follow import SCHEDULES, Plan, same_order
from .runtime import Layout, Runtime

# Interleaved zero bubble and looped breadth first have no generator here: they are followed from a plan of their order.
_UNPLANNED: Final = ("interleaved-zb", "looped-bfs")


class Hooks:
    """What was put around methods, to be put back."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], object]] = []

    def around(self, thing: Any, name: str, first: Callable[..., None], last: Callable[[], None] | None = None) -> None:
        """Call `first` before a method or function of this one object or module, and `last` after it."""
        method = getattr(thing, name)
        own = name in vars(thing)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            first(*args, **kwargs)
            try:
                return method(*args, **kwargs)
            finally:
                if last is not None:
                    last()

        setattr(thing, name, wrapped)
        self._undo.append((lambda: setattr(thing, name, method)) if own else (lambda: delattr(thing, name)))

    def undo(self, how: Callable[[], object]) -> None:
        """Keep how something is put back."""
        self._undo.append(how)

    def handle(self, handle: Any) -> None:
        """Keep a hook of torch, which has `remove`."""
        self._undo.append(handle.remove)

    def close(self) -> None:
        """Put everything back, the last first."""
        while self._undo:
            self._undo.pop()()


def follow(
    trainer: Any,
    plan: Plan | str | Path | None = None,
    *,
    held: Held | None = None,
    device: str | None = None,
    optimizer: Any = None,
    microbatches: int | None = None,
    joules: Callable[[], float] | None = None,
    **how: Any,
) -> Runtime:
    """Have a trainer's device follow a plan, or profile itself in its first iterations and follow its own.

    Parameters
    ----------
    trainer : see the module's list. plan : a file of ``wattline pipeline --plan``; profiled first where None.
    held, device : the lease of this rank's device, or which to lease (LOCAL_RANK's where neither is given).
    optimizer : of a model that is followed by phases. microbatches : of an iteration, where the trainer does not say.
    joules : reads the device's energy counter, J; this machine's own sensor of it where None.
    how : what `Runtime` takes: max_slowdown=, exchange=, board=, latency=, sync=, ...

    Raises
    ------
    InputError : no such trainer. ControlError : the device cannot be leased, or the plan is for another job.
    """
    hooks, own = Hooks(), held is None
    taken = held if held is not None else lease(device or os.environ.get("LOCAL_RANK", "0"))
    try:
        if plan is None and joules is None:
            joules = _sensor(taken)
        how = {"plan": plan, "joules": joules, **how}
        runtime = _hooked(trainer, taken, hooks, optimizer, microbatches, how)
    except BaseException:
        hooks.close()
        if own:
            taken.close()
        raise
    runtime.closing = [hooks.close, *([taken.close] if own else [])]
    return runtime


def _sensor(held: Held) -> Callable[[], float]:
    """Return what reads the energy of a leased device since now, J."""
    window = Window("follow").begin()

    def joules() -> float:
        parts = [part for part in window.result.parts if part.uuid == held.device or len(window.result.parts) == 1]
        if not parts or any(part.joules is None for part in parts):
            raise ControlError("plan", f"no sensor tells the energy of {held.device}; give joules=, or a plan")
        return float(sum(part.joules or 0.0 for part in parts))

    return joules


def _hooked(
    trainer: Any, held: Held, hooks: Hooks, optimizer: Any, microbatches: int | None, how: dict[str, Any]
) -> Runtime:
    if getattr(trainer, "pp_schedule", None) is not None:
        return _torch(trainer.pp_schedule, held, hooks, how)
    if hasattr(trainer, "_n_microbatches") and (hasattr(trainer, "_stages") or hasattr(trainer, "_stage")):
        return _torch(trainer, held, hooks, how)
    if hasattr(trainer, "_INSTRUCTION_MAP") and hasattr(trainer, "micro_batches"):
        return _deepspeed(trainer, held, hooks, how)
    if hasattr(trainer, "forward_step") and hasattr(trainer, "backward_step"):
        return _megatron(trainer, held, hooks, microbatches, how)
    if hasattr(trainer, "add_callback") and hasattr(trainer, "model"):
        args, model = trainer.args, trainer.model
        count = microbatches or int(args.gradient_accumulation_steps)
        optimizer = optimizer or trainer.optimizer or trainer.create_optimizer()
        return _phases(model, optimizer, held, hooks, count, how)
    if hasattr(trainer, "model_parts"):  # torchtitan without a pipeline
        optimizers = trainer.optimizers
        accumulated = microbatches or int(getattr(trainer, "gradient_accumulation_steps", 1))
        return _phases(trainer.model_parts[0], optimizer or optimizers, held, hooks, accumulated, how)
    if hasattr(trainer, "register_forward_pre_hook"):
        if optimizer is None:
            raise InputError(
                "a model is followed by phases and needs its optimizer: follow(model, held, optimizer=...)"
            )
        return _phases(trainer, optimizer, held, hooks, microbatches or 1, how)
    raise InputError(
        "follow knows schedules of torch.distributed.pipelining, torchtitan, DeepSpeed's PipelineEngine, the schedules "
        "module of Megatron-LM, the Hugging Face Trainer and models with an optimizer, got " + type(trainer).__name__
    )


def _torch(schedule: Any, held: Held, hooks: Hooks, how: dict[str, Any]) -> Runtime:
    stages = list(getattr(schedule, "_stages", [])) or [schedule._stage]
    name = SCHEDULES.get(type(schedule).__name__)
    if name is None:
        raise InputError(f"a plan is followed in {', '.join(SCHEDULES)}, got {type(schedule).__name__}")
    if name in _UNPLANNED and how.get("plan") is None:
        raise InputError(
            f"{type(schedule).__name__} is planned from its order: schedule._dump_csv, wattline pipeline --order, then "
            "follow(schedule, held, plan=...)"
        )
    rank = int(stages[0].group_rank)
    virtual = len(stages) if name == "interleaved" else 1
    layout = Layout(
        stage=rank, stages=int(stages[0].group_size), microbatches=int(schedule._n_microbatches), schedule=name,
        virtual=virtual,
    )  # fmt: skip
    runtime = Runtime(held, layout, **how)
    if runtime.follower is not None:
        same_order(schedule, runtime.follower._next or runtime.follower.program)
    split = name in ("zb-v", "dualpipe-v")

    for stage in stages:
        chunk = int(stage.stage_index)

        def forward(index: int, *_: Any, chunk: int = chunk, **__: Any) -> None:
            runtime.before("forward", index, chunk)

        def backward(index: int, *_: Any, full_backward: bool = True, chunk: int = chunk, **__: Any) -> None:
            runtime.before("backward_input" if split or not full_backward else "backward", index, chunk)

        def weight(index: int, *_: Any, chunk: int = chunk, **__: Any) -> None:
            runtime.before("backward_weight", index, chunk)

        hooks.around(stage, "forward_one_chunk", forward, runtime.after)
        hooks.around(stage, "backward_one_chunk", backward, runtime.after)
        hooks.around(stage, "backward_weight_one_chunk", weight, runtime.after)
    hooks.around(schedule, "step", lambda *_, **__: runtime.turn())
    return runtime


def _deepspeed(engine: Any, held: Held, hooks: Hooks, how: dict[str, Any]) -> Runtime:
    """DeepSpeed's PipelineEngine runs 1F1B (`TrainSchedule`), one stage a rank."""
    layout = Layout(
        stage=int(engine.stage_id), stages=int(engine.num_stages), microbatches=int(engine.micro_batches),
        schedule="1f1b",
    )  # fmt: skip
    runtime = Runtime(held, layout, **how)
    counts = _Counts(runtime, layout.stage)
    hooks.around(engine, "train_batch", lambda *_, **__: counts.turn())
    # The engine runs instructions from a table of its class's functions; this one gets a table of its own.
    table = dict(engine._INSTRUCTION_MAP)
    for kind, what in (("ForwardPass", "forward"), ("BackwardPass", "backward")):
        for key in [k for k in table if k.__name__ == kind]:
            table[key] = _counted(table[key], what, counts, runtime)
    engine._INSTRUCTION_MAP = table
    hooks.undo(lambda: delattr(engine, "_INSTRUCTION_MAP"))
    return runtime


def _counted(function: Callable[..., Any], what: str, counts: _Counts, runtime: Runtime) -> Callable[..., Any]:
    """Return a method's function that is told to the runtime."""

    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        counts.next(what)
        try:
            return function(self, *args, **kwargs)
        finally:
            runtime.after()

    return wrapped


def _megatron(schedules: Any, held: Held, hooks: Hooks, microbatches: int | None, how: dict[str, Any]) -> Runtime:
    """The functions that `forward_backward_pipelining_without_interleaving` of Megatron-LM calls of its module."""
    state = schedules.parallel_state
    if microbatches is None:
        raise InputError(
            "Megatron-LM needs the microbatches of an iteration: follow(schedules, held, microbatches=...)"
        )
    layout = Layout(
        stage=int(state.get_pipeline_model_parallel_rank()), stages=int(state.get_pipeline_model_parallel_world_size()),
        microbatches=microbatches, schedule="1f1b",
    )  # fmt: skip
    runtime = Runtime(held, layout, **how)
    counts = _Counts(runtime, layout.stage, turns=microbatches)
    hooks.around(schedules, "forward_step", lambda *_, **__: counts.next("forward"), runtime.after)
    hooks.around(schedules, "backward_step", lambda *_, **__: counts.next("backward"), runtime.after)
    return runtime


class _Counts:
    """Numbers the calls of an iteration; `turns`: a new one begins with the forward pass after so many, where given."""

    def __init__(self, runtime: Runtime, chunk: int, turns: int | None = None) -> None:
        self.runtime, self.chunk, self.turns = runtime, chunk, turns
        self.done = {"forward": 0, "backward": 0}

    def turn(self) -> None:
        self.done = dict.fromkeys(self.done, 0)
        self.runtime.turn()

    def next(self, what: str) -> None:
        new = self.turns is not None and what == "forward" and self.done[what] in (0, self.turns)
        if new:
            self.turn()
        self.runtime.before(what, self.done[what], self.chunk)
        self.done[what] += 1


def _phases(
    model: Any, optimizer: Any, held: Held, hooks: Hooks, microbatches: int, how: dict[str, Any]
) -> Runtime:  # fmt: skip
    """Forward ends where backward begins, backward where the next forward or the step does."""
    runtime = Runtime(held, Layout(microbatches=microbatches), **how)
    done = {"forward": 0}

    def forward(*_: Any) -> None:
        if done["forward"] % microbatches == 0:
            runtime.after()
            runtime.turn()
        else:
            runtime.after()
        runtime.before("forward", done["forward"] % microbatches, 0)
        done["forward"] += 1

    def forwarded(*_: Any) -> None:
        runtime.after()
        runtime.before("backward", (done["forward"] - 1) % microbatches, 0)

    hooks.handle(model.register_forward_pre_hook(forward))
    hooks.handle(model.register_forward_hook(forwarded))

    def step(*_: Any, **__: Any) -> None:
        runtime.after()
        runtime.before("step", 0, 0)

    if hasattr(optimizer, "register_step_pre_hook"):  # learning-rate schedulers want the method itself untouched
        hooks.handle(optimizer.register_step_pre_hook(step))
        hooks.handle(optimizer.register_step_post_hook(lambda *_, **__: runtime.after()))
    else:
        hooks.around(optimizer, "step", step, runtime.after)
    return runtime


__all__ = ["follow"]
