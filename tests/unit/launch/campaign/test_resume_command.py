"""The command to go on with: it does what is left of the one that stopped, and nothing beside it."""

import errno
import shlex
import signal
from pathlib import Path

import pytest

from ecrl.launch.campaign.recover import Policy
from ecrl.launch.campaign.resume_command import make_stopped_error, next_command, resume_command
from ecrl.launch.campaign.selection import Selection, parse_terms
from ecrl.launch.runs.progress import Observer, SilentObserver
from ecrl.launch.system.signals import StoppedError, StopRequest
from ecrl.records.manifest import store as manifest
from ecrl.records.manifest.store import Row
from ecrl.records.paths import CampaignPaths
from tests.errors import raises
from tests.unit.launch.stand_in import StandIn, StopsAt, control, request


@pytest.fixture
def paths(tmp_path: Path) -> CampaignPaths:
    asked = request(tmp_path / "results")
    control(StandIn()).plan(asked)
    return asked.paths


def rows(paths: CampaignPaths) -> dict[str, Row]:
    return {row.failure_label: row for row in manifest.read(paths).rows.values()}


def stopped(paths: CampaignPaths, policy: Policy, label: str) -> str:
    """What is said last by a `resume` that is stopped in the suite of this failure label, without the campaign."""
    stop = StopRequest()
    launcher = StandIn({f"{label}/blocking": "hang"})
    with pytest.raises(StoppedError) as told:
        control(launcher, StopsAt(stop, "blocking", signal.SIGINT, label), stop).resume(paths, policy)
    return rest(paths, str(told.value).splitlines()[-1])


def rest(paths: CampaignPaths, command: str) -> str:
    start = f"ecrl matrix resume {paths.options}"
    assert command.startswith(start)
    return command.removeprefix(start).strip()


def resumed(paths: CampaignPaths, flags: str) -> list[str]:
    """The runs that a `resume` with these flags starts."""
    words, launcher = shlex.split(flags), StandIn()
    only = parse_terms(words[words.index("--only") + 1]) if "--only" in words else ()
    control(launcher).resume(paths, Policy("--retry-failed" in words, selection=Selection(only)))
    return launcher.started


def test_only_is_kept(paths: CampaignPaths) -> None:
    flags = stopped(paths, Policy(selection=Selection(parse_terms("failure=late"))), "late")
    assert flags == "--only failure=late"
    assert "late/blocking" in resumed(paths, flags)
    assert [row.status for row in rows(paths).values()] == ["pending", "completed"]


def test_of_a_limit_only_what_is_left_of_it_is_named(paths: CampaignPaths) -> None:
    flags = stopped(paths, Policy(selection=Selection(limit=1)), "early")
    assert flags == "--limit 1"


def test_more_suites_than_a_command_line_takes_are_named_by_what_they_have_in_common(paths: CampaignPaths) -> None:
    left = [f"suite-{number}" for number in range(5000)]
    chosen = Policy(selection=Selection(parse_terms("status=pending,model=cnn")))
    assert rest(paths, next_command(paths, chosen, left)) == "--only model=cnn"
    assert rest(paths, next_command(paths, chosen, left[:2])) == "--only 'suite=suite-0|suite-1'"


def test_a_choice_by_state_is_named_suite_by_suite(paths: CampaignPaths) -> None:
    flags = stopped(paths, Policy(selection=Selection(parse_terms("status=pending"))), "late")
    assert flags == f"--only suite={rows(paths)['late'].suite_id}"


def test_what_was_set_aside_runs_again_without_being_set_aside_again(paths: CampaignPaths) -> None:
    control(StandIn()).resume(paths, Policy(selection=Selection(parse_terms("failure=late"))))
    flags = stopped(paths, Policy(selection=Selection(rerun=("late",))), "late")
    assert flags == f"--only suite={rows(paths)['late'].suite_id}"
    before = {path.name for path in paths.suites.rglob("*.aside-*")}
    assert before == {"seed1337.aside-1"}
    assert {name.partition("/")[0] for name in resumed(paths, flags)} == {"late"}
    assert [row.status for row in rows(paths).values()] == ["pending", "completed"]
    finished_twice = [path for path in paths.suites.rglob("*.aside-2/result.json") if path.is_file()]
    assert finished_twice == []


def test_a_retry_is_repeated_and_a_first_go_has_nothing_to_retry(paths: CampaignPaths) -> None:
    assert stopped(paths, Policy(retry_failed=True), "early") == ""
    control(StandIn({"late/blocking": "crash"})).resume(paths, Policy())
    assert stopped(paths, Policy(retry_failed=True), "late") == "--retry-failed"


def test_asked_to_stop_between_two_suites_the_failed_one_that_was_not_begun_is_left(paths: CampaignPaths) -> None:
    control(StandIn({"blocking": "crash"})).resume(paths, Policy())
    stop = StopRequest()

    class StopsAfter(SilentObserver):
        def suite_finished(self, row: Row, totals: object) -> None:
            stop.request(signal.SIGTERM)

    with pytest.raises(StoppedError) as told:
        control(StandIn(), StopsAfter(), stop).resume(paths, Policy(retry_failed=True))
    assert rest(paths, str(told.value).splitlines()[-1]) == "--retry-failed"
    assert [row.status for row in rows(paths).values()] == ["completed", "failed"]


def test_a_full_disk_is_told_with_what_is_left(paths: CampaignPaths) -> None:
    class Full(SilentObserver):
        def run_started(self, spec: object, totals: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device", str(paths.suites / "x"))

    full: Observer = Full()
    with raises("ECRL-504", str(paths.suites / "x"), "no space left") as told:
        control(StandIn(), full).resume(paths, Policy(selection=Selection(parse_terms("failure=late"))))
    assert rest(paths, str(told.value).partition("then type: ")[2]) == "--only failure=late"


def test_a_command_says_all_of_what_was_asked_for_in_words_that_a_shell_takes() -> None:
    selection = Selection(parse_terms("model~a b, failure=late"), 2, ("k 4",))
    policy = Policy(retry_failed=True, assume_dead=("node 1",), selection=selection)
    assert shlex.split(resume_command(CampaignPaths(Path("R 5"), "x"), policy)) == [
        "ecrl", "matrix", "resume", "--prefix", "x", "--results", "R 5", "--only", "model~a b,failure=late",
        "--limit", "2", "--rerun", "k 4", "--retry-failed", "--assume-dead", "node 1",
    ]  # fmt: skip


@pytest.mark.parametrize("signum", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_the_hand_over_fits_a_terminal_and_its_last_line_is_the_command(signum: signal.Signals) -> None:
    stop = StopRequest()
    stop.request(signum)
    lines = make_stopped_error(stop, "ecrl matrix resume --prefix x").format_message().splitlines()
    assert max(len(f"ecrl: {line}") for line in lines) <= 80
    assert lines[-1] == "ecrl matrix resume --prefix x"
