"""The exit code of every kind of end, also where a stream is closed, full or slow."""

import json
import os
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from ecrl.launch.campaign.lock import prefix_lease
from ecrl.records.paths import CampaignPaths
from tests.errors import has_error
from tests.unit.cli.typer_support.program import ECRL, patched, program

pytestmark = pytest.mark.usefixtures("here")


def test_exit_0_all_is_well() -> None:
    assert program("matrix", "list").returncode == 0


def test_exit_1_is_a_bug_of_ours_with_its_traceback() -> None:
    done = patched(
        "import ecrl.cli.ui.campaign_tables as s\ndef bug(_): raise KeyError('x')\ns.show_list = bug", "matrix", "list"
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_exit_2_wrong_usage() -> None:
    assert program("matrix", "status", "--prefix", "exq").returncode == 2


def test_exit_4_something_failed(here: Path) -> None:
    (here / "checkpoints").mkdir()
    assert program("checkpoint", "verify", "checkpoints").returncode == 4


def test_exit_5_another_ecrl_holds_the_prefix() -> None:
    with prefix_lease(CampaignPaths(Path("results"), "exp")):
        done = program("matrix", "resume", "--prefix", "exp")
    assert done.returncode == 5
    assert f"pid {os.getpid()}" in done.stderr


def test_exit_6_unfit_with_json_on_stdout() -> None:
    code = "import resource; resource.getrlimit = lambda _: (100, 100)\nimport ecrl.launch.doctor.gpu as g\n"
    done = patched(code + "g.check_gpus = lambda wanted, say: iter(())", "doctor", "--json")
    assert done.returncode == 6, done.stderr
    told = json.loads(done.stdout)
    assert (told["schema"], told["fit"]) == (1, False)
    unfit = [finding for finding in told["findings"] if finding["state"] == "unfit"]
    assert {"open files", "processes"} >= {finding["check"] for finding in unfit} > set()


@pytest.mark.parametrize("signum", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_exit_129_130_143_a_signal_while_planning_writes_nothing(here: Path, signum: signal.Signals) -> None:
    command = [*ECRL, "matrix", "plan", "--prefix", "new", "m.toml"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stderr is not None
        assert "checking" in process.stderr.readline()  # the probe imports PyTorch now
        process.send_signal(signum)
        rest = process.stderr.read()
        assert process.wait(30) == 128 + signum
    assert has_error(rest, "ECRL-312", signum.name, "same command")
    assert "Traceback" not in rest
    assert not (here / "results" / "new").exists()


def test_ctrl_c_while_reporting_ends_with_130_and_a_word() -> None:
    code = (
        "import os, signal, time, ecrl.analysis.campaign.load as load\n"
        "def interrupted(*_): os.kill(os.getpid(), signal.SIGINT); time.sleep(30)\n"
        "load.load_campaign = interrupted"
    )
    done = patched(code, "report", "--prefix", "exp")
    assert done.returncode == 130, done.stderr
    assert "SIGINT" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["matrix", "list"], ["matrix", "status", "--prefix", "exp", "--json"], ["-h"]])
def test_exit_141_the_reader_of_stdout_has_gone(arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*ECRL, *arguments], stdout=writing, stderr=subprocess.PIPE, text=True, timeout=50)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(("arguments", "code"), [(["list"], 0), (["stop", "--prefix", "exp"], 2)])
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_streams_that_are_closed_cost_no_exit_code(arguments: list[str], code: int, closed: str) -> None:
    command = shlex.join([*ECRL, "matrix", *arguments])
    done = subprocess.run(["sh", "-c", f"{command} {closed}"], capture_output=True, text=True, timeout=50)
    assert done.returncode == code
    assert "Traceback" not in done.stderr


def test_a_message_that_nobody_reads_costs_no_exit_code() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*ECRL, "matrix", "stop", "--prefix", "exp"], stderr=writing, timeout=50)
    os.close(writing)
    assert done.returncode == 2


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_what_a_non_blocking_pipe_cannot_take_at_once_is_not_lost(stream: str) -> None:
    code = (
        "import os, sys, ecrl.cli.ui.campaign_tables as s\n"
        f"s.show_list = lambda _: print('x' * 999_999, file=sys.{stream})\n"
        f"os.set_blocking(sys.{stream}.fileno(), False)"
    )
    done = patched(code, "matrix", "list")
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(getattr(done, stream)) == 1_000_000


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_full_disk_under_stdout_is_told_in_a_line(more: list[str]) -> None:
    command = [*ECRL, "matrix", "status", "--prefix", "exp", *more]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=50)
    assert done.returncode == 2
    assert has_error(done.stderr, "ECRL-105", "stdout: No space left on device")
    assert len(done.stderr.splitlines()) == 2
