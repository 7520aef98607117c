"""The command that a message ends with: complete, and as a shell takes it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ecrl.launch.campaign import detach
from ecrl.records.paths import CampaignPaths
from tests.errors import has_error
from tests.unit.cli.commands.matrix_commands import ecrl, failed, message
from tests.unit.launch.stand_in import StandIn

pytestmark = pytest.mark.usefixtures("here")


@pytest.mark.parametrize(
    ("arguments", "next_command"),
    [
        (["run", "--only", "steps>7"], ": ecrl matrix status --prefix x --results 'else where'"),
        (["resume", "--only", "steps>7"], ": ecrl matrix status --prefix x --results 'else where'"),
        (["run", "--profile", "small"], "ecrl matrix run --prefix x-2 --results 'else where' --profile small FILE"),
        (["run", "--profile", "a b"], "ecrl matrix run --prefix x-2 --results 'else where' --profile 'a b' FILE"),
        (
            ["run", "--prefix", "y"],
            ": ecrl init mine.toml && ecrl matrix run --prefix y --results 'else where' mine.toml",
        ),
        (["run", "m.toml", "--seeds", "1337,2"], ": ecrl matrix resume --prefix x --results 'else where'"),
    ],
)
def test_the_next_command_names_the_results_folder_too(
    launcher: StandIn, arguments: list[str], next_command: str
) -> None:
    where = ["--prefix", "x", "--results", "else where"]
    ecrl("plan", *where, "m.toml")
    command, *more = arguments
    assert str(failed(command, *where, *more)).splitlines()[-1].endswith(next_command)
    assert launcher.started == []


def test_an_edited_matrix_is_told_with_a_command_that_a_shell_takes(launcher: StandIn) -> None:
    where = ["--prefix", "x", "--results", "else where"]
    ecrl("plan", *where, "m.toml")
    path = CampaignPaths(Path("else where"), "x").matrix
    path.write_text(path.read_text().replace("steps = 6", "steps = 7"))
    assert str(failed("resume", *where)).endswith(" 'else where/x/x_matrix.toml'")
    assert launcher.started == []


def test_the_command_that_asked_for_more_adds_it_once_extend_is_typed_too(launcher: StandIn) -> None:
    ecrl("run", "--prefix", "x", "m.toml")
    asked = ["run", "--prefix", "x", "m.toml", "--seeds", "1337,2"]
    assert has_error(message(*asked), "ECRL-304", "--extend")
    assert ecrl(*asked, "--extend").exit_code == 0
    assert len(launcher.started) == 12


@pytest.mark.parametrize("flag", ["--only", "--rerun"])
def test_an_empty_choice_is_not_all_of_it(launcher: StandIn, flag: str) -> None:
    ecrl("run", "--prefix", "x", "m.toml", "--failures", "late")
    code = {"--only": "ECRL-320", "--rerun": "ECRL-322"}[flag]
    assert has_error(message("resume", "--prefix", "x", flag, ""), code, f"{flag}: found ''")
    assert len(launcher.started) == 3
    assert list(Path("results").rglob("*.aside-*")) == []


HOLDS = """
import os, pathlib, sys
from ecrl.errors import EcrlError
from ecrl.launch.campaign.lock import prefix_lease
from ecrl.records.paths import CampaignPaths
class UnfitError(EcrlError):
    exit_code = 6
paths = CampaignPaths(pathlib.Path("results"), "x")
os.dup2(os.open(paths.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), 2)
with prefix_lease(paths):
    print("on", flush=True)
    sys.stdin.readline()
    if "dies" in sys.argv:
        os.kill(os.getpid(), 9)
    if "fails" in sys.argv:
        raise UnfitError("ECRL-501", "/dev/shm: too small")
"""


@pytest.mark.parametrize(("how", "code"), [("dies", 143), ("fails", 6), ("is done", 0)])
def test_attach_exits_as_what_it_watched_and_names_what_continues_it(
    launcher: StandIn, monkeypatch: pytest.MonkeyPatch, how: str, code: int
) -> None:
    ecrl("plan", "--prefix", "x", "m.toml")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLDS, how], **pipes) as holder:  # type: ignore[call-overload]
        assert holder.stdout.readline() == b"on\n"
        real = detach.follow

        def follow(*arguments: Any, standing: Any) -> Any:
            def followed() -> Any:
                holder.stdin.close()  # it ends once it is followed
                return standing()

            return real(*arguments, standing=followed)

        monkeypatch.setattr(detach, "follow", follow)
        told = ecrl("attach", "--prefix", "x")
    assert told.exit_code == code
    last = told.stderr.splitlines()[-1]
    assert last == ("ecrl matrix resume --prefix x" if code else "Tables and report: ecrl report --prefix x")
    assert ecrl("resume", "--prefix", "x").exit_code == 0
    assert len(launcher.started) == 6
