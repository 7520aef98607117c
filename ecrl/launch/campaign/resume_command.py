"""Builds the command that continues exactly what was asked for, wherever it stopped."""

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from signal import Signals

from ecrl.launch.campaign.recover import Policy
from ecrl.launch.campaign.selection import Selection
from ecrl.launch.system.signals import StoppedError, StopRequest
from ecrl.records.manifest.store import Row
from ecrl.records.paths import CampaignPaths

_NAMED = 100  # suite ids; the kernel allows some 3,000 in one argument, a reader wants fewer


def resume_command(paths: CampaignPaths, policy: Policy | None = None) -> str:
    """The command that continues this campaign from the current folder, with all options of `policy`."""
    words = ["ecrl matrix resume", paths.options]
    if policy is not None:
        words += policy.selection.to_flags
        words += ["--retry-failed"] if policy.retry_failed else []
        words += [f"--assume-dead {shlex.quote(host)}" for host in policy.assume_dead]
    return " ".join(words)


def build_resume_policy(policy: Policy, rows: Mapping[str, Row], todo: Sequence[str]) -> Policy:
    """The options that a resume command still needs once the suites `todo` of this command have begun."""
    if policy.selection.rerun:
        # The chosen suites become `pending`: terms about their state would not select them again.
        return Policy(selection=Selection(rerun=tuple(todo)))
    retry_failed = policy.retry_failed and any(rows[suite_id].attempts for suite_id in todo)
    # `--assume-dead` is not needed again: no running suite is left. `--retry-failed` is, if a suite was tried before.
    return Policy(retry_failed=retry_failed, selection=policy.selection)


def next_command(paths: CampaignPaths, begun: Policy, left: Sequence[str]) -> str:
    """The command that runs what is left of a command that has begun. begun: see `build_resume_policy`.

    Suites selected by state or by `--rerun` are listed by id. If there are too many ids for one command line, the other
    selection terms are used instead; this may select additional suites.
    """
    selection = begun.selection
    if selection and not left:
        return f"ecrl matrix status {paths.options}"
    if selection.depends_on_state or (selection.limit is not None and begun.retry_failed):
        # The state of these suites has changed since they were selected. Suites of `--rerun` were set aside: they run
        # again without the option.
        alike = tuple(term for term in selection.terms if term.column != "status")
        selection = Selection.from_suite_ids(left) if len(left) <= _NAMED else Selection(alike)
    elif selection.limit is not None:  # the suites that are left come first
        selection = dataclasses.replace(selection, limit=len(left))
    return resume_command(paths, dataclasses.replace(begun, selection=selection))


def make_stopped_error(stop: StopRequest, command: str) -> StoppedError:
    """The error that ends a command after a signal. Its last line is the command that continues."""
    assert stop.signum is not None
    # The first line has the error's code behind it: both fit a terminal of 80 columns.
    message = f"stopped by {Signals(stop.signum).name}; finished runs are kept, workers have ended"
    return StoppedError(stop.signum, f"{message}\nGo on with:\n{command}")
