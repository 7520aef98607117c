"""A campaign seen from outside: what watch, show and clean find in the records."""

import json
import os
from pathlib import Path

import pytest

from ecrl.cli.ui.campaign_tables import show_status
from ecrl.cli.ui.lines import format_lines
from ecrl.errors import PrefixHeldError
from ecrl.launch.campaign.clean import KINDS, clean, find_leftovers
from ecrl.launch.campaign.lock import prefix_lease
from ecrl.launch.campaign.recover import Policy
from ecrl.launch.campaign.selection import Selection
from ecrl.launch.system.process_identity import Liveness
from ecrl.launch.views.snapshot import CampaignWatch
from ecrl.launch.views.suite_view import inspect_suite
from ecrl.records.clock import now_ns
from ecrl.records.manifest.store import Manifest
from ecrl.records.paths import CampaignPaths
from ecrl.records.recorder import Recorder
from tests.errors import raises
from tests.unit.launch.stand_in import StandIn, control, request
from tests.unit.launch.views.campaigns import train, under_way


def test_a_running_suite_shows_step_loss_speed_and_phase_at_the_first_look(paths: CampaignPaths) -> None:
    run = under_way(paths)
    train(run, 4)
    watch = CampaignWatch(paths)
    snapshot = watch.take_snapshot()
    watch.close()
    (running,) = snapshot.running
    assert running.liveness is Liveness.ALIVE
    assert running.run is not None
    assert running.run.progress.step == 4
    assert running.run.progress.doing == "training"
    assert running.run.progress.loss == 0.25
    assert running.run.progress.steps_per_s == pytest.approx(2.0)
    assert running.run.gpus == "cpu"
    assert running.elapsed_s == pytest.approx(3.0, abs=1.0)
    assert snapshot.counts["pending"] == 1
    assert snapshot.eta_s is None  # nothing was measured yet
    told = json.loads(json.dumps(snapshot.to_json()))
    assert told["schema"] == 1
    assert told["running"][0]["run"]["steps_per_s"] == pytest.approx(2.0)


def test_looking_again_reads_on_and_sees_a_restart(paths: CampaignPaths) -> None:
    run = under_way(paths)
    train(run, 4)
    watch = CampaignWatch(paths)
    watch.take_snapshot()
    train(run, 3, attempt=1, since=2)
    (running,) = watch.take_snapshot().running
    watch.close()
    assert running.run is not None
    seen = running.run.progress
    assert (seen.step, seen.restarts, seen.doing) == (3, 1, "replaying")


def test_a_run_that_records_nothing_is_said_to_wait_everywhere(
    paths: CampaignPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    run = under_way(paths)
    long_ago = now_ns() - 30 * 10**9
    for rank in (0, 1):
        Recorder(run.events(0, rank)).event("start", t=long_ago, pid=os.getpid(), world_size=2)
        Recorder(run.events(0, rank)).event("step", t=long_ago, s=4 - rank, loss=1.0)
    run.torchrun_log.write_text("the last word\n")
    watch = CampaignWatch(paths)
    snapshot = watch.take_snapshot()
    watch.close()
    (running,) = snapshot.running
    assert running.silence.startswith("no step for 30")
    assert "rank 1 is behind, after step 3 of 6; others after step 4; torchrun.log ends with: the last word" in (
        running.silence
    )
    assert running.silence in "\n".join(format_lines(snapshot))
    show_status(paths)
    assert "rank 1 is behind, after step 3 of 6" in capsys.readouterr().out


def test_between_two_runs_there_is_nothing_live(paths: CampaignPaths) -> None:
    run = under_way(paths)
    run.result.write_text("{}")
    watch = CampaignWatch(paths)
    (running,) = watch.take_snapshot().running
    watch.close()
    assert running.run is None


def test_a_suite_whose_ecrl_is_gone_is_said_to_be(paths: CampaignPaths) -> None:
    under_way(paths, alive=False)
    watch = CampaignWatch(paths)
    assert watch.take_snapshot().running[0].liveness is Liveness.DEAD
    watch.close()


def test_time_left_comes_from_measured_runs_and_failures_name_their_log(tmp_path: Path) -> None:
    asked = request(tmp_path / "results")
    control(StandIn({"early/blocking": "crash"})).run(asked, Policy(selection=Selection(limit=1)))
    watch = CampaignWatch(asked.paths)
    snapshot = watch.take_snapshot()
    watch.close()
    row = next(iter(Manifest.open(asked.paths).rows.values()))
    assert snapshot.runs_measured == 3
    assert snapshot.eta_s == pytest.approx(row.wall_s)  # the other suite has as many runs to make
    assert not snapshot.is_over
    (failure,) = snapshot.failures
    assert "RuntimeError: boom" in failure.reason
    assert Path(failure.log).is_file()


def test_finished_runs_are_told_with_their_stall_the_newest_first_and_the_queue_beside_them(tmp_path: Path) -> None:
    asked = request(tmp_path / "results")
    control(StandIn({"early/blocking": "crash"})).run(asked, Policy(selection=Selection(limit=1)))
    (begun, waiting) = Manifest.open(asked.paths).rows.values()
    run = asked.paths.run(begun.suite_id, "overlapped", 1337)
    recorder = Recorder(run.events(7, 0))
    recorder.event("save", t0=1 * 10**9, t=3 * 10**9, s=2)
    recorder.event("fence", t0=5 * 10**9, t=5 * 10**9 + 500_000_000)
    recorder.close()
    watch = CampaignWatch(asked.paths)
    snapshot = watch.take_snapshot()
    assert snapshot.queue == [waiting.suite_id]
    told = {run.variant: run for run in snapshot.finished}
    assert {name: run.outcome for name, run in told.items()} == {
        "reference": "completed",
        "blocking": "failed",
        "overlapped": "completed",
    }
    assert told["overlapped"].stall_s == 2.5
    assert told["reference"].stall_s is None
    assert [run.finished_at for run in snapshot.finished] == sorted(
        (run.finished_at for run in told.values()), reverse=True
    )
    assert json.loads(json.dumps(snapshot.to_json()))["finished"][0]["suite_id"] == begun.suite_id
    run.result.write_text("{}")  # damaged, or of another run
    assert "overlapped" not in {run.variant for run in watch.take_snapshot().finished}
    watch.close()


def test_an_unknown_prefix_is_said_with_the_nearest(paths: CampaignPaths) -> None:
    with raises("ECRL-301", "'exq'", "'exp'"):
        CampaignWatch(CampaignPaths(paths.results, "exq")).take_snapshot()


def test_the_kind_of_experiment_is_read_from_the_frozen_matrix_and_an_older_one_means_training(
    paths: CampaignPaths,
) -> None:
    frozen = paths.matrix.read_text()
    assert '[experiment]\nkind = "training"\n' in frozen
    paths.matrix.write_text(frozen.replace('[experiment]\nkind = "training"\n', ""))
    CampaignWatch(paths).take_snapshot()
    paths.matrix.write_text("[matrix")
    with raises("ECRL-307", str(paths.matrix), f"ecrl matrix status {paths.options}"):
        CampaignWatch(paths).take_snapshot()


def test_show_lists_every_run_in_the_order_it_has_with_its_result(tmp_path: Path) -> None:
    asked, launcher = request(tmp_path / "results"), StandIn({"late/blocking": "crash"})
    control(launcher).run(asked, Policy())
    suite = inspect_suite(asked.paths.results, None, "late")
    assert [f"late/{run.variant}" for run in suite.runs] == launcher.started[-3:]
    assert sorted(run.state for run in suite.runs) == ["completed", "completed", "failed"]
    told = json.loads(json.dumps(suite.to_json()))
    assert told["schema"] == 1
    assert next(run for run in told["runs"] if run["state"] == "failed")["gates"]["C1"] is False


def test_a_suite_of_several_campaigns_needs_a_prefix(tmp_path: Path) -> None:
    for prefix in ("one", "two"):
        control(StandIn()).plan(request(tmp_path / "results", prefix))
    with raises("ECRL-323", "'late'", "one, two", "--prefix"):
        inspect_suite(tmp_path / "results", None, "late")
    assert inspect_suite(tmp_path / "results", "two", "late").paths.prefix == "two"
    with raises("ECRL-322", "'lat3'", "ecrl matrix list"):
        inspect_suite(tmp_path / "results", None, "lat3")


def test_rerun_keeps_what_was_there_set_aside_and_runs_nothing_else(tmp_path: Path) -> None:
    asked, launcher = request(tmp_path / "results"), StandIn()
    control(launcher).run(asked, Policy())
    before = len(launcher.started)
    assert control(launcher).resume(asked.paths, Policy(selection=Selection(rerun=("late",)))) == 0
    assert {name.partition("/")[0] for name in launcher.started[before:]} == {"late"}
    assert [run.aside for run in inspect_suite(asked.paths.results, None, "late").runs] == [1, 1, 1]
    assert [run.aside for run in inspect_suite(asked.paths.results, None, "early").runs] == [0, 0, 0]


def test_clean_removes_only_what_it_was_told_to_and_never_while_somebody_works(tmp_path: Path) -> None:
    asked = request(tmp_path / "results")
    paths = asked.paths
    control(StandIn({"early/blocking": "flaky"})).run(asked, Policy())
    control(StandIn()).resume(paths, Policy(retry_failed=True))
    (paths.root / ".exp_manifest.csv.77.tmp").write_text("half")
    done = next(paths.root.glob("suites/*early*/blocking/seed1337"))
    (done / "checkpoints").mkdir()
    (done / "checkpoints" / "file").write_text("x" * 10)
    found = find_leftovers(paths, KINDS)
    assert sorted(each.kind for each in found) == ["checkpoints", "set-aside", "temporary"]
    with prefix_lease(paths), pytest.raises(PrefixHeldError):
        clean(paths, KINDS)
    assert all(each.path.exists() for each in found)
    clean(paths, ["set-aside", "temporary"])
    assert [each.path.exists() for each in sorted(found, key=lambda each: each.kind)] == [True, False, False]
    assert (done / "result.json").is_file()


def test_clean_counts_and_removes_a_link_but_not_what_it_leads_to(tmp_path: Path) -> None:
    asked = request(tmp_path / "results")
    paths = asked.paths
    control(StandIn()).run(asked, Policy())
    (elsewhere := tmp_path / "elsewhere").mkdir()
    (elsewhere / "file").write_text("x" * 100_000)
    done = next(paths.root.glob("suites/*early*/blocking/seed1337"))
    (done / "checkpoints").symlink_to(elsewhere)
    [found] = clean(paths, ["checkpoints"])
    assert found.num_bytes < 1000
    assert not (done / "checkpoints").is_symlink()
    assert (elsewhere / "file").stat().st_size == 100_000
