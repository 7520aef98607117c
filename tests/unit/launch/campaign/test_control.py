"""Preview, plan and the checks before a start."""

import dataclasses
from pathlib import Path

import pytest

from ecrl.errors import EcrlError
from ecrl.experiments.training.probe import Probe
from ecrl.experiments.training.run import Training, TrainingMachine
from ecrl.launch.campaign import preview as estimate
from ecrl.launch.campaign.lock import prefix_lease
from ecrl.launch.campaign.preview import Estimate, PlaceUse
from ecrl.launch.campaign.recover import Policy
from ecrl.launch.campaign.request import resolve_request
from ecrl.records.manifest import store as manifest
from ecrl.records.paths import CampaignPaths
from tests.errors import raises
from tests.unit.launch.stand_in import MATRIX, StandIn, answer, control, request


def test_a_preview_shows_every_run_in_the_order_it_then_has_and_writes_nothing(tmp_path: Path) -> None:
    asked, launcher = request(tmp_path / "results"), StandIn()
    preview = control(launcher).preview(asked)
    assert not asked.paths.results.exists()
    planned = [f"{p.spec.failure_label}/{p.spec.variant}" for runs in preview.runs.values() for p in runs]
    control(launcher).run(asked, Policy())
    assert launcher.started == planned
    done = control(StandIn()).preview(asked)
    assert not any(p.todo for runs in done.runs.values() for p in runs)
    assert done.estimate.runs_todo == 0


def test_the_expected_time_is_that_of_equal_suites_elsewhere_on_the_same_device(tmp_path: Path) -> None:
    results = tmp_path / "results"
    unknown = control(StandIn()).preview(request(results)).expected_time
    assert unknown.to_json() == {"seconds": None, "runs": 0, "prefixes": [], "tried_runs": 0}
    asked = request(results)
    control(StandIn()).run(asked, Policy())
    measured = sum(row.wall_s or 0 for row in manifest.read(asked.paths).rows.values())
    again = dataclasses.replace(asked, paths=CampaignPaths(results, "again"))
    told = control(StandIn()).preview(again).expected_time
    assert (told.runs, told.prefixes) == (6, ("exp",))
    assert told.seconds == pytest.approx(measured)
    done = control(StandIn()).preview(asked).expected_time
    assert (done.runs, done.seconds) == (0, 0), "nothing is left to run"


def test_another_device_or_another_suite_tells_no_time(tmp_path: Path) -> None:
    results = tmp_path / "results"
    asked = request(results)
    control(StandIn()).run(asked, Policy())
    longer = request(results, text=MATRIX.replace("steps = 6", "steps = 7"))
    again = dataclasses.replace(longer, paths=CampaignPaths(results, "longer"))
    assert control(StandIn()).preview(again).expected_time.runs == 0
    frozen = asked.paths.matrix
    frozen.write_text(frozen.read_text().replace('device = "cpu"', 'device = "cuda"'))
    again = dataclasses.replace(asked, paths=CampaignPaths(results, "again"))
    assert control(StandIn()).preview(again).expected_time.runs == 0


def test_a_damaged_campaign_beside_it_tells_no_time_and_stops_nothing(tmp_path: Path) -> None:
    results = tmp_path / "results"
    asked = request(results)
    control(StandIn()).run(asked, Policy())
    again = dataclasses.replace(asked, paths=CampaignPaths(results, "again"))
    asked.paths.matrix.write_text("[run")
    assert control(StandIn()).preview(again).expected_time.runs == 0


def test_the_estimate_adds_up(tmp_path: Path) -> None:
    told = control(StandIn()).preview(request(tmp_path / "results")).estimate
    # 2 suites x 3 variants x 6 steps; failures at 3 and 5 lose a step each, for two variants, with every = 2.
    assert (told.suites, told.runs, told.runs_todo) == (2, 6, 6)
    assert told.work.numbers == {"steps": 36, "replayed_steps": 4, "checkpoints": 2 * 2 * 3}
    assert told.disk is not None
    assert (told.disk.written, told.disk.kept, told.disk.peak) == (12_000, 0, 3000)
    kept = control(StandIn()).preview(request(tmp_path / "r", text=f"{MATRIX}[run]\nkeep_final = true\njobs = 2\n"))
    assert kept.estimate.disk is not None
    assert (kept.estimate.disk.kept, kept.estimate.disk.peak) == (2 * 2 * 1000, 3000), "suites differ in failures alone"


def test_every_disk_is_weighed_and_a_plan_warns_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, spare = tmp_path / "small", tmp_path / "spare"
    sizes, notes = {small: 2000, spare: 100}, list[str]()
    monkeypatch.setattr(estimate, "get_free_bytes", lambda folder: sizes.get(folder, 10**9))
    monkeypatch.setattr(estimate, "find_existing_folder", lambda folder: Path("/proc") if folder == small else tmp_path)
    text = f'{MATRIX}[checkpoint]\ndir = "{small}"\n'
    way_in = control(StandIn())
    object.__setattr__(way_in.observer, "note", notes.append)
    assert way_in.plan(request(tmp_path / "results", text=text))
    assert [note for note in notes if "needed" in note] == [
        f"warning: {small}: 2.0 kB free, about 3.0 kB needed at the peak"
    ]
    told = way_in.preview(request(tmp_path / "results", text=text)).estimate
    assert [(place.folder, place.needed) for place in told.places] == [(tmp_path / "results", 250_800), (small, 3000)]
    with raises("ECRL-308", f"{small}: 2.0 kB free", "3.0 kB", "checkpoint.dir"):
        control(StandIn()).run(dataclasses.replace(request(tmp_path / "x", text=text)), Policy())
    assert not (tmp_path / "x").exists()


def test_a_fallback_with_room_makes_up_for_a_small_disk(tmp_path: Path) -> None:
    small = PlaceUse(tmp_path, needed=300, free=100)
    told = control(StandIn()).preview(request(tmp_path / "results")).estimate
    for room, fits in ((199, False), (200, True)):
        spare = PlaceUse(tmp_path / "spare", 0, room, fallback=True)
        assert dataclasses.replace(told, places=(small, spare)).fits is fits


def test_plan_freezes_and_writes_a_pending_manifest_and_starts_nothing(tmp_path: Path) -> None:
    asked, launcher = request(tmp_path / "results"), StandIn()
    rows = control(launcher).plan(asked)
    assert {row.status for row in rows.values()} == {"pending"}
    assert asked.paths.matrix.exists()
    before = asked.paths.manifest.read_bytes()
    control(launcher).plan(asked)
    assert asked.paths.manifest.read_bytes() == before
    assert launcher.started == []
    assert control(launcher).resume(asked.paths, Policy()) == 0
    assert len(launcher.started) == 6


@pytest.mark.parametrize(("retry", "status", "code"), [(False, "failed", 4), (True, "completed", 0)])
def test_a_lost_manifest_costs_neither_devices_nor_a_look_at_the_machine(
    tmp_path: Path, retry: bool, status: str, code: int
) -> None:
    asked = request(tmp_path / "results")
    control(StandIn({"late/blocking": "crash"} if status == "failed" else {})).run(asked, Policy())
    before = manifest.read(asked.paths).rows
    asked.paths.manifest.unlink()
    asked.paths.journal.unlink(missing_ok=True)

    def refuse(_matrix: object, _stop: object, _look: object) -> Probe:
        raise AssertionError("nothing is to run")

    launcher = StandIn()
    assert control(launcher, ask=refuse).resume(asked.paths, Policy(retry_failed=retry)) == code
    after = manifest.read(asked.paths).rows
    assert launcher.started == []
    for suite_id, row in before.items():
        for name in ("status", "runs_done", "wall_s", "message"):
            assert getattr(after[suite_id], name) == getattr(row, name)


def test_one_missing_run_is_made_beside_suites_that_are_whole(tmp_path: Path) -> None:
    asked = request(tmp_path / "results")
    control(StandIn()).run(asked, Policy())
    (one, _) = manifest.read(asked.paths).rows
    asked.paths.run(one, "blocking", 1337).result.unlink()
    asked.paths.manifest.unlink()
    asked.paths.journal.unlink(missing_ok=True)
    launcher = StandIn()
    assert control(launcher).resume(asked.paths, Policy()) == 0
    assert [name.partition("/")[2] for name in launcher.started] == ["blocking"]
    assert {row.status for row in manifest.read(asked.paths).rows.values()} == {"completed"}


def test_a_disk_too_small_for_the_checkpoints_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "get_free_bytes", lambda _: 5000)
    with raises("ECRL-308", str(tmp_path / "results"), "5.0 kB free", "253.8 kB", "--results"):
        control(StandIn()).run(request(tmp_path / "results"), Policy())
    assert not (tmp_path / "results").exists()


def test_whoever_declines_a_large_campaign_leaves_nothing_behind(tmp_path: Path) -> None:
    def decline(_told: Estimate) -> None:
        raise EcrlError("ECRL-506", "declined")

    with raises("ECRL-506", "declined"):
        dataclasses.replace(control(StandIn()), confirm=decline).run(request(tmp_path / "results"), Policy())
    assert not (tmp_path / "results").exists()


def test_new_run_options_are_frozen_with_the_same_experiment(tmp_path: Path) -> None:
    asked = request(tmp_path / "results")
    control(StandIn()).run(asked, Policy())
    control(StandIn()).run(request(tmp_path / "results", text=MATRIX + "[run]\nretries = 3\n"), Policy())
    assert "retries = 3" in asked.paths.matrix.read_text()
    assert {row.status for row in manifest.read(asked.paths).rows.values()} == {"completed"}


def test_a_held_prefix_names_its_holder_and_a_released_one_is_free(tmp_path: Path) -> None:
    import os

    asked = request(tmp_path / "results")
    with (
        prefix_lease(asked.paths),
        raises("ECRL-309", f"pid {os.getpid()} on", f"ecrl matrix status {asked.paths.options}") as held,
    ):
        control(StandIn()).run(asked, Policy())
    assert held.value.exit_code == 5
    assert control(StandIn()).run(asked, Policy()) == 0


def test_what_a_campaign_costs_at_most_is_what_its_preview_sums_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "get_free_bytes", lambda _folder: 10**12)  # others use the disk, too
    axes = "max_inflight = [1, 7, 2]\ncheckpoint_every = [1, 2]\nlaunchers = ['warm', 'cold']"
    asked = request(tmp_path / "results", text=MATRIX.replace("checkpoint_every = [2]", axes))
    summed = control(StandIn()).preview(asked).estimate
    assert summed.disk is not None
    assert summed.disk.peak == 6000
    campaign = resolve_request(asked).campaign
    again = estimate.compute_estimate(campaign, Training(), TrainingMachine(answer(campaign.matrix)))
    assert again == summed
