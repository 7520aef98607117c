"""A manifest checked against the matrix that it should be of, suite by suite."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from ecrl.errors import did_you_mean
from ecrl.launch.campaign.campaign import Campaign
from ecrl.records.manifest import store as manifest
from ecrl.records.manifest.lazy_table import Rows
from ecrl.records.manifest.store import Row


def reconcile_rows(campaign: Campaign, rows: Mapping[str, Row], path: Path) -> Rows:
    """The manifest's rows in matrix order, each checked against the suite it names; missing ones are `pending`, and
    so are completed and failed ones whose suite has more runs by now; what they have run counts as before.

    Raises:
        RecordError: a row says something that the frozen matrix does not.
    """
    expected = {row.suite_id: row for row in campaign.rows()}
    for number, row in enumerate(rows.values(), start=1):
        if row.suite_id not in expected:
            hint = did_you_mean(row.suite_id, expected)
            what = f"a suite of {campaign.paths.matrix.name}.{hint}"
            raise manifest.make_cell_error(path, number, "suite_id", row.suite_id, what)
        should = expected[row.suite_id]
        for column in manifest.FIXED:
            is_now, wanted = getattr(row, column), getattr(should, column)
            if is_now != wanted and not _can_have_grown(campaign, row, column):
                raise manifest.make_cell_error(
                    path, number, column, manifest.format_cell(is_now), repr(manifest.format_cell(wanted))
                )
        if row.runs_done > row.runs_total:
            raise manifest.make_cell_error(path, number, "runs_done", str(row.runs_done), f"at most {row.runs_total}")
        state = {name: getattr(row, name) for name in manifest.STATE}
        state["runs_done"] = min(row.runs_done, should.runs_total)  # one fewer to do once `aa` is taken back
        if should.runs_total > row.runs_total and row.status in (*manifest.DONE, manifest.FAILED):
            state["status"] = manifest.PENDING
        expected[row.suite_id] = dataclasses.replace(should, **state)
    return Rows.from_rows(expected.values(), path)


def _can_have_grown(campaign: Campaign, row: Row, column: str) -> bool:
    """Whether a row may differ from the matrix: it was written before the matrix was extended, or `aa` changed."""
    if column == "runs_total":
        return row.runs_total in {len(row.seeds) * len(row.variants) + repeat for repeat in (0, 1)}
    if column not in ("seeds", "variants"):
        return False
    now, there = getattr(campaign.suites[0], column), getattr(row, column)
    return bool(campaign.older) and set(there) <= set(now)
