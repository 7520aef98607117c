"""CIFAR-100's training split with its fine labels, from the python archive unpacked below the data root."""

from collections.abc import Mapping
from typing import ClassVar

from ecrl.workloads.images.cifar import CifarDataset


class Cifar100(CifarDataset):
    """50,000 images in one file; torchvision verifies the test file and the class names too."""

    name = "cifar100"
    description = "50,000 CIFAR-100 images, 100 classes (the fine labels)"
    num_classes = 100
    mean = (0.50708, 0.48655, 0.44092)
    std = (0.26733, 0.25644, 0.27615)
    folder_name = "cifar-100-python"
    torchvision_class = "CIFAR100"
    how_to_get = (
        "Get it with python -c \"import torchvision; torchvision.datasets.CIFAR100('DIR', download=True)\""
        " and give DIR, which then holds cifar-100-python, as --data-root."
    )
    # Copied from torchvision's class, so a check loads no torch. A test compares the two.
    published_md5: ClassVar[Mapping[str, str]] = {
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
        "meta": "7973b15100ade9c7d40fb424638fde48",
    }


PLUGIN = Cifar100(task="images")
