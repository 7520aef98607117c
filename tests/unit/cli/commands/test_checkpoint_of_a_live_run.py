"""`ecrl checkpoint ls|verify` while a run goes on: checkpoints come and go under them, and none is called corrupt."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ecrl.cli.app import app
from ecrl.storage import commit
from ecrl.storage.commit import step_folder
from tests.unit.storage.test_commit import write_checkpoint


def ecrl(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["checkpoint", *arguments], catch_exceptions=False)


def before(monkeypatch: pytest.MonkeyPatch, name: str, act: Callable[[int], None]) -> None:
    """Have `act(step)` done before each call of `commit.<name>`."""
    whole = getattr(commit, name)

    def both(root: Path, step: int, **how: object) -> object:
        act(step)
        return whole(root, step, **how)

    monkeypatch.setattr(commit, name, both)


def test_what_goes_between_its_verdict_and_the_look_for_strays_is_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (10, 20):
        write_checkpoint(tmp_path, step)
    before(monkeypatch, "find_orphan_files", lambda step: commit.remove(tmp_path, step) if step == 10 else None)
    done = ecrl("verify", str(tmp_path))
    assert done.exit_code == 0
    assert done.stderr == "newest valid: step 20\n"


def test_verify_tells_what_was_removed_and_finds_the_newer_one_for_which_it_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path, 10)

    def retained(step: int) -> None:
        if step == 10:
            write_checkpoint(tmp_path, 20)
            commit.remove(tmp_path, 10)

    before(monkeypatch, "verify", retained)
    done = ecrl("verify", str(tmp_path), "--json")
    assert done.exit_code == 0
    document = json.loads(done.stdout)
    assert [(c["step"], c["state"]) for c in document["checkpoints"]] == [(10, "removed"), (20, "valid")]
    assert document["newest_valid_step"] == 20


def test_ls_leaves_out_what_was_removed_while_it_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (10, 20):
        write_checkpoint(tmp_path, step)
    whole = Path.lstat

    def removing(path: Path) -> object:
        if path.parent == step_folder(tmp_path, 10):
            commit.remove(tmp_path, 10)
        return whole(path)

    monkeypatch.setattr(Path, "lstat", removing)
    rows = json.loads(ecrl("ls", str(tmp_path), "--json").stdout)["checkpoints"]
    assert [(row["step"], row["state"]) for row in rows] == [(20, "committed")]


@pytest.mark.parametrize("looks", [50, pytest.param(1500, marks=pytest.mark.torture)])
def test_a_run_that_commits_and_removes_all_the_while_is_never_misjudged(tmp_path: Path, looks: int) -> None:
    write_checkpoint(tmp_path, 0)
    looked = threading.Event()

    def run() -> None:
        written = 0
        while not looked.is_set():
            written += 1
            write_checkpoint(tmp_path, written)
            commit.remove(tmp_path, written - 1)

    writer = threading.Thread(target=run)
    writer.start()
    try:
        states: set[str] = set()
        for _ in range(looks):
            verified, listed = ecrl("verify", str(tmp_path), "--json"), ecrl("ls", str(tmp_path), "--json")
            assert (verified.exit_code, listed.exit_code) == (0, 0)
            states |= {c["state"] for c in json.loads(verified.stdout)["checkpoints"]}
    finally:
        looked.set()
        writer.join()
    assert states <= {"valid", "partial", "removed"}
    assert len(states) > 1, "nothing was removed while it was looked at"


def test_verify_looks_again_where_the_only_checkpoint_went_while_the_folder_was_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listing read the old name, and the run had replaced it before the name was looked up."""
    write_checkpoint(tmp_path, 10)
    whole = commit.list_steps
    listings = []

    def late(root: Path) -> list[int]:
        listings.append(whole(root))
        if len(listings) == 2:  # of the first look itself
            write_checkpoint(tmp_path, 20)
            commit.remove(tmp_path, 10)
            return []
        return listings[-1]

    monkeypatch.setattr(commit, "list_steps", late)
    done = ecrl("verify", str(tmp_path), "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["newest_valid_step"] == 20


def test_verify_looks_again_at_what_was_partial_while_it_was_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path, 10)
    whole = commit.verify

    def halfway(root: Path, step: int, **how: object) -> object:
        if step == 10:
            (step_folder(tmp_path, 10) / commit.COMMIT_FILE).unlink()
            verdict = whole(root, step, **how)  # type: ignore[arg-type]
            write_checkpoint(tmp_path, 20)
            commit.remove(tmp_path, 10)
            return verdict
        return whole(root, step, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(commit, "verify", halfway)
    done = ecrl("verify", str(tmp_path), "--json")
    assert done.exit_code == 0
    assert [(c["step"], c["state"]) for c in json.loads(done.stdout)["checkpoints"]] == [(10, "partial"), (20, "valid")]
