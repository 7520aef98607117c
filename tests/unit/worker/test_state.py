"""The training state comes back whole: model, optimizer and every generator, whatever drew in between."""

import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch._C._distributed_c10d import HashStore

from ecrl.checkpoint.agreement import Agreement
from ecrl.checkpoint.state_view import Shard, live_leaves
from ecrl.config.train import TrainSettings
from ecrl.worker.state import TrainState, compute_final_digests, make_optimizer


def agree_with_nobody() -> Agreement:
    raise AssertionError("nothing is split, so nothing needs to be agreed on")


def make(optimizer: str) -> tuple[torch.nn.Module, torch.optim.Optimizer, TrainState]:
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.BatchNorm1d(5), torch.nn.Dropout(0.4))
    settings = TrainSettings(steps=10, optimizer="sgd" if optimizer == "sgd" else "adamw", lr=0.05)
    made = make_optimizer(model, settings)
    return model, made, TrainState(model, made, torch.device("cpu"))


def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(model(torch.rand(8, 6)).square().mean())
    optimizer.step()


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_state_made_beforehand_trains_like_the_optimizers_own(name: str) -> None:
    model, optimizer, _ = make(name)
    torch.manual_seed(3)
    lazy_model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.BatchNorm1d(5), torch.nn.Dropout(0.4))
    kind = torch.optim.SGD if name == "sgd" else torch.optim.AdamW
    options = {"momentum": 0.9} if name == "sgd" else {}
    lazy = kind(lazy_model.parameters(), lr=0.05, weight_decay=5e-4, **options)  # type: ignore[arg-type]
    for run_model, run_optimizer in ((model, optimizer), (lazy_model, lazy)):
        torch.manual_seed(11)
        for _ in range(4):
            step(run_model, run_optimizer)
    for ours, theirs in zip(model.parameters(), lazy_model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_loading_the_view_back_gives_the_same_future(name: str) -> None:
    model, optimizer, state = make(name)
    step(model, optimizer)
    view = state.view(1)
    saved = {n: t.clone() for n, t in view.tensors.items()}
    leaves = live_leaves(view)

    def future() -> tuple[dict[str, str], float, float]:
        step(model, optimizer)
        return live_leaves(state.view(2)), random.random(), float(np.random.rand())

    expected = future()
    step(model, optimizer)  # further away
    again = state.view(1)
    for n, t in again.tensors.items():
        t.copy_(saved[n])
    state.load_host_state(view.meta, again.host)
    assert live_leaves(state.view(1)) == leaves
    assert future() == expected


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_what_does_not_train_has_no_optimizer_state_and_is_named_as_frozen(name: str) -> None:
    frozen = torch.nn.Linear(6, 5).requires_grad_(False)
    model = torch.nn.Sequential(frozen, torch.nn.Linear(5, 2))
    made = make_optimizer(model, TrainSettings(steps=10, optimizer="sgd" if name == "sgd" else "adamw", lr=0.05))
    view = TrainState(model, made, torch.device("cpu")).view(0)
    assert view.frozen == {"model/0.weight", "model/0.bias"}
    assert view.select_frozen().tensors.keys() == view.frozen
    assert view.select_changing().tensors.keys() == view.tensors.keys() - view.frozen
    assert not any("/0." in tensor for tensor in view.replicated if tensor.startswith("optimizer/"))
    before = frozen.weight.clone()
    step(model, made)
    assert torch.equal(frozen.weight, before)


def test_a_view_aliases_the_state_and_copies_the_generators() -> None:
    model, _, state = make("sgd")
    view = state.view(0)
    weight = next(model.parameters())
    assert view.replicated["model/0.weight"].data_ptr() == weight.data_ptr()
    before = view.host["own/rng/torch"].clone()
    torch.rand(1)
    assert torch.equal(view.host["own/rng/torch"], before)
    assert all(name.startswith("own/") for name in view.local | view.host)
    assert not any(name.startswith("own/") for name in view.replicated)


def test_the_final_digests_tell_parameters_buffers_and_generators_apart() -> None:
    model, _, state = make("sgd")
    base = compute_final_digests(state.view(1), agree_with_nobody)
    model[1].running_mean.add_(1)  # type: ignore[index]
    buffers = compute_final_digests(state.view(1), agree_with_nobody)
    assert buffers["digest"] != base["digest"]
    assert buffers["params_digest"] == base["params_digest"]
    torch.rand(1)
    assert compute_final_digests(state.view(1), agree_with_nobody)["rng_digest"] != buffers["rng_digest"]


def digest_split(groups: int, rows: dict[int, torch.Tensor]) -> list[dict[str, str]]:
    """The final digests of four ranks that hold these rows of one tensor, split over the ranks of each group."""
    store, states = HashStore(), [make("sgd")[2] for _ in range(4)]
    parts = 4 // groups
    for rank, state in enumerate(states):
        begin = rank % parts * 2
        state._shards = {"w": Shard(rows[rank], (parts * 2, 3), begin, groups, rank // parts)}
    with ThreadPoolExecutor(4) as pool:
        return list(
            pool.map(lambda r: compute_final_digests(states[r].view(1), lambda: Agreement(store, r, 4, 20.0)), range(4))
        )


@pytest.mark.parametrize(("groups", "disagreeing"), [(1, 1), (2, 2), (4, 2)])
def test_a_wrong_row_of_any_rank_shows_in_the_digest_of_rank_0_or_in_ranks_that_disagree(
    groups: int, disagreeing: int
) -> None:
    parts = 4 // groups
    right = {rank: torch.full((2, 3), float(rank % parts)) for rank in range(4)}
    before = digest_split(groups, right)
    assert len({told["params_digest"] for told in before}) == 1, "gate C3"
    after = digest_split(groups, right | {3: right[3] + 1})
    assert len({told["params_digest"] for told in after}) == disagreeing, "gate C3"
    if groups == 1:
        assert after[0]["digest"] != before[0]["digest"], "gate C6"
