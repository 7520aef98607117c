"""How long planned runs will take: from campaigns in the results folder that ran equal suites, else from trials."""

import statistics
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ecrl.launch.campaign.campaign import Campaign
from ecrl.records.manifest import store as manifest
from ecrl.records.paths import CampaignPaths


@dataclass(frozen=True)
class ExpectedTime:
    """The time of the planned runs whose suites were measured or tried. It has no warm-ups.

    seconds: their sum, over the suites that run at once. runs: how many they are; tried: those that trials tell of.
    prefixes: who measured the others.
    """

    seconds: float
    runs: int
    prefixes: tuple[str, ...]
    tried: int = 0

    def to_json(self) -> dict[str, Any]:
        """The object `expected_time` of the preview. No seconds where no suite was measured or tried."""
        told = {"seconds": self.seconds if self.runs else None, "runs": self.runs, "prefixes": list(self.prefixes)}
        return told | {"tried_runs": self.tried}


def compute_expected_time(
    campaign: Campaign,
    todo: Mapping[str, int],
    try_suites: Callable[[Collection[str]], Mapping[str, float]] = lambda _suite_ids: {},
) -> ExpectedTime:
    """The expected time of these numbers of runs, by suite.

    A run takes the mean of the runs of the same suite, which has the same settings, failures and intervals, on the same
    kind of device; where several campaigns ran it, the median of their means. try_suites: asked for the seconds of the
    runs of suites that nobody measured; it may leave some out.
    """
    measured: dict[str, dict[str, float]] = {}
    for paths, view in manifest.read_all(campaign.paths.results, lambda _damaged: None):
        rows = [view.rows[suite_id] for suite_id, runs in todo.items() if runs and suite_id in view.rows]
        done = {row.suite_id: row.wall_s / row.runs_done for row in rows if row.wall_s and row.runs_done}
        if done and _read_device(paths) == campaign.matrix.run.device:
            for suite_id, run_s in done.items():
                measured.setdefault(suite_id, {})[paths.prefix] = run_s
    seconds = sum(todo[suite_id] * statistics.median(found.values()) for suite_id, found in measured.items())
    unknown = [suite_id for suite_id, runs in todo.items() if runs and suite_id not in measured]
    tried = try_suites(unknown) if unknown else {}
    at_once = max(1, min(campaign.matrix.run.jobs, len(measured) + len(tried)))
    prefixes = tuple(dict.fromkeys(prefix for found in measured.values() for prefix in found))
    told = {name: sum(todo[suite_id] for suite_id in of) for name, of in (("measured", measured), ("tried", tried))}
    total_s = (seconds + sum(tried.values())) / at_once
    return ExpectedTime(total_s, sum(told.values()), prefixes, told["tried"])


def _read_device(paths: CampaignPaths) -> str | None:
    """The device of a frozen matrix; None if it cannot be read."""
    try:
        return str(tomllib.loads(paths.matrix.read_text(encoding="utf-8"))["run"]["device"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
