"""The self-test's checks on a small model: right code passes, every fault is named for what it is."""

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch

from ecrl.checkpoint.sharded import persist
from ecrl.checkpoint.sharded.snapshot import LiveSlot, Slot, Stager, ThreadStager
from ecrl.selftest import checks, cpu, threads, watched
from ecrl.selftest.__main__ import run_plan
from ecrl.selftest.checks import CheckSetup, Mutant
from ecrl.selftest.progress import Progress
from ecrl.selftest.verdict import CheckResult, Plan
from ecrl.selftest.watched import POISON, WatchedBlocking, WatchedOverlapped

STEPS = 5
PATIENCE_S = 0.05


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CheckSetup]:
    threads_before, strict_before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield cpu.make_setup("cnn", STEPS, tmp_path_factory.mktemp("selftest") / "work")
    torch.set_num_threads(threads_before)
    torch.use_deterministic_algorithms(strict_before)


def test_every_check_passes(setup: CheckSetup) -> None:
    findings = {name: check() for name, check in cpu.build_plan(setup)}
    assert {name: f.evidence for name, f in findings.items() if f.verdict != "pass"} == {}
    assert len(findings) == 9


def test_no_copy_is_early_and_every_snapshot_is_compared(setup: CheckSetup) -> None:
    finding = checks.check_unmodified(setup, "adamw", must_hold=True)
    assert finding.verdict == "pass"
    assert finding.details["compared"] == STEPS
    assert finding.details["fence_waits"] == STEPS - 1  # nothing follows the last snapshot
    assert finding.details["overdue_delays"] == 0


@pytest.mark.parametrize(
    ("stager", "torn"),
    [
        (threads.UpdateIgnoresCopy, "optimizer/"),
        (threads.BuffersCopiedLate, "own/buffers/"),
        (threads.PersisterIgnoresCopy, "model/"),
    ],
)
def test_a_broken_stager_is_torn(setup: CheckSetup, stager: type[threads.LateThreadStager], torn: str) -> None:
    finding = checks.check_unmodified(setup, "adamw", make_stager=lambda progress: stager(progress, PATIENCE_S))
    assert finding.verdict == "torn"
    assert "snapshots are not the state after their step" in finding.evidence
    assert any(name.startswith(torn) for name in finding.details["torn_tensors"])


def test_a_fence_that_is_lost_in_production_is_torn(setup: CheckSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ThreadStager, "before_update", lambda _: False)
    assert checks.check_unmodified(setup, "sgd").verdict == "torn"


def test_a_copy_that_was_never_late_shows_nothing(setup: CheckSetup) -> None:
    class AlwaysOver(ThreadStager):
        def before_update(self) -> bool:
            super().before_update()
            return False

    finding = checks.check_unmodified(setup, "sgd", make_stager=lambda _: AlwaysOver(), must_hold=True)
    assert (finding.verdict, finding.evidence) == (
        "inconclusive",
        "no copy was late: training never waited at a fence",
    )


def test_a_mutant_that_is_not_seen_is_inconclusive(setup: CheckSetup) -> None:
    finding = checks.check_mutant(setup, "adamw", Mutant("none", "nothing at all", setup.right))
    assert finding.verdict == "inconclusive"
    assert "cannot see that fence missing here" in finding.evidence


def test_training_that_does_not_repeat_is_no_tear(setup: CheckSetup) -> None:
    other = replace(setup, subject=lambda _: setup.subject("adamw"))
    finding = checks.check_unmodified(other, "sgd")
    assert finding.verdict == "inconclusive"
    assert "training did not repeat itself" in finding.evidence


def test_every_tensor_of_the_subject_changes_at_every_step_save_numpys_key(setup: CheckSetup) -> None:
    leaves = setup.twins["adamw"].leaves
    still = {
        name for a, b in itertools.pairwise(sorted(leaves)) for name in leaves[a] if leaves[a][name] == leaves[b][name]
    }
    assert still == {"own/rng/numpy_keys"}  # changes every 624 numbers; its position changes at every one


@pytest.mark.parametrize("engine", [WatchedOverlapped, WatchedBlocking])
def test_poison_in_a_shard_is_torn(
    setup: CheckSetup, engine: type[watched.WatchedEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rank = persist.write_rank

    def poisoned(folder: Path, slot: Slot, **rest: object) -> object:
        if isinstance(slot, LiveSlot):  # not the training's own tensors
            name, view = max(slot.views.items(), key=lambda item: item[1].nbytes)
            slot.views[name] = torch.full((view.nbytes,), POISON, dtype=torch.uint8).view(view.dtype).view(view.shape)
        else:
            slot.payload[:4096].fill_(POISON)
        return write_rank(folder, slot, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr("ecrl.checkpoint.sharded.engine.write_rank", poisoned)
    finding = checks.check_on_disk(setup, "sgd", engine)
    assert finding.verdict == "torn"
    assert finding.details["poisoned"] == setup.disk_steps


def test_a_checkpoint_that_is_not_committed_is_wrong(setup: CheckSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ecrl.checkpoint.sharded.engine.write_rank", full)
    finding = checks.check_on_disk(setup, "sgd", WatchedOverlapped)
    assert finding.verdict == "wrong"
    assert "no COMMIT.json" in finding.evidence


def test_poison_is_told_from_numbers_near_it() -> None:
    payload = np.zeros(64, dtype=np.uint8)
    payload[5:20] = POISON  # one whole word, and parts of two
    assert watched.count_poison_words(payload) == 1


def told_by(plan: Plan) -> list[dict[str, str]]:
    out = StringIO()
    run_plan(plan, out)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_check_that_fails_is_told_and_the_others_go_on(capfd: pytest.CaptureFixture[str]) -> None:
    def fails() -> CheckResult:
        raise ZeroDivisionError("no")

    told = told_by(iter([("first", fails), ("second", lambda: CheckResult("pass", "it did"))]))
    assert [(check["name"], check["verdict"]) for check in told] == [("first", "wrong"), ("second", "pass")]
    assert told[0]["evidence"] == "the check failed: ZeroDivisionError: no"
    assert "Traceback" in capfd.readouterr().err


def test_an_error_in_training_leaves_no_thread_behind(setup: CheckSetup) -> None:
    import threading

    class Fails(ThreadStager):
        def before_update(self) -> bool:
            raise MemoryError("no room")

    def maker(_: Progress) -> Stager:
        return Fails()

    before = threading.active_count()
    with pytest.raises(MemoryError):
        checks.check_unmodified(setup, "sgd", make_stager=maker)
    assert eventually(lambda: threading.active_count() <= before)


def eventually(holds: Callable[[], bool]) -> bool:
    import time

    deadline = time.monotonic() + 10
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)
    return holds()
