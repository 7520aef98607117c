"""Room for what is to be written, asked of the disk that will hold it."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from ecrl.launch.system.free_space import find_existing_folder, find_full_folder, get_free_bytes


def test_a_folder_that_is_not_there_yet_is_on_the_disk_of_the_nearest_one_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = {tmp_path: 7, Path("/"): 9}
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free[folder]))
    assert find_existing_folder(tmp_path / "a" / "b") == tmp_path
    assert get_free_bytes(tmp_path / "a" / "b") == 7
    monkeypatch.chdir(tmp_path)
    assert get_free_bytes(Path("results")) == 7


@pytest.mark.parametrize(
    ("results_bytes", "shm_bytes", "full"), [(10**9, 4096, "/dev/shm"), (4096, 4096, "here"), (10**9, 10**9, "here")]
)
def test_no_space_is_blamed_on_the_place_that_is_full(
    tmp_path: Path, results_bytes: int, shm_bytes: int, full: str
) -> None:
    def free_bytes(place: Path) -> int:
        return {tmp_path: results_bytes, Path("/dev/shm"): shm_bytes}.get(place, 10**9)

    if not Path("/dev/shm").is_dir():
        pytest.skip("there is no /dev/shm here")
    assert find_full_folder(tmp_path, (), free_bytes) == (tmp_path if full == "here" else Path(full))


def test_no_space_is_blamed_on_the_disk_of_the_checkpoints_if_that_is_full(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    assert find_full_folder(tmp_path, [place], lambda folder: 4096 if folder == place else 10**9) == place
    assert find_full_folder(tmp_path, [place], lambda _folder: 4096) == tmp_path
