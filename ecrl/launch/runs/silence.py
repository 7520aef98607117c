"""Says what a run waits for that records nothing."""

from collections.abc import Iterator

from ecrl.launch.runs.progress import RunProgress
from ecrl.launch.runs.torchrun import parse_failure
from ecrl.launch.system.process_identity import is_stopped
from ecrl.launch.system.wait import QUIET_S
from ecrl.records.paths import RunPaths
from ecrl.units import format_duration

_MUCH_LONGER = 5  # times the longest step so far
_TAIL_BYTES = 4096
_LINE_CHARACTERS = 160


def compute_quiet_limit_s(progress: RunProgress) -> float:
    """How many seconds without a record are usual for this run."""
    return max(QUIET_S, _MUCH_LONGER * (progress.longest_step_s or 0.0))


def describe_silence(progress: RunProgress, silent_s: float | None, paths: RunPaths) -> str:
    """What a run of this host waits for, for how long, and its launcher's last line. '': nothing unusual.

    silent_s: seconds since its newest record; None: not known.
    """
    if silent_s is None or silent_s < compute_quiet_limit_s(progress):
        return ""
    told = f"no {'step' if progress.pids else 'rank has started'} for {format_duration(silent_s)}"
    if progress.longest_step_s is not None:
        told += f" (the last ones took up to {format_duration(progress.longest_step_s)})"
    told += f": {describe_ranks(progress)}"
    last = _read_last_line(paths)
    # torchrun's word on a planned failure is what one expects of a restart, and reads like a fault.
    is_planned = progress.restarts > 0 and parse_failure(last) is not None
    return told if is_planned else f"{told}; {quote_last_line(paths)}"


def describe_ranks(progress: RunProgress) -> str:
    """Where the ranks stand. Names those that are stopped, else those that have not started or are behind."""
    if stopped := list(_describe_stopped(progress)):
        return ", ".join(stopped)
    if not progress.pids:
        return "the launcher runs"
    if missing := [str(rank) for rank in range(progress.world_size) if rank not in progress.pids]:
        return f"rank {', '.join(missing)} has not started"
    steps = {rank: progress.steps.get(rank, 0) for rank in sorted(progress.pids)}
    lowest, highest = min(steps.values()), max(steps.values())
    if lowest == highest:
        return f"every rank is {progress.doing}, {_describe_place(progress, 0)}"
    behind = [rank for rank, step in steps.items() if step == lowest]
    who = f"rank {', '.join(map(str, behind))} is behind"
    return f"{who}, {_describe_place(progress, behind[0])}; others after step {highest}"


def _describe_stopped(progress: RunProgress) -> Iterator[str]:
    pid = progress.launcher_pid
    if pid is not None and is_stopped(pid):
        yield f"the launcher is stopped (SIGSTOP; to continue it: kill -CONT {pid})"
    for rank, pid in sorted(progress.pids.items()):
        if is_stopped(pid):
            place = _describe_place(progress, rank)
            yield f"rank {rank} is stopped {place} (SIGSTOP; to continue it: kill -CONT {pid})"


def _describe_place(progress: RunProgress, rank: int) -> str:
    step = progress.steps.get(rank)
    if step is not None:
        return f"after step {step} of {progress.total}"
    return f"before its first step after restart {progress.restarts}" if progress.restarts else "before its first step"


def quote_last_line(paths: RunPaths) -> str:
    """The last line of the launcher's log, and where it is."""
    if not (last := _read_last_line(paths)):
        return f"{paths.torchrun_log.name} is empty"
    return f"{paths.torchrun_log.name} ends with: {' '.join(last.split())[:_LINE_CHARACTERS]}"


def _read_last_line(paths: RunPaths) -> str:
    """The last line of the launcher's log that is not blank; '' if there is none."""
    try:
        with paths.torchrun_log.open("rb") as file:
            file.seek(max(file.seek(0, 2) - _TAIL_BYTES, 0))
            lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    except OSError:
        return ""
    return lines[-1] if lines else ""
