"""What an injector looks up in the run's own records: who else is in the group, and when training began."""

import json

from ecrl.failures.injector import AttemptContext
from ecrl.records.paths import RunPaths
from ecrl.records.reader import read_events


class RecordedAttemptContext(AttemptContext):
    """As the events files of `paths` tell it to `rank` in `attempt`."""

    def __init__(self, paths: RunPaths, attempt: int, rank: int) -> None:
        self._paths, self._attempt, self._rank = paths, attempt, rank

    def get_pids(self, ranks: str | list[int]) -> list[int]:
        """Read from the first line of each other rank's file, its `start` event."""
        pids = []
        for (attempt, rank), path in self._paths.all_events().items():
            if attempt == self._attempt and rank != self._rank and (ranks == "all" or rank in ranks):
                with path.open("rb") as file:
                    pids.append(int(json.loads(file.readline())["pid"]))
        return pids

    def get_first_step_ns(self) -> int | None:
        """The earliest over the ranks that recorded a step in attempt 0."""
        warnings: list[str] = []  # attempt 0 may have ended inside a write
        files = [path for (attempt, _), path in self._paths.all_events().items() if attempt == 0]
        steps = (e["t0"] for path in files for e in read_events(path, warnings) if e["e"] == "step")
        return min(steps, default=None)
