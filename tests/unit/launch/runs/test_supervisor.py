"""One run over a stand-in worker group: its result, its launcher's events, and that nothing survives it."""

import json
from pathlib import Path
from typing import Any

import pytest

from ecrl.config.run import RunSpec
from ecrl.launch.campaign.request import resolve_request
from ecrl.launch.runs.progress import RunProgress, SilentObserver
from ecrl.launch.runs.supervisor import Supervisor, set_aside
from ecrl.launch.system.process_identity import CAMPAIGN_MARKER, find_marked_pids
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
    campaign = resolve_request(request(root.parent)).campaign.copy_with_device("cpu")
    run = next(run for run in campaign.runs(campaign.suites[0]) if run.spec.variant == "blocking")
    watching = Recording()
    supervisor = Supervisor(
        StandIn({"blocking": behaviour}),
        campaign.marker,
        watching,
        StopRequest(),
        answer(campaign.matrix).facts,
        timeout_s,
    )
    result = supervisor.run(run)
    assert result is not None
    return run.paths, result, watching


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
