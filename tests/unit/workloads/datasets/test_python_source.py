"""The embedded text is what its record says, and its script makes it again."""

import ast
import gzip
import hashlib
import json
import sys
import sysconfig
from pathlib import Path

import pytest

from ecrl import plugins
from ecrl.errors import DataMissingError
from ecrl.workloads import dataset
from ecrl.workloads.dataset import EMBEDDED
from ecrl.workloads.datasets import _build_python_source as script
from ecrl.workloads.datasets.python_source import PROVENANCE_FILE, TRAIN_FILE

RECORD = json.loads((EMBEDDED / PROVENANCE_FILE).read_text())


@pytest.mark.parametrize("split", ["train", "eval"])
def test_the_text_is_whole_modules_without_a_notice_of_their_own(split: str) -> None:
    told = RECORD["splits"][split]
    text = gzip.decompress((EMBEDDED / told["file"]).read_bytes())
    assert (len(text), hashlib.sha256(text).hexdigest()) == (told["bytes"], told["sha256"])
    assert sum(told["modules"].values()) == len(text)
    assert b"copyright" not in text.lower()
    begin = 0
    for size in told["modules"].values():
        ast.parse(text[begin : begin + size])
        begin += size


def test_the_splits_share_no_module() -> None:
    train, held_out = (set(RECORD["splits"][split]["modules"]) for split in ("train", "eval"))
    assert not train & held_out


def test_its_licence_is_there() -> None:
    assert "PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2" in (EMBEDDED / RECORD["licence"]).read_text()


def test_its_tokens_are_its_bytes() -> None:
    (tokens,) = plugins.load("dataset", "python-source").load(None).files
    assert tokens.tobytes() == gzip.decompress((EMBEDDED / TRAIN_FILE).read_bytes())


def test_a_damaged_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "EMBEDDED", tmp_path)
    plugin = plugins.load("dataset", "python-source")
    with pytest.raises(DataMissingError, match="missing"):
        plugin.check(None)
    (tmp_path / PROVENANCE_FILE).write_bytes((EMBEDDED / PROVENANCE_FILE).read_bytes())
    whole = (EMBEDDED / TRAIN_FILE).read_bytes()
    for damaged, told in ((whole[:-9], "cut short"), (gzip.compress(b"import os"), "sha256")):
        (tmp_path / TRAIN_FILE).write_bytes(damaged)
        for refused in (plugin.check, plugin.load):
            with pytest.raises(DataMissingError, match=told):
                refused(None)


def test_the_script_refuses_another_library(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"m{number}.py").write_bytes(b"x = 1\n" * 100_000)
    with pytest.raises(ValueError, match=r"not the library of CPython 3\.11\.7"):
        script.select(tmp_path)


def test_the_script_makes_the_same_text_again() -> None:
    if sys.version_info[:3] != (3, 11, 7):
        pytest.skip("this is not CPython 3.11.7")
    built = script.build(Path(sysconfig.get_path("stdlib")))
    record = json.loads(built[PROVENANCE_FILE])
    assert record["splits"] == RECORD["splits"]
