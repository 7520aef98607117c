"""The footprint of a model is what a real step of it takes."""

import pytest
import torch

from ecrl.worker import footprint
from ecrl.worker.footprint import describe_footprint
from ecrl.workloads.task import load_class, make_model

PAIRS = [("noise", "cnn"), ("noise", "vit-tiny"), ("python-source", "gpt2-nano")]


@pytest.mark.parametrize(("dataset", "model"), PAIRS)
def test_it_is_that_of_a_real_step(dataset: str, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footprint, "_SMALL_BYTES", 0)
    task, net = load_class(dataset, model), make_model(dataset, model)
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        task.loss(net, task.make_example(16))
    own = {t.untyped_storage().data_ptr() for t in [*net.parameters(), *net.buffers()]}
    real = sum(t.untyped_storage().nbytes() for key, t in kept.items() if key not in own)
    told = describe_footprint(dataset, model, 16)
    assert told["parameters"] == sum(p.nbytes for p in net.parameters())
    assert told["buffers"] == sum(b.nbytes for b in net.buffers())
    assert told["activations"] == pytest.approx(real, rel=0.05)


def test_activations_of_a_small_model_are_not_traced() -> None:
    assert describe_footprint("noise", "cnn", 16)["activations"] is None


def test_a_step_of_gpt2_is_traced_without_its_half_gigabyte() -> None:
    pytest.importorskip("transformers", reason="the gpt2 models need the extra `transformers`")
    told = describe_footprint("tokens", "gpt2", 8)
    assert told["parameters"] == 4 * 124_439_808
    assert told["activations"] is not None
    assert told["activations"] > 8 * 50257 * 4, "the logits at least"
