"""ecrl killed, stopped and doubled at many instants, over stand-in workers so that it takes seconds."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ecrl.launch.system.process_identity import CAMPAIGN_MARKER, find_marked_pids
from ecrl.records.manifest import store as manifest
from ecrl.records.paths import CampaignPaths
from tests.matrices import without_warm_up
from tests.unit.launch.stand_in import MATRIX

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[CampaignPaths]:
    (tmp_path / "matrix.toml").write_text(without_warm_up(MATRIX))
    paths = CampaignPaths(tmp_path / "results", "exp")
    yield paths
    for pid in find_marked_pids(CAMPAIGN_MARKER, paths.root.resolve()):
        os.kill(pid, signal.SIGKILL)


def ecrl(paths: CampaignPaths, command: str, **behaviours: str) -> "subprocess.Popen[str]":
    matrix = paths.results.parent / "matrix.toml"
    arguments = [command, str(paths.results), paths.prefix, str(matrix), json.dumps(behaviours)]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.unit.launch.stand_in", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def results(paths: CampaignPaths) -> dict[str, int]:
    found = paths.root.rglob("result.json")
    return {str(path): path.stat().st_mtime_ns for path in found if ".aside-" not in str(path)}


def hanging(paths: CampaignPaths) -> Callable[[], bool]:
    """Whether the run that hangs has left its steps and its helper lives."""
    return lambda: len(find_marked_pids(CAMPAIGN_MARKER, paths.root.resolve())) == 2


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_workers_and_exits_with_its_code(paths: CampaignPaths, signum: int, code: int) -> None:
    process = ecrl(paths, "run", blocking="hang")
    wait_for(hanging(paths))
    process.send_signal(signum)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert errors.splitlines()[-1].startswith("ecrl matrix resume --prefix exp")
    assert find_marked_pids(CAMPAIGN_MARKER, paths.root.resolve()) == []
    assert "interrupted" in {row.status for row in manifest.read(paths).rows.values()}


def test_a_hang_up_of_the_terminal_itself_still_hands_over(paths: CampaignPaths) -> None:
    process = ecrl(paths, "run", blocking="hang")
    wait_for(hanging(paths))
    assert process.stderr is not None
    process.stderr.close()  # from here on nobody reads: every message of ecrl fails
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=60) == 129
    assert process.stdout is not None
    process.stdout.close()
    assert find_marked_pids(CAMPAIGN_MARKER, paths.root.resolve()) == []
    assert "interrupted" in {row.status for row in manifest.read(paths).rows.values()}


def test_a_second_ecrl_exits_5_and_names_the_first(paths: CampaignPaths) -> None:
    first = ecrl(paths, "run", blocking="hang")
    wait_for(hanging(paths))
    second = ecrl(paths, "resume")
    _, errors = second.communicate(timeout=60)
    assert second.returncode == 5
    assert f"pid {first.pid} on" in errors
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=60)


def test_killed_at_any_instant_nothing_is_lost_repeated_or_left_behind(paths: CampaignPaths) -> None:
    rng = random.Random(4)
    seen: dict[str, int] = {}
    for _ in range(12):
        process = ecrl(paths, "run")
        with_luck = rng.uniform(0.2, 1.6)
        try:
            process.wait(timeout=with_luck)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
        now = results(paths)
        assert {path: now.get(path) for path in seen} == seen
        seen = now
    process = ecrl(paths, "run")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    now = results(paths)
    assert {path: now.get(path) for path in seen} == seen
    assert len(now) == 6
    assert {row.status for row in manifest.read(paths).rows.values()} <= {"completed", "skipped_exists"}
    assert find_marked_pids(CAMPAIGN_MARKER, paths.root.resolve()) == []
