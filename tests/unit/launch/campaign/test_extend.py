"""An extended matrix under the same prefix: told apart, added when asked to, and nothing that is done runs again."""

import dataclasses
from pathlib import Path

import pytest

from ecrl.analysis.campaign.load import load_campaign
from ecrl.config.block_order import SHUFFLED, build_block_orders
from ecrl.config.run import RunSpec
from ecrl.config.suite import get_repeated_variant
from ecrl.launch.campaign.recover import Policy
from ecrl.launch.campaign.request import resolve_request
from ecrl.launch.campaign.store import load_frozen
from ecrl.launch.system.process_identity import get_current_owner
from ecrl.records.manifest import store as manifest
from ecrl.records.manifest.store import Manifest
from tests.errors import raises
from tests.unit.launch.stand_in import MATRIX, StandIn, control, request

MORE = MATRIX.replace("checkpoint_every = [2]", "checkpoint_every = [3, 2]\nseeds = [1337, 7]")
AGAIN = Policy(retry_failed=True)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    control(StandIn()).run(request(tmp_path / "results"), Policy())
    return tmp_path / "results"


def test_an_extended_matrix_shows_the_difference_and_starts_nothing(results: Path) -> None:
    launcher = StandIn()
    with raises("ECRL-304", "2 suites ", "2 more ", "checkpoint_every: 3; seeds: 7", "--extend"):
        control(launcher).run(request(results, text=MORE), AGAIN)
    assert launcher.started == []


def test_extended_only_what_is_new_runs_and_blocks_keep_their_order(results: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in results.rglob("result.json")}
    orders = load_frozen(request(results).paths).orders
    launcher = StandIn()
    asked = dataclasses.replace(request(results, text=MORE), extend=True)
    assert control(launcher).run(asked, AGAIN) == 0
    assert len(launcher.started) == 4 * 2 * 3 - 6
    after = {p: p.stat().st_mtime_ns for p in results.rglob("result.json")}
    assert {p: after[p] for p in before} == before
    rows = manifest.read(asked.paths).rows
    assert {row.status for row in rows.values()} == {"completed"}
    assert {row.runs_done for row in rows.values()} == {6}
    now = load_frozen(asked.paths)
    assert {block: now.orders[block] for block in orders} == orders
    assert control(StandIn()).resume(asked.paths, Policy()) == 0


def test_a_failed_suite_that_grew_runs_what_is_new_and_keeps_what_failed(tmp_path: Path) -> None:
    old = request(tmp_path / "results")
    assert control(StandIn({"early/blocking": "crash"})).run(old, Policy()) == 4
    asked = dataclasses.replace(request(tmp_path / "results", text=MORE), extend=True)
    planned = control(StandIn()).plan(asked)
    assert {row.status for row in planned.values()} == {"pending"}
    launcher = StandIn()
    assert control(launcher).resume(asked.paths, Policy()) == 4
    assert len(launcher.started) == 4 * 2 * 3 - 6
    rows = manifest.read(asked.paths).rows.values()
    assert [(row.failure_label, row.runs_done) for row in rows if row.status == "failed"] == [("early", 6)]
    assert list(asked.paths.suites.rglob("*.aside-*")) == []


def test_what_takes_something_away_is_another_experiment(results: Path) -> None:
    less = dataclasses.replace(request(results, text=MATRIX.replace("late = [5]\n", "")), extend=True)
    with raises("ECRL-303", "failures.late"):
        resolve_request(less)


def test_killed_before_the_extended_matrix_is_frozen_the_old_one_goes_on(results: Path) -> None:
    asked = dataclasses.replace(request(results, text=MORE), extend=True)
    (asked.paths.root / "exp_matrix.1.toml").write_bytes(asked.paths.matrix.read_bytes())
    assert load_frozen(asked.paths).older == ()
    assert control(StandIn()).run(asked, AGAIN) == 0
    assert len(load_frozen(asked.paths).older) == 1


def test_the_reference_is_repeated_once_a_suite_in_a_folder_of_its_own(tmp_path: Path) -> None:
    asked, launcher = request(tmp_path / "results", text=MATRIX + "[run]\naa = true\n"), StandIn()
    assert control(launcher).run(asked, Policy()) == 0
    assert launcher.started.count("early/reference") == 2
    assert len(list(asked.paths.root.rglob("reference-aa/seed1337/result.json"))) == 2
    assert {row.runs_total for row in manifest.read(asked.paths).rows.values()} == {4}


def test_any_variants_are_repeated_with_the_failures_of_their_suite(tmp_path: Path) -> None:
    text = MATRIX + '[run]\naa = ["blocking", "reference"]\n'
    asked, launcher = request(tmp_path / "results", text=text), StandIn()
    assert control(launcher).run(asked, Policy()) == 0
    assert launcher.started.count("early/blocking") == launcher.started.count("early/reference") == 2
    (first,) = asked.paths.suites.glob("*early*/blocking/seed1337/run.json")
    again = RunSpec.read(first.parents[2] / "blocking-aa" / "seed1337" / "run.json")
    assert (again.hash, again.folder_name) == (RunSpec.read(first).hash, "blocking-aa")
    assert [entry["at"] for entry in again.failures] == [3]
    assert {row.runs_total for row in manifest.read(asked.paths).rows.values()} == {5}
    found = load_campaign(asked.paths)
    assert {run.row["variant"] for run in found.again} == {"blocking-aa", "reference-aa"}
    assert {get_repeated_variant(run.row["variant"]) for run in found.again} == {"blocking", "reference"}
    assert (found.registration.stray, found.registration.late, found.registration.gone) == ((), (), ())


def test_a_repeat_of_another_variant_added_later_runs_alone_and_leaves_the_orders(tmp_path: Path) -> None:
    asked = request(tmp_path / "results", text=MATRIX + '[run]\naa = ["reference"]\n')
    control(StandIn()).run(asked, Policy())
    launcher = StandIn()
    more = request(tmp_path / "results", text=MATRIX + '[run]\naa = ["overlapped", "reference"]\n')
    assert control(launcher).run(more, AGAIN) == 0
    assert launcher.started == ["early/overlapped", "late/overlapped"]
    assert load_campaign(asked.paths).registration.late == ()


def test_a_campaign_that_named_no_rule_for_its_orders_keeps_its_own(tmp_path: Path) -> None:
    text = MATRIX.replace("[failures]", "seeds = [1, 2, 3]\n[failures]")
    asked = request(tmp_path / "results", text=text)
    control(StandIn()).plan(asked)
    balanced = load_frozen(asked.paths)
    old = asked.paths.matrix.read_text()
    assert "# orders: balanced\n" in old
    asked.paths.matrix.write_text(old.replace("# orders: balanced\n", ""))  # as version 0.1.0 wrote it
    shuffled = load_frozen(asked.paths)
    assert shuffled.orders != balanced.orders
    assert shuffled.orders == build_block_orders(shuffled.suites, shuffled.experiment_hash, SHUFFLED)
    assert resolve_request(asked).campaign.orders == shuffled.orders
    assert control(StandIn()).resume(asked.paths, Policy()) == 0
    more = request(tmp_path / "results", text=text.replace("[1, 2, 3]", "[1, 2, 3, 4]"))
    assert control(StandIn()).run(dataclasses.replace(more, extend=True), AGAIN) == 0
    assert "# orders: shuffled\n" in asked.paths.matrix.read_text()
    assert load_campaign(asked.paths).registration.late == ()


def test_extended_seed_by_seed_every_order_of_three_variants_comes_once(tmp_path: Path) -> None:
    text = MATRIX.replace("late = [5]\n", "").replace("[failures]", "seeds = [1]\n[failures]")
    asked = request(tmp_path / "results", text=text)
    control(StandIn()).run(asked, Policy())
    for last in range(2, 7):
        seeds = f"seeds = {list(range(1, last + 1))}"
        more = request(tmp_path / "results", text=text.replace("seeds = [1]", seeds))
        assert control(StandIn()).run(dataclasses.replace(more, extend=True), AGAIN) == 0
    found = load_campaign(asked.paths)
    assert len({run.facts["block_order"] for run in found.runs}) == 6
    assert found.registration.late == ()


def test_asking_for_the_repeat_later_runs_the_repeats_alone(results: Path) -> None:
    launcher = StandIn()
    assert control(launcher).run(request(results, text=MATRIX + "[run]\naa = true\n"), AGAIN) == 0
    assert launcher.started == ["early/reference", "late/reference"]


def test_planning_the_repeat_later_says_that_something_is_to_do(results: Path) -> None:
    asked = request(results, text=MATRIX + "[run]\naa = true\n")
    written = Manifest.open(asked.paths)
    late = next(suite_id for suite_id in written.rows if "late" in suite_id)
    elsewhere = dataclasses.replace(get_current_owner(), host="elsewhere")
    written.record(late, status="running", owner=elsewhere)
    written.close()
    control(StandIn()).plan(asked)
    rows = manifest.read(asked.paths).rows
    assert [(row.status, row.runs_done, row.runs_total) for row in rows.values()] == [
        ("pending", 3, 4),
        ("running", 3, 4),
    ]
    assert rows[late].owner == elsewhere  # planning takes nothing over
    launcher = StandIn()
    assert control(launcher).resume(asked.paths, Policy(assume_dead=("elsewhere",))) == 0
    assert launcher.started == ["early/reference", "late/reference"]


def test_the_repeat_taken_back_leaves_a_manifest_that_reads(results: Path) -> None:
    assert control(StandIn()).run(request(results, text=MATRIX + "[run]\naa = true\n"), AGAIN) == 0
    asked, launcher = request(results), StandIn()
    assert control(launcher).run(asked, AGAIN) == 0
    assert {(row.runs_done, row.runs_total) for row in manifest.read(asked.paths).rows.values()} == {(3, 3)}
    asked.paths.journal.unlink()  # nothing vouches for the rows any more: each is looked at
    assert control(launcher).resume(asked.paths, Policy()) == 0
    assert launcher.started == []


def test_failures_listed_in_another_order_leave_every_block_its_order(tmp_path: Path) -> None:
    text = MATRIX.replace("[failures]", "seeds = [1, 2, 3, 4, 5, 6]\n[failures]")
    asked = request(tmp_path / "results", text=text)
    control(StandIn()).plan(asked)
    frozen = load_frozen(asked.paths)
    other = text.replace("early = [3]\nlate = [5]", "late = [5]\nearly = [3]")
    again = resolve_request(request(tmp_path / "results", text=other)).campaign
    assert again.orders == frozen.orders
    assert [suite.suite_id for suite in again.suites] == [suite.suite_id for suite in frozen.suites]
