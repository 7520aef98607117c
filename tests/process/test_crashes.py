"""Every planned crash is survived and reported, and the end has the uninterrupted run's bits: real torchrun, gloo,
SIGKILL, under both launchers.

Every start of a cold worker group imports torch in every rank, and that is nearly all the time there is. So one cold
suite goes through every crash that a launcher has a part in, one after another; the other engine, and crashes inside
the phases of a checkpoint, which know of no launcher, are warm (`make torture` has every engine cold in all phases).
"""

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

from ecrl import plugins
from ecrl.analysis.run.restarts import restarts
from ecrl.analysis.run.step_history import build_step_history
from ecrl.analysis.run.timeline import timeline
from ecrl.config.failure_entry import FailureEntry
from ecrl.config.failure_schedule import build_plan
from ecrl.config.load import load
from ecrl.config.run import RunSpec
from ecrl.config.suite import Suite, expand_matrix
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
from ecrl.storage.commit import list_committed_steps, verify
from tests.extras import need
from tests.process.program import Ecrl

pytestmark = [pytest.mark.process, pytest.mark.timeout(600)]

EVERY = 5
ENGINES = ("blocking", "overlapped")
# One training for all of them, so that one uninterrupted run tells how each must end.
MATRIX = """
[matrix]
datasets = ["fashion-mini"]
models = ["cnn"]
checkpoint_every = [{every}]
max_inflight = [2]
variants = {variants}
[failures]
{failures}
[train]
steps = 24
batch_size = 8
nproc = 2
optimizer = "adamw"
lr = 0.001
launcher = "{launcher}"
[run]
device = "cpu"
keep_final = true
"""
# Whatever a launcher has a part in. Both ranks are struck, and once the whole group.
CRASHES = """
crashes = [
  { at = 9, rank = 1 },             # inside an interval: 6 to 9 are lost
  { phase = "init", rank = 0 },     # while the group starts again
  { at = 17, ranks = "all" },
]
"""
STEPS_AND_PHASES = """
steps = [
  3,                                # before the first checkpoint: begin again at step 0
  9,
  { at = 7, rank = 0 },             # while 6 to 9 are run again
]
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

# (launcher, schedule, variant)
Key = tuple[str, str, str]
COLD: list[Key] = [("cold", "crashes", "overlapped")]
WARM: list[Key] = [("warm", label, variant) for label in ("crashes", "steps", "hurt", "random") for variant in ENGINES]
STRUCK = COLD + WARM
REFERENCE: Key = ("warm", "crashes", "reference")


class Campaign:
    """A finished campaign of one launcher, run as a user runs it."""

    def __init__(self, ecrl: Ecrl, variants: tuple[str, ...], failures: str, launcher: str) -> None:
        text = MATRIX.format(every=EVERY, variants=list(variants), failures=failures, launcher=launcher)
        code, _, errors = ecrl.run("run", ecrl.matrix(text), "--yes")
        assert code == 0, errors
        self.left = ecrl.workers()
        self.ecrl = ecrl
        self.suites: dict[str, Suite] = {s.failure_label: s for s in expand_matrix(load(ecrl.paths.matrix))}

    def paths(self, label: str, variant: str) -> RunPaths:
        return self.ecrl.paths.run(self.suites[label].suite_id, variant, 1337)


class Campaigns:
    """The campaigns of both launchers."""

    def __init__(self, cold: Campaign, warm: Campaign) -> None:
        self.cold, self.warm = cold, warm

    def paths(self, key: Key) -> RunPaths:
        launcher, label, variant = key
        return (self.cold if launcher == "cold" else self.warm).paths(label, variant)

    def record(self, key: Key) -> RunRecord:
        return read_run(self.paths(key))


@pytest.fixture(scope="module")
def campaigns(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaigns]:
    programs = [Ecrl(tmp_path_factory.mktemp(launcher)) for launcher in ("cold", "warm")]
    try:
        yield Campaigns(
            Campaign(programs[0], ("overlapped",), CRASHES, "cold"),
            Campaign(programs[1], ("reference", *ENGINES), CRASHES + STEPS_AND_PHASES, "warm"),
        )
    finally:
        for program in programs:
            program.close()


def final(record: RunRecord) -> dict[int, tuple[str, str]]:
    """Digests of each rank's state and random generators at the end."""
    return {rank: (e["digest"], e["rng_digest"]) for _, rank, e in record.get_events("final")}


def name(key: Key) -> str:
    return "-".join(key)


@pytest.mark.parametrize("key", STRUCK, ids=name)
def test_every_rank_ends_with_the_bits_of_the_uninterrupted_run(campaigns: Campaigns, key: Key) -> None:
    expected = final(campaigns.record(REFERENCE))
    assert len(expected) == 2
    assert final(campaigns.record(key)) == expected


@pytest.mark.parametrize("key", STRUCK, ids=name)
def test_each_failure_strikes_once_and_where_it_was_meant_to(campaigns: Campaigns, key: Key) -> None:
    record, label = campaigns.record(key), key[1]
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
    assert (record.result["failures_fired"], record.result["restarts"]) == (len(due), len(due))
    checked = None if label == "random" else True  # its failure comes before anything could be restored
    gates = {code: gate["passed"] for code, gate in record.result["gates"].items()}
    assert gates == {"C1": True, "C2": checked, "C3": True, "C5": True}


def _struck_at(planned: dict[str, object]) -> object:
    match planned.get("phase"):
        case "init":
            return 0
        case "restore":
            return 5  # the only checkpoint there is
    return planned["at"]


@pytest.mark.parametrize("launcher", ["cold", "warm"])
def test_every_crash_is_reported_and_every_attempt_has_its_logs(campaigns: Campaigns, launcher: str) -> None:
    key = launcher, "crashes", "overlapped"
    record, logs = campaigns.record(key), campaigns.paths(key).logs
    reported = [(e["local_rank"], e["exitcode"]) for e in record.launcher if e["e"] == "worker_failed"]
    assert reported[:2] == [(1, -9), (0, -9)]
    assert [code for _, code in reported[2:]] == [-9]
    found = {str(p.relative_to(logs)).partition("/")[2] for p in logs.glob("*/attempt_*/*/stderr.log")}
    assert found == {f"attempt_{attempt}/{rank}/stderr.log" for attempt in range(4) for rank in range(2)}


def test_the_reference_has_neither_checkpoints_nor_failures(campaigns: Campaigns) -> None:
    record = campaigns.record(REFERENCE)
    kinds = {kind for kind in ("save", "failure", "committed", "restored") if record.get_events(kind)}
    assert kinds == {"restored"}  # which says: step 0
    assert count_restarts(record) == 0
    assert record.result is not None
    assert record.result["gates"]["C2"]["passed"] is None


def test_blocking_loses_exactly_the_steps_since_the_boundary(campaigns: Campaigns) -> None:
    def told(label: str) -> dict[int, int]:
        restored = campaigns.record(("warm", label, "blocking")).get_events("restored")
        return {attempt: e["step"] for attempt, rank, e in restored if rank == 0}

    assert told("steps") == {0: 0, 1: 0, 2: 5, 3: 5}
    assert told("crashes") == {0: 0, 2: 5, 3: 15}, "attempt 1 is struck before it restores"


def test_blocking_replays_exactly_what_each_phase_takes_back(campaigns: Campaigns) -> None:
    hurt = build_step_history(campaigns.record(("warm", "hurt", "blocking"))).rollbacks
    assert [(r.completed, r.restored) for r in hurt[:1]] == [(10, 5)]  # half-persisted: never committed
    assert [(r.completed, r.restored) for r in hurt[3:6]] == [(10, 5), (12, 10), (15, 10)]
    drawn = campaigns.warm.suites["hurt"].failures[7]["at"]
    assert 20 < drawn < 25
    # retention: the new one is committed; interval 4: back to its beginning
    assert [(r.completed, r.restored) for r in hurt[6:]] == [(20, 20), (drawn, 20)]


@pytest.mark.parametrize("key", [key for key in STRUCK if key[2] == "overlapped"], ids=name)
def test_overlapped_replays_at_most_what_was_in_flight_more(campaigns: Campaigns, key: Key) -> None:
    for rollback in build_step_history(campaigns.record(key)).rollbacks:
        assert rollback.replayed_steps is not None
        # with two slots, two checkpoints may be in flight, and training goes on by up to one interval
        assert rollback.replayed_steps < 3 * EVERY + EVERY


@pytest.mark.parametrize("variant", ENGINES)
def test_the_group_is_struck_at_once(campaigns: Campaigns, variant: str) -> None:
    record = campaigns.record(("warm", "hurt", variant))
    assert not [e for a, _, e in record.get_events("error") if a == 4]  # nobody lived to miss the others


@pytest.mark.parametrize("key", STRUCK, ids=name)
def test_the_newest_checkpoint_alone_remains_and_verifies(campaigns: Campaigns, key: Key) -> None:
    root = campaigns.paths(key).checkpoints
    assert [path.name for path in root.iterdir()] == ["step-00000020"], "nor one that was half removed"
    assert list_committed_steps(root) == [20]
    assert verify(root, 20).state == "valid"


@pytest.mark.parametrize("launcher", ["cold", "warm"])
def test_every_rank_begins_to_restore_before_the_process_group_is_up(campaigns: Campaigns, launcher: str) -> None:
    record = campaigns.record((launcher, "crashes", "overlapped"))
    began = {(a, r): (e["t0"], e["s"], e["state"]) for a, r, e in record.get_events("verified")}
    grouped = {(a, r): e["t"] for a, r, e in record.get_events("group")}
    restored = {(a, r): e["step"] for a, r, e in record.get_events("restored") if e["step"] > 0}
    assert {(3, 0), (3, 1)} <= restored.keys() <= began.keys()
    for key in restored:
        t0, step, state = began[key]
        assert t0 < grouped[key]
        assert (step, state) == (restored[key], "valid")


def test_one_agent_serves_every_warm_run_and_is_gone_with_the_campaign(campaigns: Campaigns) -> None:
    def spawned(key: Key) -> int:
        return next(int(e["pid"]) for e in campaigns.record(key).launcher if e["e"] == "spawn")

    assert {spawned(key) for key in COLD}.isdisjoint(agents := {spawned(key) for key in [REFERENCE, *WARM]})
    assert len(agents) == 1
    assert campaigns.cold.left == campaigns.warm.left == []


def test_no_run_is_charged_with_the_start_of_the_agent(campaigns: Campaigns) -> None:
    prepared = {}
    for key in [REFERENCE, *STRUCK, ("warm", "hurt", "reference"), ("warm", "random", "reference")]:
        record = campaigns.record(key)
        if found := [event for event in record.launcher if event["e"] == "prepared"]:
            prepared[key] = found
            assert found[0]["t"] <= next(event["t"] for event in record.launcher if event["e"] == "spawn")
    [((launcher, *_), [event])] = prepared.items()  # one agent serves every run
    assert launcher == "warm"
    assert event["t0"] < event["t"]


@pytest.mark.timing
def test_a_warm_restart_is_a_fraction_of_a_cold_one(campaigns: Campaigns) -> None:
    seconds: dict[str, list[float]] = {"cold": [], "warm": []}
    for launcher, found in seconds.items():
        record = campaigns.record((launcher, "crashes", "overlapped"))
        line, _ = timeline(record)
        assert line is not None
        found += [restart.total_s for restart in restarts(record, line) if restart.total_s is not None]
    assert min(map(len, seconds.values())) >= 2
    assert median(seconds["warm"]) < 0.25 * median(seconds["cold"])


def test_the_manifest_tells_phases_and_instants(campaigns: Campaigns) -> None:
    campaign = campaigns.warm
    told = campaign.ecrl.paths.manifest.read_text()
    assert "10@persist;10@restore;10@init;10@commit;12;15@staging;20@retention;" in told
    assert all(f"{f['after_s']:g}s" in told for f in campaign.suites["random"].failures)
    code, out, _ = campaign.ecrl.run("status", "--json")
    assert code == 0
    suites = {suite["failure_label"]: suite for suite in json.loads(out)["suites"]}
    assert suites["hurt"]["failure_steps"] == [
        *("10@persist", "10@restore", "10@init", "10@commit", "12", "15@staging", "20@retention"),
        str(campaign.suites["hurt"].failures[7]["at"]),
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
