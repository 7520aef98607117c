"""Regenerate the embedded data set python-source from the library of CPython 3.11.7.

    tar -xf Python-3.11.7.tgz
    python -m ecrl.workloads.datasets._build_python_source Python-3.11.7/Lib

The library folder of an installed CPython 3.11.7 has the same files. The text is the same byte for byte; how it
compresses depends on the zlib, which the record names.
"""

import argparse
import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

from ecrl.workloads.dataset import EMBEDDED
from ecrl.workloads.datasets.python_source import EVAL_FILE, PROVENANCE_FILE, TRAIN_FILE

VERSION = "3.11.7"
# Of the whole text, both splits: it says whether a folder is the library of that version.
TEXT_SHA256 = "9cfffa452a71a88c7e48ea08239e6a39bd7bcfa0e22ad5eea57ce9743e05ec45"
_AT_LEAST = {"train": 1_000_000, "eval": 100_000}  # bytes; a split ends with the file that reaches it
_FILES = {"train": TRAIN_FILE, "eval": EVAL_FILE}
_LEVEL = 9


def select(library: Path) -> dict[str, dict[str, bytes]]:
    """The modules of each split: file name -> content.

    Public top-level modules in the order of their names, without those that have a notice of their own.

    Raises:
        ValueError: the folder does not hold the library of that version.
    """
    modules = _read_modules(library)
    splits: dict[str, dict[str, bytes]] = {}
    for split, enough in _AT_LEAST.items():
        chosen: dict[str, bytes] = {}
        while sum(map(len, chosen.values())) < enough:
            name, content = next(modules, ("", b""))
            if not name:
                raise ValueError(f"{library}: too few modules for a library of CPython {VERSION}")
            chosen[name] = content
        splits[split] = chosen
    found = hashlib.sha256(b"".join(b"".join(chosen.values()) for chosen in splits.values())).hexdigest()
    if found != TEXT_SHA256:
        raise ValueError(f"{library}: not the library of CPython {VERSION}: sha256 {found}, expected {TEXT_SHA256}")
    return splits


def _read_modules(library: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(library.glob("[a-z]*.py"), key=lambda path: path.name):
        content = path.read_bytes()
        # Such a notice may name another licence than Python's.
        if b"copyright" not in content.lower() and b"license" not in content.lower():
            yield path.name, content


def build(library: Path) -> dict[str, bytes]:
    """The files of the embedded data set, name -> content.

    Raises:
        ValueError: see `select`.
    """
    splits = {split: (modules, b"".join(modules.values())) for split, modules in select(library).items()}
    record = {
        "data_set": "python-source",
        "splits": {
            split: {
                "file": _FILES[split],
                "bytes": len(text),
                "sha256": hashlib.sha256(text).hexdigest(),
                "modules": {name: len(content) for name, content in modules.items()},
            }
            for split, (modules, text) in splits.items()
        },
        "compression": {"method": "gzip", "level": _LEVEL, "zlib": zlib.ZLIB_RUNTIME_VERSION},
        "selection": "public top-level modules of Lib/ in the order of their names, without those that contain"
        " 'copyright' or 'license'; whole files, until the split has 1,000,000 (train) and 100,000 (eval) bytes",
        "source": {
            "package": f"Python-{VERSION}.tgz",
            "folder": "Lib",
            "upstream": "https://www.python.org/downloads/release/python-3117/",
            "changes": "none; the files follow each other without a separator",
        },
        "licence": "LICENSE-python.txt",
    }
    texts = {_FILES[split]: gzip.compress(text, _LEVEL, mtime=0) for split, (_, text) in splits.items()}
    return {**texts, PROVENANCE_FILE: (json.dumps(record, indent=2) + "\n").encode()}


def main() -> None:
    """Command line: the library's folder, and where to write."""
    parser = argparse.ArgumentParser(description="Rebuild the embedded data set python-source.")
    parser.add_argument("library", type=Path, help=f"folder Lib of CPython {VERSION}")
    parser.add_argument("--out", type=Path, default=EMBEDDED, help="folder to write to (default: %(default)s)")
    arguments = parser.parse_args()
    for name, content in build(arguments.library).items():
        (arguments.out / name).write_bytes(content)
        print(f"{arguments.out / name}: {len(content):,} bytes, sha256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
