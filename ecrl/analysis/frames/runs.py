"""The runs table as a frame, from which the other tables are derived."""

from collections.abc import Iterable

import pandas as pd

from ecrl.analysis.frames.columns import CATEGORY, COUNT, NUMBER, TEXT, TRUTH, DTypes, build_frame
from ecrl.analysis.run.metrics import Row
from ecrl.records.columns import RUN_COLUMNS, add_axis_columns

AXES = ("dataset", "model", "failure_label", "checkpoint_every", "max_inflight", "launcher")
# Columns of words from a short list. c1 to c6 are pass, fail, not_applicable, not_measured or missing (unknown).
_WORDS = (*AXES, "failure_steps", "variant", "device", "outcome", "c1", "c2", "c3", "c4", "c5", "c6")
_COUNTS = (
    "seed", "nproc", "steps", "restarts", "failures_fired", "executed_steps", "replayed_steps", "lost_interval_steps",
    "lost_in_flight_steps", "checkpoints_requested", "checkpoints_committed", "persist_failures",
    "first_divergent_step", "block_position", "restores", "checkpoints_vanished",
)  # fmt: skip
DTYPES: DTypes = (
    dict.fromkeys(RUN_COLUMNS, NUMBER)
    | dict.fromkeys(_WORDS, CATEGORY)
    | dict.fromkeys(_COUNTS, COUNT)
    | {"suite_id": TEXT, "correct": TRUTH}
)


def build_runs_frame(rows: Iterable[Row], axes: Iterable[str] = (), dtypes: DTypes = DTYPES) -> pd.DataFrame:
    """One row per run, with every column of the runs table.

    axes: the columns of `[axes]`; they come last. dtypes: the other columns, in order, with their types.
    """
    columns = add_axis_columns(dtypes, axes)
    return build_frame(rows, columns, dict.fromkeys(columns, CATEGORY) | dict(dtypes))
