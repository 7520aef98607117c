"""A new kind of failure is one new file: the rest of a copy of ecrl plans it, strikes it, records it and judges it."""

import pytest

from ecrl.records.reader import RunRecord
from tests.failure_kinds import FACTOR
from tests.process.program import run_copy

pytestmark = [pytest.mark.process, pytest.mark.timeout(600)]

MATRIX = """
[matrix]
datasets = ["fashion-mini"]
models = ["cnn"]
checkpoint_every = [4]
variants = ["reference", "blocking"]
[failures]
hurt = [
  { at = 3, kind = "factor", factor = 64, wait_s = 0.2, rank = 1 },
  { at = 6, rank = 0 },
  { at = 7, kind = "factor" },
]
[train]
steps = 9
batch_size = 4
nproc = 2
launcher = "warm"
[run]
device = "cpu"
"""


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunRecord]:
    """Both runs of a campaign by a copy of ecrl that has one file more."""
    files = {"ecrl/failures/kinds/factor.py": FACTOR, "matrix.toml": MATRIX}
    campaign = ("matrix", "run", "--prefix", "kind", "--yes", "matrix.toml")
    return run_copy(tmp_path_factory.mktemp("kind"), files, campaign)["kind"]


def test_it_strikes_inside_its_steps_and_the_attempt_goes_on(records: dict[str, RunRecord]) -> None:
    failures = [
        (attempt, rank, e["index"], e["kind"], e["at"], e["phase"], e.get("ends_attempt"))
        for attempt, rank, e in records["blocking"].get_events("failure")
    ]
    assert failures == [
        (0, 0, 1, "kill", 6, "step", None),
        (0, 1, 0, "factor", 3, "loss", False),
        (1, 0, 2, "factor", 7, "loss", False),
    ]
    assert records["blocking"].attempts == [0, 1]


def test_it_does_what_its_options_say(records: dict[str, RunRecord]) -> None:
    losses = {
        (variant, rank, e["s"]): e["loss"]
        for variant, record in records.items()
        for attempt, rank, e in record.get_events("step")
        if attempt == 0
    }
    own = [e for a, rank, e in records["blocking"].get_events("step") if (a, rank) == (0, 1)]
    assert losses["blocking", 1, 2] == losses["reference", 1, 2]
    assert losses["blocking", 1, 3] == pytest.approx(64 * losses["reference", 1, 3])
    assert losses["blocking", 0, 3] == losses["reference", 0, 3], "the other rank's"
    assert losses["blocking", 0, 4] != losses["reference", 0, 4], "which is trained on all the same"
    assert [(e["t"] - e["t0"]) / 1e9 >= 0.2 for e in own if e["s"] == 3] == [True]


def test_the_run_is_judged_by_the_restarts_that_were_planned(records: dict[str, RunRecord]) -> None:
    result = records["blocking"].result
    assert result is not None
    assert result["outcome"] == "completed"
    assert (result["failures_planned"], result["failures_fired"], result["restarts"]) == (3, 3, 1)
    assert result["gates"]["C1"]["passed"] is True
    assert result["gates"]["C2"]["passed"] is True
