"""gpt2-large with AdamW, 12.4 GB of weights, gradients and moments, on one rank of a machine of 24 GB: it trains, saves
without a second copy of its state, is killed, and restores bit for bit. Minutes, and 16 GB of memory: torture alone."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ecrl.records.paths import RunPaths
from ecrl.records.reader import read_run
from tests.process.program import Ecrl

STATE_BYTES = 3 * 3_096_120_320
MATRIX = """
[matrix]
datasets = ["python-source"]
models = ["gpt2-large"]
checkpoint_every = [2]
variants = ["reference", "blocking"]
[failures]
kill = [3]
[train]
steps = 4
batch_size = 1
sequence_length = 64
nproc = 1
threads = 2
optimizer = "adamw"
[run]
device = "cpu"
"""


@pytest.fixture
def ecrl(tmp_path: Path) -> Iterator[Ecrl]:
    ecrl = Ecrl(tmp_path)
    yield ecrl
    ecrl.close()


@pytest.mark.torture
@pytest.mark.process
@pytest.mark.timeout(3600)
def test_a_state_of_nine_gigabytes_is_saved_without_a_copy_and_restored_bit_for_bit(ecrl: Ecrl) -> None:
    pytest.importorskip("transformers", reason="the gpt2 models need the extra `transformers`")
    process = ecrl.start("run", ecrl.matrix(MATRIX), "--yes")
    _, said = process.communicate(timeout=3000)
    assert process.returncode == 0, said
    runs = [read_run(RunPaths(path.parent)) for path in ecrl.paths.root.rglob("run.json")]
    records = {run.spec["variant"]: run for run in runs}
    finals = {variant: [e["digest"] for *_, e in run.get_events("final")] for variant, run in records.items()}
    assert finals["blocking"] == finals["reference"] != []
    [restored] = [event for attempt, _, event in records["blocking"].get_events("restored") if attempt == 1]
    assert restored["step"] == 2
    persisted = [event["bytes"] for *_, event in records["blocking"].get_events("persisted")]
    assert min(persisted) > STATE_BYTES
