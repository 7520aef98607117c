"""What every task promises, over every data set and model that are made for it; and how the three find each other."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ecrl import plugins
from ecrl.config.task_fit import explain_unfit_pair, find_unfit_pairs, is_fitting_pair
from ecrl.workloads.task import Task, TaskSettings, load_task, make_model
from tests.errors import raises
from tests.plugin_folder import added_member

EMBEDDED = [name for name in plugins.names("dataset") if not plugins.load("dataset", name).needs_root]
# Those with an extra are too large to be made here: tests/unit/workloads/text/test_gpt2.py.
MODELS = [name for name in plugins.names("model") if plugins.extra("model", name) is None]
PAIRS = [(d, m) for d in EMBEDDED for m in MODELS if is_fitting_pair(d, m)]
ODD = "import a_module_that_is_not_there\nPLUGIN = a_module_that_is_not_there.Thing(task='odd')\n"


def settings(rank: int = 0, world_size: int = 1, batch_size: int = 2) -> TaskSettings:
    return TaskSettings(
        batch_size=batch_size,
        sequence_length=16,
        augment=True,
        seed=3,
        rank=rank,
        world_size=world_size,
        device=torch.device("cpu"),
    )


def get_tensors(batch: object) -> list[torch.Tensor]:
    return [value for value in vars(batch).values() if isinstance(value, torch.Tensor)]


def test_every_task_is_one_that_some_embedded_data_set_and_some_model_are_for() -> None:
    assert {plugins.load("dataset", dataset).task for dataset, _ in PAIRS} == set(plugins.names("task"))
    assert all(issubclass(plugins.load("task", name), Task) for name in plugins.names("task"))


@pytest.mark.parametrize(("dataset", "model"), PAIRS)
def test_a_step_of_training_reaches_every_parameter(dataset: str, model: str) -> None:
    task = load_task(dataset, model, settings())
    torch.manual_seed(1)
    net = task.build_model()
    loss = task.loss(net, task.batch(1))
    assert (loss.shape, loss.dtype) == ((), torch.float32)
    torch.autograd.backward(loss)
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize(("dataset", "model"), PAIRS)
def test_its_model_is_built_without_data_and_alike(dataset: str, model: str) -> None:
    with torch.device("meta"):
        sizes = {name: tensor.shape for name, tensor in make_model(dataset, model).state_dict().items()}
    built = load_task(dataset, model, settings()).build_model().state_dict()
    assert {name: tensor.shape for name, tensor in built.items()} == sizes


@pytest.mark.parametrize("dataset", EMBEDDED)
def test_batches_are_a_function_of_the_step_and_the_rank(dataset: str) -> None:
    model = next(m for d, m in PAIRS if d == dataset)
    first = load_task(dataset, model, settings())
    assert first.num_samples > 10
    seen = {step: first.batch(step) for step in (1, 2, 9)}
    assert len({batch.ids_digest for batch in seen.values()}) == 3
    for step in (9, 1):  # another process, another order
        again = load_task(dataset, model, settings()).batch(step)
        assert again.ids_digest == seen[step].ids_digest
        for one, other in zip(get_tensors(again), get_tensors(seen[step]), strict=True):
            assert torch.equal(one, other)
    parts = [load_task(dataset, model, settings(rank, 2, batch_size=1)).batch(2) for rank in range(2)]
    for whole, *split in zip(get_tensors(seen[2]), *map(get_tensors, parts), strict=True):
        assert torch.equal(whole, torch.cat(split))
    with pytest.raises(ValueError, match="step 0"):
        first.batch(0)


@pytest.fixture
def odd(tmp_path: Path) -> Iterator[None]:
    """A data set and a model of a task that images are none of; whoever imports them fails."""
    with (
        added_member(tmp_path / "d", "dataset", "odd-set", ODD),
        added_member(tmp_path / "m", "model", "odd-model", ODD),
    ):
        yield


@pytest.mark.usefixtures("odd")
def test_pairs_of_different_tasks_are_found_by_their_declarations_alone() -> None:
    datasets, models = ["fashion-mini", "odd-set", "no-such-set"], ["odd-model", "cnn", "no-such-model"]
    assert find_unfit_pairs(datasets, models) == [("fashion-mini", "odd-model"), ("odd-set", "cnn")]
    explained = explain_unfit_pair("fashion-mini", "odd-model")
    assert "'odd'" in explained
    assert "'images'" in explained
    assert '[[exclude]] with model = "odd-model" and dataset = "fashion-mini"' in explained


@pytest.mark.parametrize(("dataset", "model"), PAIRS)
def test_its_example_has_the_shapes_of_a_batch_of_one(dataset: str, model: str) -> None:
    task = load_task(dataset, model, settings(batch_size=1))
    for one, other in zip(get_tensors(task.make_example(16)), get_tensors(task.batch(1)), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)


def test_a_worker_refuses_a_pair_of_different_tasks(tmp_path: Path) -> None:
    odd = "from ecrl.workloads.model import Model\nPLUGIN = type('Odd', (Model,), {})(task='tokens')\n"
    with added_member(tmp_path, "model", "odd", odd):
        for refused in (lambda: load_task("noise", "odd", settings()), lambda: make_model("noise", "odd")):
            with raises("ECRL-218", "'noise'", "'images'", "'odd'", "'tokens'"):
                refused()
