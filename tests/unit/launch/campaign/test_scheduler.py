"""The campaign loop over a stand-in worker group: what is run, kept, repeated, set aside and written down."""

import json
import signal
from pathlib import Path

import pytest

from ecrl.launch.campaign.recover import Policy
from ecrl.launch.system.signals import StoppedError, StopRequest
from ecrl.records.manifest import store as manifest
from ecrl.records.manifest.store import Row
from ecrl.records.paths import CampaignPaths
from tests.errors import raises
from tests.unit.launch.stand_in import MATRIX, StandIn, StopsAt, control, request

VARIANTS = ("reference", "blocking", "overlapped")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


def rows(results: Path, prefix: str = "exp") -> dict[str, Row]:
    return {row.failure_label: row for row in manifest.read(CampaignPaths(results, prefix)).rows.values()}


def result_files(results: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in results.rglob("result.json")}


def test_a_campaign_completes_with_a_result_for_every_run(results: Path) -> None:
    launcher = StandIn()
    assert control(launcher).run(request(results), Policy()) == 0
    assert sorted(launcher.started) == sorted(f"{label}/{v}" for label in ("early", "late") for v in VARIANTS)
    for row in rows(results).values():
        assert (row.status, row.runs_done, row.attempts, row.owner) == ("completed", 3, 1, None)
    assert len(result_files(results)) == 6
    for path in result_files(results):
        result = json.loads(path.read_text())
        assert result["outcome"] == "completed"
        assert result["machine"]["torch"] == "stand-in"
        assert result["failures_fired"] == result["failures_planned"]


def test_run_again_keeps_finished_suites_completed_and_starts_nothing(results: Path) -> None:
    control(StandIn()).run(request(results), Policy())
    before, launcher = result_files(results), StandIn()
    assert control(launcher).run(request(results), Policy(retry_failed=True)) == 0
    assert launcher.started == []
    assert {row.status for row in rows(results).values()} == {"completed"}
    assert result_files(results) == before


def test_a_crash_fails_its_suite_with_reason_and_log_and_the_others_still_run(results: Path) -> None:
    assert control(StandIn({"early/blocking": "crash"})).run(request(results), Policy()) == 4
    found = rows(results)
    assert (found["early"].status, found["late"].status) == ("failed", "completed")
    assert "RuntimeError: boom (rank 1, after step 3)" in found["early"].message
    assert found["early"].message.endswith("/blocking/seed1337/logs/torchrun.log")
    assert found["early"].runs_done == 3


def test_resume_leaves_failed_suites_alone_unless_told_otherwise(results: Path) -> None:
    paths = request(results).paths
    control(StandIn({"early/blocking": "crash"})).run(request(results), Policy())
    before, launcher = result_files(results), StandIn()
    assert control(launcher).resume(paths, Policy()) == 4
    assert launcher.started == []
    assert control(launcher).resume(paths, Policy(retry_failed=True)) == 0
    assert launcher.started == ["early/blocking"]
    after = result_files(results)
    changed = [str(path) for path in before if before[path] != after[path]]
    assert len(changed) == 1
    assert "early" in changed[0]
    assert "/blocking/" in changed[0]
    aside = next(results.rglob("seed1337.aside-1"))
    assert (aside / "result.json").exists()
    assert rows(results)["early"].attempts == 2


def test_retries_run_a_failed_run_again_with_what_it_left_set_aside(results: Path) -> None:
    text = MATRIX + "[run]\nretries = 1\n"
    assert control(StandIn({"overlapped": "flaky"})).run(request(results, text=text), Policy()) == 0
    assert {row.status for row in rows(results).values()} == {"completed"}
    assert len(list(results.rglob("seed1337.aside-1/result.json"))) == 2


def test_a_planned_failure_that_does_not_fire_is_not_a_completed_run(results: Path) -> None:
    assert control(StandIn({"blocking": "skips-failure"})).run(request(results), Policy()) == 4
    assert "planned failures [0], struck []" in rows(results)["early"].message


def test_a_run_past_its_timeout_is_ended_and_failed(results: Path) -> None:
    text = MATRIX + "[run]\ntimeout_s = 1.0\n"
    assert control(StandIn({"early/overlapped": "hang"})).run(request(results, text=text), Policy()) == 4
    assert "not done after 1 s (--timeout), at step 3 of 6" in rows(results)["early"].message


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_hands_over_and_resume_repeats_only_the_interrupted_run(results: Path, signum: int) -> None:
    stop = StopRequest()
    launcher = StandIn({"early/blocking": "hang"})
    with pytest.raises(StoppedError) as stopped:
        control(launcher, StopsAt(stop, "blocking", signum), stop).run(request(results), Policy())
    assert stopped.value.exit_code == 128 + signum
    assert str(stopped.value).splitlines()[-1] == f"ecrl matrix resume --prefix exp --results {results}"
    assert rows(results)["early"].status == "interrupted"
    before, launcher = result_files(results), StandIn()
    assert control(launcher).resume(request(results).paths, Policy()) == 0
    assert "early/blocking" in launcher.started
    assert {row.status for row in rows(results).values()} == {"completed"}
    after = result_files(results)
    assert len(after) == 6
    assert {path: after[path] for path in before} == before
    assert not list(results.rglob("seed1337.aside-1/checkpoints"))


def test_results_deleted_by_hand_are_made_again_and_no_others(results: Path) -> None:
    control(StandIn()).run(request(results), Policy())
    victim = next(path for path in result_files(results) if "overlapped" in str(path))
    victim.unlink()
    launcher = StandIn()
    assert control(launcher).resume(request(results).paths, Policy()) == 0
    assert len(launcher.started) == 1
    assert launcher.started[0].endswith("/overlapped")


def test_a_lost_manifest_is_made_again_from_the_frozen_matrix_and_the_results(results: Path) -> None:
    control(StandIn()).run(request(results), Policy())
    paths, launcher = request(results).paths, StandIn()
    paths.manifest.unlink()
    assert control(launcher).resume(paths, Policy()) == 0
    assert launcher.started == []
    assert {row.status for row in rows(results).values()} == {"completed"}


def test_a_result_of_another_run_does_not_count(results: Path) -> None:
    control(StandIn()).run(request(results), Policy())
    victim = next(iter(result_files(results)))
    victim.write_text(json.dumps(json.loads(victim.read_text()) | {"run_hash": "0" * 64}))
    paths, launcher = request(results).paths, StandIn()
    paths.manifest.unlink()
    assert control(launcher).resume(paths, Policy()) == 0
    assert len(launcher.started) == 1


def test_blocks_run_in_the_order_that_their_run_json_names(results: Path) -> None:
    launcher = StandIn()
    control(launcher).run(request(results), Policy())
    for path in results.rglob("run.json"):
        spec = json.loads(path.read_text())
        block = [name for name in launcher.started if name.startswith(spec["failure_label"])]
        assert block[spec["block_position"]] == f"{spec['failure_label']}/{spec['variant']}"


def test_a_disk_that_fills_up_is_an_error_with_the_next_command(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from ecrl.launch.runs import outcome

    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(outcome, "write_atomic", full)
    with raises("ECRL-504", "no space left", "ecrl matrix resume --prefix exp"):
        control(StandIn()).run(request(results), Policy())
    monkeypatch.undo()
    assert [row.status for row in rows(results).values()] == ["interrupted", "pending"]
    assert control(StandIn()).resume(request(results).paths, Policy()) == 0
