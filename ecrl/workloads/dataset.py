"""The base class of data sets, which checks the files. The task's subclass defines the content (images/dataset.py).

Importing this module or any member of `datasets/` loads neither torch nor torchvision, so ecrl can find a missing data
set before it starts a worker.
"""

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from ecrl.errors import DataMissingError

CHECKSUMS_FILE = "checksums.json"
# The folder of the data sets that ship with ecrl.
EMBEDDED = Path(__file__).parent / "datasets"

_MD5 = re.compile(r"[0-9a-f]{32}")
_NO_MD5S: Mapping[str, str] = {}


class Dataset(ABC):
    """One data set of the folder `datasets/`. This base class checks the files; subclasses define their content.

    name: its name in a matrix. task: the name of its task. needs_root: whether `root` must be given; embedded data sets
    ignore it. synthetic: whether the data is made up. published_md5: the published md5 of every file of a folder data
    set, by name.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    how_to_get: ClassVar[str]
    needs_root: ClassVar[bool] = False
    published_md5: ClassVar[Mapping[str, str]] = _NO_MD5S
    instead: ClassVar[str] = ""  # the data set to use if this one is not available

    def __init__(self, *, task: str, synthetic: bool = False) -> None:
        self.task, self.synthetic = task, synthetic

    def check(self, root: Path | None, checksums: Mapping[str, str] | None = None) -> None:
        """Check that every file is present and undamaged. Reads the files to digest them; loads no torch.

        Args:
            root: the folder of data sets; ignored unless `needs_root`.
            checksums: file name -> md5; replaces `ROOT/checksums.json`. Other files keep their published md5.

        Raises:
            DataMissingError: names the folder, every missing or damaged file, and how to get them.
        """
        folder = self._folder(root)
        if faults := self._find_faults(folder, self._md5_table(folder, checksums)):
            raise self._make_missing_error(folder, faults)

    def check_size(self, root: Path | None, sequence_length: int, global_batch: int) -> None:
        """Check that the data set, whose files `check` has found in order, has samples for one step of all ranks.

        Raises:
            DataMissingError: it has fewer. Data sets whose sizes are their publishers' need not look.
        """

    @abstractmethod
    def _find_faults(self, folder: Path, md5: Mapping[str, str], /) -> list[str]:
        """The faults of the files, one phrase each; [] if they can be read."""

    def _make_missing_error(self, folder: Path | None, faults: Sequence[str]) -> DataMissingError:
        where = "" if folder is None else f", looked in {folder}"
        return DataMissingError(
            "ECRL-508",
            f"data set {self.name!r}{where}: {'; '.join(faults)}.\n{self.how_to_get}"
            + (f"\n{self.instead}" if self.needs_root and self.instead else ""),
        )

    def _folder(self, root: Path | None) -> Path:
        if not self.needs_root:
            return EMBEDDED
        if root is None:
            raise self._make_missing_error(None, ["found no data root, expected --data-root DIR"])
        if not root.is_dir():
            raise self._make_missing_error(root, ["no such folder"])
        return root

    def _md5_table(self, folder: Path, checksums: Mapping[str, str] | None) -> dict[str, str]:
        if not self.published_md5:
            return {}
        declared = read_checksums(folder) if checksums is None else _check_table(checksums, "the checksums given")
        # One table may describe several data sets, so names of other data sets are no fault.
        return {name: declared.get(name, md5) for name, md5 in self.published_md5.items()}


def read_checksums(root: Path) -> dict[str, str]:
    """The table file name -> md5 in `ROOT/checksums.json`, for a re-packed copy; {} if the file is absent.

    Raises:
        DataMissingError: the file exists but is not such a table.
    """
    path = root / CHECKSUMS_FILE
    if not path.exists():
        return {}
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # bad JSON or bad UTF-8
        raise DataMissingError("ECRL-901", f"{path} is not JSON: {error}\n{_TABLE_EXPECTED}") from error
    return _check_table(table, str(path))


_TABLE_EXPECTED = 'Expected one object of file name -> md5, as {"data_batch_1": "<32 hex digits>"}, or no such file.'


def _check_table(table: object, where: str) -> dict[str, str]:
    # Strict on purpose: an md5 of None makes torchvision skip the check, and these files are unpickled.
    if not isinstance(table, Mapping):
        raise DataMissingError("ECRL-901", f"{where}: found {type(table).__name__}.\n{_TABLE_EXPECTED}")
    for name, md5 in table.items():
        if not isinstance(name, str) or not isinstance(md5, str) or not _MD5.fullmatch(md5.lower()):
            raise DataMissingError("ECRL-901", f"{where}: {name!r}: found {md5!r}, expected an md5.\n{_TABLE_EXPECTED}")
    return {name: md5.lower() for name, md5 in table.items()}


def compute_md5(path: Path) -> str:
    """The md5 of a file's bytes, 32 lower-case hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
