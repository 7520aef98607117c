"""The command line: help, options and their sources, exit codes, what goes to stdout and what to stderr."""

import dataclasses
import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ecrl.cli.app import app
from ecrl.errors import EcrlError
from ecrl.launch.campaign import control as control_module
from ecrl.launch.campaign import detach
from ecrl.launch.campaign import lock as leases
from ecrl.launch.campaign.control import Control
from ecrl.launch.system.process_identity import CAMPAIGN_MARKER
from ecrl.records.manifest import store as manifest
from ecrl.records.paths import CampaignPaths
from tests.errors import has_error
from tests.matrices import without_warm_up
from tests.unit.launch import stand_in
from tests.unit.launch.stand_in import MATRIX, StandIn, request


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own, no environment names, and stand-ins for probe and torchrun."""
    for name in (
        "MATRIX_PREFIX",
        "PROFILE",
        "SEEDS_CSV",
        "CHECKPOINT_EVERY_CSV",
        "DATASETS_CSV",
        "MODELS_CSV",
        "NPROC",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.toml").write_text(without_warm_up(MATRIX))
    return tmp_path


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    launcher = StandIn()

    class WithStandIns(Control):
        def __init__(self, observer: Any, stop: Any, confirm: Any = lambda _: None) -> None:
            super().__init__(observer, stop, confirm, lambda _name: stand_in.training(launcher))

    monkeypatch.setattr(control_module, "Control", WithStandIns)
    return launcher


def ecrl(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(app, ["matrix", *arguments], env=environment)


def failed(*arguments: str, **environment: str) -> EcrlError:
    error = ecrl(*arguments, **environment).exception
    assert isinstance(error, EcrlError), error
    return error


def message(*arguments: str, **environment: str) -> str:
    return failed(*arguments, **environment).format_message()


def program(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "ecrl", *arguments]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=50)


@pytest.mark.parametrize(
    "arguments",
    [[], ["matrix"], *(["matrix", name] for name in ("run", "plan", "resume", "status", "list"))],
)
def test_dash_h_works_everywhere(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, [*arguments, "-h"])
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: ")
    assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "code", "facts"),
    [
        (["run", "--prefix", "a/b", "m.toml"], "ECRL-302", ("--prefix: ", "'a/b'")),
        (["run", "--prefix", "x"], "ECRL-306", ("MATRIX.toml: ", "'x'")),
        (["run", "--prefix", "x", "absent.toml"], "ECRL-201", ("absent.toml: ",)),
        (["run", "--prefix", "x", "a b/absent.toml"], "ECRL-201", ("ls 'a b'",)),
        (
            ["run", "--prefix", "x", "m.toml", "--device", "tpu"],
            "ECRL-211",
            ("--device: run.device: ", "'tpu'", "'auto'"),
        ),
        (["run", "--prefix", "x", "m.toml", "--timeout", "soon"], "ECRL-102", ("'soon'", "--timeout 10m")),
        (["run", "--prefix", "x", "m.toml", "--nproc", "0"], "ECRL-211", ("--nproc: train.nproc: ", "found 0")),
        (["plan", "--prefix", "x", "m.toml", "--seeds", "1,x"], "ECRL-211", ("--seeds: matrix.seeds #2: ", "'x'")),
        (["resume", "--prefix", "x"], "ECRL-301", ("'x'", "results/")),
        (["status", "--prefix", "x"], "ECRL-301", ("'x'", "results/")),
    ],
)
def test_bad_input_exits_2_says_what_was_found_and_writes_nothing(
    here: Path, arguments: list[str], code: str, facts: tuple[str, ...]
) -> None:
    error = failed(*arguments)
    assert error.exit_code == 2
    assert has_error(error.format_message(), code, *facts)
    assert not (here / "results").exists()


def test_environment_names_stand_in_for_flags_and_errors_name_the_source() -> None:
    run = ("run", "--prefix", "x", "m.toml")
    assert has_error(message(*run, SEEDS_CSV="x"), "ECRL-211", "SEEDS_CSV: matrix.seeds #1: ", "'x'")
    assert has_error(message(*run, "--seeds", "y", SEEDS_CSV="x"), "ECRL-211", "--seeds: matrix.seeds #1: ", "'y'")
    assert has_error(message("run", "m.toml", MATRIX_PREFIX="x", NPROC="0"), "ECRL-211", "NPROC: train.nproc: ")
    assert has_error(message(*run, DATASETS_CSV="nois"), "ECRL-211", "DATASETS_CSV: ", "'nois'")


def test_dry_run_shows_the_runs_in_order_and_the_sums(launcher: StandIn, here: Path) -> None:
    result = ecrl("run", "--prefix", "x", "--dry-run", "m.toml", "--seeds", "1,2")
    assert result.exit_code == 0, result.stderr
    assert "12 of 12 runs to start; 72 steps" in result.stdout
    assert "failures of early: 3\n" in result.stdout
    assert "time: no campaign in results/ measured these suites" in result.stdout
    assert result.stdout.count("overlapped") == 4
    assert launcher.started == []
    assert not (here / "results").exists()


@pytest.mark.parametrize("given", [["--aa", "reference,blocking"], ["--aa", "reference", "--aa", "blocking"]])
def test_aa_repeats_one_run_of_each_of_these_variants_a_suite(launcher: StandIn, given: list[str]) -> None:
    told = json.loads(ecrl("run", "--prefix", "x", "--dry-run", "--json", "m.toml", "--seeds", "1,2", *given).stdout)
    runs = [[run["variant"] for run in suite["runs"]] for suite in told["suites"]]
    assert [[names.count(name) for name in ("reference", "blocking", "overlapped")] for names in runs] == [
        [3, 3, 2]
    ] * 2
    assert launcher.started == []


@pytest.mark.parametrize(
    ("given", "code", "facts"),
    [
        (["m.toml", "--aa", "blockin"], "ECRL-211", ("--aa: run.aa #1: ", "'blockin'", "'blocking'")),
        (["m.toml", "--aa", "torch-save"], "ECRL-214", ("--aa: run.aa: ", "'torch-save'", "overlapped")),
        (["m.toml", "--aa", "blocking,blocking"], "ECRL-211", ("--aa: run.aa: ", "blocking more than once")),
    ],
)
def test_aa_with_what_is_no_variant_of_the_matrix_is_told(given: list[str], code: str, facts: tuple[str, ...]) -> None:
    assert has_error(message("run", "--prefix", "x", *given), code, *facts)


def test_dry_run_names_phases_and_the_time_that_another_campaign_took(launcher: StandIn) -> None:
    late = "--set", 'failures.late=[{at=3, phase="persist"}, 5]', "--checkpoint-every", "2,3"
    told = ecrl("run", "--prefix", "x", "--dry-run", "m.toml", *late).stdout
    assert "failures of late (checkpoint_every 2): 4@persist, 5\n" in told
    assert "failures of late (checkpoint_every 3): 3@persist, 5\n" in told
    ecrl("run", "--prefix", "one", "m.toml")
    begun = len(launcher.started)
    again = ecrl("run", "--prefix", "two", "m.toml", "--dry-run").stdout
    assert re.search(r"^time: about .* s, as in one$", again, re.MULTILINE)
    half = ecrl("run", "--prefix", "two", "m.toml", "--dry-run", "--set", "failures.more=[]").stdout
    assert re.search(r"^time: about .* s, as in one for 6 of 9 runs; the rest is unknown$", half, re.MULTILINE)
    assert "failures of more: no failures\n" in half
    struck = json.loads(ecrl("run", "--prefix", "x", "--dry-run", "--json", "m.toml", *late).stdout)["suites"]
    assert {type(step) for suite in struck for step in suite["failure_steps"]} == {str}
    assert len(launcher.started) == begun


def test_resume_has_a_dry_run_and_treats_failed_suites_as_run_does(launcher: StandIn) -> None:
    assert failed("resume", "--prefix", "x", "--dry-run").code == "ECRL-301"
    launcher.behaviours["late/blocking"] = "crash"
    ecrl("run", "--prefix", "x", "m.toml")
    begun = len(launcher.started)
    for command in ("run", "resume"):
        assert "0 of 6 runs to start" in ecrl(command, "--prefix", "x", "--dry-run").stdout
        assert "1 of 6 runs to start" in ecrl(command, "--prefix", "x", "--dry-run", "--retry-failed").stdout
        assert ecrl(command, "--prefix", "x").exit_code == 4
    assert len(launcher.started) == begun
    launcher.behaviours.clear()
    assert ecrl("run", "--prefix", "x", "--retry-failed").exit_code == 0
    assert json.loads(ecrl("status", "--json").stdout)["counts"]["completed"] == 2


def test_dry_run_json_is_one_document_with_the_same_content(launcher: StandIn) -> None:
    result = ecrl("run", "--prefix", "x", "--dry-run", "--json", "m.toml")
    told = json.loads(result.stdout)
    assert (told["schema"], told["prefix"], told["device"]) == (1, "x", "cpu")
    assert told["estimate"]["runs_todo"] == 6
    ecrl("run", "--prefix", "x", "m.toml")
    planned = [f"{s['failure_label']}/{r['variant']}" for s in told["suites"] for r in s["runs"]]
    assert launcher.started == planned


def test_run_ends_with_counts_and_the_next_command_on_stderr_and_data_on_stdout(launcher: StandIn) -> None:
    result = ecrl("run", "--prefix", "x", "m.toml", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["counts"]["completed"] == 2
    assert "checking data, models and device" in result.stderr
    assert "run 1/6" in result.stderr
    assert "restart 1, after step" in result.stderr
    assert result.stderr.splitlines()[-1] == "Tables and report: ecrl report --prefix x"
    again = ecrl("run", "--prefix", "x")
    assert (again.exit_code, again.stdout) == (0, "")
    assert "2 suites (2 completed)" in again.stderr
    assert len(launcher.started) == 6


def test_some_failed_exits_4_and_status_shows_reason_and_log(launcher: StandIn) -> None:
    launcher.behaviours["late/blocking"] = "crash"
    assert ecrl("run", "--prefix", "x", "m.toml").exit_code == 4
    shown = ecrl("status", "--prefix", "x")
    assert shown.exit_code == 0
    assert "RuntimeError: boom (rank 1, after step 3)" in shown.stdout
    log = next(line for line in shown.stdout.splitlines() if "log:" in line).split("log: ")[1]
    assert Path(log).is_file()
    assert "ecrl matrix resume --prefix x --retry-failed" in shown.stderr
    told = json.loads(ecrl("status", "--prefix", "x", "--json").stdout)
    assert [suite["status"] for suite in told["suites"]] == ["completed", "failed"]
    assert tuple(told["suites"][0]) == manifest.COLUMNS
    launcher.behaviours.clear()
    assert ecrl("resume", "--prefix", "x").exit_code == 4
    assert ecrl("resume", "--prefix", "x", "--retry-failed").exit_code == 0


@pytest.mark.usefixtures("launcher")
def test_show_explains_its_checks_once_a_run_has_some() -> None:
    ecrl("plan", "--prefix", "x", "m.toml")
    assert "C4" not in ecrl("show", "early").stdout
    ecrl("resume", "--prefix", "x")
    shown = " ".join(ecrl("show", "early").stdout.split())
    assert all(f"{name} " in shown.partition("checks: ")[2] for name in ("C1", "C2", "C3", "C4", "C5", "C6"))


@pytest.mark.usefixtures("launcher")
def test_list_shows_every_prefix_with_its_counts() -> None:
    assert "results/" in ecrl("list").stderr
    elsewhere = ecrl("list", "--results", "else where").stderr
    assert elsewhere.endswith(": ecrl matrix run --prefix P --results 'else where' MATRIX.toml\n")
    ecrl("plan", "--prefix", "one", "m.toml")
    ecrl("run", "--prefix", "two", "m.toml", "--failures", "late")
    lines = ecrl("list").stdout.splitlines()
    assert lines[1].split() == ["prefix", "suites", "pending", "completed"]
    assert [line.split() for line in lines[2:]] == [["one", "2", "2", "0"], ["two", "1", "0", "1"]]
    told = json.loads(ecrl("list", "--json").stdout)
    assert [(c["prefix"], c["counts"]["pending"]) for c in told["prefixes"]] == [("one", 2), ("two", 0)]


def test_plan_says_how_to_start(launcher: StandIn) -> None:
    result = ecrl("plan", "--prefix", "x", "m.toml", "--results", "elsewhere")
    assert result.stderr.splitlines()[-1] == "ecrl matrix resume --prefix x --results elsewhere"
    assert launcher.started == []
    assert ecrl("resume", "--prefix", "x", "--results", "elsewhere").exit_code == 0
    assert len(launcher.started) == 6


def test_a_running_suite_whose_ecrl_is_gone_is_said_to_be(launcher: StandIn) -> None:
    ecrl("plan", "--prefix", "x", "m.toml")
    from ecrl.launch.system.process_identity import get_current_owner

    written = manifest.Manifest.open(CampaignPaths(Path("results"), "x"))
    gone = dataclasses.replace(get_current_owner(), start_ticks=1)
    written.record(next(iter(written.rows)), status="running", owner=gone)
    written.close()
    assert ": ecrl matrix resume --prefix x" in ecrl("status", "--prefix", "x").stdout
    assert launcher.started == []

    marker = {CAMPAIGN_MARKER: str(Path("results/x").resolve())}
    sleep = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(
        sleep, env=os.environ | marker, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as orphan:
        assert orphan.stdout is not None
        orphan.stdout.readline()
        (told,) = [line for line in ecrl("status", "--prefix", "x").stdout.splitlines() if "its ecrl is gone" in line]
        assert "(1 orphaned process" in told
        assert told.endswith(": ecrl matrix resume --prefix x")
        assert "ended 1 orphaned process " in ecrl("resume", "--prefix", "x").stderr
        assert orphan.wait(30) != 0
    assert "gone" not in ecrl("status", "--prefix", "x").stdout


def test_a_manifest_edited_into_nonsense_exits_2_everywhere(launcher: StandIn) -> None:
    ecrl("plan", "--prefix", "x", "m.toml")
    path = CampaignPaths(Path("results"), "x").manifest
    path.write_text(path.read_text().replace(",pending,", ",donne,", 1))
    for command in ("status", "resume", "run"):
        error = failed(command, "--prefix", "x")
        assert error.exit_code == 2
        assert has_error(error.format_message(), "ECRL-401", "row 1, column status: ", "'donne'")
    assert launcher.started == []


def test_a_campaign_without_a_readable_manifest_does_not_hide_the_others(launcher: StandIn) -> None:
    ecrl("plan", "--prefix", "gone", "m.toml", "--failures", "early")
    ecrl("plan", "--prefix", "torn", "m.toml", "--failures", "early")
    assert ecrl("run", "--prefix", "whole", "m.toml", "--failures", "late").exit_code == 0
    CampaignPaths(Path("results"), "gone").manifest.unlink()
    torn = CampaignPaths(Path("results"), "torn").manifest
    torn.write_text(torn.read_text().replace(",pending,", ",compleeted,"))
    listed = ecrl("list", "--json")
    assert listed.exit_code == 0
    assert [campaign["prefix"] for campaign in json.loads(listed.stdout)["prefixes"]] == ["whole"]
    assert "warning: campaign gone " in listed.stderr
    assert "results/gone/gone_manifest.csv: " in listed.stderr
    assert "warning: campaign torn " in listed.stderr
    assert "'completed'" in listed.stderr
    shown = ecrl("show", "late")
    assert shown.exit_code == 0
    assert "campaign  whole" in shown.stdout
    assert "warning: campaign gone " in shown.stderr
    assert len(launcher.started) == 3


@pytest.mark.usefixtures("launcher")
def test_dry_run_tells_done_from_not_chosen() -> None:
    ecrl("run", "--prefix", "x", "m.toml", "--only", "failure=early")
    shown = ecrl("run", "--prefix", "x", "m.toml", "--seeds", "1337,2", "--extend", "--dry-run", "--only", "steps=6")
    lines = [line.split("  ")[-1] for line in shown.stdout.splitlines() if line.startswith("noise-")]
    assert [line.count(": done)") for line in lines] == [3, 0, 0, 0]
    told = json.loads(ecrl("run", "--prefix", "x", "--dry-run", "--json", "--limit", "1").stdout)
    assert [run["state"] for suite in told["suites"] for run in suite["runs"]] == ["done"] * 3 + ["to run"] * 3
    rerun = ecrl("run", "--prefix", "x", "--dry-run", "--rerun", "early").stdout
    assert (rerun.count(": not chosen)"), rerun.count(": done)")) == (3, 0)


def test_a_folder_without_a_frozen_matrix_is_no_campaign_to_any_command(launcher: StandIn, here: Path) -> None:
    (here / "results" / "x").mkdir(parents=True)
    (here / "results" / "x" / "x_ecrl.log").write_text("checking data, models and device...\n")
    for command in ("status", "resume", "clean", "stop", "attach"):
        command_to_type = "ecrl matrix run --prefix x MATRIX.toml"
        assert has_error(message(command, "--prefix", "x"), "ECRL-301", "'x'", "results/x ", command_to_type)
    assert launcher.started == []


def test_show_says_that_a_run_json_is_gone_and_the_result_is_kept(launcher: StandIn) -> None:
    ecrl("run", "--prefix", "x", "m.toml", "--failures", "early")
    paths = CampaignPaths(Path("results"), "x")
    (spec,) = paths.root.rglob("blocking/*/run.json")
    spec.unlink()
    shown = ecrl("show", "early")
    assert "blocking seed1337: its run.json is gone" in shown.stdout
    assert f"ecrl matrix run --prefix x --rerun {spec.parents[2].name}" in shown.stdout
    assert "pending" not in shown.stdout
    assert CliRunner().invoke(app, ["logs", "early", "--variant", "blocking"]).exit_code == 0
    paths.manifest.unlink()
    paths.journal.unlink()
    assert ecrl("resume", "--prefix", "x").exit_code == 0
    assert len(launcher.started) == 3


def test_clean_works_on_a_full_disk(launcher: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    ecrl("plan", "--prefix", "x", "m.toml")
    left = Path("results/x/.x_manifest.csv.17.tmp")
    left.write_text("half")

    def full(path: Path, _data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(leases, "write_atomic", full)
    assert ecrl("clean", "--prefix", "x", "--yes").exit_code == 0
    assert not left.exists()
    assert launcher.started == []


def test_results_that_cannot_be_made_exit_2(launcher: StandIn, here: Path) -> None:
    (here / "results").write_text("a file")
    error = failed("run", "--prefix", "x", "m.toml")
    assert error.exit_code == 2
    assert "results" in str(error)
    assert launcher.started == []


def test_without_torch_nothing_starts(here: Path) -> None:
    (here / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\")")
    done = program("matrix", "run", "--prefix", "x", "m.toml", PYTHONPATH=str(here))
    assert done.returncode == 2
    assert has_error(done.stderr, "ECRL-506", str(here / "torch.py"), "PYTHONPATH")
    assert not (here / "results").exists()


def test_version_and_main_module() -> None:
    assert program("--version").stdout.startswith("ecrl ")


def test_a_closed_stdout_or_stderr_is_no_traceback(here: Path) -> None:
    stand_in.control(StandIn()).plan(request(here / "results"))
    command = f"{sys.executable} -m ecrl matrix status --prefix exp 2>&1 | true"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=50)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", ["--version", "matrix status --prefix exp"])
def test_a_stdout_that_was_closed_beforehand_stops_nothing(here: Path, arguments: str) -> None:
    stand_in.control(StandIn()).plan(request(here / "results"))
    command = f"{sys.executable} -m ecrl {arguments} >&-"
    done = subprocess.run(command, shell=True, stderr=subprocess.PIPE, text=True, timeout=50)
    assert (done.returncode, done.stderr) == (0, "")


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


# -- attach, where the detached ecrl ends while it is watched ------------------------------------------------------

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
