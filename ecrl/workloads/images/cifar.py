"""CIFAR's python archives, read by torchvision's own class. Never downloads; verifies before unpickling."""

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ecrl.workloads.dataset import CHECKSUMS_FILE, compute_md5
from ecrl.workloads.images.dataset import ImageDataset

if TYPE_CHECKING:
    import torch

# The exceptions that unpickling another file, and searching it for a batch, can raise.
_NO_BATCH = (
    pickle.UnpicklingError,
    AttributeError,
    EOFError,
    ImportError,
    IndexError,
    KeyError,
    TypeError,
    ValueError,
)


class CifarDataset(ImageDataset):
    """Reads `ROOT/<folder_name>/`. Every file must have its published md5 or the declared one.

    torchvision_class: the name of the class in `torchvision.datasets` that reads the files.
    """

    needs_root = True
    folder_name: ClassVar[str]
    torchvision_class: ClassVar[str]

    def _find_faults(self, folder: Path, md5: Mapping[str, str], /) -> list[str]:
        place = folder / self.folder_name
        if not place.is_dir():
            return [f"no folder {self.folder_name} in it"]
        absent = [name for name in md5 if not (place / name).is_file()]
        differing = [name for name in md5 if name not in absent and compute_md5(place / name) != md5[name]]
        faults = [f"missing in {self.folder_name}: {', '.join(absent)}"] if absent else []
        if differing:
            faults.append(
                f"unexpected md5 in {self.folder_name}: {', '.join(differing)} (incomplete download?"
                f" A re-packed copy declares its md5s in {folder / CHECKSUMS_FILE})"
            )
        return faults

    def _read(self, folder: Path, md5: Mapping[str, str], /) -> "tuple[torch.Tensor, torch.Tensor]":
        import numpy as np
        import torch

        cifar_class = reader_class(self.torchvision_class, md5)
        with warnings.catch_warnings():
            # The published pickles are from Python 2 and give a dtype's `align` as an int; numpy 2.4.0 warns about it.
            warnings.filterwarnings("ignore", message=r"dtype\(\): align should be passed as Python or NumPy boolean")
            try:
                stored = cifar_class(root=folder, train=True, download=False)
            except RuntimeError as error:  # a file is absent or has another md5; torchvision does not say which
                raise self._make_missing_error(folder, self._find_faults(folder, md5) or [str(error)]) from error
            except _NO_BATCH as error:
                fault = f"files have the expected md5 but are not CIFAR batches ({type(error).__name__}: {error})"
                raise self._make_missing_error(folder, [fault]) from error
        if stored.data.dtype != np.uint8:
            raise self._make_missing_error(folder, [f"pixels are {stored.data.dtype}, expected uint8"])
        # torchvision keeps a height-width-channel view of the planes on disk; this undoes the view.
        planes = np.ascontiguousarray(stored.data.transpose(0, 3, 1, 2))
        return torch.from_numpy(planes), torch.tensor(stored.targets, dtype=torch.int64)


def reader_class(torchvision_class: str, md5: Mapping[str, str]) -> Any:
    """A subclass of `torchvision.datasets.<torchvision_class>` that expects the md5s in `md5` (file name -> md5).

    torchvision checks the md5s before it unpickles.

    Raises:
        KeyError: `md5` lacks a file, which is a bug in ecrl.
    """
    import torchvision

    stock = getattr(torchvision.datasets, torchvision_class)
    return type(
        f"{torchvision_class}WithTable",
        (stock,),
        {
            "train_list": [[name, md5[name]] for name, _ in stock.train_list],
            "test_list": [[name, md5[name]] for name, _ in stock.test_list],
            "meta": {**stock.meta, "md5": md5[stock.meta["filename"]]},
        },
    )
