"""attach, stop and --detach where somebody works on a prefix, nobody does, or only seems to."""

import dataclasses
import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from ecrl.errors import EcrlError
from ecrl.launch.campaign import detach
from ecrl.launch.campaign.detach import DetachError, follow, start_detached_command, stop_holder
from ecrl.launch.campaign.lock import holder
from ecrl.launch.campaign.recover import Policy
from ecrl.launch.system.process_identity import get_current_owner
from ecrl.launch.system.signals import StopRequest
from ecrl.records.paths import CampaignPaths
from tests.errors import has_error, raises
from tests.unit.launch.stand_in import StandIn, control, request

# An ecrl as far as this goes: it holds the prefix, talks, and hands over when asked to (`stubborn`: asked twice).
WORKS = """
import pathlib, sys, time
from ecrl.launch.campaign.lock import prefix_lease
from ecrl.launch.system.signals import handle_signals
from ecrl.records.paths import CampaignPaths
with handle_signals() as stop, prefix_lease(CampaignPaths(pathlib.Path(sys.argv[1]), "exp")):
    print("works", file=sys.stderr, flush=True)
    while not (stop.now if "stubborn" in sys.argv else stop):
        time.sleep(0.01)
    print("hands over", file=sys.stderr, flush=True)
"""
Process = subprocess.Popen[bytes]


@pytest.fixture
def paths(tmp_path: Path) -> CampaignPaths:
    """A planned campaign."""
    asked = request(tmp_path / "results")
    control(StandIn()).plan(asked)
    return asked.paths


def command(paths: CampaignPaths, *how: str) -> list[str]:
    return [sys.executable, "-c", WORKS, str(paths.results), *how]


@pytest.fixture
def detached(paths: CampaignPaths) -> Iterator[int]:
    """The pid of one that works without a terminal."""
    pid = start_detached_command(paths, command(paths)).pid
    yield pid
    if holder(paths) is not None:
        stop_holder(paths, now=True)
    os.waitpid(pid, 0)


@pytest.fixture
def stubborn(paths: CampaignPaths) -> Iterator[Process]:
    """One that works on a terminal, as far as its log is concerned, and is slow to hand over."""
    with subprocess.Popen(command(paths, "stubborn"), stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"works\n"
        yield process
        process.kill()


def refused(deed: str, paths: CampaignPaths) -> str:
    """What attach or stop says that finds nobody to turn to; its exit code is 2."""
    deeds: dict[str, Callable[[], object]] = {
        "attach": lambda: follow(paths, print, StopRequest()),
        "stop": lambda: stop_holder(paths),
    }
    with pytest.raises(EcrlError) as raised:
        deeds[deed]()
    assert raised.value.exit_code == 2
    assert len(str(raised.value).splitlines()) <= 3
    return raised.value.format_message()


def sidecar(paths: CampaignPaths) -> Path:
    return paths.root / "exp.holder"


DEEDS = pytest.mark.parametrize("deed", ["attach", "stop"])


@DEEDS
def test_where_nobody_works_the_next_command_depends_on_what_is_left(deed: str, paths: CampaignPaths) -> None:
    where = f"--prefix exp --results {paths.results}"
    assert has_error(refused(deed, paths), "ECRL-314", deed, f"ecrl matrix resume {where}")
    control(StandIn()).resume(paths, Policy())
    assert has_error(refused(deed, paths), "ECRL-314", f"ecrl report {where}")
    missing = CampaignPaths(paths.results, "exq")
    assert has_error(refused(deed, missing), "ECRL-301", "'exq'", "'exp'")
    assert not missing.root.exists()


@DEEDS
def test_what_a_killed_one_has_left_is_nobody(deed: str, paths: CampaignPaths, stubborn: Process) -> None:
    stubborn.kill()
    stubborn.wait()
    assert sidecar(paths).exists()
    assert has_error(refused(deed, paths), "ECRL-314")


@DEEDS
def test_a_pid_handed_out_again_is_left_in_peace(
    deed: str, paths: CampaignPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detach, "_START_TIMEOUT_S", 0.2)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as innocent:
        told = dataclasses.replace(get_current_owner(), pid=innocent.pid, start_ticks=1)
        sidecar(paths).write_text(json.dumps({**dataclasses.asdict(told), "since": "x", "logs": True}))
        assert has_error(refused(deed, paths), "ECRL-314")
        with paths.lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # by one that has not said yet who it is
            assert has_error(refused(deed, paths), "ECRL-309", f"fuser -v {paths.lock}")
        assert innocent.poll() is None


@DEEDS
@pytest.mark.usefixtures("detached")
def test_a_copied_folder_is_nobodys(deed: str, paths: CampaignPaths, tmp_path: Path) -> None:
    shutil.copytree(paths.results, tmp_path / "copy")
    assert has_error(refused(deed, CampaignPaths(tmp_path / "copy", "exp")), "ECRL-314")
    assert holder(paths) is not None


def test_one_on_another_host_is_stopped_there(paths: CampaignPaths, stubborn: Process) -> None:
    told = json.loads(sidecar(paths).read_text())
    sidecar(paths).write_text(json.dumps({**told, "host": "elsewhere", "boot_id": "another"}))
    command = f"ecrl matrix stop {paths.options}"
    assert has_error(refused("stop", paths), "ECRL-310", f"pid {stubborn.pid}", "elsewhere", command)
    assert stubborn.poll() is None


def test_one_with_a_terminal_has_nothing_to_attach_to_though_an_old_log_is_there(
    paths: CampaignPaths, stubborn: Process
) -> None:
    paths.log.write_text("what a former one said\n")
    told = refused("attach", paths)
    command = f"ecrl matrix status --prefix exp --results {paths.results} --watch"
    assert has_error(told, "ECRL-314", f"pid {stubborn.pid}", command)


def test_attached_one_sees_all_there_is_to_the_end(paths: CampaignPaths, detached: int) -> None:
    lines: list[str] = []
    seen_to_the_end: list[object] = []
    follows = threading.Event()

    def standing() -> tuple[str, ...]:
        follows.set()
        return ()

    def view() -> None:
        seen_to_the_end.append(follow(paths, lines.append, StopRequest(), standing=standing))

    viewer = threading.Thread(target=view)
    viewer.start()
    assert follows.wait(30)  # else the campaign may have ended before there was anybody to see it
    assert stop_holder(paths).owner.pid == detached
    viewer.join(30)
    assert seen_to_the_end == [None]
    assert lines == ["works", "hands over"]


@pytest.mark.usefixtures("detached")
def test_where_it_stands_is_told_at_once_and_from_time_to_time(
    paths: CampaignPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detach, "STATUS_EVERY_S", 0.0)
    asked, lines, looks = StopRequest(), list[str](), iter("abc")

    def standing() -> list[str]:
        if (look := next(looks)) == "c":
            asked.request(2)
        return [look]

    assert follow(paths, lines.append, asked, standing=standing) is not None
    assert lines == ["works", "a", "b", "c"]


def test_who_stops_looking_leaves_it_going(paths: CampaignPaths, detached: int) -> None:
    asked = StopRequest()
    asked.request(2)
    still = follow(paths, lambda _line: None, asked)
    assert still is not None
    assert still.owner.pid == detached
    assert holder(paths) == still


def test_one_that_does_not_let_go_is_told_and_a_second_stop_is_a_second_ctrl_c(
    paths: CampaignPaths, stubborn: Process
) -> None:
    with raises("ECRL-315", f"pid {stubborn.pid}", f"ecrl matrix stop {paths.options} --now"):
        stop_holder(paths, patience_s=0.2)
    assert stubborn.poll() is None
    assert stop_holder(paths).owner.pid == stubborn.pid
    assert stubborn.wait(30) == 0


def test_now_does_not_wait_for_a_second_stop(paths: CampaignPaths, stubborn: Process) -> None:
    stop_holder(paths, now=True)
    assert stubborn.wait(30) == 0


def test_what_keeps_a_detached_one_from_starting_is_told_here_and_leaves_nothing(tmp_path: Path) -> None:
    new = CampaignPaths(tmp_path / "results", "new")
    program = "import sys; print('ecrl: MATRIX.toml: found none.', file=sys.stderr); sys.exit(6)"
    with pytest.raises(DetachError) as told:
        start_detached_command(new, [sys.executable, "-c", program])
    assert (str(told.value), told.value.exit_code) == ("MATRIX.toml: found none.", 6)
    assert not new.root.exists()


def test_a_signal_while_it_starts_ends_it(paths: CampaignPaths) -> None:
    asked = StopRequest()
    asked.request(2)
    with raises("ECRL-312", "SIGINT") as raised:
        start_detached_command(paths, [sys.executable, "-c", "import time; time.sleep(60)"], asked)
    assert raised.value.exit_code == 130


def test_a_signal_while_a_new_one_starts_leaves_nothing_behind(tmp_path: Path) -> None:
    new, asked = CampaignPaths(tmp_path / "results", "new"), StopRequest()
    asked.request(2)
    with raises("ECRL-312", "SIGINT"):
        start_detached_command(new, [sys.executable, "-c", "import time; time.sleep(60)"], asked)
    assert not new.root.exists()


def test_one_that_says_nothing_because_the_disk_is_full_is_told_so(
    paths: CampaignPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = [sys.executable, "-c", "raise SystemExit(2)"]
    with raises("ECRL-313", "exit code 2"):
        start_detached_command(paths, silent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: SimpleNamespace(free=0))
    with raises("ECRL-313", f"{paths.root}: 0 B free", "exit code 2", "--results") as raised:
        start_detached_command(paths, silent)
    assert raised.value.exit_code == 2


def test_a_stop_and_a_start_that_take_long_say_what_they_wait_for(
    paths: CampaignPaths, stubborn: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(detach, "_SOON_S", 0.1)
    with raises("ECRL-315"):
        stop_holder(paths, patience_s=0.3, say=said.append)
    assert said
    assert f"waiting for pid {stubborn.pid} to end its workers and hand over (for " in said[0]
    stop_holder(paths, now=True)
    slow = [sys.executable, "-c", "import sys, time; print('slow', file=sys.stderr, flush=True); time.sleep(1)"]
    start_detached_command(paths, slow, say=said.append)
    assert "to begin; its last line: slow (for " in said[-1]


def test_a_start_from_a_folder_that_was_removed_is_a_start(
    paths: CampaignPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    tells = [sys.executable, "-c", "import os, sys; print(os.getcwd(), file=sys.stderr)"]
    assert "/" in start_detached_command(paths, tells).log.read_text().splitlines()
