"""The command that goes on with what was asked for, no more and no less, wherever it stopped."""

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from signal import Signals

from ecrl.launch.campaign.recover import Policy
from ecrl.launch.campaign.selection import Selection
from ecrl.launch.system.signals import StoppedError, StopRequest
from ecrl.records.manifest.store import Row
from ecrl.records.paths import CampaignPaths

_NAMED = 100  # suites; the kernel takes some 3,000 in one argument, a reader fewer


def resume_command(paths: CampaignPaths, policy: Policy | None = None) -> str:
    """The command that continues this campaign from this folder, or that asks for all of `policy`."""
    words = ["ecrl matrix resume", paths.options]
    if policy is not None:
        words += policy.selection.to_flags
        words += ["--retry-failed"] if policy.retry_failed else []
        words += [f"--assume-dead {shlex.quote(host)}" for host in policy.assume_dead]
    return " ".join(words)


def build_resume_policy(policy: Policy, rows: Mapping[str, Row], todo: Sequence[str]) -> Policy:
    """What is worth typing again once the suites of a command begin. Those of `--rerun` are chosen for good: they are
    pending from now on. There is nobody left to be dead, and a retry counts where something was tried before."""
    if policy.selection.rerun:
        return Policy(selection=Selection(rerun=tuple(todo)))
    retry_failed = policy.retry_failed and any(rows[suite_id].attempts for suite_id in todo)
    return Policy(retry_failed=retry_failed, selection=policy.selection)


def next_command(paths: CampaignPaths, begun: Policy, left: Sequence[str]) -> str:
    """The command that does what is left of a command that has begun (see `build_resume_policy`).

    What is chosen by its state or to run once more is named suite by suite: its state is another one by now, and what
    `--rerun` has set aside runs again by itself. Too many for a command line are named by what else they were chosen
    by; others that are like them run then, too.
    """
    selection = begun.selection
    if selection and not left:
        return f"ecrl matrix status {paths.options}"
    if selection.depends_on_state or (selection.limit is not None and begun.retry_failed):
        alike = tuple(term for term in selection.terms if term.column != "status")
        selection = Selection.from_suite_ids(left) if len(left) <= _NAMED else Selection(alike)
    elif selection.limit is not None:  # what is left comes first
        selection = dataclasses.replace(selection, limit=len(left))
    return resume_command(paths, dataclasses.replace(begun, selection=selection))


def make_stopped_error(stop: StopRequest, command: str) -> StoppedError:
    """The hand-over: what a signal ends with. The last line is the command to go on with."""
    assert stop.signum is not None
    message = f"stopped by {Signals(stop.signum).name}; workers are ended, what was finished is kept. Go on with:\n"
    return StoppedError(stop.signum, message + command)
