"""Facts that an injector reads from the run's own records: the other ranks' processes and the start of training."""

import json

from ecrl.failures.injector import AttemptContext
from ecrl.records.paths import RunPaths
from ecrl.records.reader import read_events


class RecordedAttemptContext(AttemptContext):
    """The context of `rank` in `attempt`, read from the events files of `paths`."""

    def __init__(self, paths: RunPaths, attempt: int, rank: int) -> None:
        self._paths, self._attempt, self._rank = paths, attempt, rank

    def get_pids(self, ranks: str | list[int]) -> list[int]:
        """See `AttemptContext.get_pids`. Reads the `start` event, the first line of each other rank's file."""
        pids = []
        for (attempt, rank), path in self._paths.all_events().items():
            if attempt == self._attempt and rank != self._rank and (ranks == "all" or rank in ranks):
                with path.open("rb") as file:
                    pids.append(int(json.loads(file.readline())["pid"]))
        return pids

    def get_first_step_ns(self) -> int | None:
        """The earliest begin of a step that any rank recorded in attempt 0; None if there is none."""
        warnings: list[str] = []  # attempt 0 may have ended inside a write
        files = [path for (attempt, _), path in self._paths.all_events().items() if attempt == 0]
        steps = (e["t0"] for path in files for e in read_events(path, warnings) if e["e"] == "step")
        return min(steps, default=None)
