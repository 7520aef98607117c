"""After a crash inside an interval every engine ends with the uninterrupted run's bits: weights, buffers,
optimizer and generators, on every rank. Real torchrun, gloo, SIGKILL.

ecrl's own engines always run, the others are sampled: between them every engine with both optimizers, and one, two and
three ranks. `pytest -m torture tests/process/test_bitwise.py` is the full product.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ecrl import plugins
from ecrl.config.run import RunSpec
from ecrl.config.train import CheckpointSettings, TrainSettings
from ecrl.launch.launchers.warm import Warm
from ecrl.launch.runs.progress import SilentObserver
from ecrl.launch.runs.run import Run
from ecrl.launch.runs.supervisor import Supervisor
from ecrl.launch.system.signals import StopRequest
from ecrl.records.paths import RunPaths
from ecrl.records.reader import RunRecord, read_run
from tests.extras import need

STEPS, EVERY, CRASH = 14, 4, 11
OTHERS = [engine for engine in plugins.names("engine") if engine not in ("blocking", "overlapped")]

# (engine, model, optimizer, nproc)
Case = tuple[str, str, str, int]
SHORT: list[Case] = [
    ("blocking", "cnn", "sgd", 1),
    ("blocking", "cnn", "adamw", 2),
    ("overlapped", "cnn", "sgd", 3),
    ("overlapped", "cnn", "adamw", 2),
]
SAMPLED: list[Case] = [
    (engine, "cnn", optimizer, n) for engine in OTHERS for optimizer, n in (("sgd", 1), ("adamw", 2))
]
SAMPLED.append(("overlapped", "gpt2-nano", "adamw", 2))
FULL: list[Case] = [
    (engine, model, optimizer, nproc)
    for model in ("cnn", "resnet18", "gpt2-nano")
    for optimizer in ("sgd", "adamw")
    for nproc in (1, 2, 3)
    for engine in plugins.names("engine")
]


def spec(variant: str, model: str, optimizer: str, nproc: int) -> RunSpec:
    crash = {"index": 0, "at": CRASH, "kind": "kill", "rank": nproc - 1}
    return RunSpec(
        prefix="bitwise",
        suite_id="s",
        dataset="python-source" if model == "gpt2-nano" else "fashion-mini",
        model=model,
        failure_label="inside",
        checkpoint_every=EVERY,
        max_inflight=2,
        variant=variant,
        seed=7,
        device="cpu",
        train=TrainSettings(
            steps=STEPS,
            batch_size=8 if model == "cnn" else 2,
            sequence_length=32,
            nproc=nproc,
            optimizer="sgd" if optimizer == "sgd" else "adamw",
            lr=0.05 if optimizer == "sgd" else 1e-3,
        ),
        checkpoint=CheckpointSettings(),
        failures=() if variant == "reference" else (crash,),
    )


class Runs:
    """Runs made once and kept: many cases share one reference.

    Warm, which spares most of each start: no launcher has a part in the bits. test_crashes.py shows that, where a cold
    run ends as its warm reference.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._records: dict[Case, RunRecord] = {}
        self._warm = Warm()

    def close(self) -> None:
        self._warm.close()

    def of(self, case: Case) -> RunRecord:
        if case not in self._records:
            paths = RunPaths(self._folder / "-".join(map(str, case)))
            wanted = spec(*case)
            supervisor = Supervisor(self._warm, self._folder, SilentObserver(), StopRequest(), timeout_s=300)
            result = supervisor.run(Run(wanted, paths))
            assert result is not None
            assert result["outcome"] == "completed", (result["reason"], paths.logs)
            self._records[case] = read_run(paths)
        return self._records[case]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    runs = Runs(tmp_path_factory.mktemp("bitwise"))
    yield runs
    runs.close()


def final_state(record: RunRecord) -> dict[int, tuple[str, str, str]]:
    return {rank: (e["digest"], e["params_digest"], e["rng_digest"]) for _, rank, e in record.get_events("final")}


def check(runs: Runs, case: Case) -> None:
    engine, *rest = case
    need(engine)
    nproc = case[-1]
    reference, record = runs.of(("reference", *rest)), runs.of(case)  # type: ignore[arg-type]
    assert len(final_state(reference)) == nproc
    assert final_state(record) == final_state(reference)
    restored = [e for attempt, _, e in record.get_events("restored") if attempt == 1]
    assert len(restored) == nproc
    steps = {e["step"] for e in restored}
    # 8 is the last boundary before the crash; what runs in the background may have lost it and be back at 4
    committed = {e["s"] for attempt, _, e in record.get_events("committed") if attempt == 0}
    assert steps == {8} if 8 in committed else steps <= {4, 8}
    assert record.result is not None
    verified = plugins.load("engine", engine).verified
    assert record.result["gates"]["C2"]["passed"] is (True if verified else None)
    assert not record.get_events("persist_failed")


def test_the_short_version_covers_every_engine_optimizer_and_number_of_ranks() -> None:
    covered = {*SHORT, *SAMPLED}
    assert {(e, o) for e, _, o, _ in covered} == {(e, o) for e in plugins.names("engine") for o in ("sgd", "adamw")}
    assert {n for *_, n in SHORT} == {1, 2, 3}
    assert covered <= set(FULL)


@pytest.mark.process
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "case",
    [*SHORT, *(pytest.param(case, marks=pytest.mark.sampled("bitwise")) for case in SAMPLED)],
    ids=lambda case: "-".join(map(str, case)),
)
def test_after_a_crash_every_rank_ends_with_the_bits_of_the_uninterrupted_run(runs: Runs, case: Case) -> None:
    check(runs, case)


@pytest.mark.torture
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "case", [c for c in FULL if c not in {*SHORT, *SAMPLED}], ids=lambda case: "-".join(map(str, case))
)
def test_bitwise_resume_of_the_full_product(runs: Runs, case: Case) -> None:
    check(runs, case)
