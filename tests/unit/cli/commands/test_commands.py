"""The command line: help, options and their sources, and what is not there or cannot be used."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ecrl.cli.app import app
from ecrl.launch.campaign import lock as leases
from ecrl.records.paths import CampaignPaths
from tests.errors import has_error
from tests.unit.cli.commands.matrix_commands import ecrl, failed, message, program
from tests.unit.launch import stand_in
from tests.unit.launch.stand_in import StandIn, request

pytestmark = pytest.mark.usefixtures("here")


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


def test_a_folder_without_a_frozen_matrix_is_no_campaign_to_any_command(launcher: StandIn, here: Path) -> None:
    (here / "results" / "x").mkdir(parents=True)
    (here / "results" / "x" / "x_ecrl.log").write_text("checking data, models and device...\n")
    for command in ("status", "resume", "clean", "stop", "attach"):
        command_to_type = "ecrl matrix run --prefix x MATRIX.toml"
        assert has_error(message(command, "--prefix", "x"), "ECRL-301", "'x'", "results/x ", command_to_type)
    assert launcher.started == []


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
