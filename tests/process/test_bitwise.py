"""After a crash inside an interval every engine ends with the uninterrupted run's bits: weights, buffers,
optimizer and generators, on every rank. Real torchrun, gloo, SIGKILL.

ecrl's own engines always run, the others are sampled: between them every engine with both optimizers, one, two and
three ranks, every parallelism, and short precisions, micro-batches and clipping. `pytest -m torture
tests/process/test_bitwise.py` is the full product.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

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


class Case(NamedTuple):
    """One run and how it trains. parallel: the parallelism, with the ranks that hold one model: 'hsdp/2'.

    accumulate: micro-batches a step. clip: the largest norm of a gradient.
    """

    engine: str
    model: str
    optimizer: str
    nproc: int
    parallel: str = "ddp"
    precision: str = "fp32"
    accumulate: int = 1
    clip: float = 0.0


SHORT = [
    Case("blocking", "cnn", "sgd", 1),
    Case("blocking", "cnn", "adamw", 2),
    Case("overlapped", "cnn", "sgd", 3),
    Case("overlapped", "cnn", "adamw", 2),
    Case("overlapped", "cnn", "adamw", 2, "fsdp2"),
]
SAMPLED = [Case(engine, "cnn", optimizer, n) for engine in OTHERS for optimizer, n in (("sgd", 1), ("adamw", 2))]
SPLIT = [
    Case(engine, "cnn", optimizer, nproc, parallel)
    for nproc, parallel in ((2, "fsdp2"), (3, "fsdp2"), (2, "hsdp/1"), (3, "hsdp/3"), (4, "hsdp/2"))
    for engine, optimizer in (("blocking", "sgd"), ("overlapped", "adamw"), ("dcp", "adamw"), ("dcp-async", "sgd"))
    if (engine, optimizer, nproc, parallel) != ("overlapped", "adamw", 2, "fsdp2")
]
SAMPLED.append(Case("overlapped", "gpt2-nano", "adamw", 2))
SPLIT.append(Case("blocking", "gpt2-nano", "adamw", 2, "fsdp2"))
ARITHMETIC = [
    Case("overlapped", "gpt2-nano", "adamw", 2, "ddp", "bf16", accumulate=2, clip=1.0),
    Case("blocking", "cnn", "sgd", 3, "ddp", "fp16", accumulate=3),
    Case("overlapped", "gpt2-nano", "sgd", 2, "fsdp2", "fp16", accumulate=2, clip=0.5),
    Case("dcp-async", "gpt2-nano", "adamw", 2, "fsdp2", "bf16", clip=0.5),
    Case("overlapped", "cnn", "sgd", 4, "hsdp/2", "fp16", clip=0.5),
    Case("torch-save", "cnn", "adamw", 2, "ddp", "fp16", accumulate=2, clip=0.5),
]
FULL = [
    Case(engine, model, optimizer, nproc)
    for model in ("cnn", "resnet18", "gpt2-nano")
    for optimizer in ("sgd", "adamw")
    for nproc in (1, 2, 3)
    for engine in plugins.names("engine")
]


def spec(case: Case) -> RunSpec:
    variant, model, optimizer, nproc, parallel, precision, accumulate, clip = case
    crash = {"index": 0, "at": CRASH, "kind": "kill", "rank": nproc - 1}
    parallel, _, shard_ranks = parallel.partition("/")
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
            parallel=parallel,
            shard_ranks=int(shard_ranks or 0),
            precision=precision,  # type: ignore[arg-type]
            accumulate=accumulate,
            clip_grad_norm=clip,
        ),
        checkpoint=CheckpointSettings(),
        failures=() if variant == "reference" else (crash,),
    )


def _name(case: Case) -> str:
    return "-".join(map(str, case)).replace("/", "x")


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
            paths = RunPaths(self._folder / _name(case))
            wanted = spec(case)
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
    need(case.engine)
    nproc = case.nproc
    reference, record = runs.of(case._replace(engine="reference")), runs.of(case)
    assert len(final_state(reference)) == nproc
    assert final_state(record) == final_state(reference)
    restored = [e for attempt, _, e in record.get_events("restored") if attempt == 1]
    assert len(restored) == nproc
    steps = {e["step"] for e in restored}
    # 8 is the last boundary before the crash; what runs in the background may have lost it and be back at 4
    committed = {e["s"] for attempt, _, e in record.get_events("committed") if attempt == 0}
    assert steps == {8} if 8 in committed else steps <= {4, 8}
    assert record.result is not None
    verified = plugins.load("engine", case.engine).verified
    assert record.result["gates"]["C2"]["passed"] is (True if verified else None)
    assert not record.get_events("persist_failed")


def test_the_short_version_covers_every_engine_optimizer_and_number_of_ranks() -> None:
    covered = {*SHORT, *SAMPLED}
    assert {(case.engine, case.optimizer) for case in covered} == {
        (e, o) for e in plugins.names("engine") for o in ("sgd", "adamw")
    }
    assert {case.nproc for case in SHORT} == {1, 2, 3}
    assert {case.parallel.partition("/")[0] for case in [*SHORT, *SPLIT]} == set(plugins.names("parallelism"))
    sharded = {name for name in plugins.names("engine") if plugins.declared("engine", name).get("sharded")}
    assert {case.engine for case in SPLIT} == sharded
    assert {case.precision for case in ARITHMETIC} == {"bf16", "fp16"}


@pytest.mark.process
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "case",
    [
        *SHORT,
        *(pytest.param(case, marks=pytest.mark.sampled("bitwise")) for case in SAMPLED),
        *(pytest.param(case, marks=pytest.mark.sampled("bitwise split")) for case in SPLIT),
        *(pytest.param(case, marks=pytest.mark.sampled("bitwise arithmetic")) for case in ARITHMETIC),
    ],
    ids=_name,
)
def test_after_a_crash_every_rank_ends_with_the_bits_of_the_uninterrupted_run(runs: Runs, case: Case) -> None:
    check(runs, case)


@pytest.mark.torture
@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", [case for case in FULL if case not in {*SHORT, *SAMPLED}], ids=_name)
def test_bitwise_resume_of_the_full_product(runs: Runs, case: Case) -> None:
    check(runs, case)
