"""The published sizes of GPT-2, on the meta device: their parameters are counted, not allocated."""

import pytest
import torch

from ecrl import plugins
from ecrl.workloads.task import make_model

SIZES = {"gpt2": 124_439_808, "gpt2-medium": 354_823_168, "gpt2-large": 774_030_080, "gpt2-xl": 1_557_611_200}


@pytest.mark.parametrize("name", SIZES)
def test_it_has_the_published_number_of_parameters_whatever_the_data(name: str) -> None:
    pytest.importorskip("transformers", reason="the gpt2 models need the extra `transformers`")
    for dataset in ("python-source", "tokens"):
        with torch.device("meta"):
            net = make_model(dataset, name)
        assert sum(p.numel() for p in net.parameters()) == SIZES[name]
        assert not any(isinstance(module, torch.nn.Dropout) and module.p for module in net.modules())


@pytest.mark.parametrize("name", SIZES)
def test_its_size_follows_from_what_it_declares(name: str) -> None:
    assert plugins.extra("model", name) == ("transformers", "transformers")
    told = plugins.declared("model", name)
    width = told["width"]
    block = 12 * width**2 + 13 * width
    assert told["num_layers"] * block + (50257 + told["context_length"] + 2) * width == SIZES[name]
