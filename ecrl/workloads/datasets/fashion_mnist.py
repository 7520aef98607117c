"""The full Fashion-MNIST training split, from the four idx files as torchvision or Debian lay them out."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ecrl.workloads.images import fashion, idx
from ecrl.workloads.images.dataset import ImageDataset

if TYPE_CHECKING:
    import numpy
    import torch

    Array = numpy.ndarray[Any, Any]

_FILES = {fashion.TRAIN_IMAGES: (28, 28), fashion.TRAIN_LABELS: ()}


class FashionMnist(ImageDataset):
    """Reads `ROOT/FashionMNIST/raw/` or, if that has no training files, ROOT. Plain files take precedence over `.gz`.

    The md5s are those of the uncompressed content, so a recompressed `.gz` still counts as the published set.
    """

    name = "fashion-mnist"
    description = "60,000 Fashion-MNIST images, 10 classes; grey, padded to 3x32x32"
    num_classes = fashion.NUM_CLASSES
    needs_root = True
    mean = fashion.MEAN
    std = fashion.STD
    published_md5: ClassVar[Mapping[str, str]] = {name: fashion.CONTENT_MD5[name] for name in _FILES}
    how_to_get = (
        "Get it with 'apt-get install dataset-fashion-mnist' (--data-root /usr/share/datasets/fashion-mnist) or"
        " python -c \"import torchvision; torchvision.datasets.FashionMNIST('DIR', download=True)\"."
    )

    def _find_faults(self, folder: Path, md5: Mapping[str, str], /) -> list[str]:
        return self._verify(folder, md5)[1]

    def _read(self, folder: Path, md5: Mapping[str, str], /) -> "tuple[torch.Tensor, torch.Tensor]":
        import numpy as np
        import torch

        arrays, faults = self._verify(folder, md5)
        if faults:
            raise self._make_missing_error(folder, faults)
        labels = torch.from_numpy(arrays[fashion.TRAIN_LABELS].astype(np.int64))
        return fashion.to_rgb_32(arrays[fashion.TRAIN_IMAGES]), labels

    def _verify(self, root: Path, md5: Mapping[str, str]) -> "tuple[dict[str, Array], list[str]]":
        found, absent = _locate(root)
        faults = [f"missing (plain or .gz) here and in FashionMNIST/raw: {', '.join(absent)}"] if absent else []
        arrays = {}
        for name, path in found.items():
            try:
                content = idx.read_content(path)
                arrays[name] = idx.parse(content, _FILES[name], path.name)
            except ValueError as error:
                faults.append(str(error))
                continue
            # Checked after the structure, whose message is more specific: an incomplete download fails both checks.
            if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5[name]:
                faults.append(f"the content of {path.name} has an unexpected md5, expected {md5[name]}")
        return arrays, faults


def _locate(root: Path) -> tuple[dict[str, Path], list[str]]:
    """The training files in the first folder that has any, and the names of the missing files."""
    for folder in (root / "FashionMNIST" / "raw", root):
        candidates = {name: (folder / name, folder / f"{name}.gz") for name in _FILES}
        found = {name: next((p for p in paths if p.is_file()), None) for name, paths in candidates.items()}
        present = {name: path for name, path in found.items() if path is not None}
        if present:
            return present, [name for name in _FILES if name not in present]
    return {}, list(_FILES)


PLUGIN = FashionMnist(task="images")
