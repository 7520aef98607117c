"""The analysis of one run: its row of the runs table, and what else reports use of it.

A kind of experiment fills it in. An unknown value is None. Names of seconds end in `_s`.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ecrl.analysis.run.buckets import FailureCost
from ecrl.analysis.run.checkpoint_costs import CheckpointCosts
from ecrl.analysis.run.restarts import Restart
from ecrl.analysis.run.step_history import StepHistory
from ecrl.analysis.run.timeline import NS_PER_S, Timeline
from ecrl.records import failure_checks
from ecrl.records.columns import KEY_COLUMNS, RUN_COLUMNS, is_axis_column
from ecrl.records.reader import RunRecord
from ecrl.records.result import Gate

REFERENCE = "reference"
# Columns that are computed from the run of the reference in the same block.
REFERENCE_METRICS = frozenset(
    {"rel_goodput", "ettr_ref", "interference_s", "d_end", "d_max", "d_rms", "first_divergent_step"}
)
DEFAULT_LAUNCHER = "cold"  # of runs whose records are older than the setting

PASS, FAIL, NOT_APPLICABLE, NOT_MEASURED = "pass", "fail", "not_applicable", "not_measured"

# One row of the runs table, by column: RUN_COLUMNS, and a column for every axis of `[axes]` that they do not have. A
# value is a word, a number, a truth value, or None if it is not known.
Row = dict[str, Any]
_RUN_COLUMNS = frozenset(RUN_COLUMNS)


@dataclass(frozen=True)
class RunAnalysis:
    """The analysis of one run. timeline and curve are empty for runs that are not drawn.

    lineage: the executions; dropped once the block is analysed. curve: the mean loss over ranks of every step.
    """

    row: Row
    gates: dict[str, Gate]
    warnings: tuple[str, ...]
    timeline: Timeline | None = None
    lineage: StepHistory | None = None
    curve: tuple[float | None, ...] = ()
    failures: tuple[FailureCost, ...] = ()
    restarts: tuple[Restart, ...] = ()
    checkpoints: CheckpointCosts | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, int]:
        """(suite_id, variant, seed)."""
        return get_run_key(self.row)

    @property
    def name(self) -> str:
        """The run's folder below `suites`: 'suite/variant/seed1337'."""
        return "{}/{}/seed{}".format(*self.key)

    @property
    def label(self) -> str:
        """The run's name with the values of `[axes]`, as a suite's id may not contain them."""
        axes = self.facts.get("axes")
        return f"{self.name} ({axes})" if axes else self.name

    @property
    def first_warm_up_s(self) -> float | None:
        """The warm-up of the very first step: that of attempts after it is part of what failures waste."""
        all_s: float | None = self.row["rewarm_s"]
        return None if all_s is None else all_s - sum(cost.seconds["rewarm"] for cost in self.failures)

    @property
    def replayed_warm_up_s(self) -> float | None:
        """The warm-up of replayed first steps, which the bucket `replay` holds."""
        all_s: float | None = self.row["replay_s"]
        return None if all_s is None else all_s - sum(cost.seconds["replay"] for cost in self.failures)


def get_run_key(row: Row) -> tuple[str, str, int]:
    """(suite_id, variant, seed) of the run of this row."""
    return row["suite_id"], row["variant"], row["seed"]


def get_cell(row: Row) -> Row:
    """The value of every axis of a run, by the names that a claim's `where` uses."""
    return row | {"failure": row["failure_label"]} | {key: row[column] for key, column in KEY_COLUMNS.items()}


def get_own_axes(row: Row) -> dict[str, Any]:
    """The values of the axes of `[axes]` that have a column of their own."""
    return {column: value for column, value in row.items() if is_axis_column(column) and column not in _RUN_COLUMNS}


def empty_row(**known: Any) -> Row:
    """A row of the runs table with the values of `known`; all others are None."""
    return dict.fromkeys(RUN_COLUMNS) | known


def identity(spec: dict[str, Any]) -> Row:
    """The columns that follow from run.json alone."""
    return empty_row(
        **{k: spec[k] for k in ("suite_id", "dataset", "model", "failure_label", "checkpoint_every", "max_inflight")},
        **{k: spec[k] for k in ("variant", "seed", "device", "block_position")},
        failure_steps=";".join(str(failure_checks.format_failure_step(f)) for f in spec["failures"]),
        nproc=spec["train"]["nproc"],
        launcher=spec["train"].get("launcher", DEFAULT_LAUNCHER),
        steps=spec["train"]["steps"],
    )


class Pause(NamedTuple):
    """A time in which ecrl stood still. ranks_went_on: a rank recorded something meanwhile, or the run was over."""

    seconds: float
    ranks_went_on: bool


def _find_pauses(record: RunRecord) -> list[Pause]:
    stamps = [event["t"] for events in record.events.values() for event in events]
    exited = [event["t"] for event in record.launcher if event["e"] == "exit"]
    found = []
    for event in record.launcher:
        begin, end = event.get("t0"), event["t"]
        if event["e"] == "paused" and isinstance(begin, int):
            over = bool(exited) and exited[-1] <= begin
            found.append(Pause((end - begin) / NS_PER_S, over or any(begin < t < end for t in stamps)))
    return found


def build_facts(record: RunRecord) -> dict[str, Any]:
    """Facts that reports use of the runs of every kind. A kind replaces those that it knows more of."""
    return {
        "machine": dict(record.result["machine"]) if record.result else {},
        "reason": record.result["reason"] if record.result else "no valid result.json: the run did not finish",
        "log": record.result["log"] if record.result else None,
        "claims_hash": record.spec.get("claims_hash"),
        "block_order": tuple(record.spec.get("block_order", ())),
        "token": record.spec.get("token", 0),
        "spawn_t": None,
        "exit_t": None,
        "clock_step_ns": None,
        "pauses": _find_pauses(record),
        "drained_before_failure": [],
        "checkpoint_bytes": None,
    }
