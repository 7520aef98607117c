"""What `ecrl matrix run`, `plan`, `resume` and `--dry-run` do, from the request to the exit code."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ecrl.errors import EcrlError
from ecrl.launch.campaign.campaign import Campaign
from ecrl.launch.campaign.lock import prefix_lease
from ecrl.launch.campaign.preview import Estimate, Preview, build_preview, compute_estimate
from ecrl.launch.campaign.recover import (
    Policy,
    find_whole_suites,
    list_todo,
    load_manifest,
    open_manifest,
    reset_suites,
)
from ecrl.launch.campaign.request import Request, ResolvedCampaign, resolve_request
from ecrl.launch.campaign.resume_command import build_resume_policy, make_stopped_error, next_command, resume_command
from ecrl.launch.campaign.scheduler import Scheduler
from ecrl.launch.campaign.store import compute_frozen_digest, describe_edited_script, load_frozen
from ecrl.launch.campaign.trackers import feed_trackers, require_trackers
from ecrl.launch.campaign.trial import try_suites
from ecrl.launch.doctor import visit as doctor
from ecrl.launch.doctor.finding import WARN, Finding, Requirements
from ecrl.launch.runs.experiment import ExperimentKind, Machine, SuiteGroup, load_kind
from ecrl.launch.runs.progress import Observer
from ecrl.launch.system.disk_errors import explain_storage_errors
from ecrl.launch.system.signals import StopRequest
from ecrl.launch.system.wait import keep_saying
from ecrl.records.manifest.lazy_table import Rows
from ecrl.records.paths import CampaignPaths
from ecrl.units import format_bytes, format_count

_RUN = Policy()  # of a plain `run`


@dataclass(frozen=True)
class Control:
    """The entry point of the command line.

    confirm: called with the estimate before a new campaign is frozen, and before `run` extends one; raises to decline.
    load_kind and examine: the kind of experiment by its name, and the doctor's quick checks; tests replace them.
    """

    observer: Observer
    stop: StopRequest
    confirm: Callable[[Estimate], None] = lambda _estimate: None
    load_kind: Callable[[str], ExperimentKind] = load_kind
    examine: Callable[[Path, Requirements | None], list[Finding]] = doctor.quick_checks

    def preview(self, request: Request, policy: Policy = _RUN) -> Preview:
        """What `run` would do. Writes nothing, and tries a few steps of suites that no campaign has measured."""
        resolved = self._resolve(request)
        policy.selection.check(resolved.rows)
        todo = list_todo(resolved.rows, policy)
        campaign = resolved.campaign
        machine = self._inspect_machine(campaign) if todo else None
        if machine is not None:
            campaign = campaign.copy_with_device(machine.device(campaign.matrix.run.device))
        kind = self._kind(campaign)

        def try_groups(groups: Sequence[SuiteGroup]) -> Mapping[str, float]:
            if machine is None:
                return {}
            return try_suites(campaign, kind, groups, machine, self.observer.note, self.stop)

        told = build_preview(campaign, kind, resolved.rows, todo, policy, machine, try_groups)
        self._warn_of_disks(told.estimate)
        return told

    def plan(self, request: Request) -> Rows:
        """Freeze the matrix and write the manifest; returns its rows. Starts no run; idempotent.

        New suites are `pending`, and so are finished ones that have more runs than before.
        """
        resolved = self._resolve(request)
        with explain_storage_errors(request.paths):
            machine = None
            if resolved.frozen is None:
                resolved, machine = self._check_machine_and_disk(resolved, start=False)
            with prefix_lease(request.paths):
                current = resolved.freeze()
                if machine is not None:
                    machine.save(request.paths.probe, current.campaign.matrix)
                written = load_manifest(current.campaign, self.observer)
                written.compact()
                written.close()
                return written.rows

    def run(self, request: Request, policy: Policy) -> int:
        """Run the suites that are not done; returns the exit code.

        Raises:
            StoppedError: a signal came; the workers have ended and finished work is kept.
            EcrlError: the campaign cannot start, or the results folder can no longer be written.
        """
        resolved, machine = self._resolve(request), None
        if policy.selection:
            policy.selection.check(resolved.rows)
        with explain_storage_errors(request.paths):
            if resolved.is_new:
                resolved, machine = self._check_machine_and_disk(resolved)
            with prefix_lease(request.paths):
                current = resolved.freeze()
                return self._run_todo(current.campaign, policy, machine if current is resolved else None)

    def resume(self, paths: CampaignPaths, policy: Policy) -> int:
        """Run the suites of the frozen campaign that are not done; returns the exit code. Raises as `run` does."""
        digest = compute_frozen_digest(paths)
        campaign = load_frozen(paths)
        require_trackers(campaign.matrix.run.trackers)
        with explain_storage_errors(paths, lambda: resume_command(paths, policy)), prefix_lease(paths):
            if compute_frozen_digest(paths) != digest:  # another ecrl has extended it, or changed its options
                campaign = load_frozen(paths)
            return self._run_todo(campaign, policy, None)

    def _resolve(self, request: Request) -> ResolvedCampaign:
        """Resolve the request and report the warnings of its matrix file."""
        resolved = resolve_request(request)
        require_trackers(resolved.campaign.matrix.run.trackers)
        for note in resolved.campaign.matrix.notes:
            self.observer.note(f"note: {note}")
        for warning in resolved.campaign.matrix.warnings:
            self.observer.note(f"warning: {warning}")
        if (unfit := resolved.find_unfit_registration()) is not None:
            self.observer.note(f"warning: {unfit} registers another matrix than this one")
        return resolved

    def _check_machine_and_disk(
        self, resolved: ResolvedCampaign, *, start: bool = True
    ) -> tuple[ResolvedCampaign, Machine]:
        """Check machine and disks, decide the device, and ask for confirmation. Writes nothing.

        start: runs start next, so a disk that is too small is an error; otherwise it is a warning.
        """
        machine = self._inspect_machine(resolved.campaign)
        resolved = resolved.copy_with_device(machine.device(resolved.campaign.matrix.run.device))
        self._run_quick_checks(resolved.campaign, machine)
        estimate = compute_estimate(resolved.campaign, self._kind(resolved.campaign), machine)
        self._warn_of_disks(estimate)
        if start:
            _check_disk(estimate)
        self.confirm(estimate)
        self.stop.raise_if_requested(_NOTHING_STARTED)
        return resolved, machine

    def _warn_of_disks(self, estimate: Estimate) -> None:
        for told in estimate.describe_disks():
            self.observer.note(f"warning: {told}")

    def _run_todo(self, campaign: Campaign, policy: Policy, machine: Machine | None) -> int:
        if (edited := describe_edited_script(campaign)) is not None:
            self.observer.note(f"note: {edited}")
        opened_manifest, paths = open_manifest(campaign, policy, self.observer), campaign.paths
        todo = list_todo(opened_manifest.rows, policy)
        whole = find_whole_suites(campaign, opened_manifest.rows, policy, todo)
        if len(whole) < len(todo) and machine is None:
            machine = self._inspect_machine(campaign)
            self._run_quick_checks(campaign, machine)
        if machine is not None:
            machine.save(paths.probe, campaign.matrix)
        if todo:
            self.stop.raise_if_requested(_NOTHING_STARTED)
        elif policy.selection:
            policy.selection.check(opened_manifest.rows)  # again: opening the manifest may have changed states
        begun = build_resume_policy(policy, opened_manifest.rows, todo)
        if policy.selection.rerun:
            reset_suites(campaign, opened_manifest, todo)
        facts, sets = ({}, []) if machine is None else (machine.facts, machine.list_device_sets(campaign.matrix))
        if (jobs := campaign.matrix.run.jobs) > len(sets) and machine is not None:
            at_once = format_count(len(sets), "run")
            self.observer.note(f"warning: --jobs {jobs}: this machine has devices for {at_once} of this size at once")
        chosen = dataclasses.replace(begun, retry_failed=policy.retry_failed)
        schedule = Scheduler(
            campaign, opened_manifest, todo, chosen, self._kind(campaign), facts, self.observer, self.stop, sets
        )
        trackers = campaign.matrix.run.trackers if todo else []
        with (
            explain_storage_errors(paths, lambda: next_command(paths, begun, schedule.left)),
            feed_trackers(paths, trackers, self.observer.note, self.stop),
        ):
            schedule.run(whole)
        if self.stop and schedule.left:
            raise make_stopped_error(self.stop, next_command(paths, begun, schedule.left))
        return schedule.exit_code

    def _run_quick_checks(self, campaign: Campaign, machine: Machine) -> None:
        """Report the warnings of the doctor's quick checks. Raises `UnfitError` if the machine is unfit."""
        wanted = machine.compute_requirements(campaign.matrix)
        with keep_saying("host and disks to be tried", self.observer.note):  # a network disk may take long
            found = self.examine(campaign.paths.results, wanted)
        for finding in found:
            if finding.state == WARN:
                self.observer.note(f"warning: {finding.check}: {finding.found}. {finding.advice}")
        doctor.raise_if_unfit(found)

    def _inspect_machine(self, campaign: Campaign) -> Machine:
        kind, matrix = self._kind(campaign), campaign.matrix
        kind.require_packages(matrix)
        self.stop.raise_if_requested(_NOTHING_STARTED)
        machine = kind.inspect_machine(matrix, campaign.paths.probe, self.observer.note, self.stop)
        machine.check(matrix)
        return machine

    def _kind(self, campaign: Campaign) -> ExperimentKind:
        return self.load_kind(campaign.matrix.experiment.kind)


_NOTHING_STARTED = "Nothing was started; type the same command again."


def _check_disk(estimate: Estimate) -> None:
    if estimate.disk is None or estimate.fits:
        return
    first = estimate.full[0]
    raise EcrlError(
        "ECRL-308",
        f"{first.folder}: {format_bytes(first.free)} free, expected at least {format_bytes(first.needed)} for"
        f" {format_count(estimate.runs_todo, 'run')}. Nothing was started.\n"
        f"Free some space, {estimate.disk.advice}, or name a folder on another disk with --results or"
        " --set checkpoint.dir=DIR.",
    )
