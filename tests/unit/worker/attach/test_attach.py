"""`ecrl.attach` without a campaign: what dies goes on where its newest checkpoint left it, bit by bit."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import ecrl
from ecrl import plugins
from ecrl.errors import EcrlError
from ecrl.storage import commit
from ecrl.worker.attach import start
from tests.unit.worker.attach.loops import EVERY, STEPS, train

KINDS = ["plain", "scheduler", "scaler", "average", "two_optimizers", "lbfgs"]
ENGINES = [name for name in plugins.names("engine") if plugins.declared("engine", name).get("late_state")]


@pytest.fixture(autouse=True)
def _close_the_job() -> Iterator[None]:
    yield
    if start._newest and (job := start._newest[0]()) is not None:
        job.is_open = False  # of a loop that a test left


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_loop_that_lost_steps_ends_as_if_it_had_not(kind: str, engine: str, tmp_path: Path) -> None:
    _, undisturbed = train(kind, tmp_path / "whole", engine)
    assert train(kind, tmp_path / "stopped", engine, stop_in=5)[0] == [1, 2, 3, 4]
    assert train(kind, tmp_path / "stopped", engine, stop_in=11)[0] == [4, 5, 6, 7, 8, 9, 10]  # from restored state
    done, digest = train(kind, tmp_path / "stopped", engine)
    assert done == [10, 11, 12]
    assert digest == undisturbed


def test_a_finished_loop_does_nothing_and_keeps_its_checkpoints(tmp_path: Path) -> None:
    _, digest = train("plain", tmp_path, "overlapped")
    kept = commit.list_committed_steps(tmp_path)
    assert kept == [STEPS - EVERY, STEPS]
    assert train("plain", tmp_path, "overlapped") == ([], digest)
    assert commit.list_committed_steps(tmp_path) == kept
    assert {commit.verify(tmp_path, step, run="attach", world_size=1).state for step in kept} == {"valid"}


def test_the_last_step_is_saved_even_if_no_checkpoint_is_due(tmp_path: Path) -> None:
    model, optimizer = _make()
    for _ in ecrl.attach(model, optimizer, steps=4, every=3, root=tmp_path):
        _step(model, optimizer)
    assert commit.list_committed_steps(tmp_path) == [3, 4]


def test_a_loop_of_another_library_calls_the_parts_of_a_job(tmp_path: Path) -> None:
    model, optimizer = _make()
    job = ecrl.attach(model, optimizer, steps=2, root=tmp_path)
    assert job.start() == 0
    for _ in range(2):
        _step(model, optimizer)
        job.end_step()
    with pytest.raises(EcrlError, match="after the last step") as caught:
        job.end_step()
    assert caught.value.code == "ECRL-650"
    job.end()
    assert commit.list_committed_steps(tmp_path) == [2]


def _make() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Linear(3, 2)
    return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def _step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()


def _forget_a_parameter(model: nn.Module) -> dict[str, Any]:
    return {"optimizer": torch.optim.SGD([next(model.parameters())], lr=0.1)}


def _update_in_backward(model: nn.Module) -> dict[str, Any]:
    next(model.parameters()).register_post_accumulate_grad_hook(lambda _parameter: None)  # type: ignore[no-untyped-call]
    return {}


def _use_complex_numbers(model: nn.Module) -> dict[str, Any]:
    model.register_buffer("phase", torch.zeros(2, dtype=torch.complex64))
    return {}


class _Unsavable:
    def state_dict(self) -> dict[str, Any]:
        return {"file": Path("a")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        raise AssertionError(state)


BAD: dict[str, tuple[Callable[[nn.Module], dict[str, Any]], str, str]] = {
    "a parameter in no optimizer": (_forget_a_parameter, "ECRL-651", "bias can be trained"),
    "an optimizer in backward": (_update_in_backward, "ECRL-653", "weight may be updated during backward"),
    "complex numbers": (_use_complex_numbers, "ECRL-655", "own/buffers/phase: safetensors cannot hold"),
    "an object in a state": (
        lambda _: {"extra": {"it": _Unsavable()}},
        "ECRL-655",
        "own/extra/it/file: found PosixPath",
    ),
    "an engine of another format": (lambda _: {"engine": "torch-save"}, "ECRL-660", "found 'torch-save'"),
    "an engine that does not exist": (lambda _: {"engine": "overlaped"}, "ECRL-291", "Did you mean 'overlapped'"),
    "no step between checkpoints": (lambda _: {"every": 0}, "ECRL-650", "every: found 0"),
    "no steps": (lambda _: {"steps": 0}, "ECRL-650", "steps: found 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_saved_is_refused_before_the_first_step(case: str, tmp_path: Path) -> None:
    change, code, text = BAD[case]
    model, optimizer = _make()
    given: dict[str, Any] = {"optimizer": optimizer, "steps": 3, "root": tmp_path, **change(model)}
    with pytest.raises(EcrlError) as caught:
        ecrl.attach(model, **given)
    assert (caught.value.code, text in str(caught.value)) == (code, True), str(caught.value)
    assert not list(tmp_path.iterdir())


def _add_a_parameter(model: nn.Module, _optimizer: torch.optim.Optimizer) -> None:
    model.register_parameter("late", nn.Parameter(torch.zeros(2)))


def _add_a_group(_model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))]})


@pytest.mark.parametrize("change", [_add_a_parameter, _add_a_group])
def test_parameters_that_come_later_end_the_loop(
    change: Callable[[nn.Module, torch.optim.Optimizer], None], tmp_path: Path
) -> None:
    model, optimizer = _make()
    loop = iter(ecrl.attach(model, optimizer, steps=3, every=1, root=tmp_path))
    next(loop)
    _step(model, optimizer)
    change(model, optimizer)
    with pytest.raises(EcrlError, match=r"after ecrl\.attach") as caught:
        next(loop)
    assert caught.value.code == "ECRL-659"


def test_a_second_loop_must_wait_for_the_end_of_the_first(tmp_path: Path) -> None:
    model, optimizer = _make()
    job = ecrl.attach(model, optimizer, steps=1, root=tmp_path)
    with pytest.raises(EcrlError, match="a second time") as caught:
        ecrl.attach(model, optimizer, steps=1, root=tmp_path)
    assert caught.value.code == "ECRL-654"
    for _ in job:
        _step(model, optimizer)
    ecrl.attach(model, optimizer, steps=1, root=tmp_path).close()


def test_the_checkpoint_of_another_script_is_refused(tmp_path: Path) -> None:
    train("scheduler", tmp_path, "blocking")
    with pytest.raises(Exception, match=r"of another script: it has the state of .*scheduler") as caught:
        train("plain", tmp_path, "blocking")
    assert caught.type.__name__ == "ForeignCheckpointError"


def test_ranks_without_a_process_group_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    model, optimizer = _make()
    with pytest.raises(EcrlError, match="no process group in a job of 2 ranks") as caught:
        ecrl.attach(model, optimizer, steps=1, root=tmp_path)
    assert caught.value.code == "ECRL-656"
