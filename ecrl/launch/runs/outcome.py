"""Decides the outcome of a run from its records, and writes `result.json`, last and atomically."""

import json
import os
import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ecrl.errors import EXIT_HELD, EcrlError
from ecrl.launch.runs.failure_cause import classify_failure
from ecrl.launch.runs.file_tail import Event
from ecrl.launch.runs.launcher import WorkerFailed
from ecrl.launch.runs.run import Run
from ecrl.launch.system.environment import format_inputs
from ecrl.records import correctness
from ecrl.records.failure_checks import is_ending
from ecrl.records.paths import RunPaths
from ecrl.records.reader import RunRecord, compute_event_digests, read_run, read_token
from ecrl.records.result import RESULT_SCHEMA, Result
from ecrl.storage.atomic import write_atomic


@dataclass
class RunEvidence:
    """Events that the supervisor saw during the run and that matter for its outcome."""

    failures: list[tuple[int, int]] = field(default_factory=list)  # (attempt, t) of planned ends of attempts
    errors: list[tuple[int, int, Event]] = field(default_factory=list)
    refused: list[tuple[int, int, Event]] = field(default_factory=list)
    workers_failed: list[WorkerFailed] = field(default_factory=list)
    last_step: dict[tuple[int, int], int] = field(default_factory=dict)
    ends: dict[tuple[int, int], int] = field(default_factory=dict)  # (attempt, rank) -> t of its `end`
    newest_t: int = 0  # of all events

    def note(self, attempt: int, rank: int, event: Event) -> None:
        """Add one event."""
        self.newest_t = max(self.newest_t, event.get("t", 0))
        match event["e"]:
            case "failure" if is_ending(event):
                self.failures.append((attempt, event["t"]))
            case "error":
                self.errors.append((attempt, rank, event))
            case "refused":
                self.refused.append((attempt, rank, event))
            case "step":
                self.last_step[attempt, rank] = event["s"]
            case "end":
                self.ends[attempt, rank] = event["t"]

    def find_end(self, nproc: int) -> int | None:
        """The instant at which the last rank recorded its end, in the first attempt in which every rank did."""
        for attempt in sorted({attempt for attempt, _ in self.ends}):
            own = [t for (a, _), t in self.ends.items() if a == attempt]
            if len(own) == nproc:
                return max(own)
        return None

    def find_crash(self) -> tuple[int, int, Event] | None:
        """The first error that no planned failure explains, else the first refusal."""
        # A rank that loses a peer to a planned failure ends with an error of its own. That error comes after the
        # failure, in the same attempt, and is no crash.
        own = [e for e in self.errors if not any(a == e[0] and t <= e[2]["t"] for a, t in self.failures)]
        return min(own or self.refused, key=lambda found: found[2]["t"], default=None)


@dataclass(frozen=True)
class RunEnd:
    """How the launcher ended.

    exit_code: of the launcher. reason: why ecrl ended it (a timeout), or ''. oom_kills: processes that the kernel
    killed meanwhile for lack of memory.
    """

    exit_code: int
    reason: str = ""
    oom_kills: int = 0


class FencedError(EcrlError):
    """A newer attempt has taken over the run's folder. The result of this attempt is kept in a separate file."""

    exit_code = EXIT_HELD


def decide_result(run: Run, findings: RunEvidence, ending: RunEnd, started_at: str, finished_at: str) -> Result:
    """Decide the outcome of a run from its records."""
    spec, paths = run.spec, run.paths
    record = read_run(paths)
    decided = correctness.compute_gates(record, ending.exit_code)
    reason, log = "", paths.torchrun_log
    ended = (
        correctness.find_ended_attempt(record) is not None
    )  # after the run's recorded end, a process's exit does not matter
    if ending.reason:
        reason = ending.reason
    elif not ended and (crash := findings.find_crash()) is not None:
        reason, log = _crash_reason(crash, findings, paths)
    elif not ended and ending.exit_code != 0:
        reason, log = _exit_reason(ending.exit_code, findings, record, paths)
    elif decided["C1"]["passed"] is not True:
        reason = f"not what was planned: {decided['C1']['evidence']}"
    result: Result = {
        "schema": RESULT_SCHEMA,
        "run_hash": spec.hash,
        "outcome": "failed" if reason else "completed",
        "reason": reason,
        "log": str(log.relative_to(paths.folder)),
        "exit_code": ending.exit_code,
        "wall_s": _wall_s(record),
        "restarts": correctness.count_restarts(record),
        "failures_planned": len(spec.failures),
        "failures_fired": len(correctness.list_fired(record)),
        "gates": decided,
        "started_at": started_at,
        "finished_at": finished_at,
        "machine": {},
        "token": spec.token,
    }
    if reason:
        result["reason"] = reason = add_inputs(reason, findings, os.environ)
        logs = [log] if log == paths.torchrun_log else [log, paths.torchrun_log]
        kind = classify_failure(reason, logs, timed_out=bool(ending.reason), oom_kills=ending.oom_kills)
        result["failure"] = {"kind": kind.kind, "evidence": kind.evidence}
    return result


def add_inputs(reason: str, findings: RunEvidence, environment: Mapping[str, str]) -> str:
    """The reason of a run that made no step, with the variables that its ranks read: one of them may be the cause."""
    inputs = "" if findings.last_step else format_inputs(environment)
    return f"{reason}; {inputs} {'are' if ', ' in inputs else 'is'} set" if inputs else reason


def write_result(result: Result, machine: dict[str, Any], paths: RunPaths) -> Result:
    """Write `result.json` with the machine's facts and the digests of the events; returns the whole result.

    Raises:
        FencedError: a newer attempt owns the folder; the result was written to a separate file there.
    """
    whole: Result = {**result, "machine": machine, "events": compute_event_digests(paths)}
    data = json.dumps(whole, indent=1, allow_nan=False).encode()
    token, newest = whole.get("token", 0), read_token(paths)
    if token < newest:
        late = paths.folder / f"result.late-{token}.json"
        write_atomic(late, data)
        raise FencedError(
            "ECRL-502",
            f"{paths.folder}: attempt {token} ended after attempt {newest} took over the run; its result is set"
            f" aside as {late.name}.\n"
            f"Another ecrl runs this campaign. Watch it with: ecrl matrix status {paths.campaign.options}",
        )
    _set_late_aside(paths, token)
    write_atomic(paths.result, data)
    return whole


def _set_late_aside(paths: RunPaths, token: int) -> None:
    """Rename a result that an older attempt wrote late."""
    try:
        # This attempt has not written yet, so an existing result comes from an older one.
        there = json.loads(paths.result.read_text()).get("token", 0)
    except FileNotFoundError:
        return
    except (ValueError, AttributeError):
        there = "damaged"
    if there != token:
        paths.result.rename(paths.folder / f"result.late-{there}.json")


def _crash_reason(crash: tuple[int, int, Event], findings: RunEvidence, paths: RunPaths) -> tuple[str, Path]:
    attempt, rank, event = crash
    if event["e"] == "refused":
        # The rank that died left no error; only the launcher has reported its end.
        failed = next(iter(findings.workers_failed[max(attempt - 1, 0) :]), None)
        if failed is None:
            return event["reason"], paths.torchrun_log
        return _death_reason(failed, attempt - 1, findings, paths)
    text = f"{event['type']}: {event['message']}".strip().rstrip(":")
    return f"{_one_line(text)} (rank {rank}, {_describe_rank(findings, attempt, rank)})", _stderr_log(
        paths, attempt, rank
    )


def _exit_reason(exit_code: int, findings: RunEvidence, record: RunRecord, paths: RunPaths) -> tuple[str, Path]:
    if exit_code < 0:  # torchrun itself was killed; the ranks that it reported before were restarted
        return f"torchrun was ended by {signal.Signals(-exit_code).name}", paths.torchrun_log
    if findings.workers_failed:
        return _death_reason(findings.workers_failed[-1], max(record.attempts, default=0), findings, paths)
    if record.events:
        return f"torchrun ended with exit code {exit_code}", paths.torchrun_log
    lines = [line for line in _text(paths.torchrun_log).splitlines() if line.strip()]
    said = _one_line(lines[-1]) if lines else "it said nothing"
    return f"no worker started, torchrun ended with exit code {exit_code}: {said}", paths.torchrun_log


def _death_reason(failed: WorkerFailed, attempt: int, findings: RunEvidence, paths: RunPaths) -> tuple[str, Path]:
    rank = failed.local_rank
    how = f"exit code {failed.exitcode}"
    if failed.exitcode < 0:
        how = signal.Signals(-failed.exitcode).name
    where = _describe_rank(findings, attempt, rank)
    return f"rank {rank} died unplanned: {how} ({where})", _stderr_log(paths, attempt, rank)


def _describe_rank(findings: RunEvidence, attempt: int, rank: int) -> str:
    step = findings.last_step.get((attempt, rank))
    return "before its first step" if step is None else f"after step {step}"


def _stderr_log(paths: RunPaths, attempt: int, rank: int) -> Path:
    """The stderr log of a rank, in the folder that torchrun chose; torchrun's own log if the rank wrote nothing."""
    found = sorted(paths.logs.glob(f"*/attempt_{attempt}/{rank}/stderr.log"))
    return found[-1] if found and found[-1].stat().st_size else paths.torchrun_log


def _wall_s(record: RunRecord) -> float:
    stamps: dict[str, int] = {event["e"]: event["t"] for event in record.launcher}
    return round((stamps["exit"] - stamps["spawn"]) / 1e9, 6)


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)[:300]


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
