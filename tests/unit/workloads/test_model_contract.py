"""What every file of `ecrl/workloads/models/` promises."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from ecrl import plugins
from ecrl.workloads.images.model import ImageModel
from ecrl.workloads.model import Model


@pytest.fixture(params=plugins.names("model"))
def model(request: pytest.FixtureRequest) -> Model:
    if request.param in plugins.find_missing("model", [request.param]):
        pytest.skip(f"{request.param} needs an extra that is not installed")
    plugin = plugins.load("model", request.param)
    assert isinstance(plugin, Model)
    assert plugin.name == request.param
    assert plugin.description
    told = plugins.declared("model", request.param)
    assert {key: getattr(plugin, key) for key in told} == told, "told without importing it"
    assert "task" in told
    assert ("context_length" in told) is (plugin.task == "tokens")
    assert plugin.task in plugins.names("task")
    return plugin


@pytest.fixture
def image_model(model: Model) -> ImageModel:
    if model.task != "images":
        pytest.skip("takes no images")
    assert isinstance(model, ImageModel)
    return model


@pytest.mark.parametrize("num_classes", [10, 100])
def test_it_classifies_32x32_images_and_every_parameter_learns(image_model: ImageModel, num_classes: int) -> None:
    net = image_model.build(num_classes)
    assert net.training
    logits = net(torch.randn(2, 3, 32, 32))
    assert (logits.shape, logits.dtype) == ((2, num_classes), torch.float32)
    # DDP waits for every parameter's gradient
    torch.autograd.backward(nn.functional.cross_entropy(logits, torch.tensor([0, 1])))
    assert all(p.requires_grad and p.grad is not None for p in net.parameters())


def test_the_seed_decides_the_weights(image_model: ImageModel) -> None:
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(image_model.build(10).state_dict())
    assert all(torch.equal(a, b) for a, b in zip(states[0].values(), states[1].values(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(states[0].values(), states[2].values(), strict=True))


def test_its_state_goes_into_another_one(image_model: ImageModel) -> None:
    first, second = image_model.build(10).eval(), image_model.build(10).eval()
    second.load_state_dict(first.state_dict())
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(first(image), second(image))


def test_cnn_has_dropout_and_stays_small() -> None:
    net = plugins.load("model", "cnn").build(10)
    assert {nn.Dropout, nn.BatchNorm2d} <= {type(module) for module in net.modules()}
    assert 100_000 < sum(p.numel() for p in net.parameters()) < 300_000


def test_gpt2_nano_is_small_and_takes_its_whole_context() -> None:
    plugin = plugins.load("model", "gpt2-nano")
    net = plugin.build(256)
    assert sum(p.numel() for p in net.parameters()) == 858_880
    assert net(torch.zeros((1, plugin.context_length), dtype=torch.int64)).shape == (1, 256, 256)


def test_gpt2_nano_sees_no_later_token() -> None:
    net = plugins.load("model", "gpt2-nano").build(256).eval()
    tokens = torch.arange(8)[None]
    changed = tokens.clone()
    changed[0, 5] = 99
    with torch.no_grad():
        one, other = net(tokens), net(changed)
    assert torch.equal(one[:, :5], other[:, :5])
    assert not torch.equal(one[:, 5:], other[:, 5:])


def test_cnn_costs_no_torchvision() -> None:
    script = (
        "import sys\nfrom ecrl import plugins\n"
        "plugins.load('model', 'cnn').build(10)\nprint('torchvision' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_a_resnet_keeps_the_image_whole_through_its_stem(name: str) -> None:
    net = plugins.load("model", name).build(10)
    with torch.no_grad():
        stem = net.get_submodule("maxpool")(net.get_submodule("conv1")(torch.randn(1, 3, 32, 32)))
    assert stem.shape == (1, 64, 32, 32)
