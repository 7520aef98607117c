"""What is shown while a campaign runs: on a terminal and off it."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from rich.live import Live
from rich.text import Text

from ecrl.cli.ui import messages
from ecrl.cli.ui.live_progress import LiveView, format_eta
from ecrl.cli.ui.messages import ResilientStderr, plain_table
from ecrl.cli.ui.progress_log import ProgressLog, run_name
from ecrl.cli.ui.tables import print_table
from ecrl.launch.campaign.campaign import Campaign
from ecrl.launch.campaign.recover import Policy
from ecrl.launch.campaign.request import resolve_request
from ecrl.launch.runs.progress import Observer, RunProgress, Totals
from ecrl.records.result import Result
from tests.unit.launch.stand_in import MATRIX, StandIn, control, request


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    return resolve_request(request(tmp_path / "results")).campaign.copy_with_device("cpu")


def result(outcome: str) -> Result:
    return {
        "schema": 1, "run_hash": "h", "outcome": outcome, "reason": "RuntimeError: boom (rank 1, after step 3)",
        "log": "logs/x", "exit_code": 0, "wall_s": 12.0, "restarts": 1, "failures_planned": 1, "failures_fired": 1,
        "gates": {}, "started_at": "", "finished_at": "", "machine": {},
    }  # fmt: skip


def watched(view: Observer, campaign: Campaign) -> None:
    row, spec = next(campaign.rows()), next(campaign.runs(campaign.suites[0])).spec
    totals = Totals(suites=2, runs=6, left_s=60.0, run_s=12.0)
    progress = RunProgress(total=6, step=3, furthest=4, doing="replaying", loss=1.5, restarts=1, saved=1)
    view.note("a word")
    view.suite_started(row, totals)
    view.run_started(spec, totals)
    view.run_progress(spec, progress)
    view.run_finished(spec, result("failed"), "results/x/log", totals)
    view.suite_finished(row, totals)


def test_off_a_terminal_every_change_is_one_line(campaign: Campaign, capsys: pytest.CaptureFixture[str]) -> None:
    watched(ProgressLog(), campaign)
    out, errors = capsys.readouterr()
    assert out == ""
    assert "run 1/6" in errors
    assert "(about 1 m 00 s left after it)" in errors
    assert "restart 1, after step 4/6" in errors
    assert "FAILED: RuntimeError: boom (rank 1, after step 3)\n  log: results/x/log" in errors
    assert "\x1b" not in errors
    assert "\r" not in errors


def test_the_repeat_of_the_reference_has_a_name_of_its_own(tmp_path: Path) -> None:
    campaign = resolve_request(request(tmp_path / "results", text=MATRIX + "[run]\naa = true\n")).campaign
    names = [run_name(run.spec) for run in campaign.runs(campaign.suites[0])]
    assert sorted(names) == [f"{name} seed1337" for name in ("blocking", "overlapped", "reference", "reference-aa")]


def test_an_interrupted_suite_is_told_by_its_place(campaign: Campaign, capsys: pytest.CaptureFixture[str]) -> None:
    row, view = next(campaign.rows()), ProgressLog()
    view.suite_finished(replace(row, status="interrupted"), Totals(suites=2))
    view.suite_finished(replace(row, status="completed"), Totals(suites=2, suites_done=1))
    said = capsys.readouterr().err.splitlines()
    assert said == [f"suite 1/2 {row.suite_id}: interrupted", f"suite 1/2 {row.suite_id}: completed"]


def test_on_a_terminal_all_there_is_to_know_fits_80_columns(campaign: Campaign) -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None, record=True)
    view = LiveView(Live(Text(""), console=console, auto_refresh=False))
    watched(view, campaign)
    row, spec = next(campaign.rows()), next(campaign.runs(campaign.suites[0])).spec
    totals = Totals(suites=2, runs=6, left_s=60.0, run_s=12.0)
    view.suite_started(row, totals)
    view.run_started(spec, totals)
    view.run_progress(spec, RunProgress(6, "replaying", step=3, furthest=4, loss=1.5, restarts=1, saved=1))
    with console.capture() as captured:
        console.print(view._draw(totals))
    shown = captured.get()
    for part in (
        "suite 1/2",
        "0/6 runs, ETA 1 m 12 s",
        "step 3/6",
        "replaying",
        "loss 1.5",
        "1 checkpoint",
        "1 restart",
    ):
        assert part in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert "FAILED" in console.export_text()


def two_suites_at_once(view: Observer, campaign: Campaign) -> list[str]:
    """Both suites of the campaign begin, the first run of each is restarted; returns their ids."""
    totals, begun = Totals(suites=2, runs=6), []
    for row, suite in zip(campaign.rows(), campaign.suites, strict=True):
        view.suite_started(row, totals)
        begun.append(next(campaign.runs(suite)).spec)
    for spec in begun:
        view.run_started(spec, totals)
    for _ in range(2):  # in turn, as two lanes tell it
        for spec in begun:
            view.run_progress(spec, RunProgress(total=6, step=3, furthest=3, restarts=1))
    return [spec.suite_id for spec in begun]


def test_side_by_side_every_line_names_its_suite_and_each_restart_is_told_once(
    campaign: Campaign, capsys: pytest.CaptureFixture[str]
) -> None:
    view = ProgressLog()
    one, two = two_suites_at_once(view, campaign)
    view.run_finished(next(campaign.runs(campaign.suites[1])).spec, None, "", Totals(suites=2, runs=6))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[0] for line in lines[:2]] == [f"suite 1/2 {one}", f"suite 2/2 {two}"]
    assert [line.split(" seed")[0].rpartition(" ")[0] for line in lines[2:4]] == [f"{one}: run 1/6", f"{two}: run 2/6"]
    assert [line.split(": ")[0] for line in lines if "restart 1, after step 3/6" in line] == [one, two]
    assert lines[-1].startswith(f"{two}: run ")
    assert lines[-1].endswith(" interrupted")


def test_side_by_side_a_terminal_shows_every_run_that_goes_on(campaign: Campaign) -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    view = LiveView(Live(Text(""), console=console, auto_refresh=False))
    one, two = two_suites_at_once(view, campaign)
    with console.capture() as captured:
        console.print(view._draw(Totals(suites=2, runs=6)))
    shown = captured.get()
    assert shown.count("step 3/6") == 2
    assert f"suite 1/2 {one}"[:60] in shown
    assert f"suite 2/2 {two}"[:60] in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_an_eta_is_only_as_good_as_what_was_measured() -> None:
    progress = RunProgress(total=6)
    assert format_eta(progress, Totals(1), 5.0) == "ETA unknown yet"
    assert format_eta(progress, Totals(1, left_s=0.0), 5.0) == "ETA unknown yet"
    assert format_eta(progress, Totals(1, run_s=15.0), 5.0) == "this run 10.0 s more"
    assert format_eta(progress, Totals(1, left_s=100.0, run_s=15.0), 20.0) == "ETA 1 m 40 s"


def test_a_reader_that_has_gone_costs_no_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    silenced: list[int] = []
    monkeypatch.setattr("sys.stderr", Gone())
    monkeypatch.setattr(messages.os, "dup2", lambda _, fd: silenced.append(fd))  # type: ignore[attr-defined]
    ResilientStderr().write("nobody reads this")
    assert silenced == [2]


def test_a_plain_table_has_aligned_columns() -> None:
    assert plain_table(["a", "bb"], [["xxx", "1"], ["y", ""]]) == "a    bb\nxxx  1\ny"


def test_a_table_on_a_terminal_shows_every_cell(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("title", ["suite", "status"], [["noise-cnn-base", "failed"]], 1)
    out = capsys.readouterr().out
    assert "noise-cnn-base" in out
    assert "failed" in out


def test_a_whole_campaign_can_be_watched_live(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    with Live(Text(""), console=console, auto_refresh=False, transient=True) as live:
        code = control(StandIn({"late/overlapped": "crash"}), LiveView(live)).run(
            request(tmp_path / "results"), Policy()
        )
    assert code == 4
    assert "FAILED" in console.file.getvalue()  # type: ignore[attr-defined]
