"""`run.keep_final`: whose checkpoints stay, where they lie and when they go."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from ecrl.launch.campaign import suite_runner
from ecrl.launch.campaign.clean import clean, find_leftovers
from ecrl.launch.campaign.delete import delete
from ecrl.launch.campaign.recover import Policy
from ecrl.launch.runs.launcher import RunHandle
from ecrl.launch.runs.run import Run
from ecrl.records.manifest import store as manifest
from ecrl.records.paths import RunPaths
from ecrl.records.places import list_places
from tests.unit.cli.inline import run_inline
from tests.unit.launch.stand_in import MATRIX, StandIn, control, request


@dataclass
class Saves(StandIn):
    """Every run has a checkpoint, in the preferred place."""

    def start(self, run: Run, campaign: Path, log: IO[bytes]) -> RunHandle:
        save(run.paths)
        return super().start(run, campaign, log)


def save(paths: RunPaths) -> None:
    folder = list_places(paths)[0] / "step-00000002"
    folder.mkdir(parents=True)
    (folder / "shard").write_text("x" * 1000)


def shards(folder: Path) -> list[str]:
    return sorted(path.parts[-3].partition("-")[0] for path in folder.rglob("shard"))


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    (tmp_path / "disk").mkdir()
    return tmp_path / "disk"


def text(disk: Path | None, options: str = "") -> str:
    place = "" if disk is None else f'[checkpoint]\ndir = "{disk}"\n'
    return f"{MATRIX}{place}[run]\n{options}"


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_completed_run_keeps_no_checkpoint_and_a_failed_one_keeps_its_own(
    tmp_path: Path, disk: Path, elsewhere: bool
) -> None:
    asked = request(tmp_path / "results", text=text(disk if elsewhere else None))
    assert control(Saves({"early/blocking": "crash"})).run(asked, Policy()) == 4
    assert len(list(asked.paths.root.rglob("result.json"))) == 6
    where = disk if elsewhere else asked.paths.root
    [left] = where.rglob("shard")
    assert "early" in str(left)
    assert "blocking" in left.parts
    failed = next(asked.paths.suites.glob("*early*/blocking/seed1337"))
    assert list_places(RunPaths(failed)) == [left.parents[1]]


def test_whoever_wants_final_checkpoints_keeps_them(tmp_path: Path, disk: Path) -> None:
    asked = request(tmp_path / "results", text=text(disk, "keep_final = true\n"))
    control(Saves()).run(asked, Policy())
    assert shards(disk) == ["seed1337"] * 6
    [spec] = asked.paths.suites.glob("*early*/blocking/seed1337/run.json")
    assert json.loads(spec.read_text())["checkpoint"]["dir"] == str(disk)
    result = json.loads(spec.with_name("result.json").read_text())
    assert " on /" in result["machine"]["checkpoint_disk"]


def test_a_campaign_that_was_frozen_before_keeps_what_it_kept(tmp_path: Path) -> None:
    asked = request(tmp_path / "results")
    control(StandIn()).plan(asked)
    frozen = asked.paths.matrix.read_text()
    assert "keep_final = false\n" in frozen
    asked.paths.matrix.write_text(frozen.replace("keep_final = false\n", ""))
    control(Saves()).run(asked, Policy())
    assert len(shards(asked.paths.root)) == 6
    assert "keep_final" not in asked.paths.matrix.read_text() or "keep_final = true" in asked.paths.matrix.read_text()


def test_what_a_kill_after_the_result_left_goes_with_the_next_resume(tmp_path: Path, disk: Path) -> None:
    asked = request(tmp_path / "results", text=text(disk, "keep_final = true\n"))
    control(Saves()).run(asked, Policy())
    asked.paths.manifest.unlink()
    asked.paths.journal.unlink(missing_ok=True)
    control(StandIn()).run(request(tmp_path / "results", text=text(disk, "keep_final = false\n")), Policy())
    assert {row.status for row in manifest.read(asked.paths).rows.values()} == {"completed"}
    assert list(disk.iterdir()) == []


def test_checkpoints_that_cannot_be_removed_cost_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_paths: RunPaths) -> bool:
        raise PermissionError(13, "Permission denied", "/disk")

    notes: list[str] = []
    monkeypatch.setattr(suite_runner, "remove_checkpoints", refuse)
    way_in = control(Saves())
    object.__setattr__(way_in.observer, "note", notes.append)
    assert way_in.run(request(tmp_path / "results"), Policy()) == 0
    assert sum("checkpoints stay: Permission denied (/disk)" in note for note in notes) == 6


def test_repeated_attempts_clean_and_delete_leave_nothing_on_the_disk(tmp_path: Path, disk: Path) -> None:
    (disk / "mine").write_text("not ecrl's")
    asked = request(tmp_path / "results", text=text(disk, "keep_final = true\nretries = 1\n"))
    control(Saves({"early/blocking": "crash"})).run(asked, Policy())
    assert shards(disk) == ["seed1337"] * 6, "an attempt that was set aside has none"
    found = find_leftovers(asked.paths, ["checkpoints"])
    assert len(found) == 6
    assert all(each.num_bytes > 1000 for each in found)
    clean(asked.paths, ["checkpoints"])
    assert [path.name for path in disk.iterdir()] == ["mine"]
    control(Saves()).resume(asked.paths, Policy(retry_failed=True))
    assert shards(disk) == ["seed1337"]
    delete(asked.paths)
    assert [path.name for path in disk.iterdir()] == ["mine"]


def test_commands_tell_why_a_complete_run_has_no_checkpoints(tmp_path: Path) -> None:
    asked = request(tmp_path / "results")
    control(Saves()).run(asked, Policy())
    warmed_up = asked.paths.warmups / "1"
    warmed_up.mkdir(parents=True)
    for name in ("run.json", "result.json"):  # a warm-up is no run
        shutil.copy(next(asked.paths.suites.glob("*/blocking/seed1337")) / name, warmed_up)
    listed = run_inline("checkpoint", "ls", str(asked.paths.root))
    assert "6 completed runs keep no checkpoints" in listed.stderr
    for folder in (asked.paths.root, next(asked.paths.suites.glob("*/blocking/seed1337"))):
        done = run_inline("checkpoint", "verify", str(folder))
        assert (done.returncode, done.stdout) == (0, "")
        assert "no checkpoints: run.keep_final = false" in done.stderr
        listed = run_inline("checkpoint", "ls", str(folder))
        assert (listed.returncode, listed.stdout) == (4, "")
        assert "no checkpoints: run.keep_final = false" in listed.stderr
    told = json.loads(run_inline("checkpoint", "verify", str(asked.paths.root), "--json").stdout)
    assert (len(told["removed"]), told["runs"], told["newest_valid_step"]) == (6, [], None)


def test_checkpoints_are_found_from_the_disk_and_from_the_campaign_once_each(tmp_path: Path, disk: Path) -> None:
    fallback = f"{text(disk, 'keep_final = true')}".replace("[run]", f'fallback_dirs = ["{tmp_path / "spare"}"]\n[run]')
    asked = request(tmp_path / "results", text=fallback)
    control(Saves()).run(asked, Policy())
    suite = next(asked.paths.suites.glob("*early*"))
    for folder, runs in ((disk, 6), (suite, 3), (asked.paths.root, 6)):
        told = json.loads(run_inline("checkpoint", "ls", str(folder), "--json").stdout)
        assert len(told["checkpoints"]) == runs, folder


def test_a_place_whose_disk_is_gone_is_told(tmp_path: Path, disk: Path) -> None:
    asked = request(tmp_path / "results", text=text(disk, "keep_final = true\n"))
    control(Saves()).run(asked, Policy())
    disk.rename(tmp_path / "unmounted")
    done = run_inline("checkpoint", "verify", str(next(asked.paths.suites.glob("*early*/blocking/seed1337"))))
    assert done.returncode == 4
    assert f"leads to {disk}" in done.stderr
