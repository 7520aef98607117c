"""A model of which a part does not train resumes bit for bit, and a checkpoint does not write that part again."""

from pathlib import Path

import pytest
import torch

from ecrl import plugins
from ecrl.checkpoint.agreement import Agreement
from ecrl.checkpoint.engine import Engine, NoCheckpoints
from ecrl.config.train import TrainSettings
from ecrl.failures.injector import NoFailures
from ecrl.records.recorder import Recorder
from ecrl.selftest.drill import engine_context
from ecrl.worker.build import TrainingJob, assemble, build_model, seed_generators
from ecrl.worker.loop import train
from ecrl.worker.state import compute_final_digests
from ecrl.workloads.task import Task, TaskSettings, load_task

CPU = torch.device("cpu")
LAST, EVERY = 10, 4


@pytest.fixture(scope="module")
def task() -> Task:
    settings = TaskSettings(batch_size=4, sequence_length=16, augment=True, seed=1, rank=0, world_size=1, device=CPU)
    return load_task("noise", "cnn", settings)


def make_job(task: Task, seed: int) -> TrainingJob:
    model = build_model(task, seed, CPU)
    for number, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(number % 2 == 0)
    return assemble(task, CPU, model, model, TrainSettings(steps=LAST, optimizer="adamw"))


def run(job: TrainingJob, engine: Engine, last: int) -> dict[str, str]:
    """The digests of the state after `last`, from the newest checkpoint on."""

    def agree_with_nobody() -> Agreement:
        raise AssertionError("one rank holds everything")

    engine.prepare()
    seed_generators(1, 0)
    begin = engine.restore().step
    train(
        settings=TrainSettings(steps=last, lr=0.01, schedule="constant", precision="bf16", accumulate=2),
        job=job, engine=engine, failures=NoFailures(), begin=begin, record_step=lambda *_: None,
    )  # fmt: skip
    return compute_final_digests(job.state.view(last), agree_with_nobody)


@pytest.mark.parametrize("engine", ["blocking", "overlapped", "torch-save"])
def test_a_resume_ends_with_the_bits_of_the_uninterrupted_run(task: Task, tmp_path: Path, engine: str) -> None:
    recorder = Recorder(Path("/dev/null"))

    def make_engine(job: TrainingJob) -> Engine:
        made: Engine = plugins.load("engine", engine).build(engine_context(job, tmp_path, recorder, EVERY))  # type: ignore[arg-type]
        return made

    whole = make_job(task, 7)
    expected = run(whole, NoCheckpoints(engine_context(whole, tmp_path, recorder)), LAST)  # type: ignore[arg-type]
    cut, resumed = make_job(task, 7), make_job(task, 8)  # the frozen weights come from the checkpoint as well
    run(cut, make_engine(cut), LAST - 1)
    assert run(resumed, make_engine(resumed), LAST) == expected
    recorder.close()
