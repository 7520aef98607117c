"""`ecrl matrix run`, `plan`, `resume`, `status`, `show` and `list`: counts, exit codes, stdout and stderr."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ecrl.cli.app import app
from ecrl.launch.system.process_identity import CAMPAIGN_MARKER
from ecrl.records.manifest import store as manifest
from ecrl.records.paths import CampaignPaths
from tests.unit.cli.commands.matrix_commands import ecrl
from tests.unit.launch.stand_in import StandIn

pytestmark = pytest.mark.usefixtures("here")


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
