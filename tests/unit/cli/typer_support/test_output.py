"""What commands print: plain off a terminal, within its width on one, and versioned as JSON."""

import contextlib
import fcntl
import json
import os
import re
import signal
import struct
import subprocess
import termios
from pathlib import Path

import pytest

from ecrl.cli.ui.messages import print_json
from ecrl.launch.campaign.recover import Policy
from tests.unit.cli.inline import run_inline
from tests.unit.cli.typer_support.program import ECRL, patched, program
from tests.unit.launch.stand_in import StandIn, control, request

pytestmark = pytest.mark.usefixtures("here")

READS = [
    ["matrix", "list"],
    ["matrix", "status", "--prefix", "exp"],
    ["matrix", "show", "early"],
    ["matrix", "clean", "--prefix", "exp"],
    ["matrix", "plan", "--count", "--prefix", "new", "m.toml"],
]


@pytest.mark.parametrize("arguments", READS, ids=lambda arguments: arguments[1])
def test_what_can_be_read_is_plain_off_a_terminal_and_has_a_versioned_json(arguments: list[str]) -> None:
    plain = program(*arguments, FORCE_COLOR="")
    assert plain.returncode == 0, plain.stderr
    assert "\x1b" not in plain.stdout + plain.stderr
    assert "\r" not in plain.stdout + plain.stderr
    told = json.loads(run_inline(*arguments, "--json").stdout)
    assert told["schema"] == 1


def on_a_terminal(*arguments: str, **environment: str) -> str:
    """What the program shows on a terminal of 80 columns that knows colours."""
    master, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    told = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "FORCE_COLOR")}
    with subprocess.Popen(
        [*ECRL, *arguments],
        env=told | {"TERM": "xterm-256color"} | environment,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    ) as process:
        os.close(terminal)
        shown = b""
        with contextlib.suppress(OSError):  # that is how a terminal tells that nobody writes to it any more
            while data := os.read(master, 65536):
                shown += data
        assert process.wait(50) == 0, shown
    os.close(master)
    return shown.decode()


COLOUR = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[0-9;]*m")


def test_a_terminal_has_colours_and_with_no_color_it_has_none(here: Path) -> None:
    control(StandIn()).run(request(here / "results"), Policy())
    assert COLOUR.search(on_a_terminal("matrix", "status", "--prefix", "exp"))
    assert not COLOUR.search(on_a_terminal("matrix", "status", "--prefix", "exp", NO_COLOR="1"))


@pytest.mark.parametrize("arguments", READS[:3], ids=lambda arguments: arguments[1])
def test_tables_fit_a_terminal_of_80_columns(arguments: list[str]) -> None:
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", on_a_terminal(*arguments))
    assert "exp" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_watch_off_a_terminal_prints_one_snapshot_an_interval_as_plain_lines() -> None:
    command = [*ECRL, "matrix", "status", "--prefix", "exp", "--watch", "--interval", "0.2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first, second = process.stdout.readline(), process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(20) == 0  # Ctrl-C is how one leaves
    assert "exp: 0/6 runs; 2 suites (2 pending); ETA unknown" in first
    assert first[20:] == second[20:]
    assert "\x1b" not in first + second + rest


def test_watch_json_is_one_document_a_line() -> None:
    command = [*ECRL, "matrix", "status", "--prefix", "exp", "--watch", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(20) == 0
    assert (told["schema"], told["counts"]["pending"]) == (1, 2)


def test_status_of_a_large_campaign_shows_what_needs_attention() -> None:
    code = "import ecrl.cli.ui.campaign_tables as s; s._MANY = 1"
    done = patched(code, "matrix", "status", "--prefix", "exp")
    assert "noise-cnn" not in done.stdout
    assert "2 " in done.stderr
    assert ": ecrl matrix status --prefix exp --all" in done.stderr
    assert patched(code, "matrix", "status", "--prefix", "exp", "--all").stdout.count("noise-cnn") == 2


@pytest.mark.parametrize("number", [0, 1, 3])
def test_a_document_of_many_suites_is_written_as_they_come_and_is_one_document(
    number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    suites = [{"suite_id": f"é{n}", "seeds": [1, 2], "message": None} for n in range(number)]
    print_json({"schema": 1, "counts": {"pending": number}, "suites": iter(suites), "last": "x"})
    out = capsys.readouterr().out
    assert json.loads(out) == {"schema": 1, "counts": {"pending": number}, "suites": suites, "last": "x"}
    assert len(out.splitlines()) == 6 + number + (number > 0)
