"""Places of checkpoints: one for each run, wherever its campaign goes, and nothing else is ever removed."""

import shutil
from pathlib import Path

import pytest

from ecrl.records.paths import CampaignPaths, RunPaths
from ecrl.records.places import (
    MARKER,
    find_place,
    is_own,
    list_links,
    list_places,
    make_places,
    remove_checkpoints,
    remove_tree,
)


def run(results: Path, name: str = "suites/s/blocking/seed1") -> RunPaths:
    folder = results / "exp" / name
    folder.mkdir(parents=True)
    return RunPaths(folder)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "mine").write_text("not ecrl's")
    return tmp_path / "disk"


def save(paths: RunPaths) -> Path:
    file = list_places(paths)[0] / "step-00000010" / "shard"
    file.parent.mkdir(parents=True)
    file.write_text("x")
    return file


def left(disk: Path) -> list[str]:
    return sorted(str(path.relative_to(disk)) for path in disk.rglob("*") if path.is_file())


def test_a_run_without_a_place_keeps_its_own_folder(tmp_path: Path) -> None:
    paths = run(tmp_path)
    make_places(paths, (None,))
    assert list_places(paths) == [paths.checkpoints]
    assert not paths.checkpoints.exists()
    save(paths)
    assert remove_checkpoints(paths)
    assert not remove_checkpoints(paths)
    assert list(paths.folder.iterdir()) == []


def test_equal_runs_of_two_results_folders_never_share_a_place(tmp_path: Path, disk: Path) -> None:
    both = [run(tmp_path / results) for results in ("a", "b")]
    for paths in both:
        make_places(paths, (str(disk),))
        assert list_places(paths)[0].parent == disk / "exp" / "s" / "blocking"
        save(paths)
    assert remove_checkpoints(both[0])
    there = list_places(both[1])[0].relative_to(disk)
    assert left(disk) == [f"{there}/{MARKER}", f"{there}/step-00000010/shard", "mine"]
    assert remove_checkpoints(both[1])
    assert left(disk) == ["mine"]


@pytest.mark.parametrize("name", ["disk", "link", "disk/../disk"])
def test_the_last_run_takes_the_folders_above_it_along_but_not_the_users(tmp_path: Path, name: str) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    disk = tmp_path / name
    for name in ("suites/s/blocking/seed1", "warmups/1"):
        paths = run(tmp_path / "results", name)
        make_places(paths, (str(disk),))
        assert len(list(disk.iterdir())) == 1
        remove_checkpoints(paths)
        assert list(disk.iterdir()) == []


def test_a_moved_campaign_removes_its_checkpoints_and_a_copied_one_only_its_links(tmp_path: Path, disk: Path) -> None:
    paths = run(tmp_path / "results")
    make_places(paths, (str(disk),))
    file = save(paths)
    shutil.copytree(tmp_path / "results", tmp_path / "copy", symlinks=True)
    copied = CampaignPaths(tmp_path / "copy", "exp").run("s", "blocking", 1)
    assert list_places(copied) == list_places(paths)
    assert not is_own(copied.checkpoints)
    remove_checkpoints(copied)
    assert file.exists()
    assert not copied.checkpoints.is_symlink()
    (tmp_path / "results").rename(tmp_path / "moved")
    remove_tree(tmp_path / "moved")
    assert left(disk) == ["mine"]


def test_a_link_where_the_results_were_or_in_their_path_changes_no_owner(tmp_path: Path, disk: Path) -> None:
    (tmp_path / "big").mkdir()
    (tmp_path / "named").symlink_to(tmp_path / "big")
    for name in ("results", "named/results"):
        paths = run(tmp_path / name)
        make_places(paths, (str(disk),))
        save(paths)
    (tmp_path / "results").rename(tmp_path / "moved")
    (tmp_path / "results").symlink_to(tmp_path / "moved")
    for name in ("results", "named/results"):
        assert remove_checkpoints(CampaignPaths(tmp_path / name, "exp").run("s", "blocking", 1))
    assert left(disk) == ["mine"]


def test_the_same_path_on_another_host_is_another_campaign_unless_it_is_the_same_folder(
    tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = run(tmp_path / "results")
    make_places(paths, (str(disk),))
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    assert is_own(paths.checkpoints), "a results folder that hosts share"
    shutil.copytree(tmp_path / "results", tmp_path / "new", symlinks=True)
    shutil.rmtree(tmp_path / "results")
    (tmp_path / "new").rename(tmp_path / "results")
    assert not is_own(paths.checkpoints)


def test_what_a_link_of_the_user_leads_to_stays(tmp_path: Path, disk: Path) -> None:
    paths = run(tmp_path / "results")
    paths.checkpoints.symlink_to(disk)
    assert remove_checkpoints(paths)
    assert (disk / "mine").exists()
    paths.checkpoints.symlink_to(disk)
    remove_tree(paths.folder)
    assert (disk / "mine").exists()


def test_a_removal_that_was_killed_is_finished_by_the_next(
    tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = run(tmp_path / "results")
    make_places(paths, (str(disk),))
    save(paths)

    def killed(_path: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            remove_checkpoints(paths)
    assert remove_checkpoints(paths)
    assert left(disk) == ["mine"]


def test_one_place_must_be_there_and_one_of_several_need_not(tmp_path: Path, disk: Path) -> None:
    broken = str(disk / "mine")  # a file
    with pytest.raises(NotADirectoryError):
        make_places(run(tmp_path / "a"), (broken,))
    paths = run(tmp_path / "b")
    make_places(paths, (broken, str(disk)))
    first, second = list_places(paths)
    assert [link.name for link in list_links(paths)] == ["checkpoints", "checkpoints-1"]
    assert not first.exists()
    assert (second / MARKER).is_file()
    assert find_place(paths) == second
    remove_checkpoints(paths)
    assert left(disk) == ["mine"]


def test_fallbacks_stand_beside_the_runs_own_folder(tmp_path: Path, disk: Path) -> None:
    paths = run(tmp_path)
    make_places(paths, (None, str(disk)))
    assert list_places(paths)[0] == paths.checkpoints
    assert paths.checkpoints.is_dir()
