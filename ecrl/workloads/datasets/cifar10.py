"""CIFAR-10's training split, from the python archive unpacked below the data root."""

from collections.abc import Mapping
from typing import ClassVar

from ecrl.workloads.images.cifar import CifarDataset


class Cifar10(CifarDataset):
    """50,000 images in five batch files; torchvision verifies the test batch and the class names too."""

    name = "cifar10"
    description = "50,000 CIFAR-10 images, 10 classes"
    num_classes = 10
    mean = (0.49140, 0.48216, 0.44653)
    std = (0.24703, 0.24349, 0.26159)
    folder_name = "cifar-10-batches-py"
    torchvision_class = "CIFAR10"
    how_to_get = (
        "Get it with python -c \"import torchvision; torchvision.datasets.CIFAR10('DIR', download=True)\""
        " and give DIR, which then holds cifar-10-batches-py, as --data-root."
    )
    # Copied from torchvision's class, so a check loads no torch. A test compares the two.
    published_md5: ClassVar[Mapping[str, str]] = {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
        "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
    }


PLUGIN = Cifar10(task="images")
