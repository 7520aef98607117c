"""Running a finished suite once more: what it left behind is kept, out of the way, and it is pending again."""

from collections.abc import Collection
from dataclasses import replace

from ecrl.launch.campaign.campaign import Campaign
from ecrl.launch.runs.supervisor import set_aside
from ecrl.records.manifest.store import PENDING, Manifest


def reset_suites(campaign: Campaign, opened: Manifest, suite_ids: Collection[str]) -> None:
    """Make the rows of these suites `pending` on disk, then set their runs aside. Call it under the lease, when
    nothing is left that could keep them from running."""
    rows = opened.rows
    for suite_id in suite_ids:
        rows.put(
            replace(
                rows[suite_id],
                status=PENDING, runs_done=0, wall_s=None, started_at="", finished_at="", message="", owner=None,
            )
        )  # fmt: skip
    opened.compact()
    for suite_id in suite_ids:
        for _, paths in campaign.runs(campaign.suite(suite_id, rows.index_of(suite_id))):
            set_aside(paths)
