"""Names of suites and axes in a report. A suite's short name has only the values in which suites differ."""

# Suite ids are too long for a plot.

from collections.abc import Iterable, Mapping

from ecrl.analysis.campaign.axes import MATRIX_AXES, format_axis, list_axes
from ecrl.analysis.campaign.tables import failure_text
from ecrl.analysis.evidence import Evidence
from ecrl.analysis.run.metrics import Row
from ecrl.report.text.numbers import UNKNOWN, join_names

# Headers of the axes' columns. A key of `[axes]` that is not listed is its own header.
AXIS_HEADERS = {
    "dataset": "dataset", "model": "model", "failure_label": "failures", "checkpoint_every": "every",
    "max_inflight": "in flight", "nproc": "ranks", "steps": "steps", "launcher": "launcher",
}  # fmt: skip
WORDS = frozenset({"dataset", "model", "failures", "launcher"})  # headers of columns of words; the others are numbers
_LEAST = MATRIX_AXES[:3]  # data set, model and schedule: the name of a single suite


def suite_names(suites: Mapping[str, Row]) -> dict[str, str]:
    """A short name for every suite id. Suites with equal values on all axes get the hash of their id added."""
    axes = list_axes(suites.values())
    varying = [axis for axis in axes if len({row.get(axis) for row in suites.values()}) > 1] or _LEAST
    names = {
        # A script has no data set.
        suite_id: ", ".join(format_axis(axis, row.get(axis)) for axis in varying if row.get(axis) != "")
        for suite_id, row in suites.items()
    }
    taken = list(names.values())
    return {
        suite_id: name if taken.count(name) == 1 else f"{name}, {suite_id.rpartition('-')[2]}"
        for suite_id, name in names.items()
    }


def label_suite(evidence: Evidence, suite_id: str) -> str:
    """The id of a suite as code, with the values of `[axes]`, which the id does not always show."""
    row = evidence.suites.get(suite_id, {})
    axes = [format_axis(axis, row[axis]) for axis in evidence.axes if row.get(axis) is not None]
    return f"`{suite_id}` ({', '.join(axes)})" if axes else f"`{suite_id}`"


def format_part(name: str) -> str:
    """A bucket of the ledger, or another part of a run's time, as words: lost step."""
    return name.replace("_", " ")


def axis_headers(axes: Iterable[str]) -> tuple[str, ...]:
    """The column headers of these axes in a table of suites."""
    return tuple(AXIS_HEADERS.get(axis, axis) for axis in axes)


def axis_cells(row: Row, axes: Iterable[str]) -> tuple[str, ...]:
    """The cells of these axes in a table of suites."""
    return tuple(axis_cell(row, axis) for axis in axes)


def axis_cell(row: Row, axis: str) -> str:
    """The cell of one axis in a table of suites. A failure schedule is shown with its steps."""
    if axis == "failure_label":
        return failure_text(row["failure_label"], row["failure_steps"] or "")
    return format_value(row[axis])


def format_value(value: object) -> str:
    """The value of an axis as text: 4, 0.05, true; a dash if it is not known."""
    if value is None:
        return UNKNOWN
    return str(value).lower() if isinstance(value, bool) else str(value)


def describe_averaged(evidence: Evidence) -> str | None:
    """The varying axes of `[axes]`, over which a mean of all suites averages: 'train.batch_size (4 and 8)'.

    None if no such axis varies.
    """
    varying = [axis for axis in evidence.varying_axes if axis in evidence.axes]
    if not varying:
        return None
    return join_names(
        f"{axis_headers([axis])[0]} ({join_names(map(format_value, evidence.factors[axis]))})" for axis in varying
    )
