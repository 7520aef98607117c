from ecrl.analysis.frames.columns import CATEGORY, COUNT, TEXT, TRUTH
from ecrl.analysis.frames.runs import AXES, DTYPES, build_runs_frame
from ecrl.analysis.run.metrics import empty_row
from ecrl.records.columns import CLAIM_METRICS, RUN_COLUMNS


def test_the_runs_frame_has_the_columns_of_the_runs_table_each_with_its_type() -> None:
    for rows in ([], [empty_row()], [empty_row(suite_id="s", seed=1, correct=False, wall_s=1.5, dataset="noise")]):
        frame = build_runs_frame(rows)
        assert tuple(frame.columns) == RUN_COLUMNS
        assert len(frame) == len(rows)
        assert {column: str(dtype) for column, dtype in frame.dtypes.items()} == DTYPES


def test_every_typed_column_is_one_of_the_runs_table() -> None:
    assert set(DTYPES) == set(RUN_COLUMNS)
    assert {DTYPES[axis] for axis in (*AXES, "variant", "outcome")} == {CATEGORY}
    numeric = set(DTYPES.values()) - {CATEGORY, TEXT}
    assert {DTYPES[metric] for metric in CLAIM_METRICS} <= numeric
    assert [column for column, dtype in DTYPES.items() if dtype == TRUTH] == ["correct"]
    assert DTYPES["restarts"] == COUNT
