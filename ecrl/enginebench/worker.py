"""One rank of a bench of checkpoint engines, inside torchrun: `python -m ecrl.enginebench.worker FOLDER`.

The variants take turns in one process, with the same model and optimizer. Each turn (segment) is a small job: a new
engine prepares, restores its newest checkpoint, trains in the production loop and drains. `events-0-<rank>.jsonl`
receives the raw facts, each with its segment. The numbers are computed from them later.
"""

import dataclasses
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from ecrl import plugins
from ecrl.checkpoint.engine import Engine, EnginePlugin
from ecrl.config.run import RunSpec
from ecrl.enginebench import gauges
from ecrl.enginebench.gauges import CopyFloor, FsyncCounter
from ecrl.enginebench.plan import REFERENCE, BenchPlan, Segment
from ecrl.failures.injector import NoFailures
from ecrl.records.clock import now_ns
from ecrl.records.paths import RunPaths
from ecrl.records.recorder import Recorder
from ecrl.worker.build import TrainingJob, build, build_engine, seed_generators
from ecrl.worker.leave import leave
from ecrl.worker.loop import train
from ecrl.worker.rank_info import RankInfo, read_rank_info

EXIT_REFUSED = 86
_FLOOR_SAMPLES = 5  # per segment


class RefusedError(Exception):
    """This machine cannot measure the requested numbers."""


class TaggedRecorder(Recorder):
    """Adds the segment to every event."""

    def __init__(self, path: Path, segment: int) -> None:
        super().__init__(path)
        self._segment = segment

    def event(self, kind: str, /, *, t: int | None = None, **fields: Any) -> None:
        super().event(kind, t=t, segment=self._segment, **fields)


class Bench:
    """The variants' turns on one rank."""

    def __init__(self, folder: Path, rank_info: RankInfo, recorder: Recorder) -> None:
        self._folder, self._rank_info, self._recorder = folder, rank_info, recorder
        self._plan = BenchPlan.read(folder)
        spec = RunSpec.read(RunPaths(folder).spec)
        self._spec = dataclasses.replace(spec, device=usable_device(spec.device, spec.train.nproc))
        self._fsyncs = FsyncCounter()
        self._job: TrainingJob = build(self._spec, rank_info, recorder)
        seed_generators(spec.seed, rank_info.rank)
        self._floor = CopyFloor(self._job.state.view(0), self._job.device)

    def run(self) -> None:
        """Run every segment of the plan, in order."""
        self._recorder.event(
            "bench",
            device=device_name(self._job.device),
            torch=torch.__version__,
            state_bytes=self._floor.bytes,
            promises={name: self._read_plugin_facts(name) for name in self._plan.variants if name != REFERENCE},
        )
        self._fsyncs.install()
        for segment in self._plan.segments(self._spec.checkpoint_every):
            self._turn(segment)
        dist.destroy_process_group()

    def _read_plugin_facts(self, name: str) -> dict[str, Any]:
        plugin: EnginePlugin = plugins.load("engine", name)
        return {key: getattr(plugin, key) for key in ("description", "durable", "verified", "exact", "limits")}

    def _turn(self, segment: Segment) -> None:
        recorder = TaggedRecorder(RunPaths(self._folder).events(0, self._rank_info.rank), segment.index)
        gauges.release_free_memory()
        floor_ns = [self._floor.sample_ns() for _ in range(_FLOOR_SAMPLES)]
        self._warm_up(segment)
        before = gauges.resident_bytes()
        engine = self._engine(segment, recorder)
        engine.prepare()
        engine.restore()
        gauges.release_free_memory()  # memory used for loading must not count as memory used for saving
        peak_known = gauges.reset_peak()
        self._fsyncs.take_count()
        begun, trained = self._train(segment, engine, recorder)
        recorder.event(
            "segment",
            t0=begun,
            t_trained=trained,
            round=segment.round,
            variant=segment.variant,
            fsyncs=self._fsyncs.take_count(),
            rss_before_bytes=before,
            peak_bytes=gauges.peak_bytes() if peak_known else None,
            floor_ns=floor_ns,
        )
        recorder.close()

    def _engine(self, segment: Segment, recorder: Recorder) -> Engine:
        # Topics of agreement are used once per attempt, so each segment is an attempt for the store.
        rank_info = dataclasses.replace(self._rank_info, attempt=segment.index)
        spec = dataclasses.replace(self._spec, variant=segment.variant)
        paths = RunPaths(self._folder / "engines" / segment.variant)
        paths.folder.mkdir(parents=True, exist_ok=True)
        return build_engine(spec, paths, rank_info, recorder, self._job)

    def _warm_up(self, segment: Segment) -> None:
        """Train one unrecorded step without checkpoints."""
        # The caches and the allocator no longer hold the data of training.
        unrecorded = Recorder(Path("/dev/null"))
        plain = self._engine(dataclasses.replace(segment, variant=REFERENCE), unrecorded)
        self._steps(segment.begin - 1, segment.begin, plain, unrecorded)
        unrecorded.close()

    def _train(self, segment: Segment, engine: Engine, recorder: Recorder) -> tuple[int, int]:
        """Run the timed part. Returns its begin and the end of its last step, nearly simultaneous on all ranks."""
        last = segment.begin + self._plan.saves * self._spec.checkpoint_every
        self._synchronize()
        dist.barrier()
        begun = now_ns()
        return begun, self._steps(segment.begin, last, engine, recorder)

    def _steps(self, begin: int, last: int, engine: Engine, recorder: Recorder) -> int:
        """Train from step `begin` + 1 to `last` and drain. Returns the stamp at which the device had done `last`."""
        end = _LastStep(last, self._synchronize)
        train(
            settings=dataclasses.replace(self._spec.train, steps=last),
            job=self._job,
            engine=engine,
            failures=end,
            begin=begin,
            record_step=lambda step, begun, *_: recorder.event("step", s=step, t0=begun),
        )
        return end.stamp

    def _synchronize(self) -> None:
        if self._job.device.type != "cpu":
            torch.accelerator.synchronize(self._job.device)


class _LastStep(NoFailures):
    """An injector without failures that stamps the end of a step, including its checkpoint call."""

    def __init__(self, step: int, complete: Callable[[], None]) -> None:
        super().__init__()
        self._step, self._complete_step = step, complete
        self.stamp = 0

    def after_step(self, step: int) -> None:
        if step == self._step:
            self._complete_step()
            self.stamp = now_ns()


def usable_device(wanted: str, num_ranks: int) -> str:
    """The device to use: `wanted`, or the choice for `auto`.

    Raises:
        RefusedError: there are too few GPUs, or only a stand-in for one, whose times mean nothing.
    """
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda":
        names = [torch.cuda.get_device_name(gpu) for gpu in range(torch.cuda.device_count())]
        if standin := next((name for name in names if "FakeCUDA" in name), None):
            raise RefusedError(f"found the device {standin!r}, a stand-in: its times mean nothing. Type --device cpu.")
        if len(names) < num_ranks:
            raise RefusedError(f"found {len(names)} GPUs for {num_ranks} ranks. Lower --nproc, or type --device cpu.")
    return wanted


def device_name(device: torch.device) -> str:
    """The GPU's name, or cpu."""
    return "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device)


def main() -> int:
    """Run this rank's part. Returns the exit code. Refusals and errors are recorded for the orchestrator."""
    folder, rank_info = Path(sys.argv[1]), read_rank_info()
    recorder = Recorder(RunPaths(folder).events(0, rank_info.rank))
    try:
        Bench(folder, rank_info, recorder).run()
    except RefusedError as refusal:
        recorder.event("refused", reason=str(refusal))
        return EXIT_REFUSED
    except Exception as error:
        recorder.event(
            "error", type=type(error).__name__, message=str(error)[:2000], trace=traceback.format_exc()[-8000:]
        )
        raise
    recorder.event("end")
    return 0


if __name__ == "__main__":
    leave(main())
