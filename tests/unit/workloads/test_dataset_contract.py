"""What every file of `ecrl/workloads/datasets/` promises."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ecrl import plugins
from ecrl.errors import DataMissingError
from ecrl.workloads.dataset import Dataset
from ecrl.workloads.images.dataset import ImageDataset
from tests.unit.workloads import cifar_miniature, idx_miniature

NAMES = plugins.names("dataset")


@pytest.fixture(params=NAMES)
def dataset(request: pytest.FixtureRequest) -> Dataset:
    plugin = plugins.load("dataset", request.param)
    assert isinstance(plugin, Dataset)
    assert plugin.name == request.param
    assert plugin.description
    declared = {"synthetic": False} | dict(plugins.declared("dataset", request.param))
    assert declared == {"task": plugin.task, "synthetic": plugin.synthetic}, "told without importing it"
    assert plugin.task in plugins.names("task")
    return plugin


@pytest.fixture
def images(dataset: Dataset) -> ImageDataset:
    if dataset.task != "images":
        pytest.skip("holds no images")
    assert isinstance(dataset, ImageDataset)
    return dataset


@pytest.fixture
def root(dataset: Dataset, tmp_path: Path) -> Path:
    """A data root that holds the data set, a miniature of it where it needs files."""
    if dataset.name in cifar_miniature.FILES:
        cifar_miniature.write(tmp_path, dataset.name)
    elif dataset.needs_root:
        idx_miniature.write(tmp_path, "FashionMNIST/raw")
    return tmp_path


def test_it_loads_images_of_the_promised_kind(images: ImageDataset, root: Path) -> None:
    images.check(root)
    data = images.load(root)
    assert data.name == images.name
    assert data.images.dtype == torch.uint8
    assert data.images.shape == (len(data.labels), 3, 32, 32)
    assert data.images.is_contiguous()
    assert data.labels.dtype == torch.int64
    assert 0 <= int(data.labels.min()) <= int(data.labels.max()) < data.num_classes == images.num_classes
    assert data.synthetic is images.synthetic
    assert data.repacked is images.needs_root, "a miniature is a re-packed copy, an embedded set is not"
    assert all(0 < m < 1 for m in data.mean)
    assert all(0 < s < 1 for s in data.std)


def test_it_loads_the_same_every_time(images: ImageDataset, root: Path) -> None:
    first, second = images.load(root), images.load(root)
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.labels, second.labels)


def test_without_its_files_it_says_where_it_looked_and_what_to_do(dataset: Dataset, tmp_path: Path) -> None:
    if not dataset.needs_root:
        dataset.check(None)
        return
    for root in (None, tmp_path, tmp_path / "nowhere"):
        for ask in (dataset.check, getattr(dataset, "load", dataset.check)):
            with pytest.raises(DataMissingError) as raised:
                ask(root)
            message = str(raised.value)
            assert len(message.splitlines()) <= 3
            assert dataset.name in message
            assert dataset.how_to_get in message
            assert dataset.instead in message
            assert root is None or str(root) in message


def test_a_check_costs_no_torch() -> None:
    # the orchestrator has no torch, and it is the one that must find a missing data set
    script = (
        "import sys\nfrom ecrl import plugins\nfrom ecrl.errors import DataMissingError\n"
        "for name in plugins.names('dataset'):\n"
        "    plugin = plugins.load('dataset', name)\n"
        "    try: plugin.check(None)\n"
        "    except DataMissingError: assert plugin.needs_root\n"
        "print([m for m in ('torch', 'torchvision', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_embedded_sets_constants_are_those_of_its_images(images: ImageDataset) -> None:
    if images.needs_root:
        pytest.skip("a miniature of it has other constants")
    pixels = images.load(None).images.double() / 255
    # fashion-mini is normalised with the constants of the 60,000 images, hence the width
    assert pixels.mean(dim=(0, 2, 3)).tolist() == pytest.approx(images.mean, abs=2e-3)
    assert pixels.std(dim=(0, 2, 3)).tolist() == pytest.approx(images.std, abs=2e-3)
