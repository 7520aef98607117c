"""What is shown while a campaign runs: on a terminal and off it."""

import io
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from rich.live import Live

from ecrl.cli.ui.campaign_view import CampaignView
from ecrl.cli.ui.live_progress import LiveProgress
from ecrl.cli.ui.messages import plain_table
from ecrl.cli.ui.progress_log import ProgressLog, describe_run_end, run_name
from ecrl.cli.ui.tables import print_table
from ecrl.launch.campaign.campaign import Campaign
from ecrl.launch.campaign.recover import Policy
from ecrl.launch.campaign.request import resolve_request
from ecrl.launch.runs.progress import Observer, RunProgress, Totals
from ecrl.launch.system.process_identity import Liveness
from ecrl.launch.views.finished import FinishedRun
from ecrl.launch.views.follower import LiveRun
from ecrl.launch.views.snapshot import Failure, RunningSuite, Snapshot
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
    assert re.search(r"^suite 1/2 .*: 3 runs$", errors, re.MULTILINE)
    assert "FAILED: RuntimeError: boom (rank 1, after step 3)\n  log: results/x/log" in errors
    assert "\x1b" not in errors
    assert "\r" not in errors


def test_off_a_terminal_a_long_run_says_often_where_it_is_and_then_ever_less(
    campaign: Campaign, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    row, spec = next(campaign.rows()), next(campaign.runs(campaign.suites[0])).spec
    view, said = ProgressLog(), dict[float, str]()
    view.suite_started(row, Totals(suites=1, runs=3))
    view.run_started(spec, Totals(suites=1, runs=3))
    capsys.readouterr()
    for now[0] in map(float, range(1, 1000)):
        view.run_progress(spec, RunProgress(total=6000, step=int(now[0]), doing="training"))
        if told := capsys.readouterr().err:
            said[now[0]] = told
    assert list(said) == [9, 18, 27, 36, 45, 54, 108, 216, 432, 864]
    assert f"{run_name(spec)}: training, step 108/6000" in said[108]
    view.note("a word about something else")
    now[0] += 8
    capsys.readouterr()
    view.run_progress(spec, RunProgress(total=6000, step=1000))
    assert capsys.readouterr().err == ""


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


@pytest.fixture
def console() -> Console:
    """A terminal of 80 columns that keeps what it was sent."""
    return Console(file=io.StringIO(), width=80, height=24, force_terminal=True, color_system=None, record=True)


@pytest.fixture
def live(console: Console, campaign: Campaign) -> LiveProgress:
    return LiveProgress(Live(console=console, auto_refresh=False, transient=True), campaign.paths)


def drawn(snapshot: Snapshot, width: int = 80, height: int = 24) -> list[str]:
    """What a full screen shows of it, line by line."""
    screen = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    view, options = CampaignView(snapshot, "q quits"), screen.options.update(height=height)
    return ["".join(part.text for part in line) for line in screen.render_lines(view, options, pad=False)]


def test_on_a_terminal_all_there_is_to_know_fits_80_columns(
    campaign: Campaign, console: Console, live: LiveProgress
) -> None:
    watched(live, campaign)
    assert "FAILED" in console.export_text()
    row, spec = next(campaign.rows()), next(campaign.runs(campaign.suites[0])).spec
    totals = Totals(suites=2, runs=6, left_s=60.0, run_s=12.0)
    live.suite_started(row, totals)
    live.run_started(spec, totals)
    live.run_progress(spec, RunProgress(6, "replaying", step=3, furthest=4, loss=1.5, restarts=1, saved=1))
    lines = drawn(live.take_snapshot())
    for part in (
        "exp: 0/6 runs",
        "q quits",
        "ETA 1 m 12 s",
        "1 running",
        row.suite_id,
        "run 1/3",
        run_name(spec),
        "step 3/6",
        "replaying",
        "loss 1.5",
        "1 checkpoint",
        "1 restart",
    ):
        assert part in "\n".join(lines)
    assert max(map(len, lines)) <= 80


def test_a_run_has_its_place_in_a_suite_of_several_blocks(tmp_path: Path, console: Console) -> None:
    text = MATRIX.replace("[failures]", "seeds = [1, 2]\n[run]\naa = true\n[failures]", 1)
    campaign = resolve_request(request(tmp_path / "results", text=text)).campaign.copy_with_device("cpu")
    live, row, totals = LiveProgress(Live(console=console), campaign.paths), next(campaign.rows()), Totals(suites=2)
    live.suite_started(row, totals)
    places = []
    for spec in (run.spec for run in campaign.runs(campaign.suites[0])):
        live.run_started(spec, totals)
        places.append(live.take_snapshot().running[0].row.runs_done)
        live.run_finished(spec, result("completed"), "", totals)
        assert live.take_snapshot().running[0].row.runs_done == places[-1] + 1
    assert places == list(range(row.runs_total))
    assert len(places) == 7


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


def test_side_by_side_a_terminal_shows_every_run_that_goes_on(campaign: Campaign, live: LiveProgress) -> None:
    ids = two_suites_at_once(live, campaign)
    lines = drawn(live.take_snapshot())
    assert "\n".join(lines).count("step 3/6") == 2
    assert [line.split()[0] for line in lines if line.startswith("  noise")] == ids
    assert max(map(len, lines)) <= 80


def test_an_eta_is_only_as_good_as_what_was_measured(campaign: Campaign, live: LiveProgress) -> None:
    row, spec = next(campaign.rows()), next(campaign.runs(campaign.suites[0])).spec

    def eta_s(totals: Totals) -> float | None:
        live.suite_started(row, totals)
        live.run_started(spec, totals)
        return live.take_snapshot().eta_s

    assert eta_s(Totals(1)) is None
    assert eta_s(Totals(1, left_s=0.0)) is None
    assert eta_s(Totals(1, run_s=15.0)) is None
    assert eta_s(Totals(1, left_s=100.0, run_s=15.0)) == pytest.approx(115.0, abs=1.0)


def test_suites_are_counted_by_what_became_of_them(campaign: Campaign, live: LiveProgress) -> None:
    one, two = campaign.rows()
    totals = Totals(suites=9, suites_done=4)
    live.suite_started(one, totals)
    live.suite_started(two, totals)
    live.suite_finished(replace(one, status="interrupted"), totals)
    live.suite_finished(replace(two, status="failed"), totals)
    live.suite_started(one, totals)  # on other devices
    counts = {name: number for name, number in live.take_snapshot().counts.items() if number}
    assert counts == {"pending": 3, "running": 1, "failed": 1, "done before": 4}


def running_suites(campaign: Campaign, number: int) -> Snapshot:
    """A campaign in which so many suites go on, beside one that failed and one whose ecrl is gone."""
    row, spec = next(campaign.rows()), next(campaign.runs(campaign.suites[0])).spec
    progress = RunProgress(600, "training", step=300, loss=1.5, restarts=2, saved=30)
    progress.note(0, 0, {"e": "restored", "t": 0, "step": 0})
    progress.note(0, 0, {"e": "step", "t": 12 * 10**9, "s": 300, "loss": 1.5})
    run = LiveRun(row.suite_id, spec.variant, spec.seed, progress, "0,1", None, None)
    one = RunningSuite(row, Liveness.ALIVE, run, elapsed_s=12.0, silent_s=20.0, silence="no step for 20.0 s")
    gone = RunningSuite(row, Liveness.DEAD, None, None, None)
    return Snapshot(
        prefix="exp",
        options="--prefix exp",
        at="2026-11-21T23:28:00Z",
        counts={"pending": 0, "running": number + 1, "interrupted": 0, "failed": 1},
        runs_done=3,
        runs_total=6,
        runs_measured=3,
        eta_s=60.0,
        running=[*[one] * number, gone],
        failures=[Failure(row.suite_id, "RuntimeError: boom " * 8, "results/exp/" + "log" * 40, "")],
        warnings=["a line was damaged"],
    )


@pytest.mark.parametrize(
    ("height", "steps", "bars"),
    [(40, "step 300/600  12.0 s to go", 1 + 3), (22, "step 300/600, training, no step for 20.0 s", 1)],
)
def test_runs_have_bars_of_their_own_where_all_have_the_room(
    campaign: Campaign, height: int, steps: str, bars: int
) -> None:
    lines = drawn(running_suites(campaign, 3), height=height)
    assert len([line for line in lines if steps in line]) == 3
    assert len([line for line in lines if "━" in line]) == bars


@pytest.mark.parametrize("width", [30, 80, 200])
@pytest.mark.parametrize("height", [8, 24, 60])
@pytest.mark.parametrize("number", [0, 1, 6, 50])
def test_a_full_screen_is_never_larger_than_the_terminal_and_ends_with_what_to_type(
    campaign: Campaign, width: int, height: int, number: int
) -> None:
    lines = drawn(running_suites(campaign, number), width, height)
    shown = "\n".join(lines)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert "Go on with: ecrl matrix" in shown
    told = shown.count("  noise-cnn-early") - ("last failures" in shown)
    rest = re.search(r"and (\d+) more", shown)
    if height == 24:
        assert told + (int(rest[1]) if rest else 0) == number + 1


def with_results(snapshot: Snapshot) -> Snapshot:
    """The snapshot with 30 finished runs, of which one failed, and a queue of 40 suites."""
    finished = [
        FinishedRun("noise-1", name, seed, "completed", 6, wall_s, stall_s, f"2026-11-21T23:{seed:02d}:00Z")
        for seed in range(10)
        for name, wall_s, stall_s in (("reference", 10.0, None), ("blocking", 20.0, 0.5), ("overlapped", 12.5, 0.125))
    ]
    finished[-1] = replace(finished[-1], outcome="failed")
    return replace(
        snapshot,
        counts=snapshot.counts | {"pending": 40},
        queue=[f"next-{number}" for number in range(40)],
        finished=finished[::-1],
    )


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40)])
def test_the_screen_is_full_of_results_finished_runs_and_the_queue(campaign: Campaign, width: int, height: int) -> None:
    lines = drawn(with_results(replace(running_suites(campaign, 1), failures=[])), width, height)
    assert len(lines) == height
    assert len(lines[1]) > 0.9 * width
    told = [line.split() for line in lines]
    assert ["blocking", "10", "runs", "goodput", "0.5", "wall", "20.0", "s", "stall", "0.5", "s"] in told
    assert ["overlapped", "9", "runs", "goodput", "0.8", "wall", "12.5", "s", "stall", "0.125", "s"] in told
    assert ["reference", "10", "runs", "goodput", "1", "wall", "10.0", "s"] in told
    assert ["overlapped", "seed9", "failed", "12.5", "s", "stall", "0.125", "s", "noise-1"] in told
    assert ["next", "of", "40", "suites", "in", "the", "queue"] in told
    assert ["next-0"] in told


@pytest.mark.parametrize("height", [6, 8, 10, 14, 24])
@pytest.mark.parametrize("number", [0, 1, 6])
def test_results_never_push_out_what_runs_and_what_to_type(campaign: Campaign, number: int, height: int) -> None:
    bare = running_suites(campaign, number)
    lines, before = drawn(with_results(bare), 80, height), drawn(bare, 80, height)
    assert len(lines) <= height
    # the line of counts differs
    assert [line for line in before[3:] if line.strip() and line not in lines] == []


def test_without_a_reference_no_goodput_is_told(campaign: Campaign) -> None:
    shown = with_results(running_suites(campaign, 0))
    shown = replace(shown, finished=[run for run in shown.finished if run.variant != "reference"])
    lines = drawn(shown, 80, 40)
    assert any(line.split()[:3] == ["blocking", "10", "runs"] for line in lines)
    assert "goodput" not in "\n".join(lines)


def test_a_plain_table_has_aligned_columns() -> None:
    assert plain_table(["a", "bb"], [["xxx", "1"], ["y", ""]]) == "a    bb\nxxx  1\ny"


def test_a_table_on_a_terminal_shows_every_cell(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("title", ["suite", "status"], [["noise-cnn-base", "failed"]], 1)
    out = capsys.readouterr().out
    assert "noise-cnn-base" in out
    assert "failed" in out


def test_a_whole_campaign_can_be_watched_live(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=80, height=24, force_terminal=True)
    asked = request(tmp_path / "results")
    with Live(console=console, auto_refresh=False, transient=True) as live:
        code = control(StandIn({"late/overlapped": "crash"}), LiveProgress(live, asked.paths)).run(asked, Policy())
    assert code == 4
    assert "FAILED" in console.file.getvalue()  # type: ignore[attr-defined]


def test_the_speed_of_a_run_that_ended_is_said_to_be_end_to_end(campaign: Campaign) -> None:
    spec = next(campaign.runs(campaign.suites[0])).spec
    told = describe_run_end(spec, result("completed"), "", Totals(suites=2, runs=6, left_s=None, run_s=None))
    assert "6 steps in 12.0 s (0.5 steps/s end to end), 1 restart" in told
