"""A watched campaign in words, the same on a screen and in a log."""

from collections.abc import Iterator

from ecrl.launch.system.process_identity import Liveness
from ecrl.launch.views.snapshot import RunningSuite, Snapshot
from ecrl.units import format_count, format_duration

_SILENCE_WARNING_S = 15.0  # a run that records nothing for so long is worth a word


def format_lines(snapshot: Snapshot) -> Iterator[str]:
    """A look as plain lines, for logs and pipes: one for the campaign, one for each running suite."""
    yield f"{snapshot.at} {headline(snapshot)}; {format_counts(snapshot)}; {format_time_left(snapshot)}"
    for running in snapshot.running:
        devices = describe_devices(running)
        yield f"  {running.row.suite_id}: {format_run(running)}{f', {devices}' if devices else ''}"
    for failure in snapshot.failures[:1]:
        yield f"  last failure: {failure.suite_id}: {failure.reason}{f'; log: {failure.log}' if failure.log else ''}"


def headline(snapshot: Snapshot) -> str:
    """The prefix and how far it is."""
    return f"{snapshot.prefix}: {snapshot.runs_done}/{snapshot.runs_total} runs"


def format_counts(snapshot: Snapshot) -> str:
    """How many suites have each status."""
    counts = ", ".join(f"{number} {status}" for status, number in snapshot.counts.items() if number)
    return f"{sum(snapshot.counts.values())} suites ({counts})"


def format_time_left(snapshot: Snapshot) -> str:
    """When it will be done, or why that is not known."""
    if snapshot.is_over:
        return "nothing left to run"
    if snapshot.eta_s is None:
        return "ETA unknown until a run is finished"
    if not snapshot.running:
        return f"stopped, {format_duration(snapshot.eta_s)} of work left"
    return f"ETA {format_duration(snapshot.eta_s)} (from {snapshot.runs_measured} measured runs)"


def format_run(running: RunningSuite) -> str:
    """What a running suite does."""
    if running.liveness is Liveness.DEAD:
        return "its ecrl is gone; resume takes it up again"
    run = running.run
    if run is None:
        return f"between two runs ({running.row.runs_done}/{running.row.runs_total} done)"
    seen = run.progress
    facts = [f"step {seen.step}/{seen.total}", seen.doing]
    facts += [] if seen.loss is None else [f"loss {seen.loss:.4g}"]
    facts += [] if run.steps_per_s is None else [f"{run.steps_per_s:.3g} steps/s"]
    facts += [format_count(seen.restarts, "restart")] if seen.restarts else []
    if running.silent_s is not None and running.silent_s > _SILENCE_WARNING_S:
        facts.append(f"silent for {format_duration(running.silent_s)}")
    return f"{run.variant} seed{run.seed} {', '.join(facts)}"


def describe_devices(running: RunningSuite) -> str:
    """The leased devices as the manifest names them, else those that the run's processes were given."""
    if running.row.where:
        return running.row.where
    gpus = "" if running.run is None else running.run.gpus
    return f"GPU {gpus}" if gpus and gpus != "cpu" else gpus
