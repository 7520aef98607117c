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
from ecrl.config.run import RunSpec
from ecrl.config.suite import build_run_specs, expand_matrix
from ecrl.launch.launchers.warm import WarmTorchrun
from ecrl.launch.system.device_leases import FOLDER_VARIABLE, DeviceSet, try_lease
from ecrl.launch.system.process import Process
from ecrl.launch.system.process_group import ExitWait
from ecrl.launch.system.process_identity import get_start_ticks
from ecrl.records.paths import RunPaths
from tests.unit.launch.stand_in import MATRIX

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


class WithoutTorch(WarmTorchrun):
    def command(self, spec: RunSpec, paths: RunPaths) -> list[str]:
        return [sys.executable, "-c", AGENT]


@pytest.fixture
def launcher() -> Iterator[WithoutTorch]:
    launcher = WithoutTorch()
    yield launcher
    launcher.close()


def spec(tmp_path: Path, launcher: str = "warm", threads: int = 1) -> RunSpec:
    path = tmp_path / "m.toml"
    path.write_text(f'{MATRIX}\nlauncher = "{launcher}"\nthreads = {threads}\n')
    suite = expand_matrix(load(path))[0]
    return build_run_specs(suite, 1, ("blocking",), prefix="p", device="cpu", data_root=None, claims_hash="c")[0]


def prepare(launcher: WithoutTorch, spec: RunSpec, folder: Path, given_up: Callable[[], bool] = lambda: False) -> bool:
    paths = RunPaths(folder)
    paths.logs.mkdir(parents=True, exist_ok=True)
    with paths.torchrun_log.open("wb") as log:
        return launcher.prepare(spec, paths, folder.parent, log, given_up)


def begin(launcher: WithoutTorch, spec: RunSpec, folder: Path) -> Process:
    prepare(launcher, spec, folder)
    paths = RunPaths(folder)
    with paths.torchrun_log.open("ab") as log:
        return launcher.start(spec, paths, folder.parent, log)


def test_one_agent_serves_run_after_run(launcher: WithoutTorch, tmp_path: Path) -> None:
    runs = []
    for name in ("a", "b", "c"):
        run = begin(launcher, spec(tmp_path), tmp_path / name)
        runs.append((run.wait(), run.pid))
        assert run.poll() == runs[-1][0]
    assert [code for code, _ in runs] == [1, 2, 3]
    assert len({pid for _, pid in runs}) == 1


def test_preparing_waits_for_what_the_agent_imports_and_is_done_once(
    launcher: WithoutTorch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENT_IMPORTS_S", "0.3")
    monkeypatch.setenv("AGENT_IMPORTED", str(tmp_path / "imported"))
    assert prepare(launcher, spec(tmp_path), tmp_path / "a")
    assert (tmp_path / "imported").exists()
    run = begin(launcher, spec(tmp_path), tmp_path / "a")
    assert run.wait() == 1
    assert not prepare(launcher, spec(tmp_path), tmp_path / "b")
    assert begin(launcher, spec(tmp_path), tmp_path / "b").pid == run.pid
    assert not prepare(launcher, spec(tmp_path, "cold"), tmp_path / "c")


def test_preparing_is_given_up_when_asked_to_stop(
    launcher: WithoutTorch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENT_IMPORTS_S", "3600")
    assert prepare(launcher, spec(tmp_path), tmp_path / "a", given_up=lambda: True)
    assert launcher._agent is not None
    launcher._agent.terminate()  # it would look at its socket in an hour


def test_an_agent_that_dies_while_it_imports_fails_its_first_run(
    launcher: WithoutTorch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENT_IMPORTS_S", "no number")
    assert prepare(launcher, spec(tmp_path), tmp_path / "a")
    dead = launcher._agent
    paths = RunPaths(tmp_path / "a")
    with paths.torchrun_log.open("ab") as log:
        run = launcher.start(spec(tmp_path), paths, tmp_path, log)
    assert run.wait() == 1
    assert launcher._agent is dead  # no second one whose imports the run would wait for
    assert "could not convert string to float" in paths.torchrun_log.read_text()
    monkeypatch.setenv("AGENT_IMPORTS_S", "0")
    assert begin(launcher, spec(tmp_path), tmp_path / "b").wait() == 1
    assert launcher._agent is not dead


def test_the_end_of_a_run_is_noticed_at_once_and_not_before(launcher: WithoutTorch, tmp_path: Path) -> None:
    run = begin(launcher, spec(tmp_path), tmp_path / "slow")
    assert run.poll() is None
    waiting = ExitWait(run)
    assert waiting.wait(10.0) == 1
    waiting.close()


def test_an_agent_that_dies_fails_its_run_whatever_it_says_and_the_next_run_has_a_new_one(
    launcher: WithoutTorch, tmp_path: Path
) -> None:
    first = begin(launcher, spec(tmp_path), tmp_path / "dies")
    assert first.wait() == 1  # it exited with 0
    second = begin(launcher, spec(tmp_path), tmp_path / "a")
    assert second.wait() == 1
    assert second.pid != first.pid


def test_runs_that_need_another_environment_get_another_agent(launcher: WithoutTorch, tmp_path: Path) -> None:
    first = begin(launcher, spec(tmp_path), tmp_path / "a")
    first.wait()
    second = begin(launcher, spec(tmp_path, threads=2), tmp_path / "b")
    assert second.wait() == 1
    assert second.pid != first.pid


# ecrl, as far as this goes: a lease, one warm run on it that has ended, and an agent that waits for the next.
KILLED = """
import sys, time
from pathlib import Path
from tests.unit.launch.launchers import test_warm
from ecrl.launch.system.device_leases import DeviceSet, try_lease
launcher = test_warm.WithoutTorch().copy_with_lease(try_lease(DeviceSet(("fake-0",))))
run = test_warm.begin(launcher, test_warm.spec(Path(sys.argv[1])), Path(sys.argv[1]) / "a")
run.wait()
print(run.pid, flush=True)
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
    run = begin(launcher, spec(tmp_path), tmp_path / "a")
    run.wait()
    launcher.close()
    assert not Path(f"/proc/{run.pid}").exists()
    launcher.close()


def test_a_cold_run_has_a_process_of_its_own(tmp_path: Path) -> None:
    launcher = WarmTorchrun()
    command = launcher.command(spec(tmp_path, "cold"), RunPaths(tmp_path / "a"))
    assert command[:3] == [sys.executable, "-m", "torch.distributed.run"]
    assert launcher.command(spec(tmp_path), RunPaths(tmp_path / "a")) == [
        sys.executable,
        "-m",
        "ecrl.worker.warm.server",
    ]


def test_launchers_as_an_axis_make_suites_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text(MATRIX.replace("checkpoint_every", 'launchers = ["cold", "warm"]\ncheckpoint_every'))
    suites = expand_matrix(load(path))
    assert [suite.train.launcher for suite in suites] == ["cold", "warm"] * 2
    assert len({suite.suite_id for suite in suites}) == 4
    assert all("-warm-" in suite.suite_id for suite in suites if suite.train.launcher == "warm")
