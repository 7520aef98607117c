"""Describes a campaign and its runs in words, with the same texts for screens and logs."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ecrl.launch.system.process_identity import Liveness
from ecrl.units import format_count, format_duration

if TYPE_CHECKING:
    from ecrl.launch.views.follower import LiveRun
    from ecrl.launch.views.snapshot import RunningSuite, Snapshot

_STEPPING = ("training", "replaying", "saving")  # activities during which the measured speed is current


def format_counts(counts: Mapping[str, int]) -> str:
    """The number of suites, in total and for each status."""
    told = ", ".join(f"{number} {status}" for status, number in counts.items() if number)
    return f"{format_count(sum(counts.values()), 'suite')} ({told})"


def format_lines(snapshot: "Snapshot") -> Iterator[str]:
    """A snapshot as plain lines, for logs and pipes.

    One line for the campaign, one for what it waits for, one for each running suite, and one for the last failure, as
    far as there is one.
    """
    yield f"{snapshot.at} {headline(snapshot)}; {format_counts(snapshot.counts)}; {format_time_left(snapshot)}"
    if snapshot.waits_for:
        yield f"  waiting for {snapshot.waits_for}"
    for running in snapshot.running:
        devices = describe_devices(running)
        yield f"  {running.row.suite_id}: {describe_run(running)}{f', {devices}' if devices else ''}"
    for failure in snapshot.failures[:1]:
        yield f"  last failure: {failure.suite_id}: {failure.reason}{f'; log: {failure.log}' if failure.log else ''}"


def headline(snapshot: "Snapshot") -> str:
    """The prefix, the number of done runs and of all runs."""
    return f"{snapshot.prefix}: {snapshot.runs_done}/{format_count(snapshot.runs_total, 'run')}"


def format_time_left(snapshot: "Snapshot") -> str:
    """The estimated time until the campaign is done, or the reason why there is no estimate."""
    if snapshot.is_over:
        return "nothing left to run"
    if snapshot.eta_s is None:
        return "ETA unknown until a run is finished"
    if not snapshot.running:
        return f"stopped, {format_duration(snapshot.eta_s)} of work left"
    return f"ETA {format_duration(snapshot.eta_s)} (from {format_count(snapshot.runs_measured, 'measured run')})"


def describe_run(running: "RunningSuite") -> str:
    """The present activity of a running suite, in one line."""
    if running.liveness is Liveness.DEAD:
        return "its ecrl is gone; resume continues it"
    run = running.run
    if run is None:
        return f"between two runs ({running.row.runs_done}/{running.row.runs_total} done)"
    return f"{run.variant} seed{run.seed} {format_step(run)}, {describe_activity(running, run)}"


def format_step(run: "LiveRun") -> str:
    """The progress of a run in steps: 'step 3/120'."""
    return f"step {run.progress.step}/{run.progress.total}"


def format_time_to_go(run: "LiveRun") -> str:
    """The time until the run's last step at its present speed; '' if the speed is not known."""
    speed = run.progress.steps_per_s
    if not speed or run.progress.doing not in _STEPPING:
        return ""
    return f"{format_duration((run.progress.total - run.progress.step) / speed)} to go"


def describe_activity(running: "RunningSuite", run: "LiveRun") -> str:
    """The present activity of a run, with its loss, speed, restarts and checkpoints."""
    seen = run.progress
    facts = [seen.doing]
    facts += [running.silence] if running.silence else []
    facts += [] if seen.loss is None else [f"loss {seen.loss:.4g}"]
    steady = seen.doing in _STEPPING and not running.silence
    facts += [f"now {seen.steps_per_s:.3g} steps/s"] if seen.steps_per_s and steady else []
    facts += [format_count(seen.restarts, "restart")] if seen.restarts else []
    facts += [format_count(seen.saved, "checkpoint")] if seen.saved else []
    return ", ".join(facts)


def describe_devices(running: "RunningSuite") -> str:
    """The leased devices as named in the manifest; else the devices given to the run's processes."""
    if running.row.where:
        return running.row.where
    gpus = "" if running.run is None else running.run.gpus
    return f"GPU {gpus}" if gpus and gpus != "cpu" else gpus
