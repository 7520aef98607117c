"""`warm`: one agent process that serves run after run, its ranks forked with everything imported.

The orchestrator knows the agent's command line and one socket (the agent's stdin): a run is asked for with one
JSON line, and its end is told with one. Before the first the agent says that it is ready: until then it imports, which
no run is to be charged with. The agent dies with a run that is ended by force, and is made anew
for the next one; it ends when the socket is closed, so it cannot outlive this process for longer than a run.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from ecrl.launch.runs.launcher import LauncherPlugin, RunHandle
from ecrl.launch.runs.run import Run
from ecrl.launch.runs.torchrun import TorchrunHandle, TorchrunLauncher
from ecrl.launch.system.device_leases import Lease
from ecrl.launch.system.process_group import end_leftovers, end_run
from ecrl.launch.system.process_identity import RUN_MARKER

_LONGEST_PATH = 4096
_GRACE_S = 5.0  # between closing the socket and SIGTERM
_POLL_S = 0.1  # between two looks whether a new agent is still wanted
_READY_S = 300.0  # a busy network file system may take a minute to import torch from


class WarmRun(TorchrunHandle):
    """One run inside an agent: it ends when the agent says so, or dies."""

    def __init__(self, run: Run, agent: "subprocess.Popen[bytes]", replies: socket.socket) -> None:
        self._replies = replies
        self._heard = b""
        self._code: int | None = None
        super().__init__(run, agent)

    def poll(self) -> int | None:
        if self._code is None:
            self._receive(0.0)
        return self._code

    def _open_exit_fd(self) -> int | None:
        return os.dup(self._replies.fileno())

    def _join(self) -> int:
        while self._code is None:
            self._receive(None)
        return self._code

    def _receive(self, timeout_s: float | None) -> None:
        self._replies.settimeout(timeout_s)
        try:
            data = self._replies.recv(4096)
        except (BlockingIOError, TimeoutError):
            return
        except ConnectionError:
            data = b""
        *told, self._heard = (self._heard + data).split(b"\n")
        for line in told:
            self._code = json.loads(line).get("code")  # no code: it had been given up waiting for, and is ready now
        if self._code is None and not data:
            self._code = self._process.wait() or 1  # whatever it says, it did not end its run


class Warm(TorchrunLauncher):
    """An agent that the first run starts, and that serves the next ones as long as they need no other environment."""

    def __init__(self, lease: Lease | None = None) -> None:
        super().__init__(lease)
        self._agent: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._environment: dict[str, str] = {}

    def command(self, run: Run) -> list[str]:
        """The agent's; what belongs to the run it is told through its stdin."""
        return [sys.executable, "-m", "ecrl.worker.warm.server"]

    def environment(self, run: Run, campaign: Path) -> dict[str, str]:
        """The agent's, which is any run's that needs the same devices and threads."""
        return super().environment(run, campaign) | {
            # Says whose agent it is, and makes room for the folder that each rank writes over it.
            RUN_MARKER: f"warm agent of pid {os.getpid()} in {campaign} ".ljust(_LONGEST_PATH, "."),
            "OPENBLAS_NUM_THREADS": "1",  # else numpy starts threads in the fork server, which must have none
        }

    def start(self, run: Run, campaign: Path, log: IO[bytes]) -> RunHandle:
        """Ask the agent for a run; it is started first where there is none."""
        order = {
            "folder": str(run.paths.folder),
            "log": str(run.paths.torchrun_log),
            "environment": {RUN_MARKER: str(run.paths.folder)},
            "torchrun": ["--start-method", "forkserver", *self.arguments(run)],
        }
        agent, control = self._ensure_agent(run, campaign, log)
        with contextlib.suppress(ConnectionError):  # died since: its run hears of it, and ends
            control.settimeout(None)
            control.sendall(json.dumps(order).encode() + b"\n")
        return WarmRun(run, agent, control)

    def prepare(self, run: Run, campaign: Path, log: IO[bytes], given_up: Callable[[], bool]) -> bool:
        """Start the agent, if it is not there, and wait until it has imported everything."""
        if self._agent is not None and self._agent.poll() is not None:
            self.close()
        before = self._agent
        agent, control = self._ensure_agent(run, campaign, log)
        if agent is before:
            return False
        control.settimeout(_POLL_S)
        deadline = time.monotonic() + _READY_S
        while not given_up() and time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                with contextlib.suppress(ConnectionError):
                    control.recv(4096)
                break  # it is ready, or has died
        return True  # one that died or takes for ever is its first run's to tell

    def _ensure_agent(
        self, run: Run, campaign: Path, log: IO[bytes]
    ) -> "tuple[subprocess.Popen[bytes], socket.socket]":
        """The agent, made anew where there is none or the run needs another environment."""
        environment = self.environment(run, campaign)
        if self._agent is not None and environment != self._environment:
            self.close()
        if self._agent is None or self._control is None:
            self._control, its_end = socket.socketpair()
            with its_end:  # `log`: until it is told the log of its first run
                self._agent = self.spawn(run, campaign, log, its_end.fileno())
            self._environment = environment
        return self._agent, self._control

    def close(self) -> None:
        """End the agent and its fork server, if there are any."""
        agent, control, marker = self._agent, self._control, Path(self._environment.get(RUN_MARKER, ""))
        self._agent = self._control = None
        if control is not None:
            control.close()
        if agent is not None:
            try:
                agent.wait(_GRACE_S)
                end_leftovers(marker)
            except subprocess.TimeoutExpired:
                end_run(agent.pid, marker, stop_now=lambda: False)
                agent.wait()


PLUGIN = LauncherPlugin(
    description="torchrun's agent kept from run to run, its ranks forked with everything imported",
    make=Warm,
    leases_devices=True,
    forks_warm=True,
    serves_many_runs=True,
    is_local=True,
)
