"""The orchestrator's side of the warm agent, over an agent without torch."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ecrl.config.load import load
from ecrl.config.suite import build_run_specs, expand_matrix
from ecrl.launch.launchers import warm
from ecrl.launch.launchers.warm import Warm
from ecrl.launch.runs.launcher import RunHandle
from ecrl.launch.runs.run import Run
from ecrl.launch.system import process_group
from ecrl.launch.system.device_leases import FOLDER_VARIABLE, DeviceSet, try_lease
from ecrl.launch.system.process_identity import get_start_ticks
from ecrl.records.paths import RunPaths
from tests.unit.launch.stand_in import MATRIX

PATIENCE_S = 30.0
# Answers every order with the number of orders so far, and does what the run's folder is called.
AGENT = """
import json, os, socket, sys, time
control = socket.socket(fileno=0)
time.sleep(float(os.environ.get("AGENT_IMPORTS_S", "0")))
if "AGENT_IMPORTED" in os.environ:
    open(os.environ["AGENT_IMPORTED"], "w").close()
control.sendall(b'{"ready": true}\\n')
for number, line in enumerate(control.makefile("rb"), start=1):
    order = json.loads(line)
    deed = os.path.basename(order["folder"])
    if deed == "dies":
        os._exit(0)
    if deed == "slow":
        time.sleep(0.2)
    control.sendall(json.dumps({"code": number}).encode() + b"\\n")
"""


class WithoutTorch(Warm):
    def command(self, run: Run) -> list[str]:
        return [sys.executable, "-c", AGENT]


@pytest.fixture
def launcher() -> Iterator[WithoutTorch]:
    launcher = WithoutTorch()
    yield launcher
    launcher.close()


def run_in(folder: Path, threads: int = 1) -> Run:
    path = folder.parent / "m.toml"
    path.write_text(f'{MATRIX}\nlauncher = "warm"\nthreads = {threads}\n')
    suite = expand_matrix(load(path))[0]
    specs = build_run_specs(suite, 1, ("blocking",), prefix="p", device="cpu", data_root=None, claims_hash="c")
    return Run(specs[0], RunPaths(folder))


def prepare(launcher: WithoutTorch, run: Run, given_up: Callable[[], bool] = lambda: False) -> bool:
    run.paths.logs.mkdir(parents=True, exist_ok=True)
    with run.paths.torchrun_log.open("wb") as log:
        return launcher.prepare(run, run.paths.folder.parent, log, given_up)


def start(launcher: WithoutTorch, run: Run) -> RunHandle:
    with run.paths.torchrun_log.open("ab") as log:
        return launcher.start(run, run.paths.folder.parent, log)


def begin(launcher: WithoutTorch, run: Run) -> RunHandle:
    prepare(launcher, run)
    return start(launcher, run)


def ended(handle: RunHandle) -> int | None:
    """The exit code of a run that ends soon."""
    code = handle.wait(PATIENCE_S)
    assert handle.poll() == code
    handle.close()
    return code


def test_one_agent_serves_run_after_run(launcher: WithoutTorch, tmp_path: Path) -> None:
    runs = []
    for name in ("a", "b", "c"):
        handle = begin(launcher, run_in(tmp_path / name))
        runs.append((ended(handle), handle.owner.pid))
    assert [code for code, _ in runs] == [1, 2, 3]
    assert len({pid for _, pid in runs}) == 1


def test_closing_one_agent_leaves_those_of_suites_side_by_side_alone(launcher: WithoutTorch, tmp_path: Path) -> None:
    beside = WithoutTorch()
    assert ended(begin(beside, run_in(tmp_path / "a"))) == 1
    assert ended(begin(launcher, run_in(tmp_path / "b"))) == 1
    beside.close()
    assert ended(begin(launcher, run_in(tmp_path / "c"))) == 2, "the same agent, for the second time"


def test_preparing_waits_for_what_the_agent_imports_and_is_done_once(
    launcher: WithoutTorch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENT_IMPORTS_S", "0.3")
    monkeypatch.setenv("AGENT_IMPORTED", str(tmp_path / "imported"))
    assert prepare(launcher, run_in(tmp_path / "a"))
    assert (tmp_path / "imported").exists()
    first = begin(launcher, run_in(tmp_path / "a"))
    assert ended(first) == 1
    assert not prepare(launcher, run_in(tmp_path / "b"))
    second = begin(launcher, run_in(tmp_path / "b"))
    assert ended(second) == 2
    assert second.owner == first.owner


def test_preparing_is_given_up_when_asked_to_stop(
    launcher: WithoutTorch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENT_IMPORTS_S", "3600")
    assert prepare(launcher, run_in(tmp_path / "a"), given_up=lambda: True)
    assert launcher._agent is not None
    launcher._agent.terminate()  # it would look at its socket in an hour


def test_an_agent_that_dies_while_it_imports_fails_its_first_run(
    launcher: WithoutTorch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENT_IMPORTS_S", "no number")
    run = run_in(tmp_path / "a")
    assert prepare(launcher, run)
    dead = launcher._agent
    assert ended(start(launcher, run)) == 1
    assert launcher._agent is dead  # no second one whose imports the run would wait for
    assert "could not convert string to float" in run.paths.torchrun_log.read_text()
    monkeypatch.setenv("AGENT_IMPORTS_S", "0")
    assert ended(begin(launcher, run_in(tmp_path / "b"))) == 1
    assert launcher._agent is not dead


def test_the_end_of_a_run_is_noticed_at_once_and_not_before(launcher: WithoutTorch, tmp_path: Path) -> None:
    handle = begin(launcher, run_in(tmp_path / "slow"))
    assert handle.poll() is None
    assert ended(handle) == 1


def test_an_agent_that_dies_fails_its_run_whatever_it_says_and_the_next_run_has_a_new_one(
    launcher: WithoutTorch, tmp_path: Path
) -> None:
    first = begin(launcher, run_in(tmp_path / "dies"))
    assert ended(first) == 1  # it exited with 0
    second = begin(launcher, run_in(tmp_path / "a"))
    assert ended(second) == 1
    assert second.owner != first.owner


def test_runs_that_need_another_environment_get_another_agent(launcher: WithoutTorch, tmp_path: Path) -> None:
    first = begin(launcher, run_in(tmp_path / "a"))
    assert ended(first) == 1
    second = begin(launcher, run_in(tmp_path / "b", threads=2))
    assert ended(second) == 1
    assert second.owner != first.owner


# ecrl, as far as this goes: a lease, one warm run on it that has ended, and an agent that waits for the next.
KILLED = """
import sys, time
from pathlib import Path
from tests.unit.launch.launchers import test_warm
from ecrl.launch.system.device_leases import DeviceSet, try_lease
launcher = test_warm.WithoutTorch(try_lease(DeviceSet(("fake-0",))))
handle = test_warm.begin(launcher, test_warm.run_in(Path(sys.argv[1]) / "a"))
test_warm.ended(handle)
print(handle.owner.pid, flush=True)
time.sleep(60)
"""


def test_an_idle_agent_keeps_the_devices_of_a_killed_ecrl_until_it_has_ended_and_that_is_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "leases"))
    device = DeviceSet(("fake-0",))
    root = Path(__file__).parents[4]
    with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, cwd=root) as ecrl:
        assert ecrl.stdout is not None
        agent = int(ecrl.stdout.readline())
        assert try_lease(device) is None
        os.kill(agent, signal.SIGSTOP)  # it cannot end now
        ecrl.kill()
    assert try_lease(device) is None
    os.kill(agent, signal.SIGCONT)
    deadline = time.monotonic() + 30
    while (lease := try_lease(device)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    lease.release()
    assert get_start_ticks(agent) is None


def test_closing_ends_the_agent_and_closing_again_is_nothing(launcher: WithoutTorch, tmp_path: Path) -> None:
    handle = begin(launcher, run_in(tmp_path / "a"))
    ended(handle)
    launcher.close()
    assert not Path(f"/proc/{handle.owner.pid}").exists()
    launcher.close()


def test_an_agent_that_does_not_end_is_spoken_of_meanwhile(
    launcher: WithoutTorch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(warm, "_GRACE_S", 0.3)
    monkeypatch.setattr(process_group, "GRACE_S", 0.1)
    monkeypatch.setattr(process_group, "_SOON_S", 0.1)
    handle = begin(launcher, run_in(tmp_path / "a"))
    ended(handle)
    os.kill(handle.owner.pid, signal.SIGSTOP)
    launcher.close(process_group.watch_end("the agent to end", said.append))
    assert get_start_ticks(handle.owner.pid) is None
    assert said[0].startswith("waiting for the agent to end")


def test_who_is_in_a_hurry_does_not_wait_for_an_agent(launcher: WithoutTorch, tmp_path: Path) -> None:
    handle, begun = begin(launcher, run_in(tmp_path / "a")), time.monotonic()
    ended(handle)
    os.kill(handle.owner.pid, signal.SIGSTOP)
    launcher.close(lambda: True)
    assert get_start_ticks(handle.owner.pid) is None
    assert time.monotonic() - begun < warm._GRACE_S


def test_the_agent_is_started_by_the_name_of_its_module(tmp_path: Path) -> None:
    assert Warm().command(run_in(tmp_path / "a")) == [sys.executable, "-P", "-m", "ecrl.worker.warm.server"]


def test_launchers_as_an_axis_make_suites_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text(MATRIX.replace("checkpoint_every", 'launchers = ["cold", "warm"]\ncheckpoint_every'))
    suites = expand_matrix(load(path))
    assert [suite.train.launcher for suite in suites] == ["cold", "warm"] * 2
    assert len({suite.suite_id for suite in suites}) == 4
    assert all("-warm-" in suite.suite_id for suite in suites if suite.train.launcher == "warm")
