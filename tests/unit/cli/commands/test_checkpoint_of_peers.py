"""`ecrl checkpoint ls|verify` on folders of other engines: what they are, not what they lack. No torch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ecrl.cli.app import app
from ecrl.errors import EXIT_SOME_FAILED
from ecrl.storage.commit import step_folder
from tests.errors import raises


def ecrl(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["checkpoint", *arguments], catch_exceptions=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """What `dcp` leaves when it dies in its second checkpoint."""
    for step, names in ((10, ["__0_0.distcp", ".metadata"]), (20, ["__0_0.distcp"])):
        folder = step_folder(tmp_path / "checkpoints", step)
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).write_bytes(bytes(1000))
    return tmp_path / "checkpoints"


def test_verify_says_who_wrote_them_and_that_none_can_be_verified(root: Path) -> None:
    done = ecrl("verify", str(root))
    assert done.exit_code == EXIT_SOME_FAILED
    lines = done.stdout.splitlines()
    assert lines[0].split()[:3] == ["step", "10", "unverifiable"]
    assert " dcp" in lines[0]
    assert lines[1].split()[:3] == ["step", "20", "partial"]
    assert " dcp" in lines[1]
    assert lines[1].endswith("no .metadata")
    assert "digests" in done.stderr
    assert "no valid checkpoint" not in done.stderr


def test_verify_json_has_the_state_of_its_own(root: Path) -> None:
    done = ecrl("verify", str(root), "--json")
    assert done.exit_code == EXIT_SOME_FAILED
    document = json.loads(done.stdout)
    assert document["newest_valid_step"] is None
    assert [c["state"] for c in document["checkpoints"]] == ["unverifiable", "partial"]


def test_ls_names_the_engine_and_counts_what_lies_in_folders_too(root: Path) -> None:
    deep = step_folder(root, 10) / "batched"
    deep.mkdir()
    (deep / "slab").write_bytes(bytes(500))
    rows = json.loads(ecrl("ls", str(root), "--json").stdout)["checkpoints"]
    assert rows == [
        {"folder": str(root), "step": 10, "state": "complete", "bytes": 2500, "engine": "dcp"},
        {"folder": str(root), "step": 20, "state": "partial", "bytes": 1000, "engine": "dcp"},
    ]
    assert ecrl("ls", str(root)).stdout.splitlines()[0].endswith("by dcp")


def test_partial_ones_of_ours_are_what_they_were(tmp_path: Path) -> None:
    step_folder(tmp_path, 10).mkdir()
    (step_folder(tmp_path, 10) / "shard-0.safetensors").write_bytes(b"")
    done = ecrl("verify", str(tmp_path))
    assert done.stdout.split() == ["step", "10", "partial", "no", "COMMIT.json"]
    assert done.stderr.strip() == "no valid checkpoint"


def test_a_run_json_that_does_not_read_is_told(root: Path) -> None:
    (root.parent / "run.json").write_text("{")
    with raises("ECRL-403", str(root.parent / "run.json")):
        ecrl("verify", str(root))


def test_it_loads_no_torch(root: Path) -> None:
    program = (
        "import sys; from ecrl.__main__ import main\n"
        f"sys.argv = ['ecrl', 'checkpoint', 'verify', {str(root)!r}]\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*sys.modules)"
    )
    out = subprocess.check_output([sys.executable, "-c", program], text=True, timeout=50, stderr=subprocess.DEVNULL)
    assert not {"torch", "torchsnapshot", "torch_checkpointing", "numpy"} & set(out.splitlines()[-1].split())
