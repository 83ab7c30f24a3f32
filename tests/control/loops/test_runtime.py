"""Tests for `wattline.follow`: trainers that profile themselves, plan and follow, on simulated devices."""

from __future__ import annotations

import multiprocessing as mp
import tempfile
from pathlib import Path
from types import MethodType, ModuleType, SimpleNamespace
from typing import Any

import pytest

import wattline
from wattline.control.devices.simulated import SimulatedGpu
from wattline.control.leases.keeper import Keeper
from wattline.control.loops.runtime import Layout, Runtime, merged, shared
from wattline.control.loops.selfprofile import phases, switch_latency
from wattline.control.loops.straggler import Board
from wattline.core.errors import InputError
from wattline.measure.devices.replay import VirtualClock
from wattline.training.schedule import schedule

WORK = {"forward": (0.02, 0.01), "backward": (0.03, 0.03), "step": (0.005, 0.05)}  # s of compute, of memory


class Rig:
    """A device on virtual time, its lease, and work on it."""

    def __init__(self, folder: Path) -> None:
        self.clock = VirtualClock(0.0)
        self.gpu = SimulatedGpu(clock=self.clock)
        self.keeper = Keeper([self.gpu], folder, clock=self.clock)
        self.held = self.keeper.take("0")
        self.seen: list[tuple[str, float]] = []
        self.how: dict[str, Any] = {
            "joules": self.gpu.energy, "clock": self.clock, "background": False, "latency": 0.0, "count": 5,
        }  # fmt: skip

    def work(self, what: str) -> None:
        self.seen.append((what, self.gpu.speed()))
        self.gpu.work(*WORK[what], sleep=self.clock.advance)


@pytest.fixture
def rig(tmp_path: Path) -> Any:
    made = Rig(tmp_path)
    yield made
    made.held.close()
    made.keeper.close()


class Model:
    """What the hooks of a torch module look like."""

    def __init__(self, rig: Rig) -> None:
        self.rig, self.before, self.after = rig, [], []

    def register_forward_pre_hook(self, hook: Any) -> Any:
        self.before.append(hook)
        return SimpleNamespace(remove=lambda: self.before.remove(hook))

    def register_forward_hook(self, hook: Any) -> Any:
        self.after.append(hook)
        return SimpleNamespace(remove=lambda: self.after.remove(hook))

    def __call__(self) -> None:
        for hook in self.before:
            hook(self, ())
        self.rig.work("forward")
        for hook in self.after:
            hook(self, (), None)


class Optimizer:
    """An optimizer whose step has torch's hooks."""

    def __init__(self, rig: Rig) -> None:
        self.rig, self.pre, self.post = rig, [], []

    def register_step_pre_hook(self, hook: Any) -> Any:
        self.pre.append(hook)
        return SimpleNamespace(remove=lambda: self.pre.remove(hook))

    def register_step_post_hook(self, hook: Any) -> Any:
        self.post.append(hook)
        return SimpleNamespace(remove=lambda: self.post.remove(hook))

    def step(self) -> None:
        for hook in self.pre:
            hook(self, (), {})
        self.rig.work("step")
        for hook in self.post:
            hook(self, (), {})


@pytest.mark.parametrize("hooked", [True, False])
def test_a_model_gets_a_clock_for_each_phase(rig: Rig, hooked: bool) -> None:
    """After its own profile the memory-bound step runs slower than the products, in time, and hooks come off again."""
    model: Model = Model(rig)
    optimizer: Any = Optimizer(rig) if hooked else SimpleNamespace(step=lambda: rig.work("step"))
    plain = optimizer.step
    with wattline.follow(
        model, held=rig.held, optimizer=optimizer, microbatches=2, max_slowdown=0.05, **rig.how
    ) as run:
        for iteration in range(10):
            if iteration == 9:
                rig.seen.clear()
            for _ in range(2):
                model()
                rig.work("backward")
            optimizer.step()
        assert run.notes == []
        assert run.saving is not None
        assert 0.05 < run.saving < 0.6
        clocks = dict(rig.seen)
        assert clocks["step"] < clocks["forward"]
    assert optimizer.step == plain
    assert not hooked or optimizer.pre == optimizer.post == []
    assert model.before == model.after == []
    assert rig.gpu.read("clock") is None


def test_every_combination_of_phases_was_looked_at() -> None:
    """The clocks chosen keep the time and are no worse than any others."""
    rows = [
        {
            "stage": 0,
            "instruction": what,
            "frequency": f,
            "time": t * (1500 / f) ** a,
            "energy": t * 300 * (f / 1500) ** 2,
        }
        for what, t, a in (("forward", 1.0, 1.0), ("backward", 2.0, 0.8), ("step", 0.5, 0.1))
        for f in (900.0, 1200.0, 1500.0)
    ]
    best, saving = phases(rows, {"forward": 2, "backward": 2, "step": 1}, 0.1)
    assert best["step"] == 900e6
    assert saving > 0
    top, none = phases(rows, {"forward": 2, "backward": 2, "step": 1}, 0.0)
    assert none <= saving
    assert max(top.values()) == 1500e6


def test_a_change_of_clock_is_timed_and_leaves_the_clock_free(rig: Rig) -> None:
    """The median of a few verified changes, on the clock that is given."""
    plain = rig.held.set

    def slow(**how: Any) -> Any:
        rig.clock.advance(0.015)
        return plain(**how)

    rig.held.set = slow  # type: ignore[method-assign]
    assert switch_latency(rig.held, clock=rig.clock) == pytest.approx(0.015)
    assert rig.gpu.read("clock") is None


class ForwardPass:
    """DeepSpeed's instruction of that name."""


class BackwardPass:
    """DeepSpeed's instruction of that name."""


class Engine:
    """A rank of DeepSpeed's PipelineEngine, which runs 1F1B from a table of instructions, over links to neighbours."""

    def __init__(self, stage: int, links: Any, rig: Rig, microbatches: int) -> None:
        self.stage_id, self.num_stages, self.micro_batches = stage, 3, microbatches
        self.links, self.rig = links, rig

    def train_batch(self) -> None:
        for _, what, m in schedule("1f1b", self.num_stages, self.micro_batches).rows[self.stage_id]:
            source = self.stage_id - 1 if what == "forward" else self.stage_id + 1
            if (source, self.stage_id) in self.links:
                self.rig.clock.now = max(self.rig.clock.now, self.links[source, self.stage_id][0].recv())
            kind = ForwardPass if what == "forward" else BackwardPass
            MethodType(self._INSTRUCTION_MAP[kind], self)(buffer_id=m)
            target = self.stage_id + 1 if what == "forward" else self.stage_id - 1
            if (self.stage_id, target) in self.links:
                self.links[self.stage_id, target][1].send(self.rig.clock.now)

    def _exec_forward_pass(self, buffer_id: int) -> None:
        self.rig.work("forward")

    def _exec_backward_pass(self, buffer_id: int) -> None:
        # The last stage has the head beside its layers.
        for _ in range(2 if self.stage_id == self.num_stages - 1 else 1):
            self.rig.work("backward")

    _INSTRUCTION_MAP = {ForwardPass: _exec_forward_pass, BackwardPass: _exec_backward_pass}  # noqa: RUF012


def _rank(stage: int, links: Any, folder: str, out: Any) -> None:
    with tempfile.TemporaryDirectory() as place:
        rig = Rig(Path(place))
        engine = Engine(stage, links, rig, microbatches=6)
        how = {**rig.how, "exchange": shared(folder, stage, 3), "waiting_power": 100.0}
        with wattline.follow(engine, held=rig.held, **how) as run:
            energies = [(rig.clock.now, rig.gpu.energy())]
            for _ in range(9):
                engine.train_batch()
                energies.append((rig.clock.now, rig.gpu.energy()))
        assert "_INSTRUCTION_MAP" not in vars(engine)
        out.put((stage, energies, run.notes, run.saving))
        rig.held.close()
        rig.keeper.close()


def test_ranks_of_a_pipeline_profile_themselves_and_follow_one_plan(tmp_path: Path) -> None:
    """Three processes exchange rows, plan alike, and run as fast as at maximum clocks with less energy each."""
    context = mp.get_context("fork")
    links = {pair: context.Pipe(duplex=False) for s in range(2) for pair in ((s, s + 1), (s + 1, s))}
    out = context.SimpleQueue()
    ranks = [context.Process(target=_rank, args=(s, links, str(tmp_path / "rows"), out)) for s in range(3)]
    for rank in ranks:
        rank.start()
    told = {stage: rest for stage, *rest in (out.get() for _ in ranks)}
    for rank in ranks:
        rank.join()
    assert [rest[1] for rest in told.values()] == [[], [], []]
    savings = {rest[2] for rest in told.values()}
    assert len(savings) == 1
    (saving,) = savings
    assert saving > 0.02
    free, planned = 0.0, 0.0
    for energies, notes, _ in told.values():
        assert notes == []
        free += energies[1][1] - energies[0][1]
        planned += energies[9][1] - energies[8][1]
    assert planned < free
    seconds = [max(e[k + 1][0] - e[k][0] for e, *_ in told.values()) for k in (0, 8)]
    assert seconds[1] < 1.03 * seconds[0]


def test_beside_a_straggler_it_plans_anew(rig: Rig, tmp_path: Path) -> None:
    """When another pipeline of the board is slower, this one takes the plan of its family that ends with it."""
    layout = Layout(stages=1, microbatches=4, schedule="1f1b")
    run = Runtime(rig.held, layout, board=tmp_path / "board", name="mine", waiting_power=100.0, **rig.how)

    def iterate() -> float:
        began = rig.clock.now
        run.turn()
        for m in range(4):
            for what in ("forward", "backward"):
                run.before(what, m, 0)
                rig.work(what)
                run.after()
        return rig.clock.now - began

    for _ in range(8):
        usual = iterate()
    Board(tmp_path / "board", usual).post("other", 1.25)
    for _ in range(4):
        late = iterate()
    assert run.notes == []
    assert 1.05 * usual < late <= 1.26 * usual
    run.close()


def test_what_goes_wrong_is_a_note_and_training_goes_on(rig: Rig) -> None:
    """A device that is lost while profiling ends the profile; the trainer does not notice."""
    run = Runtime(rig.held, Layout(), **rig.how)
    for iteration in range(6):
        if iteration == 3:
            rig.gpu.fault = "lost"
        run.turn()
        run.before("forward", 0)
        run.after()
    assert "no longer followed" in run.notes[0]
    rig.gpu.fault = ""
    run.close()


class TorchStage:
    """A stage of torch.distributed.pipelining as far as hooks go, alone on its rank."""

    stage_index, num_stages, group_rank, group_size = 0, 1, 0, 1

    def __init__(self, rig: Rig) -> None:
        self.rig = rig

    def forward_one_chunk(self, _index: int) -> None:
        self.rig.work("forward")

    def backward_one_chunk(self, _index: int, full_backward: bool = True) -> None:
        self.rig.work("backward")

    def backward_weight_one_chunk(self, _index: int) -> None: ...


class Schedule1F1B:
    """torch's schedule of that name, for one stage."""

    def __init__(self, rig: Rig, count: int) -> None:
        self._stage, self._n_microbatches = TorchStage(rig), count

    def step(self) -> None:
        for m in range(self._n_microbatches):
            self._stage.forward_one_chunk(m)
            self._stage.backward_one_chunk(m)


def test_a_schedule_of_torch_profiles_itself_and_follows(rig: Rig) -> None:
    """Through its stage's methods; a torchtitan trainer is followed by its pp_schedule; the hooks come off."""
    made = Schedule1F1B(rig, 4)
    trainer = SimpleNamespace(pp_schedule=made)
    with wattline.follow(trainer, held=rig.held, max_slowdown=0.05, waiting_power=100.0, **rig.how) as run:
        for _ in range(8):
            rig.seen.clear()
            made.step()
        assert run.notes == []
        assert run.saving is not None
        assert run.saving > 0.05
        assert {clock for _, clock in rig.seen} != {rig.gpu.speed({"clock": None})}
    assert "step" not in vars(made)
    assert "forward_one_chunk" not in vars(made._stage)


def test_megatrons_functions_are_counted(rig: Rig) -> None:
    """The module's forward_step and backward_step become microbatches 0, 1, ... of the rank's stage."""
    module = ModuleType("schedules")
    module.forward_step = lambda *_: rig.work("forward")  # type: ignore[attr-defined]
    module.backward_step = lambda *_: rig.work("backward")  # type: ignore[attr-defined]
    module.parallel_state = SimpleNamespace(  # type: ignore[attr-defined]
        get_pipeline_model_parallel_rank=lambda: 0, get_pipeline_model_parallel_world_size=lambda: 1
    )
    with wattline.follow(module, held=rig.held, microbatches=3, max_slowdown=0.1, **rig.how) as run:
        for _ in range(8):
            for _ in range(3):
                module.forward_step(1)
                module.backward_step(1)
        assert run.follower is not None
        assert run.notes in ([], ["no device waited long enough to measure its power then: taken as 0 W"])
    with pytest.raises(InputError, match="needs the microbatches"):
        wattline.follow(module, held=rig.held, **rig.how)


def test_other_things_are_refused(rig: Rig) -> None:
    """What is no trainer, and a model without its optimizer, are said."""
    with pytest.raises(InputError, match="follow knows schedules of torch"):
        wattline.follow(object(), held=rig.held, **rig.how)
    with pytest.raises(InputError, match="needs its optimizer"):
        wattline.follow(Model(rig), held=rig.held, **rig.how)
    assert merged([[{"a": 1}], [{"b": 2}]]) == [{"a": 1}, {"b": 2}]
