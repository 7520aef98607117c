"""The base class of token data sets: the training split as files of tokens. Importing this loads no torch."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from ecrl.workloads.dataset import Dataset

if TYPE_CHECKING:
    import numpy as np

    Tokens: TypeAlias = np.ndarray[Any, np.dtype[np.unsignedinteger[Any]]]


@dataclass(frozen=True, eq=False)
class TokenData:
    """The training tokens of one data set. files: one array of token ids per file, in order; may be memory-mapped."""

    name: str
    files: "Sequence[Tokens]"
    vocabulary_size: int
    synthetic: bool


class TextDataset(Dataset):
    """A data set of token ids, each in [0, vocabulary_size)."""

    vocabulary_size: ClassVar[int]
    instead = "Or use 'python-source': real text, embedded in ecrl, no folder needed."

    def load(self, root: Path | None, checksums: Mapping[str, str] | None = None) -> TokenData:
        """Open the training split; arguments as for `check`.

        Raises:
            DataMissingError: a file is missing, or its structure is not that of this data set.
        """
        folder = self._folder(root)
        files = self._open(folder, self._md5_table(folder, checksums))
        return TokenData(self.name, files, self.vocabulary_size, self.synthetic)

    def check_size(self, root: Path | None, sequence_length: int, global_batch: int) -> None:
        """See `Dataset.check_size`."""
        sizes = [len(tokens) for tokens in self.load(root).files]
        if (found := count_sequences(sizes, sequence_length)) < global_batch:
            raise self._make_missing_error(
                self._folder(root),
                [
                    f"found {found:,} sequences of {sequence_length} tokens ({sum(sizes):,} tokens), expected at least"
                    f" {global_batch:,} for one step of all ranks; lower train.sequence_length, train.batch_size or"
                    " train.nproc"
                ],
            )

    @abstractmethod
    def _open(self, folder: Path, md5: Mapping[str, str], /) -> "list[Tokens]":
        """The files of the training split. Raises `_make_missing_error(...)` for faulty files."""


def count_sequences(sizes: Sequence[int], sequence_length: int) -> int:
    """The number of sequences in files of these numbers of tokens. No sequence spans two files."""
    # The last token of a sequence has the next one as its target.
    return sum(max(size - 1, 0) // sequence_length for size in sizes)
