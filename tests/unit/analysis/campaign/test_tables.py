"""The CSV tables keep their bytes: `golden/` holds what version 0.1.0 wrote, before the tables were built on frames."""

import csv
import math
from pathlib import Path

from ecrl.analysis.campaign.load import load_campaign
from ecrl.analysis.campaign.tables import SUMMARY_COLUMNS, build_detailed_frame, build_summary_frame, format_csv
from ecrl.analysis.external_table.table import load_table_evidence
from ecrl.analysis.frames.runs import build_runs_frame
from ecrl.analysis.run.metrics import empty_row
from ecrl.config.run import RunSpec
from ecrl.records.columns import DETAILED_COLUMNS, DETAILED_OPTIONAL_COLUMNS
from ecrl.records.reader import RunRecord
from tests.unit.analysis.campaign_builder import campaign

GOLDEN = Path(__file__).parent / "golden"


def change(run: RunSpec, found: RunRecord) -> RunRecord | None:
    """Runs of every outcome, losses that are no numbers, steps that diverge, a launcher that told nothing."""
    assert found.result is not None
    match run.dataset, run.variant, run.seed, run.train.launcher:
        case "cifar10", "blocking", 1, "cold":
            return None
        case "cifar10", "reference", 3, "cold":
            found.result["outcome"] = "failed"
        case "fashion-mini", "overlapped", 1, "cold":
            for event in found.events[1, 0]:
                if event["e"] == "step":
                    event["loss"] = math.nan if event["s"] == 12 else event["loss"] * (1 + 1e-7)
        case "fashion-mini", "blocking", 2, "warm":
            found.result = None
        case "fashion-mini", "overlapped", 2, "warm":
            found.launcher.pop()
        case "fashion-mini", "blocking", 3, "warm":
            del found.events[1, 1]
    return found


def make_campaign_tables(results: Path) -> dict[str, str]:
    """The three tables of a campaign in which much went wrong."""
    paths = campaign(results, launchers=["cold", "warm"], change=change, orders_of="exp")
    unreadable = next(path for path in sorted(paths.suites.glob("cifar10-*/overlapped/seed2/run.json")))
    unreadable.write_text("garbage")
    found = load_campaign(paths)
    runs = build_runs_frame(run.row for run in found.runs)
    return {
        "runs.csv": format_csv(runs),
        "summary.csv": format_csv(build_summary_frame(runs)),
        "detailed.csv": format_csv(build_detailed_frame(runs, found.dropped)),
    }


def make_foreign_tables(folder: Path) -> dict[str, str]:
    """The same of somebody else's table, with cells that need quotes, whole numbers, large ones and gaps."""
    columns = (*DETAILED_COLUMNS, *DETAILED_OPTIONAL_COLUMNS[:-1])
    lines = [
        'cifar10,resnet18,"base:400,1200",5.0,5.2,0.04,30.0,2.0,0.001,6,100,98.5,3,2,true,false,3,,50,4',
        'cifar10,"res ""net""","late:800;1400",123456789.25,123456790.75,,1e12,1e-9,-0.0,,,,,,,,1,,100,4',
        "cifar100,resnet18,none,,4.9,,,2.1,,5,,77.123456789012,,4,,true,2,,50,8",
    ]
    path = folder / "old_detailed_table.csv"
    path.write_text("\n".join([",".join(columns), *lines]) + "\n")
    runs = build_runs_frame(load_table_evidence(path).rows)
    return {
        "foreign_runs.csv": format_csv(runs),
        "foreign_summary.csv": format_csv(build_summary_frame(runs)),
        "foreign_detailed.csv": format_csv(build_detailed_frame(runs, {})),
    }


def test_tables_of_no_run_have_their_columns_and_no_row() -> None:
    runs = build_runs_frame([])
    for frame in (runs, build_summary_frame(runs), build_detailed_frame(runs, {})):
        assert format_csv(frame).count("\n") == 1
    assert tuple(build_summary_frame(runs).columns) == SUMMARY_COLUMNS


def test_every_table_has_the_bytes_that_it_always_had(tmp_path: Path) -> None:
    made = make_campaign_tables(tmp_path / "results") | make_foreign_tables(tmp_path)
    assert sorted(made) == sorted(path.name for path in GOLDEN.iterdir())
    for name, text in made.items():
        assert text == (GOLDEN / name).read_bytes().decode(), name


def test_no_text_is_a_formula_to_a_spreadsheet_and_no_number_is_a_text() -> None:
    labels = ["=cmd|' /C calc'!A0", "+1+1", "-x", "@SUM(A1)", "plain"]
    rows = [empty_row(suite_id=label, dataset=label, rewarm_s=-0.5, seed=1) | {"train.lr": -1} for label in labels]
    lines = list(csv.DictReader(format_csv(build_runs_frame(rows, ["train.lr"])).splitlines()))
    quoted = [*(f"'{label}" for label in labels[:-1]), "plain"]
    assert [line["suite_id"] for line in lines] == [line["dataset"] for line in lines] == quoted
    assert {(line["rewarm_s"], line["train.lr"]) for line in lines} == {("-0.5", "-1")}
