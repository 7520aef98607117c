"""The columns of the result tables, and the buckets of the job ledger."""

from collections.abc import Iterable

# The buckets of the job ledger, in the order in which a run reaches them. They partition the wall-clock time.
LEDGER_BUCKETS = (
    "startup",
    "compute",
    "replay",
    "lost_step",
    "snapshot_stall",
    "persist_stall",
    "detect",
    "restart",
    "restore",
    "drain",
    "shutdown",
    "other",
)

RUN_COLUMNS = (
    "suite_id",
    "dataset",
    "model",
    "failure_label",
    "failure_steps",
    "checkpoint_every",
    "max_inflight",
    "variant",
    "seed",
    "nproc",
    "steps",
    "device",
    "launcher",
    "outcome",
    "goodput_steps_per_s",
    "goodput_samples_per_s",
    "goodput_steady_steps_per_s",
    "rel_goodput",
    "ettr",
    "ettr_ref",
    "wall_s",
    "stall_s",
    "interference_s",
    "restarts",
    "failures_fired",
    "executed_steps",
    "replayed_steps",
    "lost_interval_steps",
    "lost_in_flight_steps",
    "checkpoints_requested",
    "checkpoints_committed",
    "persist_failures",
    "final_loss",
    "d_end",
    "d_max",
    "d_rms",
    "first_divergent_step",
    "replay_agreement",
    "c1",
    "c2",
    "c3",
    "c4",
    "c5",
    "c6",
    "correct",
    *(f"{bucket}_s" for bucket in LEDGER_BUCKETS),
    "residual_s",
    "wasted_s",
    "block_position",
    "restores",
    "checkpoints_vanished",
    "rewarm_s",
)

# Keys of a matrix file whose values always have a column, also if they are no axis.
KEY_COLUMNS = {"train.nproc": "nproc", "train.steps": "steps", "train.launcher": "launcher"}
_AXIS_TABLES = frozenset({"train", "checkpoint", "storage", "job", "variants"})


def get_axis_column(key: str) -> str:
    """The column for the values of an axis of `[axes]`: the fixed column of its key, else a column of that name."""
    return KEY_COLUMNS.get(key, key)


def is_axis_column(column: str) -> bool:
    """Whether a column of a table holds the values of an axis of `[axes]`."""
    table, dot, _ = column.partition(".")
    return column in KEY_COLUMNS.values() or (bool(dot) and table in _AXIS_TABLES)


def add_axis_columns(columns: Iterable[str], axes: Iterable[str]) -> tuple[str, ...]:
    """The columns of a table, followed by those columns of the axes that the table lacks.

    axes: the keys of `[axes]`, or their columns, in file order.
    """
    return tuple(dict.fromkeys((*columns, *map(get_axis_column, axes))))


# Metrics that say how a run ended: a claim about one variant takes their rate, and the value of all others.
OUTCOME_METRICS = ("correct",)
# Metrics that a [[claims]] table may name: numeric columns of the runs table.
CLAIM_METRICS = (
    "goodput_steps_per_s",
    "ettr_ref",
    "wall_s",
    "stall_s",
    "interference_s",
    "replayed_steps",
    "lost_in_flight_steps",
    "final_loss",
    "d_end",
    "d_max",
    "correct",
    "wasted_s",
    *(f"{bucket}_s" for bucket in LEDGER_BUCKETS),
)

# Metrics that older matrix files may name, with the reason why no claim is judged by them.
REFUSED_METRICS = {"ettr": "ettr rises when steps get slower; use ettr_ref"}

DETAILED_COLUMNS = (
    "dataset",
    "model",
    "failure",
    "blk_goodput",
    "ovl_goodput",
    "ovl_vs_blk",
    "blk_stall_s",
    "ovl_stall_s",
    "ovl_minus_blk_loss_diff",
)

DETAILED_OPTIONAL_COLUMNS = (
    "ref_goodput",
    "blk_wall_s",
    "ovl_wall_s",
    "blk_restarts",
    "ovl_restarts",
    "blk_correct",
    "ovl_correct",
    "n_seeds",
    "suite_id",
    "checkpoint_every",
    "max_inflight",
    "launcher",
)
