"""`warm`: one agent process serves several runs; its ranks are forked with everything imported.

ecrl and the agent talk through one socket, the agent's stdin. ecrl requests a run with one JSON line; the agent reports
the end of the run with another. A new agent first reports that it is ready; before that it imports, and this time does
not count for any run. The agent dies with a run that is ended by force, and a new one is started for the next run. It
ends when the socket is closed, so it outlives this process by one run at most.
"""

import contextlib
import itertools
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from ecrl.launch.runs.launcher import LauncherPlugin, RunHandle
from ecrl.launch.runs.run import Run
from ecrl.launch.runs.torchrun import TorchrunHandle, TorchrunLauncher
from ecrl.launch.system.child import build_module_command
from ecrl.launch.system.device_leases import Lease
from ecrl.launch.system.process_group import end_leftovers, end_run
from ecrl.launch.system.process_identity import RUN_MARKER

_LONGEST_PATH = 4096
_IDS = itertools.count()
_GRACE_S = 5.0  # between closing the socket and SIGTERM
_POLL_S = 0.1  # between two checks whether a new agent is still wanted
_END_POLL_S = 0.01
_READY_S = 300.0  # a busy network file system may take a minute to import torch from


class WarmRun(TorchrunHandle):
    """One run inside an agent. It ends when the agent reports it, or dies."""

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
            self._code = json.loads(line).get("code")  # no code: a late 'ready' of an agent
        if self._code is None and not data:
            self._code = self._process.wait() or 1  # an agent that exits with 0 did not finish its run


class Warm(TorchrunLauncher):
    """An agent that the first run starts. It serves later runs as long as they need the same environment."""

    def __init__(self, lease: Lease | None = None) -> None:
        super().__init__(lease)
        self._agent: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._environment: dict[str, str] = {}
        self._id = next(_IDS)

    def command(self, run: Run) -> list[str]:
        """The command line of the agent. The agent receives a run's details through its stdin."""
        return [*build_module_command("ecrl.worker.warm.server")]

    def environment(self, run: Run, campaign: Path) -> dict[str, str]:
        """The environment of the agent, which serves every run that needs the same devices and threads."""
        return super().environment(run, campaign) | {
            # Names this agent alone, since `close` ends whatever carries it: suites side by side have an agent each.
            # It reserves space, too: each rank overwrites it with its run's folder.
            RUN_MARKER: f"warm agent {self._id} of pid {os.getpid()} in {campaign} ".ljust(_LONGEST_PATH, "."),
            "OPENBLAS_NUM_THREADS": "1",  # otherwise numpy starts threads in the fork server, which must have none
        }

    def start(self, run: Run, campaign: Path, log: IO[bytes]) -> RunHandle:
        """Request a run from the agent; starts the agent first if there is none."""
        order = {
            "folder": str(run.paths.folder),
            "log": str(run.paths.torchrun_log),
            "environment": {RUN_MARKER: str(run.paths.folder)},
            "torchrun": ["--start-method", "forkserver", *self.arguments(run)],
        }
        agent, control = self._ensure_agent(run, campaign, log)
        with contextlib.suppress(ConnectionError):  # the agent has died: WarmRun notices and ends
            control.settimeout(None)
            control.sendall(json.dumps(order).encode() + b"\n")
        return WarmRun(run, agent, control)

    def prepare(self, run: Run, campaign: Path, log: IO[bytes], given_up: Callable[[], bool]) -> bool:
        """Start the agent if there is none, and wait until it has imported everything.

        Returns whether an agent was started.
        """
        if self._agent is not None and self._agent.poll() is not None:
            self.close(given_up)
        before = self._agent
        agent, control = self._ensure_agent(run, campaign, log, given_up)
        if agent is before:
            return False
        control.settimeout(_POLL_S)
        deadline = time.monotonic() + _READY_S
        while not given_up() and time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                with contextlib.suppress(ConnectionError):
                    control.recv(4096)
                break  # it is ready, or has died
        return True  # if it died or hangs, its first run reports that

    def _ensure_agent(
        self, run: Run, campaign: Path, log: IO[bytes], now: Callable[[], bool] = lambda: False
    ) -> "tuple[subprocess.Popen[bytes], socket.socket]":
        """The agent and its socket. A new agent is started if there is none or the run needs another environment.

        now: see `close`, which ends an agent of another environment.
        """
        environment = self.environment(run, campaign)
        if self._agent is not None and environment != self._environment:
            self.close(now)
        if self._agent is None or self._control is None:
            self._control, its_end = socket.socketpair()
            with its_end:  # `log` is used until the first run names its own
                self._agent = self.spawn(run, campaign, log, its_end.fileno())
            self._environment = environment
        return self._agent, self._control

    def close(self, now: Callable[[], bool] = lambda: False) -> None:
        """End the agent and its fork server, if they exist."""
        agent, control, marker = self._agent, self._control, Path(self._environment.get(RUN_MARKER, ""))
        self._agent = self._control = None
        if control is not None:
            control.close()
        if agent is not None:
            deadline = time.monotonic() + _GRACE_S
            while agent.poll() is None and time.monotonic() < deadline and not now():
                time.sleep(_END_POLL_S)
            if agent.poll() is None:
                end_run(agent.pid, marker, stop_now=now)
                agent.wait()
            end_leftovers(marker, now)


PLUGIN = LauncherPlugin(
    description="one torchrun agent for all runs; its ranks are forked with everything imported",
    make=Warm,
    leases_devices=True,
    forks_warm=True,
    serves_many_runs=True,
    is_local=True,
)
