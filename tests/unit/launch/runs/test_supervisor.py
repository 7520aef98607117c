"""One run over a stand-in worker group: its result, its launcher's events, and that nothing survives it."""

import errno
import json
import os
import signal
import time
from pathlib import Path
from typing import Any, TypeVar

import pytest

from ecrl.config.run import RunSpec
from ecrl.launch.campaign.request import resolve_request
from ecrl.launch.runs import supervisor
from ecrl.launch.runs.progress import RunProgress, SilentObserver
from ecrl.launch.runs.run_clock import PAUSE_S
from ecrl.launch.runs.supervisor import Supervisor, set_aside
from ecrl.launch.system.process_identity import CAMPAIGN_MARKER, find_marked_pids, get_start_ticks
from ecrl.launch.system.signals import StopRequest
from ecrl.records.paths import RunPaths
from ecrl.records.result import Result
from tests.unit.launch.stand_in import StandIn, answer, request


class Recording(SilentObserver):
    """Keeps what a run was seen doing."""

    def __init__(self) -> None:
        self.doing: list[str] = []
        self.last: RunProgress | None = None

    def run_progress(self, spec: RunSpec, progress: RunProgress) -> None:
        self.doing.append(progress.doing)
        self.last = progress


@pytest.fixture
def campaign_root(tmp_path: Path) -> Path:
    return tmp_path / "results" / "exp"


def supervised(root: Path, behaviour: str, timeout_s: float | None = None) -> tuple[RunPaths, Result, Recording]:
    paths, result, watching = watched(root, behaviour, Recording(), timeout_s=timeout_s)
    assert result is not None
    return paths, result, watching


Watching = TypeVar("Watching", bound=SilentObserver)


def watched(
    root: Path, behaviour: str, watching: Watching, stop: StopRequest | None = None, **limits: float | None
) -> tuple[RunPaths, Result | None, Watching]:
    """The run of a stand-in under an observer; its result is None if ecrl was asked to stop."""
    campaign = resolve_request(request(root.parent)).campaign.copy_with_device("cpu")
    run = next(run for run in campaign.runs(campaign.suites[0]) if run.spec.variant == "blocking")
    launcher, facts = StandIn({"blocking": behaviour}), answer(campaign.matrix).facts
    asked = StopRequest() if stop is None else stop
    return run.paths, Supervisor(launcher, campaign.marker, watching, asked, facts, **limits).run(run), watching


def launcher_events(paths: RunPaths) -> list[dict[str, Any]]:
    return [json.loads(line) for line in paths.launcher_events.read_text().splitlines()]


def test_a_run_with_a_planned_failure_completes_and_its_launchers_side_is_recorded(campaign_root: Path) -> None:
    paths, result, watching = supervised(campaign_root, "ok")
    assert (result["outcome"], result["restarts"], result["failures_fired"]) == ("completed", 1, 1)
    assert [e["e"] for e in launcher_events(paths)] == ["spawn", "worker_failed", "exit"]
    spawn, failed, ended = launcher_events(paths)
    assert (failed["local_rank"], failed["exitcode"], ended["code"]) == (0, -9, 0)
    assert result["wall_s"] == pytest.approx((ended["t"] - spawn["t"]) / 1e9, abs=1e-6)
    assert json.loads(paths.result.read_text()) == result
    assert watching.last is not None
    assert watching.last.total == 6


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("crash", "RuntimeError: boom (rank 1, after step 3)"),
        ("died", "rank 0 died unplanned: SIGSEGV (before its first step)"),
        ("silent", "no worker started, torchrun ended with exit code 3: ImportError: something is missing"),
        ("skips-failure", "planned failures [0], struck []"),
    ],
)
def test_a_failed_run_says_why(campaign_root: Path, behaviour: str, reason: str) -> None:
    paths, result, _ = supervised(campaign_root, behaviour)
    assert result["outcome"] == "failed"
    assert reason in result["reason"]
    assert (paths.folder / result["log"]).exists()


def test_collateral_errors_do_not_fail_a_run(campaign_root: Path) -> None:
    assert supervised(campaign_root, "collateral")[1]["outcome"] == "completed"


def test_nothing_of_an_ended_run_survives_in_whatever_session(campaign_root: Path) -> None:
    _, result, _ = supervised(campaign_root, "hang", timeout_s=1.0)
    assert "not done after 1 s" in result["reason"]
    assert find_marked_pids(CAMPAIGN_MARKER, campaign_root.resolve()) == []


def ends(paths: RunPaths) -> list[int]:
    """The stamps at which the ranks of the last attempt recorded their ends."""
    return [json.loads(paths.events(1, rank).read_text().splitlines()[-1])["t"] for rank in (0, 1)]


class StandsStill(SilentObserver):
    """Keeps ecrl from looking, once, as Ctrl-Z does."""

    def __init__(self) -> None:
        self.stood = False

    def run_progress(self, spec: RunSpec, progress: RunProgress) -> None:
        if not self.stood:
            self.stood = True
            time.sleep(PAUSE_S + 0.5)


def test_a_run_ends_when_its_ranks_end_however_late_ecrl_sees_it(campaign_root: Path) -> None:
    paths, result, _ = watched(campaign_root, "ok", StandsStill(), timeout_s=60.0)
    assert result is not None
    spawn, paused, *_, ended = launcher_events(paths)
    assert (paused["e"], ended["e"], result["outcome"]) == ("paused", "exit", "completed")
    assert ended["t"] == max(ends(paths)) < paused["t"] < ended["seen"]
    assert result["wall_s"] == pytest.approx((max(ends(paths)) - spawn["t"]) / 1e9, abs=1e-6)


def test_a_failed_run_does_not_last_until_ecrl_is_back(campaign_root: Path) -> None:
    paths, result, _ = watched(campaign_root, "silent", StandsStill())
    assert result is not None
    _, paused, ended = launcher_events(paths)
    assert (paused["e"], result["outcome"]) == ("paused", "failed")
    assert paused["t0"] <= ended["t"] < paused["t"]


def test_a_launcher_that_hangs_after_its_ranks_ends_fails_no_run(
    campaign_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_LEAVE_S", 0.2)
    paths, result, _ = watched(campaign_root, "lingers", Recording(), stall_timeout_s=0.5)
    assert result is not None
    assert (result["outcome"], launcher_events(paths)[-1]["t"]) == ("completed", max(ends(paths)))


def test_a_run_that_stands_still_is_ended_and_its_place_named(campaign_root: Path) -> None:
    _, result, _ = watched(campaign_root, "hang", Recording(), stall_timeout_s=1.0)
    assert result is not None
    assert "no step for 1 s (run.stall_timeout_s): every rank is training, after step 3 of 6" in result["reason"]
    assert result["failure"]["kind"] == "timeout"


class SignalsAll(SilentObserver):
    """A scheduler that sends one signal to every process of the job, once a run does this and has written so many
    events of this kind."""

    def __init__(self, stop: StopRequest, root: Path, doing: str, kind: str, number: int) -> None:
        self.stop, self.root, self.doing, self.kind, self.number = stop, root, doing, kind, number

    def run_progress(self, spec: RunSpec, progress: RunProgress) -> None:
        files = self.root.glob("suites/*/*/*/events-?-?.jsonl")
        found = sum(path.read_text().count(f'"e":"{self.kind}"') for path in files)
        if progress.doing == self.doing and found == self.number and not self.stop:
            self.stop.request(signal.SIGUSR1)
            assert progress.launcher_pid is not None
            os.kill(progress.launcher_pid, signal.SIGUSR1)
            while get_start_ticks(progress.launcher_pid) is not None:
                time.sleep(0.005)


@pytest.mark.parametrize(
    ("behaviour", "doing", "kind", "number", "outcome"),
    [("hang", "training", "step", 6, None), ("lingers", "stopping", "end", 2, "completed")],
)
def test_a_run_that_dies_of_the_signal_that_stops_ecrl_has_a_result_only_if_its_ranks_have_ended(
    campaign_root: Path, behaviour: str, doing: str, kind: str, number: int, outcome: str | None
) -> None:
    stop = StopRequest()
    _, result, _ = watched(campaign_root, behaviour, SignalsAll(stop, campaign_root, doing, kind, number), stop)
    assert (None if result is None else result["outcome"]) == outcome


def test_leftovers_are_set_aside_without_their_checkpoints_and_never_deleted(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path / "seed1")
    assert set_aside(paths) is None
    for _ in range(2):
        paths.checkpoints.mkdir(parents=True)
        (paths.checkpoints / "shard").write_text("x")
        paths.spec.write_text("{}")
        set_aside(paths)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["seed1.aside-1", "seed1.aside-2"]
    assert not (tmp_path / "seed1.aside-1" / "checkpoints").exists()
    assert (tmp_path / "seed1.aside-2" / "run.json").exists()


def test_what_a_file_system_cannot_rename_is_set_aside_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def refuses(self: Path, target: Path) -> Path:
        if self == paths.folder:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuses)
    paths = RunPaths(tmp_path / "seed1")
    (paths.checkpoints / "step-1").mkdir(parents=True)
    paths.logs.mkdir()
    paths.spec.write_text("{}")
    assert set_aside(paths) == tmp_path / "seed1.aside-1"
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "seed1.aside-1", "seed1.aside-1/logs", "seed1.aside-1/run.json",
    ]  # fmt: skip


def test_checkpoints_that_are_a_link_lose_the_link_alone(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path / "seed1")
    paths.folder.mkdir()
    (tmp_path / "elsewhere").mkdir()
    paths.checkpoints.symlink_to(tmp_path / "elsewhere")
    aside = set_aside(paths)
    assert aside is not None
    assert list(aside.iterdir()) == []
    assert (tmp_path / "elsewhere").is_dir()
