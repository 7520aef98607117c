"""Turns the records of one run into points, from where the last reading ended.

Rank 0 stands for the run, as in `ecrl matrix status --watch`; the report has the numbers of all ranks.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from ecrl.records.clock import real_minus_boot_ns
from ecrl.records.paths import RunPaths
from ecrl.records.reader import Event, parse_events, read_result
from ecrl.trackers.tracker import Point, Value

_CHUNK_BYTES = 1 << 20
_FAILURE = b'{"e":"failure",'
# Keys of run.json that say where or when, and not what. Failures are in the suite's name.
_NO_PARAMETERS = frozenset({
    "prefix", "failures", "data_root", "block_order", "block_position", "claims_hash", "token", "schema", "run_hash",
})  # fmt: skip


@dataclass
class Progress:
    """How far the records of a run were fed: all that a restarted feeder needs to go on.

    token: of the attempt of ecrl whose records these are. offsets: bytes read of each events file. points: fed so far,
    over all tokens. values: the newest of each series; the sums go on from them. begun_ns: the stamp of the start.
    clock_ns: to add to a stamp to get Unix time. done: the result was fed. mark: the tracker's, see `RunLog.commit`.
    """

    token: int = -1
    offsets: dict[str, int] = field(default_factory=dict)
    points: int = 0
    values: dict[str, float] = field(default_factory=dict)
    step: int = 0
    begun_ns: int | None = None
    clock_ns: int | None = None
    done: bool = False
    mark: Any = None

    def restart(self, token: int) -> "Progress":
        """The progress at the begin of another attempt of ecrl; the tracker's run goes on."""
        return Progress(token=token, points=self.points, mark=self.mark)


def read_spec(paths: RunPaths) -> dict[str, Any] | None:
    """The content of run.json; None while there is none that can be read."""
    try:
        spec = json.loads(paths.spec.read_text())
    except (OSError, ValueError):
        return None
    return spec if isinstance(spec, dict) else None


def flatten_parameters(spec: Mapping[str, Any]) -> dict[str, Value]:
    """Axes and settings of a run, those of tables under `table.key`."""
    flat: dict[str, Value] = {}
    for key, value in spec.items():
        if key in _NO_PARAMETERS:
            continue
        if isinstance(value, Mapping):
            flat |= {f"{key}.{inner}": one for inner, one in flatten_parameters(value).items()}
        elif isinstance(value, bool | int | float | str):
            flat[key] = value
    return flat


class RunFeed:
    """Reads one run. `progress` is that of the last reading, and changes with every reading."""

    def __init__(self, paths: RunPaths, spec: Mapping[str, Any], progress: Progress) -> None:
        self._paths, self._spec, self._progress = paths, spec, progress

    def read(self) -> Iterator[list[Point]]:
        """Yields the new points in order, a list for each part of a file. The result comes last."""
        result = read_result(self._paths, self._spec["run_hash"])  # before the events: it is written after them
        files = [((0, 0), self._paths.launcher_events), *self._paths.all_events().items()]
        for (attempt, rank), path in files:
            for lines in self._read_lines(path):
                kept = lines if rank == 0 else [line for line in lines if line.startswith(_FAILURE)]
                events = parse_events(b"\n".join(kept), path.name, [])  # the analysis names the damaged lines
                yield self._count(point for event in events for point in self._make_points(event, attempt))
        if result is not None:
            self._progress.done = True
            gates = {name: gate["passed"] for name, gate in result["gates"].items() if gate["passed"] is not None}
            found = {"completed": result["outcome"] == "completed", "wall_s": result["wall_s"], **gates}
            found |= {name: result[name] for name in ("restarts", "failures_fired")}
            end_s = datetime.fromisoformat(result["finished_at"]).timestamp()
            values = {f"final/{name}": float(value) for name, value in found.items()}
            self._progress.values |= values
            yield self._count([Point(self._progress.step, end_s, values)])

    def _count(self, made: Iterable[Point]) -> list[Point]:
        points = list(made)
        self._progress.points += len(points)
        return points

    def _read_lines(self, path: Path) -> Iterator[list[bytes]]:
        """The new whole lines of a file, a part at a time."""
        offsets = self._progress.offsets
        try:
            with path.open("rb") as file:
                file.seek(offsets.get(path.name, 0))
                while chunk := file.read(_CHUNK_BYTES):
                    whole, newline, _ = chunk.rpartition(b"\n")
                    if not newline:
                        return
                    offsets[path.name] = offsets.get(path.name, 0) + len(whole) + 1
                    file.seek(offsets[path.name])
                    yield whole.split(b"\n")
        except FileNotFoundError:
            return  # set aside just now

    def _make_points(self, event: Event, attempt: int) -> Iterator[Point]:
        """The points of one event. An event that lacks a field makes none."""
        progress = self._progress
        values: dict[str, float] = {}
        step = progress.step
        match event:
            case {"e": "spawn", "t": int(t)}:
                progress.begun_ns = t
            case {"e": "start", "t": int(t)}:
                progress.clock_ns = event.get("real_minus_boot_ns", real_minus_boot_ns())
                progress.begun_ns = t if progress.begun_ns is None else progress.begun_ns
            case {"e": "restored", "step": int(step)} if attempt:
                values["restarts"] = attempt
            case {"e": "step", "s": int(step), "t": int(t), "t0": int(t0)}:
                values = {"step_s": (t - t0) / 1e9} | self._measure_so_far(step, t)
                if isinstance(loss := event.get("loss"), int | float):
                    values["loss"] = loss
                progress.step = step
            case {"e": "loss", "s": int(step), "loss": int() | float() as loss}:
                values["loss"] = loss
            case {"e": "save" | "fence", "t": int(t), "t0": int(t0)}:
                progress.values["stall_s"] = progress.values.get("stall_s", 0.0) + (t - t0) / 1e9
            case {"e": "committed", "s": int(step)}:
                values["checkpoints"] = progress.values.get("checkpoints", 0) + 1
            case {"e": "failure", "at": int(step)}:
                values["failures"] = progress.values.get("failures", 0) + 1
        if values:
            progress.values |= values  # at once: the next event of the same kind counts on
            clock_ns = real_minus_boot_ns() if progress.clock_ns is None else progress.clock_ns
            yield Point(step, (event["t"] + clock_ns) / 1e9, values)

    def _measure_so_far(self, step: int, t: int) -> dict[str, float]:
        """Goodput and stall so far, once a second of the run; {} in between."""
        progress = self._progress
        if progress.begun_ns is None:
            return {}
        elapsed_s = (t - progress.begun_ns) / 1e9
        # By the stamps, not by when they are read: a restarted feeder makes the same points.
        if elapsed_s < progress.values.get("elapsed_s", 0.0) + 1:
            return {}
        stall_s = progress.values.get("stall_s", 0.0)
        return {"elapsed_s": elapsed_s, "goodput_steps_per_s": step / elapsed_s, "stall_s": stall_s}
