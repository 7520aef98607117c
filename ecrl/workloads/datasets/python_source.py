"""A megabyte of Python that ships with ecrl: the default text, for machines without data and without a network."""

import gzip
import hashlib
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ecrl.workloads.text.dataset import TextDataset

if TYPE_CHECKING:
    from ecrl.workloads.text.dataset import Tokens

# `_build_python_source.py` writes all three. The record holds the digests of both splits and the origin of their files.
TRAIN_FILE = "python_source_train.txt.gz"
EVAL_FILE = "python_source_eval.txt.gz"
PROVENANCE_FILE = "python_source.json"


class PythonSource(TextDataset):
    """Modules of CPython's own library, byte by byte: a token is a byte."""

    name = "python-source"
    description = "1.0 MB of the Python library's own source, embedded; a token is a byte"
    vocabulary_size = 256
    how_to_get = "This file is part of ecrl, so the installation is damaged: reinstall ecrl."

    def _find_faults(self, folder: Path, _md5: Mapping[str, str], /) -> list[str]:
        return self._verify(folder)[1]

    def _open(self, folder: Path, _md5: Mapping[str, str], /) -> "list[Tokens]":
        import numpy as np

        content, faults = self._verify(folder)
        if faults:
            raise self._make_missing_error(folder, faults)
        return [np.frombuffer(content, np.uint8)]

    def _verify(self, folder: Path) -> tuple[bytes, list[str]]:
        files = {name: folder / name for name in (TRAIN_FILE, PROVENANCE_FILE)}
        if absent := [name for name, path in files.items() if not path.is_file()]:
            return b"", [f"missing: {', '.join(absent)}"]
        try:
            content = gzip.decompress(files[TRAIN_FILE].read_bytes())
        except (OSError, EOFError, zlib.error) as error:
            return b"", [f"{TRAIN_FILE} is cut short or damaged: {error}"]
        expected = json.loads(files[PROVENANCE_FILE].read_text(encoding="utf-8"))["splits"]["train"]["sha256"]
        if hashlib.sha256(content).hexdigest() != expected:
            return b"", [f"{TRAIN_FILE} does not have the sha256 that {PROVENANCE_FILE} records"]
        return content, []


PLUGIN = PythonSource(task="tokens")
