"""`--dry-run`: runs in their order, sums, times, and what is left out."""

import json
import re
from pathlib import Path

import pytest

from tests.errors import has_error
from tests.unit.cli.commands.matrix_commands import ecrl, failed, message
from tests.unit.launch.stand_in import StandIn

pytestmark = pytest.mark.usefixtures("here")


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
