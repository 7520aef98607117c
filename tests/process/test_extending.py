"""The examples of docs/extending.md work as they stand: a copy of ecrl that has them runs and reports a campaign."""

from pathlib import Path

import pytest

from ecrl.records.reader import RunRecord
from tests.doc_examples import read_examples
from tests.process.program import run_copy

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]

WAIT_S = 0.5
CAMPAIGN = f"""
[matrix]
datasets = ["stripes"]
models = ["mlp"]
checkpoint_every = [4]
variants = ["reference", "unflushed"]
[variants.unflushed]
engine = "plain-safetensors"
flush = false
[failures]
straggler = [{{ at = 3, kind = "slow-rank", wait_s = {WAIT_S}, rank = 1 }}, 6]
[train]
steps = 9
batch_size = 4
nproc = 2
launcher = "warm"
[run]
device = "cpu"
trackers = ["csv-files"]
"""
# The launcher has a campaign of one run: it starts as dearly as `cold`, and has no part in the rest.
NICE = """
[matrix]
datasets = ["stripes"]
models = ["mlp"]
checkpoint_every = [4]
variants = ["reference"]
[train]
steps = 4
batch_size = 4
nproc = 1
launcher = "nice"
[run]
device = "cpu"
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("extended")


@pytest.fixture(scope="module")
def runs(home: Path) -> dict[str, dict[str, RunRecord]]:
    """The runs of both campaigns, by a copy of ecrl that has every example; the report of the first is written."""
    files = {**read_examples(), "matrix.toml": CAMPAIGN, "nice.toml": NICE}
    return run_copy(
        home,
        files,
        ("matrix", "run", "--prefix", "x", "--yes", "matrix.toml"),
        ("report", "--prefix", "x"),
        ("matrix", "run", "--prefix", "nice", "--yes", "nice.toml"),
    )


@pytest.fixture
def records(runs: dict[str, dict[str, RunRecord]]) -> dict[str, RunRecord]:
    """The run of every variant of the first campaign."""
    return runs["x"]


def test_every_run_is_complete_and_passes_its_gates(runs: dict[str, dict[str, RunRecord]]) -> None:
    assert {prefix: sorted(records) for prefix, records in runs.items()} == {
        "x": ["reference", "unflushed"],
        "nice": ["reference"],
    }
    for record in (record for records in runs.values() for record in records.values()):
        assert record.result is not None
        assert record.result["outcome"] == "completed", record.spec
        assert [code for code, gate in record.result["gates"].items() if gate["passed"] is False] == []


def test_the_engine_commits_restores_and_has_the_options_of_its_recipe(records: dict[str, RunRecord]) -> None:
    record = records["unflushed"]
    assert {e["step"] for a, _, e in record.get_events("restored") if a == 1} == {4}
    assert {e["s"] for _, _, e in record.get_events("committed")} == {4, 8}
    assert (record.spec["recipe"]["engine"], record.spec["recipe"]["options"]) == (
        "plain-safetensors",
        {"flush": False},
    )


def test_the_final_state_is_the_references_bit_for_bit(records: dict[str, RunRecord]) -> None:
    digests = {
        variant: [e["digest"] for _, rank, e in record.get_events("final") if rank == 0]
        for variant, record in records.items()
    }
    assert len(set(map(tuple, digests.values()))) == 1


def test_the_kind_of_failure_makes_its_rank_wait_and_ends_no_attempt(records: dict[str, RunRecord]) -> None:
    record = records["unflushed"]
    struck = [(a, rank, e["kind"], e["at"]) for a, rank, e in record.get_events("failure")]
    assert struck == [(0, 1, "slow-rank", 3), (0, 1, "kill", 6)]
    assert record.attempts == [0, 1]
    [waited] = [(e["t"] - e["t0"]) / 1e9 for a, rank, e in record.get_events("step") if (a, rank, e["s"]) == (0, 1, 3)]
    assert waited >= WAIT_S


def test_the_launcher_puts_nice_before_torchrun(runs: dict[str, dict[str, RunRecord]]) -> None:
    [spawned] = [e for e in runs["nice"]["reference"].launcher if e["e"] == "spawn"]
    assert spawned["command"][:3] == ["nice", "-n", "19"]


@pytest.mark.usefixtures("runs")
def test_the_tracker_has_every_step_and_the_end_of_every_run(home: Path) -> None:
    files = {path.parts[-2]: path.read_text() for path in (home / "results" / "x" / "trackers").rglob("seed*.csv")}
    made = {"reference": [*range(1, 10)], "unflushed": [*range(1, 7), *range(5, 10)]}
    for variant, steps in made.items():
        rows = [line.split(",") for line in files[variant].splitlines()]
        assert [int(step) for step, _, series, _ in rows if series == "loss"] == steps
        assert [value for *_, series, value in rows if series == "final/completed"] == ["1.0"]


@pytest.mark.usefixtures("runs")
def test_the_section_stands_in_the_report(home: Path) -> None:
    report = (home / "results" / "x" / "x_report.md").read_text(encoding="utf-8")
    _, _, section = report.partition("Size of checkpoints\n")
    table = section.partition("\n## ")[0]
    assert "unflushed" in table
