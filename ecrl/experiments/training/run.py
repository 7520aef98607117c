"""How the orchestrator runs training jobs: the machine's probe, checkpoints on disk, devices, launchers."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ecrl import plugins
from ecrl.config.axes import PLACE_KEY
from ecrl.config.matrix import Matrix
from ecrl.config.recipe import REFERENCE
from ecrl.config.run import RunSpec
from ecrl.config.suite import list_train_settings
from ecrl.experiments.training.memory_plan import check_memory, count_slots
from ecrl.experiments.training.probe import Probe, run_probe
from ecrl.experiments.training.probe_cache import load_probe, save_probe
from ecrl.launch.doctor.finding import Place, Requirements
from ecrl.launch.runs.experiment import DiskUse, Executor, ExperimentKind, Lane, Machine, SuiteGroup, Trial, Work
from ecrl.launch.runs.launcher import LauncherFactory, LauncherPool, load_launcher, load_launcher_plugin
from ecrl.launch.runs.run import Run
from ecrl.launch.runs.run_times import TimeKey
from ecrl.launch.runs.supervisor import Supervisor
from ecrl.launch.system.device_leases import FAKE_VARIABLE, DeviceSet, group_devices, list_cores, list_gpus
from ecrl.launch.system.process_group import watch_end
from ecrl.launch.system.signals import StopRequest
from ecrl.launch.system.wait import QUIET_S, Wait
from ecrl.records.failure_checks import is_ending
from ecrl.records.manifest.store import Row
from ecrl.records.result import Result
from ecrl.units import format_count

# What asks the machine; the last argument is called repeatedly meanwhile.
Ask: TypeAlias = Callable[[Matrix, StopRequest, Callable[[], None]], Probe]
_RUN_BYTES, _STEP_BYTES = 40_000, 150  # of a run's records: in all, and for each step of a rank
_TRIAL_STEPS = 4
_WARMUP_EVERY = 10  # steps between two checkpoints of a warm-up: 1,000 long steps would be no short run


class TrainingMachine(Machine):
    """A machine as the probe describes it."""

    def __init__(self, probe: Probe) -> None:
        super().__init__(probe.facts)
        self._probe = probe

    def device(self, wanted: str) -> str:
        """See `Machine.device`. `auto` means cuda if there is a GPU, else cpu."""
        return self._probe.device(wanted)

    def check(self, matrix: Matrix) -> None:
        """See `Probe.check` and `check_memory`."""
        self._probe.check(matrix)
        check_memory(matrix, self._probe)

    def save(self, path: Path, matrix: Matrix) -> None:
        """See `save_probe`."""
        save_probe(path, self._probe, matrix)

    def compute_requirements(self, matrix: Matrix, disk_bytes: int = 0) -> Requirements:
        """See `Machine.compute_requirements`."""
        every, run = list_train_settings(matrix), matrix.run
        device = self.device(run.device)
        return Requirements(
            device=device,
            gpus=tuple(run.gpus),
            nproc=max(train.nproc for train in every) * run.jobs,
            threads=max(train.nproc * train.threads for train in every) * run.jobs,
            slots=count_slots(matrix, max(matrix.matrix.max_inflight), on_gpus=device == "cuda") * run.jobs,
            checkpoint_bytes=max(self._probe.state_bytes.values(), default=0),
            disk_bytes=disk_bytes,
            forks=any(load_launcher_plugin(train.launcher).forks_warm for train in every),
            nccl=any(train.get_backend(device) == "nccl" for train in every),
            places=tuple(_list_places(matrix)),
        )

    def compute_disk_use(self, matrix: Matrix, groups: Sequence[SuiteGroup]) -> DiskUse:
        """The bytes of the checkpoints and records that the runs write."""
        keep = matrix.checkpoint_settings.keep
        written = kept = peak = records = 0
        for group in groups:
            suite, (saving, boundaries) = group.suite, _count_saving(group)
            state_bytes = self._probe.state_bytes.get(f"{suite.dataset}/{suite.model}", 0)  # a script's is unknown
            written += saving * boundaries * state_bytes
            kept += saving * min(1, boundaries) * state_bytes if matrix.run.keep_final else 0
            runs = group.number * sum(group.runs.values())
            records += runs * (_RUN_BYTES + suite.train.steps * suite.train.nproc * _STEP_BYTES)
            if saving:  # the checkpoints that a run keeps, plus those it is writing
                at_once = min(matrix.run.jobs, group.number)
                peak = max(peak, at_once * min(keep + suite.max_inflight, boundaries) * state_bytes)
        return DiskUse(written, kept, peak, "lower checkpoint.keep", records)

    def list_device_sets(self, matrix: Matrix) -> list[DeviceSet]:
        """See `list_device_sets`."""
        return list_device_sets(matrix, len(self._probe.gpus))


def _list_places(matrix: Matrix) -> Iterator[Place]:
    """The folders for checkpoints that the matrix names."""
    own = matrix.checkpoint_settings
    spare = bool(own.fallback_dirs)
    for folder in matrix.axes.get(PLACE_KEY, [own.dir]):
        if folder is not None:
            yield Place(PLACE_KEY, Path(str(folder)), spare)
    yield from (Place("checkpoint.fallback_dirs", Path(folder), spare) for folder in own.fallback_dirs)


def list_device_sets(matrix: Matrix, num_gpus: int, environment: Mapping[str, str] = os.environ) -> list[DeviceSet]:
    """The disjoint device sets of this machine for runs of this matrix, in order.

    num_gpus: how many PyTorch sees. Each set is as wide as the widest run; devices that do not fill a set are not used.
    """
    settings = list_train_settings(matrix)
    num_ranks = max(train.nproc for train in settings)
    if environment.get(FAKE_VARIABLE):
        return group_devices(list_cores(environment), num_ranks)
    if matrix.run.device == "cuda":
        visible = [name for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        names = [*map(str, matrix.run.gpus)] or visible or [*map(str, range(num_gpus))]
        return group_devices(list_gpus(names), num_ranks)
    return group_devices(list_cores(environment), max(train.nproc * train.threads for train in settings))


def _count_saving(group: SuiteGroup) -> tuple[int, int]:
    """The number of runs that write checkpoints, and how many checkpoints each of them writes."""
    saving = group.number * (sum(group.runs.values()) - group.runs.get(REFERENCE, 0))
    return saving, group.suite.train.steps // group.suite.checkpoint_every


def _count_replayed_steps(failure_step: int | str, every: int) -> int:
    """The least number of steps that a failure at this place makes the run repeat.

    failure_step: as `ecrl.records.failure_checks.format_failure_step` formats it.
    """
    if isinstance(failure_step, int):
        return failure_step % every
    return every if failure_step.endswith(("@staging", "@persist", "@commit")) else 0


class _Torchrun(Executor):
    """Runs torchrun jobs under a supervisor, with the launchers that the runs name."""

    def __init__(self, lane: Lane, make_launcher: LauncherFactory) -> None:
        self._lane = lane
        self._launchers = LauncherPool(lane.lease, make_launcher)

    def execute(self, run: Run) -> Result | None:
        """See `Supervisor.run`."""
        lane, launcher = self._lane, self._launchers.get_launcher(run)
        supervisor = Supervisor(
            launcher, lane.campaign, lane.observer, lane.stop, lane.facts, lane.timeout_s, lane.stall_timeout_s
        )
        return supervisor.run(run)

    def close(self) -> None:
        """Close the launchers."""
        lane = self._lane
        self._launchers.close(watch_end("the launchers to end", lane.observer.note, lambda: lane.stop.now, QUIET_S))


@dataclass(frozen=True)
class Training(ExperimentKind):
    """Torchrun jobs. ask and make_launcher: the probe and the launchers; tests replace them. tries: whether runs can be
    tried."""

    ask: Ask = run_probe
    make_launcher: LauncherFactory = load_launcher
    tries: bool = True

    def require_packages(self, matrix: Matrix) -> None:
        """Raise if the package of an engine or a model is not installed."""
        plugins.require("engine", matrix.engines, "variant")
        plugins.require("model", matrix.matrix.models, "model")

    def inspect_machine(
        self, matrix: Matrix, stored: Path | None, note: Callable[[str], None], stop: StopRequest
    ) -> Machine:
        """The stored answer of the probe if it still holds, else a new one."""
        probe = None if stored is None else load_probe(stored, matrix)
        if probe is None:
            note("checking data, models and device...")
            wait = Wait(lambda: "the check, which imports PyTorch and reads the data", note)
            probe = self.ask(matrix, stop, wait.look)
        return TrainingMachine(probe)

    def count_work(self, groups: Sequence[SuiteGroup]) -> Work:
        """Steps and checkpoints.

        replayed_steps: a lower bound, from failures inside a checkpoint interval. steps: without those.
        """
        steps = replayed = checkpoints = 0
        for group in groups:
            suite, (saving, boundaries) = group.suite, _count_saving(group)
            steps += suite.train.steps * group.number * sum(group.runs.values())
            replayed += saving * sum(
                _count_replayed_steps(failure_step, suite.checkpoint_every)
                for failure_step, planned in zip(suite.failure_steps, suite.failures, strict=True)
                if is_ending(planned)
            )
            checkpoints += saving * boundaries
        again = f" and at least {replayed} replayed" if replayed else ""
        return Work(
            {"steps": steps, "replayed_steps": replayed, "checkpoints": checkpoints},
            f"{format_count(steps, 'step')}{again}; {format_count(checkpoints, 'checkpoint')}",
        )

    def build_time_key(self, of: RunSpec | Row, variant: str) -> TimeKey:
        """See `ExperimentKind.build_time_key`."""
        return of.dataset, of.model, variant

    def build_warm_up(self, spec: RunSpec, checkpoints: int) -> RunSpec:
        """The run without its failures, and with checkpoints often enough for a short one."""
        every = max(1, min(spec.checkpoint_every, _WARMUP_EVERY, spec.train.steps // checkpoints))
        return dataclasses.replace(spec, failures=(), checkpoint_every=every)

    def build_trial(self, spec: RunSpec) -> RunSpec | None:
        """The reference of the run: what checkpoints cost is what a campaign is to find out."""
        train = dataclasses.replace(spec.train, steps=min(spec.train.steps, _TRIAL_STEPS))
        own = dataclasses.replace(spec.checkpoint, dir=None, fallback_dirs=())
        plain = dataclasses.replace(spec, train=train, checkpoint=own, variant=REFERENCE, recipe=None, failures=())
        of_all = dataclasses.replace(plain, checkpoint_every=train.steps, max_inflight=1, axes={}, block_order=())
        return dataclasses.replace(of_all, block_position=0) if self.tries else None

    def estimate_s(self, group: SuiteGroup, trial: Trial) -> float:
        """Every run starts and makes its steps; those that save start again after failures, and repeat steps."""
        suite, (saving, _) = group.suite, _count_saving(group)
        ending = [
            failure_step
            for failure_step, planned in zip(suite.failure_steps, suite.failures, strict=True)
            if is_ending(planned)
        ]
        replayed = sum(_count_replayed_steps(step, suite.checkpoint_every) for step in ending)
        # The agent of a cold run loads PyTorch before its ranks do, and stays when they are started again.
        restart_s = 0.0 if load_launcher_plugin(suite.train.launcher).forks_warm else trial.start_s / 2
        each = trial.start_s + suite.train.steps * trial.step_s
        again = saving * (len(ending) * restart_s + replayed * trial.step_s)
        return group.number * sum(group.runs.values()) * each + again

    def make_executor(self, lane: Lane) -> Executor:
        """An executor that starts torchrun."""
        return _Torchrun(lane, self.make_launcher)


PLUGIN = Training()
