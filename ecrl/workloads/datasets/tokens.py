"""A user's own text: a folder of token files, as the trainers that follow nanoGPT write them."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ecrl.workloads.text.dataset import TextDataset

if TYPE_CHECKING:
    from ecrl.workloads.text.dataset import Tokens

_EVAL_MARK = "val"  # train.bin and val.bin; corpus_val_000001.bin
_TOKEN_BYTES = 2
# The first four bytes of files with a header, which are no tokens: those of llm.c for GPT-2 and for Llama 3.
_HEADERS = {20240520: "llm.c (GPT-2)", 20240801: "llm.c (Llama 3)"}
_AT_ONCE = 2**24  # tokens looked at together


class TokenFiles(TextDataset):
    """Every `*.bin` of ROOT/tokens or, without that folder, of ROOT, but for those with `val` in their names.

    A file is nothing but little-endian uint16 token ids.
    """

    name = "tokens"
    description = "the *.bin files of a folder: uint16 token ids below 50,257 (GPT-2's), without a header"
    vocabulary_size = 50257
    needs_root = True
    how_to_get = (
        "Write them as nanoGPT's data/*/prepare.py do, ids.astype('<u2').tofile('DIR/train.bin'), then --data-root DIR."
    )

    def _find_faults(self, folder: Path, _md5: Mapping[str, str], /) -> list[str]:
        paths, faults = _find_files(folder)
        return faults or [fault for path in paths for fault in self._find_bad_ids(path)]

    def _open(self, folder: Path, _md5: Mapping[str, str], /) -> "list[Tokens]":
        paths, faults = _find_files(folder)
        if faults:
            raise self._make_missing_error(folder, faults)
        return [_map(path) for path in paths]

    def _find_bad_ids(self, path: Path) -> list[str]:
        tokens = _map(path)
        for begin in range(0, len(tokens), _AT_ONCE):
            part = tokens[begin : begin + _AT_ONCE]
            if (highest := int(part.max())) >= self.vocabulary_size:
                at = begin + int(part.argmax())
                return [f"{path.name}: token {at:,} is {highest}, expected ids below {self.vocabulary_size}"]
        return []


def _find_files(folder: Path) -> tuple[list[Path], list[str]]:
    """The training files in the order of their names, and the faults of their structure."""
    own = folder / "tokens"
    where = own if own.is_dir() else folder
    paths = [path for path in sorted(where.glob("*.bin")) if _EVAL_MARK not in path.stem]
    if not paths:
        return [], [f"found no *.bin there or in {own.name}/, expected train.bin (files with 'val' are not trained on)"]
    return paths, [fault for path in paths if (fault := _find_fault(path)) is not None]


def _find_fault(path: Path) -> str | None:
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(4)
    if (writer := _HEADERS.get(int.from_bytes(head, "little"))) is not None:
        return f"{path.name}: found the header of {writer}, expected token ids alone: leave its first 1,024 bytes out"
    if head.startswith(b"\x93NUM"):
        return f"{path.name}: found a NumPy file, expected token ids alone, as array.tofile writes them"
    if not size:
        return f"{path.name}: is empty"
    if size % _TOKEN_BYTES:
        return f"{path.name}: found {size:,} bytes, expected an even number: a token is a uint16 (cut short?)"
    return None


def _map(path: Path) -> "Tokens":
    import numpy as np

    return np.memmap(path, np.dtype("<u2"), "r")


PLUGIN = TokenFiles(task="tokens")
