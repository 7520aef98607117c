"""The base class of image data sets: the training split, loaded whole into memory. Importing this loads no torch."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ecrl.workloads.dataset import Dataset

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class ImageData:
    """The training images of one data set, in file order, on the CPU.

    Attributes:
        name: the data set's name in a matrix.
        images: uint8 [N, 3, 32, 32], contiguous.
        labels: int64 [N], each in [0, num_classes).
        num_classes: classes of the data set, whether or not all of them occur.
        synthetic: True when the images are noise.
        mean, std: per channel, of pixels scaled to [0, 1]; constants of the data set, not computed from `images`.
        repacked: True when the files were checked against another md5 table than the published one.
    """

    name: str
    images: "torch.Tensor"
    labels: "torch.Tensor"
    num_classes: int
    synthetic: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    repacked: bool = False


class ImageDataset(Dataset):
    """A data set of labelled images, 32x32 with three channels."""

    num_classes: ClassVar[int]
    mean: ClassVar[tuple[float, float, float]]
    std: ClassVar[tuple[float, float, float]]
    instead = "Or use 'fashion-mini': real images, embedded in ecrl, no folder needed."

    def load(self, root: Path | None, checksums: Mapping[str, str] | None = None) -> ImageData:
        """Read the training split; arguments as for `check`. Every file is digested before it is decoded.

        Raises:
            DataMissingError: as `check`, and when the files hold something other than this data set.
        """
        folder = self._folder(root)
        md5 = self._md5_table(folder, checksums)
        images, labels = self._read(folder, md5)
        if len(images) == 0 or len(images) != len(labels):
            raise self._make_missing_error(folder, [f"{len(images)} images and {len(labels)} labels"])
        if int(labels.min()) < 0 or int(labels.max()) >= self.num_classes:
            raise self._make_missing_error(folder, [f"labels outside 0..{self.num_classes - 1}"])
        return ImageData(
            name=self.name,
            images=images,
            labels=labels,
            num_classes=self.num_classes,
            synthetic=self.synthetic,
            mean=self.mean,
            std=self.std,
            repacked=md5 != self.published_md5,
        )

    @abstractmethod
    def _read(self, folder: Path, md5: Mapping[str, str], /) -> "tuple[torch.Tensor, torch.Tensor]":
        """Images uint8 [N, 3, 32, 32] and labels int64 [N]. Raises `_make_missing_error(...)` for faulty files."""
