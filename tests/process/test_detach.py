"""A campaign without its terminal, over real torchrun: the terminal is closed, attach comes and goes, stop ends it."""

import fcntl
import json
import os
import re
import select
import shlex
import signal
import subprocess
import termios
import time

import pytest

from ecrl.launch.campaign.lock import holder
from tests.errors import has_error
from tests.process.program import PATIENCE_S, Ecrl, wait_for

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

# One run that takes for ever, as far as this test is concerned.
MATRIX = """
[matrix]
datasets = ["noise"]
models = ["cnn"]
checkpoint_every = [50000]
variants = ["reference"]
seeds = [1]
[failures]
base = [99999]
[train]
steps = 10000000
batch_size = 2
nproc = 1
[run]
device = "cpu"
"""


class Terminal:
    """A command on a terminal of its own, which controls its session as a person's does."""

    def __init__(self, command: list[str]) -> None:
        self._master, slave = os.openpty()
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.shown = ""

    def wait_for(self, text: str) -> None:
        """Until the terminal shows it."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.shown:
            assert time.monotonic() < deadline, f"never shown: {text!r}, but: {self.shown}"
            if select.select([self._master], [], [], 1.0)[0]:
                self.shown += os.read(self._master, 4096).decode()

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def close(self) -> int:
        """Close the terminal, as a lost ssh session does: SIGHUP to everything in it. Returns the exit code."""
        os.close(self._master)
        return self.process.wait(PATIENCE_S)


def test_a_detached_campaign_outlives_its_terminal_is_looked_at_and_stopped(ecrl: Ecrl) -> None:
    run = shlex.join(ecrl.command("run", ecrl.matrix(MATRIX), "--detach"))
    terminal = Terminal(["sh", "-c", f"{run}; exec sleep 600"])
    terminal.wait_for("ecrl matrix attach --prefix exp --results")
    assert terminal.close() == -signal.SIGHUP
    told = holder(ecrl.paths)
    assert told is not None
    assert re.search(r"without this terminal \(pid (\d+)\)", terminal.shown)[1] == str(told.owner.pid)  # type: ignore[index]
    wait_for(lambda: list(ecrl.paths.root.rglob("events-0-0.jsonl")), "ranks that begin after the terminal has gone")
    (events,) = ecrl.paths.root.rglob("events-0-0.jsonl")
    wait_for(lambda: events.read_bytes().count(b'"e":"step"') > 10, "steps")

    viewer = Terminal(ecrl.command("attach"))
    viewer.wait_for("run 1/1 reference seed1 started")
    viewer.wait_for("reference seed1 step ")
    viewer.type(b"\x03")
    viewer.wait_for(f"pid {told.owner.pid} still runs")
    viewer.wait_for("ecrl matrix attach --prefix exp --results")
    assert viewer.process.wait(PATIENCE_S) == 0
    viewer.close()
    assert holder(ecrl.paths) == told

    closed = Terminal(ecrl.command("attach"))
    closed.wait_for("run 1/1 reference seed1 started")
    closed.close()
    assert holder(ecrl.paths) == told

    last = ecrl.start("attach")
    assert last.stderr is not None
    assert last.stderr.readline(), "it has found the campaign before that is stopped"
    code, out, errors = ecrl.run("stop", "--json")
    assert (code, json.loads(out)["pid"]) == (0, told.owner.pid), errors
    assert ecrl.workers() == []
    assert ecrl.status() == "interrupted"
    _, errors = last.communicate(timeout=PATIENCE_S)
    assert last.returncode == 143, errors
    assert errors.splitlines()[-1] == f"ecrl matrix resume --prefix exp --results {ecrl.paths.results}"
    for command in ("stop", "attach"):
        code, _, errors = ecrl.run(command)
        assert code == 2
        assert has_error(errors, "ECRL-314", command, "ecrl matrix resume --prefix exp --results")
