"""How long planned runs will take, from the campaigns in the results folder that ran equal suites."""

import statistics
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ecrl.launch.campaign.campaign import Campaign
from ecrl.records.manifest import store as manifest
from ecrl.records.paths import CampaignPaths


@dataclass(frozen=True)
class ExpectedTime:
    """The time of the planned runs whose suites were measured. It has no warm-ups.

    seconds: their sum, over the suites that run at once. runs: how many they are. prefixes: who measured them.
    """

    seconds: float
    runs: int
    prefixes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The object `expected_time` of the preview. No seconds where no suite was measured."""
        return {"seconds": self.seconds if self.runs else None, "runs": self.runs, "prefixes": list(self.prefixes)}


def compute_expected_time(campaign: Campaign, todo: Mapping[str, int]) -> ExpectedTime:
    """The expected time of these numbers of runs, by suite.

    A run takes the mean of the runs of the same suite, which has the same settings, failures and intervals, on the same
    kind of device; where several campaigns ran it, the median of their means.
    """
    measured: dict[str, dict[str, float]] = {}
    for paths, view in manifest.read_all(campaign.paths.results, lambda _damaged: None):
        rows = [view.rows[suite_id] for suite_id, runs in todo.items() if runs and suite_id in view.rows]
        done = {row.suite_id: row.wall_s / row.runs_done for row in rows if row.wall_s and row.runs_done}
        if done and _read_device(paths) == campaign.matrix.run.device:
            for suite_id, run_s in done.items():
                measured.setdefault(suite_id, {})[paths.prefix] = run_s
    seconds = sum(todo[suite_id] * statistics.median(found.values()) for suite_id, found in measured.items())
    at_once = max(1, min(campaign.matrix.run.jobs, len(measured)))
    prefixes = tuple(dict.fromkeys(prefix for found in measured.values() for prefix in found))
    return ExpectedTime(seconds / at_once, sum(todo[suite_id] for suite_id in measured), prefixes)


def _read_device(paths: CampaignPaths) -> str | None:
    """The device of a frozen matrix; None if it cannot be read."""
    try:
        return str(tomllib.loads(paths.matrix.read_text(encoding="utf-8"))["run"]["device"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
