"""The runs of a campaign that ended last, with what they took and what their checkpoints blocked."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ecrl.launch.views.suite_view import read_spec
from ecrl.records.manifest.store import Row
from ecrl.records.paths import CampaignPaths, RunPaths
from ecrl.records.reader import read_events, read_result

_MOST = 50  # runs: of more, the first look would read for seconds


@dataclass(frozen=True)
class FinishedRun:
    """A run with a result. stall_s: the time that rank 0 spent in checkpoints, None if it saved none."""

    suite_id: str
    variant: str
    seed: int
    outcome: str
    steps: int
    wall_s: float
    stall_s: float | None
    finished_at: str


class FinishedRuns:
    """Reads the result and the events of every run once."""

    def __init__(self, paths: CampaignPaths) -> None:
        self._paths = paths
        self._known: dict[tuple[RunPaths, int], FinishedRun | None] = {}

    def list_newest(self, rows: Iterable[Row]) -> list[FinishedRun]:
        """The last finished runs of these suites, the newest first. rows: the newest suites first."""
        found: list[FinishedRun] = []
        for row in rows:
            if len(found) >= _MOST:
                break
            of = ((variant, seed) for seed in row.seeds for variant in row.variants)
            found += [run for one in of if (run := self._find(row, *one)) is not None]
        return sorted(found, key=lambda run: run.finished_at, reverse=True)[:_MOST]

    def _find(self, row: Row, variant: str, seed: int) -> FinishedRun | None:
        paths = self._paths.run(row.suite_id, variant, seed)
        try:
            key = (paths, paths.result.stat().st_mtime_ns)
        except OSError:
            return None  # not finished, or another machine's disk is gone
        if key not in self._known:
            self._known[key] = _read(row, variant, seed, paths)
        return self._known[key]


def _read(row: Row, variant: str, seed: int, paths: RunPaths) -> FinishedRun | None:
    result = read_result(paths, (read_spec(paths) or {}).get("run_hash", ""))
    if result is None:
        return None
    told = result["outcome"], row.steps, result["wall_s"], _read_stall_s(paths), result["finished_at"]
    return FinishedRun(row.suite_id, variant, seed, *told)


def _read_stall_s(paths: RunPaths) -> float | None:
    # Rank 0 alone: the report has the job's stall, for which the ranks' clocks are matched.
    events = [e for (_, rank), path in paths.all_events().items() if rank == 0 for e in read_events(path, [])]
    spans = [_measure_ns(event) for event in events if event["e"] in ("save", "fence")]
    return sum(spans) / 1e9 if spans else None


def _measure_ns(event: dict[str, Any]) -> int:
    begin = event.get("t0")
    return event["t"] - begin if isinstance(begin, int) else 0
