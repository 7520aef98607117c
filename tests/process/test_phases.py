"""Real torchrun: failures inside each phase, of restarts, of the whole group and drawn ones, all exactly survived."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ecrl import plugins
from ecrl.analysis.run.step_history import build_step_history
from ecrl.config.failure_entry import FailureEntry
from ecrl.config.failure_schedule import build_plan
from ecrl.config.run import RunSpec
from ecrl.config.train import CheckpointSettings, TrainSettings
from ecrl.launch.launchers.cold import Cold
from ecrl.launch.runs.progress import SilentObserver
from ecrl.launch.runs.run import Run
from ecrl.launch.runs.supervisor import Supervisor
from ecrl.launch.system.signals import StopRequest
from ecrl.records import failure_checks
from ecrl.records.correctness import count_restarts, list_fired
from ecrl.records.paths import RunPaths
from ecrl.records.reader import RunRecord, read_run
from tests.extras import need
from tests.process.crashes import ENGINES, EVERY, Campaign, final, finished

pytestmark = [pytest.mark.process, pytest.mark.timeout(600)]

FAILURES = """
hurt = [
  { at = 10, phase = "persist", rank = 1 },
  { phase = "restore" },                     # two in a row
  { phase = "init", rank = 0 },              # three
  { at = 10, phase = "commit" },             # of the checkpoint whose persist was struck
  { at = 12, ranks = "all" },
  { at = 15, phase = "staging" },
  { at = 18, phase = "retention" },
  { interval = 4, seed = 1 },
]
random = [{ mtbf_s = 100, seed = 67498, count = 2 }]   # a seed that draws 0.02 s and 333.691 s
"""
LABELS = ("hurt", "random")


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    return finished(tmp_path_factory.mktemp("phases"), ENGINES, FAILURES, "warm")


@pytest.mark.parametrize("variant", ENGINES)
@pytest.mark.parametrize("label", LABELS)
def test_every_rank_ends_with_the_bits_of_the_uninterrupted_run(
    campaign: Campaign, crashes: Campaign, label: str, variant: str
) -> None:
    expected = final(crashes.record("crashes", "reference"))
    assert len(expected) == 2
    assert final(campaign.record(label, variant)) == expected


@pytest.mark.parametrize("variant", ENGINES)
@pytest.mark.parametrize("label", LABELS)
def test_each_failure_strikes_once_and_where_it_was_meant_to(campaign: Campaign, label: str, variant: str) -> None:
    record = campaign.record(label, variant)
    assert failure_checks.find_faults(record) == []
    beyond = failure_checks.find_failures_after_end(record)
    due = [f for f in record.spec["failures"] if f["index"] not in beyond]
    assert list_fired(record) == [f["index"] for f in due]
    assert count_restarts(record) == len(due)
    assert beyond == ([1] if label == "random" else [])
    if label != "random":
        told = [(a, rank, e["at"], e["phase"]) for a, rank, e in record.get_events("failure")]
        assert told == [(f["index"], f["rank"], _struck_at(f), f.get("phase", "step")) for f in due]
    assert record.result is not None
    assert record.result["outcome"] == "completed"
    assert record.result["gates"]["C1"]["passed"] is True


def _struck_at(planned: dict[str, object]) -> object:
    match planned.get("phase"):
        case "init":
            return 0
        case "restore":
            return 5  # the only checkpoint there is
    return planned["at"]


def test_blocking_replays_exactly_what_each_phase_takes_back(campaign: Campaign) -> None:
    hurt = build_step_history(campaign.record("hurt", "blocking")).rollbacks
    assert [(r.completed, r.restored) for r in hurt[:1]] == [(10, 5)]  # half-persisted: never committed
    assert [(r.completed, r.restored) for r in hurt[3:6]] == [(10, 5), (12, 10), (15, 10)]
    drawn = campaign.suites["hurt"].failures[7]["at"]
    assert 20 < drawn < 25
    # retention: the new one is committed; interval 4: back to its beginning
    assert [(r.completed, r.restored) for r in hurt[6:]] == [(20, 20), (drawn, 20)]


@pytest.mark.parametrize("label", LABELS)
def test_overlapped_replays_at_most_what_was_in_flight_more(campaign: Campaign, label: str) -> None:
    for rollback in build_step_history(campaign.record(label, "overlapped")).rollbacks:
        assert rollback.replayed_steps is not None
        # with two slots, two checkpoints may be in flight, and training goes on by up to one interval
        assert rollback.replayed_steps < 3 * EVERY + EVERY


def test_the_group_is_struck_at_once(campaign: Campaign) -> None:
    for variant in ENGINES:
        record = campaign.record("hurt", variant)
        assert not [e for a, _, e in record.get_events("error") if a == 4]  # nobody lived to miss the others


def test_a_half_removed_checkpoint_is_gone_after_the_restart(campaign: Campaign) -> None:
    for variant in ENGINES:
        paths = campaign.paths.run(campaign.suites["hurt"].suite_id, variant, 1337)
        assert [p.name for p in paths.checkpoints.iterdir()] == ["step-00000020"]


def test_the_manifest_tells_phases_and_instants(campaign: Campaign) -> None:
    told = campaign.paths.manifest.read_text()
    assert "10@persist;10@restore;10@init;10@commit;12;15@staging;20@retention;" in told
    assert all(f"{f['after_s']:g}s" in told for f in campaign.suites["random"].failures)
    command = [sys.executable, "-m", "ecrl", "matrix", "status", "--prefix", "crashes", "--json"]
    status = subprocess.run(
        [*command, "--results", str(campaign.paths.results)], capture_output=True, text=True, check=True
    )
    suites = {suite["failure_label"]: suite for suite in json.loads(status.stdout)["suites"]}
    assert suites["hurt"]["failure_steps"] == [
        *("10@persist", "10@restore", "10@init", "10@commit", 12, "15@staging", "20@retention"),
        campaign.suites["hurt"].failures[7]["at"],
    ]
    assert {suite["status"] for suite in suites.values()} == {"completed"}


# --- every engine x every phase ---------------------------------------------------------------------------------

EVERYWHERE = [
    FailureEntry(at=10, phase="staging", rank=1),
    FailureEntry(phase="restore", rank=0),
    FailureEntry(at=10, phase="persist", rank=0),
    FailureEntry(phase="init", rank=1),
    FailureEntry(at=15, phase="commit"),
    FailureEntry(at=20, phase="retention"),
    FailureEntry(interval=4, seed=2, ranks="all"),
]


def everywhere(variant: str, nproc: int, optimizer: str) -> RunSpec:
    return RunSpec(
        prefix="p", suite_id="s", dataset="fashion-mini", model="cnn", failure_label="everywhere",
        checkpoint_every=EVERY, max_inflight=2, variant=variant, seed=1, device="cpu",
        train=TrainSettings(steps=24, batch_size=8, nproc=nproc, optimizer=optimizer, lr=0.01),  # type: ignore[arg-type]
        checkpoint=CheckpointSettings(),
        failures=() if variant == "reference" else build_plan(EVERYWHERE, nproc, EVERY),
    )  # fmt: skip


def done(spec: RunSpec, folder: Path) -> RunRecord:
    paths = RunPaths(folder / spec.variant)
    result = Supervisor(Cold(), folder, SilentObserver(), StopRequest(), timeout_s=600).run(Run(spec, paths))
    assert result is not None
    assert result["outcome"] == "completed", (spec.variant, result["reason"])
    return read_run(paths)


@pytest.mark.torture
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("engine", plugins.names("engine"))
@pytest.mark.parametrize(("nproc", "optimizer"), [(2, "sgd"), (3, "adamw")])
def test_every_engine_survives_a_failure_in_each_of_its_phases(
    tmp_path: Path, engine: str, nproc: int, optimizer: str
) -> None:
    need(engine)
    expected = final(done(everywhere("reference", nproc, optimizer), tmp_path))
    record = done(everywhere(engine, nproc, optimizer), tmp_path)
    assert failure_checks.find_faults(record) == []
    assert final(record) == expected
