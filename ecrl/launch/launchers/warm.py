"""torchrun kept warm: one agent process that serves run after run, its ranks forked with everything imported.

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
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from ecrl.config.run import RunSpec
from ecrl.launch.launchers.torchrun import Torchrun
from ecrl.launch.system.process import Process
from ecrl.launch.system.process_group import end_leftovers, end_run
from ecrl.launch.system.process_identity import RUN_MARKER
from ecrl.records.paths import RunPaths

_LONGEST_PATH = 4096
_GRACE_S = 5.0  # between closing the socket and SIGTERM
_POLL_S = 0.1  # between two looks whether a new agent is still wanted
_READY_S = 300.0  # a busy network file system may take a minute to import torch from


class WarmRun:
    """One run inside an agent, as `subprocess.Popen` shows one inside a process of its own."""

    def __init__(self, agent: "subprocess.Popen[bytes]", replies: socket.socket) -> None:
        self.args = agent.args
        self.pid = agent.pid
        self._agent = agent
        self._replies = replies
        self._heard = b""
        self._code: int | None = None

    def poll(self) -> int | None:
        """The run's exit code, or None while it goes on. An agent that died ends its run."""
        if self._code is None:
            self._receive(0.0)
        return self._code

    def wait(self) -> int:
        """Wait for the run's end."""
        while self._code is None:
            self._receive(None)
        return self._code

    def exit_fd(self) -> int:
        """A descriptor that is readable once the run has ended."""
        return os.dup(self._replies.fileno())

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
            self._code = self._agent.wait() or 1  # whatever it says, it did not end its run


@dataclass
class WarmTorchrun(Torchrun):
    """torchrun as it is for runs that ask for `cold`, an agent of its own for those that ask for `warm`."""

    _agent: "subprocess.Popen[bytes] | None" = field(default=None, init=False)
    _control: socket.socket | None = field(default=None, init=False)
    _environment: dict[str, str] = field(default_factory=dict, init=False)

    def command(self, spec: RunSpec, paths: RunPaths) -> list[str]:
        """For a warm run the agent's; what belongs to the run it is told through its stdin."""
        if spec.train.launcher == "cold":
            return super().command(spec, paths)
        return [sys.executable, "-m", "ecrl.worker.warm.server"]

    def start(self, spec: RunSpec, paths: RunPaths, campaign: Path, log: IO[bytes]) -> Process:
        """Start a run: in a new torchrun, or in the agent, which is started first where there is none."""
        if spec.train.launcher == "cold":
            return super().start(spec, paths, campaign, log)
        order = {
            "folder": str(paths.folder),
            "log": str(paths.torchrun_log),
            "environment": {RUN_MARKER: str(paths.folder)},
            "torchrun": ["--start-method", "forkserver", *self.arguments(spec, paths)],
        }
        agent, control = self._ensure_agent(spec, paths, campaign, log)
        with contextlib.suppress(ConnectionError):  # died since: its run hears of it, and ends
            control.settimeout(None)
            control.sendall(json.dumps(order).encode() + b"\n")
        return WarmRun(agent, control)

    def prepare(
        self, spec: RunSpec, paths: RunPaths, campaign: Path, log: IO[bytes], given_up: Callable[[], bool]
    ) -> bool:
        """Start the agent of a warm run, if it is not there, and wait until it has imported everything."""
        if spec.train.launcher == "cold":
            return False
        if self._agent is not None and self._agent.poll() is not None:
            self.close()
        before = self._agent
        agent, control = self._ensure_agent(spec, paths, campaign, log)
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
        self, spec: RunSpec, paths: RunPaths, campaign: Path, log: IO[bytes]
    ) -> "tuple[subprocess.Popen[bytes], socket.socket]":
        """The agent, made anew where there is none or the run needs another environment."""
        environment = (
            self.environment(spec, paths, campaign)
            | self.leased_environment
            | {
                # Says whose agent it is, and makes room for the folder that each rank writes over it.
                RUN_MARKER: f"warm agent of pid {os.getpid()} in {campaign} ".ljust(_LONGEST_PATH, "."),
                "OPENBLAS_NUM_THREADS": "1",  # else numpy starts threads in the fork server, which must have none
            }
        )
        if self._agent is not None and environment != self._environment:
            self.close()
        if self._agent is None:
            self._start_agent(spec, paths, environment, log)
        assert self._agent is not None
        assert self._control is not None
        return self._agent, self._control

    def _start_agent(self, spec: RunSpec, paths: RunPaths, environment: dict[str, str], log: IO[bytes]) -> None:
        self._control, its_end = socket.socketpair()
        with its_end:
            self._agent = subprocess.Popen(
                self.command(spec, paths),
                stdin=its_end.fileno(),
                stdout=log,  # until it is told the log of its first run
                stderr=subprocess.STDOUT,
                env=environment,
                pass_fds=self.inherited,
                start_new_session=True,
            )
        self._environment = environment

    def close(self) -> None:
        """End the agent and its fork server, if there are any; no run may be going on."""
        agent, control, marker = self._agent, self._control, Path(self._environment.get(RUN_MARKER, ""))
        self._agent = self._control = None
        if control is not None:
            control.close()
        if agent is not None:
            try:
                agent.wait(_GRACE_S)
                end_leftovers(marker)
            except subprocess.TimeoutExpired:
                end_run(agent, marker, stop_now=lambda: False)
