"""Running a finished suite once more: what it left behind is kept, out of the way, and it is pending again."""

from collections.abc import Collection
from dataclasses import replace

from ecrl.launch.campaign import Campaign
from ecrl.launch.supervise import set_aside
from ecrl.records.lazy import Rows
from ecrl.records.manifest import PENDING


def begin_again(campaign: Campaign, rows: Rows, suite_ids: Collection[str]) -> None:
    """Set the runs of these suites aside and make their rows `pending`. Call it under the lease; write the rows
    afterwards: killed in between, a row is done without results, which makes it pending just as well."""
    for suite in campaign.suites if suite_ids else ():
        if suite.suite_id not in suite_ids:
            continue
        for _, paths in campaign.runs(suite):
            set_aside(paths)
        rows.put(
            replace(
                rows[suite.suite_id],
                status=PENDING, runs_done=0, wall_s=None, started_at="", finished_at="", message="", owner=None,
            )
        )  # fmt: skip
