"""Room for what is to be written, asked of the disk that will hold it."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from ecrl.launch.system.free_space import find_existing_folder, get_free_bytes


def test_a_folder_that_is_not_there_yet_is_on_the_disk_of_the_nearest_one_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = {tmp_path: 7, Path("/"): 9}
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free[folder]))
    assert find_existing_folder(tmp_path / "a" / "b") == tmp_path
    assert get_free_bytes(tmp_path / "a" / "b") == 7
    monkeypatch.chdir(tmp_path)
    assert get_free_bytes(Path("results")) == 7
