"""What every file of `ecrl/worker/parallel/` promises: the wrapped model trains as the model itself does."""

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore

from ecrl import plugins
from ecrl.checkpoint.agreement import Agreement
from ecrl.config.train import TrainSettings
from ecrl.worker.build import assemble, build_model
from ecrl.worker.parallelism import Group, Parallelism
from ecrl.worker.state import compute_final_digests
from ecrl.workloads.task import Task, TaskSettings, load_task

CPU = torch.device("cpu")
NAMES = plugins.names("parallelism")


@pytest.fixture
def process_group_of_one() -> Iterator[None]:
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def task() -> Task:
    settings = TaskSettings(batch_size=4, sequence_length=16, augment=False, seed=1, rank=0, world_size=1, device=CPU)
    return load_task("noise", "cnn", settings)


def agree_with_nobody() -> Agreement:
    raise AssertionError("one rank holds everything")


def train(task: Task, model: torch.nn.Module, wrapped: torch.nn.Module) -> dict[str, str]:
    """Digests of the state after two steps."""
    job = assemble(task, CPU, model, wrapped, TrainSettings(steps=2, optimizer="adamw", lr=0.01))
    for step in (1, 2):
        torch.manual_seed(step)  # dropout
        loss = job.task.loss(job.model, job.task.batch(step))
        job.optimizer.zero_grad()
        torch.autograd.backward(loss)
        job.optimizer.step()
    return compute_final_digests(job.state.view(2), agree_with_nobody)


@pytest.mark.usefixtures("process_group_of_one")
@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_one_rank_trains_as_the_model_alone_does_and_its_state_has_the_same_names(
    task: Task, name: str, deterministic: bool
) -> None:
    plugin = plugins.load("parallelism", name)
    assert isinstance(plugin, Parallelism)
    assert plugin.description
    alone, model = build_model(task, 7, CPU), build_model(task, 7, CPU)
    wrapped = plugin.wrap(model, Group(device=CPU, world_size=1, deterministic=deterministic, shard_ranks=1))
    assert train(task, model, wrapped) == train(task, alone, alone)
