"""The torture programs pass in short, and each is seen to fail where its promise is broken."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from ecrl.config.run import RunSpec
from ecrl.config.train import CheckpointSettings, TrainSettings
from ecrl.launch.launchers.warm import Warm
from ecrl.launch.runs.progress import RunProgress, SilentObserver
from ecrl.launch.runs.run import Run
from ecrl.launch.runs.supervisor import Supervisor
from ecrl.launch.system.signals import StopRequest
from ecrl.records.paths import RunPaths
from ecrl.records.reader import RunRecord, read_run
from ecrl.storage import commit
from ecrl.storage.commit import file_facts, step_folder
from tests.torture import accounting, corruption, durability, torn
from tests.torture.kills import _of_one_step
from tests.unit.checkpoint.ranks_in_threads import Group

SHORT = {
    "kills": ("--kills", "12"),
    "durability": ("--saves", "10"),
    "memory": ("--saves", "20", "--mib", "40"),
}
# Their ranks are threads, so the short version needs no interpreter of its own, which would import torch for seconds.
SHORT_IN_THREADS = {
    "corruption": lambda: corruption.sweep(flips=40, cuts=10),
    "torn": lambda: torn.sweep(saves=100, control=20),
    "accounting": lambda: accounting.sweep(saves=60),
}
FULL = [*SHORT, *SHORT_IN_THREADS, "replay", "endings"]


def verdict_of(program: str, *arguments: str) -> str:
    """The last line of a program that must pass. A process of its own: fork server and memory as a user has them."""
    command = [sys.executable, "-m", f"tests.torture.{program}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("program", SHORT)
def test_the_short_version_passes(program: str) -> None:
    assert verdict_of(program, *SHORT[program]).startswith(f"PASS {program}: ")


@pytest.mark.parametrize("program", SHORT_IN_THREADS)
def test_the_short_version_in_threads_passes(program: str) -> None:
    verdict = SHORT_IN_THREADS[program]()
    assert verdict.passed, verdict.faults
    assert str(verdict).startswith(f"PASS {program}: ")


@pytest.mark.torture
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("program", FULL)
def test_the_full_version_passes(program: str) -> None:
    assert verdict_of(program).startswith(f"PASS {program}: ")


# --- a real run whose newest checkpoint is damaged between two attempts ----------------------------------------


def spec(variant: str) -> RunSpec:
    failure = {"index": 0, "at": 14, "kind": "kill", "rank": 1}
    return RunSpec(
        prefix="p", suite_id="s", dataset="fashion-mini", model="cnn", failure_label="x", checkpoint_every=4,
        max_inflight=1, variant=variant, seed=1, device="cpu", train=TrainSettings(steps=18, batch_size=8, nproc=2),
        checkpoint=CheckpointSettings(), failures=() if variant == "reference" else (failure,),
    )  # fmt: skip


class Damages(SilentObserver):
    """Flips one bit of a shard of the newest checkpoint as soon as the planned failure has struck."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.damaged: int | None = None

    def run_progress(self, spec: RunSpec, progress: RunProgress) -> None:
        if progress.failures and self.damaged is None:
            self.damaged = commit.list_committed_steps(self.root)[-1]
            path = step_folder(self.root, self.damaged) / "shard-1.safetensors"
            data = bytearray(path.read_bytes())
            data[-5] ^= 1
            path.write_bytes(bytes(data))


@pytest.fixture(scope="module")
def launcher() -> Iterator[Warm]:
    """Warm, which spares most of each start: no launcher has a part in what is tried here."""
    launcher = Warm()
    yield launcher
    launcher.close()


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, launcher: Warm) -> RunRecord:
    folder = tmp_path_factory.mktemp("reference")
    paths = RunPaths(folder / "run")
    Supervisor(launcher, folder, SilentObserver(), StopRequest(), timeout_s=120).run(Run(spec("reference"), paths))
    return read_run(paths)


@pytest.mark.process
@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", ["blocking", "overlapped"])
def test_a_run_whose_newest_checkpoint_is_damaged_ends_with_the_bits_of_the_reference(
    tmp_path: Path, engine: str, reference: RunRecord, launcher: Warm
) -> None:
    paths = RunPaths(tmp_path / "run")
    damages = Damages(paths.checkpoints)
    result = Supervisor(launcher, tmp_path, damages, StopRequest(), timeout_s=120).run(Run(spec(engine), paths))
    assert result is not None
    assert result["outcome"] == "completed", result["reason"]
    record = read_run(paths)
    restored = [e for attempt, _, e in record.get_events("restored") if attempt == 1]
    assert damages.damaged in (8, 12)  # 12 may have been in flight
    assert {e["step"] for e in restored} == {damages.damaged - 4}
    assert [[p["step"] for p in e["passed_over"]] for e in restored] == [[damages.damaged]] * 2
    assert _final(record) == _final(reference)


def _final(record: RunRecord) -> dict[int, tuple[str, str]]:
    found = {rank: (e["digest"], e["rng_digest"]) for _, rank, e in record.get_events("final")}
    assert len(found) == 2
    return found


# --- the programs are not blind ---------------------------------------------------------------------------------


def test_a_restore_that_believes_a_damaged_checkpoint_fails_the_corruption_sweep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(commit, "verify", lambda _, step, **__: commit.Verdict(step, "valid"))
    verdict = corruption.sweep(flips=1, cuts=0)
    assert not verdict.passed
    assert str(verdict).startswith("FAIL corruption: 0 of 1 ")


def test_a_skipped_checkpoint_fails_the_accounting(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Group.events
    monkeypatch.setattr(
        Group, "events", lambda self, rank, kind: real(self, rank, kind)[: -1 if kind == "persist_failed" else None]
    )
    assert not accounting.sweep(saves=20).passed


def test_a_mixed_state_is_seen_even_where_all_digests_fit(tmp_path: Path) -> None:
    group = Group(tmp_path, "blocking")
    group.train(1, 10)
    group.settle()
    folder = step_folder(tmp_path / "checkpoints", 10)
    assert _of_one_step(folder, 10)
    tensors = load_file(folder / "shard-1.safetensors")
    next(t for name, t in tensors.items() if name.startswith("model/") and t.numel()).view(-1)[-1:] -= 1
    save_file(tensors, folder / "shard-1.safetensors")
    files = {p.name: file_facts(p) for p in folder.iterdir() if p.name != commit.COMMIT_FILE}
    commit.commit(folder, run="run", step=10, world_size=2, files=files)
    assert commit.verify(tmp_path / "checkpoints", 10).state == "valid"
    assert not _of_one_step(folder, 10)


def test_the_torn_probe_looks_at_every_shard() -> None:
    assert torn.saved(6, 2).looked == 12


GOOD_LOG = """\
7 openat(AT_FDCWD</r>, "/r/checkpoints/step-1/shard-0.safetensors", O_WRONLY|O_CREAT|O_TRUNC, 0644) = 3
7 write(3</r/checkpoints/step-1/shard-0.safetensors>, ""..., 9 <unfinished ...>
8 write(1<pipe:[1]>, ""..., 4) = 4
7 <... write resumed>) = 9
7 fsync(3</r/checkpoints/step-1/shard-0.safetensors>) = 0
7 openat(AT_FDCWD</r>, "/r/checkpoints/step-1/rank-0.json", O_WRONLY|O_CREAT|O_TRUNC, 0644) = 3
7 write(3</r/checkpoints/step-1/rank-0.json>, ""..., 9) = 9
7 fsync(3</r/checkpoints/step-1/rank-0.json>) = 0
7 fsync(4</r/checkpoints/step-1>) = 0
7 fsync(4</r/checkpoints>) = 0
7 openat(AT_FDCWD</r>, "/r/checkpoints/step-1/.COMMIT.json.7.tmp", O_WRONLY|O_CREAT|O_TRUNC, 0644) = 3
7 write(3</r/checkpoints/step-1/.COMMIT.json.7.tmp>, ""..., 9) = 9
7 fsync(3</r/checkpoints/step-1/.COMMIT.json.7.tmp>) = 0
7 rename("/r/checkpoints/step-1/.COMMIT.json.7.tmp", "/r/checkpoints/step-1/COMMIT.json") = 0
7 fsync(4</r/checkpoints/step-1>) = 0
""".splitlines()


def faults_of(log: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(durability, "WORLD_SIZE", 1)
    faults, commits = durability.judged(durability.calls(log), "/r/checkpoints")
    assert commits == 1
    return faults


def moved(line: str, to: int) -> list[str]:
    rest = [found for found in GOOD_LOG if found != line]
    return [*rest[:to], line, *rest[to:]]


def test_a_good_log_has_no_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    assert faults_of(GOOD_LOG, monkeypatch) == []


@pytest.mark.parametrize(
    ("dropped", "fault"),
    [
        (4, "shard-0.safetensors: write after the last fsync"),
        (7, "rank-0.json: write after the last fsync"),
        (8, "rank-0.json: its folder was not fsynced"),
        (9, "/r/checkpoints/step-1: its own name was not fsynced"),
        (12, ".COMMIT.json.7.tmp: write after the last fsync"),
        (14, "COMMIT.json: the folder was not fsynced after the rename"),
    ],
)
def test_each_missing_fsync_is_seen(monkeypatch: pytest.MonkeyPatch, dropped: int, fault: str) -> None:
    found = faults_of([line for place, line in enumerate(GOOD_LOG) if place != dropped], monkeypatch)
    assert any(text.endswith(fault) or fault in text for text in found), found


def test_a_commit_before_the_data_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    found = faults_of(moved(GOOD_LOG[4], len(GOOD_LOG)), monkeypatch)
    assert any("shard-0.safetensors: not fsynced before the commit" in text for text in found)
