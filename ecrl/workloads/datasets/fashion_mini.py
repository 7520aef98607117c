"""5,000 real images that ship with ecrl: the default data set, for machines without data and without a network."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ecrl.workloads.images import fashion
from ecrl.workloads.images.dataset import ImageDataset

if TYPE_CHECKING:
    import torch

# `_build_fashion_mini.py` writes both. The record holds the npz's sha256 and the origin of its images.
IMAGES_FILE = "fashion_mini.npz"
PROVENANCE_FILE = "fashion_mini.json"


class FashionMini(ImageDataset):
    """The first 500 training images of each Fashion-MNIST class, in file order."""

    name = "fashion-mini"
    description = "5,000 Fashion-MNIST images (500 a class, 10 classes), embedded; grey, padded to 3x32x32"
    num_classes = fashion.NUM_CLASSES
    mean = fashion.MEAN
    std = fashion.STD
    how_to_get = "This file is part of ecrl, so the installation is damaged: reinstall ecrl."

    def _find_faults(self, folder: Path, _md5: Mapping[str, str], /) -> list[str]:
        return self._verify(folder)[1]

    def _read(self, folder: Path, _md5: Mapping[str, str], /) -> "tuple[torch.Tensor, torch.Tensor]":
        import io

        import numpy as np
        import torch

        content, faults = self._verify(folder)
        if faults:
            raise self._make_missing_error(folder, faults)
        # Decode exactly the bytes that were digested.
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            labels = torch.from_numpy(arrays["train_labels"].astype(np.int64))
            return fashion.to_rgb_32(arrays["train_images"]), labels

    def _verify(self, folder: Path) -> tuple[bytes, list[str]]:
        files = {name: folder / name for name in (IMAGES_FILE, PROVENANCE_FILE)}
        if absent := [name for name, path in files.items() if not path.is_file()]:
            return b"", [f"missing: {', '.join(absent)}"]
        content = files[IMAGES_FILE].read_bytes()
        expected = json.loads(files[PROVENANCE_FILE].read_text(encoding="utf-8"))["npz_sha256"]
        if hashlib.sha256(content).hexdigest() != expected:
            return b"", [f"{IMAGES_FILE} does not have the sha256 that {PROVENANCE_FILE} records"]
        return content, []


PLUGIN = FashionMini(task="images")
