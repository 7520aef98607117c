"""Read the records of runs. Every damaged or missing part is named in `warnings`."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ecrl.errors import RecordError
from ecrl.records.paths import RunPaths
from ecrl.records.result import RESULT_SCHEMA, Result

Event = dict[str, Any]


def parse_events(data: bytes, name: str, warnings: list[str]) -> list[Event]:
    """The events in `data`. Damaged lines are dropped, with a warning that names `name` and the line.

    The last line is torn if the process died inside a write or the disk was full.
    """
    lines = data.splitlines()
    try:  # one call for the whole file takes a quarter of the time of one call per line
        found = json.loads(b"[" + b",".join(lines) + b"]")
        if len(found) == len(lines) and all(map(_is_event, found)):
            return list(found)
    except ValueError:
        pass  # some line is damaged: parse each line to find it
    events: list[Event] = []
    for number, line in enumerate(lines, start=1):
        try:
            event = json.loads(line)
            if not _is_event(event):
                raise ValueError("not an event")
        except ValueError:
            warnings.append(f"{name}: line {number} is torn or damaged and was dropped")
            continue
        events.append(event)
    return events


def _is_event(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("e"), str) and isinstance(value.get("t"), int)


def read_events(path: Path, warnings: list[str], digests: dict[str, str] | None = None) -> list[Event]:
    """The events of one file. A missing file gives an empty list and a warning.

    digests: gets the SHA-256 of the file by its name.
    """
    try:
        data = path.read_bytes()
        if digests is not None:
            digests[path.name] = hashlib.sha256(data).hexdigest()
        return parse_events(data, path.name, warnings)
    except FileNotFoundError:
        warnings.append(f"{path.name}: missing")
        return []


def compute_event_digests(paths: RunPaths) -> dict[str, str]:
    """SHA-256 of each events file of a run, by name."""
    files = [path for path in (*paths.all_events().values(), paths.launcher_events) if path.exists()]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def read_result(paths: RunPaths, run_hash: str) -> Result | None:
    """The valid result of the run with this content hash, or None.

    None means that the result is absent, unreadable, of another run, or of an attempt that was taken over.
    """
    try:
        result: Result = json.loads(paths.result.read_text())
        valid = (
            result["schema"] == RESULT_SCHEMA
            and result["run_hash"] == run_hash
            and result["outcome"] in ("completed", "failed")
            and set(result["gates"]) >= {"C1", "C2", "C3", "C5"}
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return result if valid and not _is_late(paths, result) else None


def _is_late(paths: RunPaths, result: Result) -> bool:
    """Whether an older attempt wrote the result although a newer attempt has taken over the run's folder."""
    return bool(result.get("token")) and paths.spec.exists() and result["token"] != read_token(paths)


def read_token(paths: RunPaths) -> int:
    """The token of the attempt that owns a run's folder; 0 if run.json has no token or cannot be read."""
    try:
        return int(json.loads(paths.spec.read_text())["token"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


@dataclass
class RunRecord:
    """All records of one run.

    events: by (attempt, rank), each list in file order. They must not change after the first call of `get_events`.
    digests: SHA-256 of each events file, by name.
    """

    spec: dict[str, Any]
    result: Result | None
    events: dict[tuple[int, int], list[Event]]
    launcher: list[Event]
    warnings: list[str] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)
    _by_kind: dict[str, list[tuple[int, int, Event]]] = field(default_factory=dict, init=False, repr=False)

    @property
    def attempts(self) -> list[int]:
        """The attempts that left events, in order."""
        return sorted({attempt for attempt, _ in self.events})

    def get_events(self, kind: str) -> list[tuple[int, int, Event]]:
        """Every event of a kind as (attempt, rank, event), by attempt, rank and file order."""
        if not self._by_kind:
            for (attempt, rank), events in sorted(self.events.items()):
                for event in events:
                    self._by_kind.setdefault(event["e"], []).append((attempt, rank, event))
        return list(self._by_kind.get(kind, ()))


def read_run(paths: RunPaths) -> RunRecord:
    """Read a run's folder.

    Raises:
        RecordError: there is no readable run.json.
    """
    warnings: list[str] = []
    try:
        spec = json.loads(paths.spec.read_text())
        run_hash = spec["run_hash"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordError("ECRL-403", f"{paths.spec}: not a readable run.json ({error})") from error
    digests: dict[str, str] = {}
    events = {key: read_events(path, warnings, digests) for key, path in paths.all_events().items()}
    for attempt in sorted({a for a, _ in events}):
        absent = [r for r in range(spec["train"]["nproc"]) if (attempt, r) not in events]
        warnings += [f"events-{attempt}-{rank}.jsonl: missing" for rank in absent]
    launcher = read_events(paths.launcher_events, warnings, digests)
    return RunRecord(spec, read_result(paths, run_hash), events, launcher, warnings, digests)
