"""What `ecrl matrix run`, `plan`, `resume` and `--dry-run` do, from the request to the exit code."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ecrl import plugins
from ecrl.config.matrix import Matrix
from ecrl.errors import EcrlError
from ecrl.launch.campaign.campaign import Campaign
from ecrl.launch.campaign.lock import prefix_lease
from ecrl.launch.campaign.preview import Estimate, Preview, build_preview, compute_estimate, compute_requirements
from ecrl.launch.campaign.recover import Policy, list_todo, load_manifest, open_manifest, reset_suites
from ecrl.launch.campaign.request import Request, ResolvedCampaign, resolve_request
from ecrl.launch.campaign.resume_command import build_resume_policy, make_stopped_error, next_command, resume_command
from ecrl.launch.campaign.scheduler import Scheduler
from ecrl.launch.campaign.store import compute_frozen_digest, load_frozen
from ecrl.launch.doctor import visit as doctor
from ecrl.launch.doctor.finding import WARN, Finding, Requirements
from ecrl.launch.runs.launcher import LauncherFactory, load_launcher
from ecrl.launch.runs.progress import Observer
from ecrl.launch.system import torch_probe as probes
from ecrl.launch.system.device_leases import device_sets
from ecrl.launch.system.disk_errors import explain_storage_errors
from ecrl.launch.system.probe_cache import load_probe, save_probe
from ecrl.launch.system.signals import StopRequest
from ecrl.launch.system.torch_probe import Probe
from ecrl.records.manifest.lazy_table import Rows
from ecrl.records.paths import CampaignPaths
from ecrl.units import format_bytes, format_count

_RUN = Policy(retry_failed=True)  # of a plain `run`


@dataclass(frozen=True)
class Control:
    """The entry point of the command line.

    confirm: called with the estimate before a new campaign is frozen, and before `run` extends one; raises to decline.
    ask and make_launcher: the probe and the launchers; tests replace them.
    """

    observer: Observer
    stop: StopRequest
    confirm: Callable[[Estimate], None] = lambda _estimate: None
    ask: Callable[[Matrix, StopRequest], Probe] = probes.run_probe
    make_launcher: LauncherFactory = load_launcher
    examine: Callable[[Path, Requirements], list[Finding]] = doctor.quick_checks

    def preview(self, request: Request, policy: Policy = _RUN) -> Preview:
        """What `run` would do. Writes nothing."""
        resolved = self._resolve(request)
        policy.selection.check(resolved.rows)
        todo = list_todo(resolved.rows, policy)
        probe = self._probe(resolved.campaign) if todo else None
        campaign = resolved.campaign
        if probe is not None:
            campaign = campaign.copy_with_device(probe.device(campaign.matrix.run.device))
        return build_preview(campaign, resolved.rows, todo, policy, probe)

    def plan(self, request: Request) -> Rows:
        """Freeze the matrix and write the manifest; returns its rows. Starts no run; idempotent.

        New suites are `pending`, and so are finished ones that have more runs than before.
        """
        resolved = self._resolve(request)
        with explain_storage_errors(request.paths):
            probe = None
            if resolved.frozen is None:
                resolved, probe = self._check_machine_and_disk(resolved)
            with prefix_lease(request.paths):
                current = resolved.freeze()
                if probe is not None:
                    save_probe(request.paths.probe, probe, current.campaign.matrix)
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
        resolved, probe = self._resolve(request), None
        if policy.selection:
            policy.selection.check(resolved.rows)
        with explain_storage_errors(request.paths):
            if resolved.is_new:
                resolved, probe = self._check_machine_and_disk(resolved)
            with prefix_lease(request.paths):
                current = resolved.freeze()
                return self._run_todo(current.campaign, policy, probe if current is resolved else None)

    def resume(self, paths: CampaignPaths, policy: Policy) -> int:
        """Run the suites of the frozen campaign that are not done; returns the exit code. Raises as `run` does."""
        digest = compute_frozen_digest(paths)
        campaign = load_frozen(paths)
        with explain_storage_errors(paths, lambda: resume_command(paths, policy)), prefix_lease(paths):
            if compute_frozen_digest(paths) != digest:  # another ecrl has extended it, or changed its options
                campaign = load_frozen(paths)
            return self._run_todo(campaign, policy, None)

    def _resolve(self, request: Request) -> ResolvedCampaign:
        """Resolve the request and report the warnings of its matrix file."""
        resolved = resolve_request(request)
        for warning in resolved.campaign.matrix.warnings:
            self.observer.note(f"warning: {warning}")
        return resolved

    def _check_machine_and_disk(self, resolved: ResolvedCampaign) -> tuple[ResolvedCampaign, Probe]:
        """Check machine and disk, decide the device, and ask for confirmation. Writes nothing."""
        probe = self._probe(resolved.campaign)
        resolved = resolved.copy_with_device(probe.device(resolved.campaign.matrix.run.device))
        self._run_quick_checks(resolved.campaign, probe)
        estimate = compute_estimate(resolved.campaign, probe)
        _check_disk(estimate, resolved.campaign)
        self.confirm(estimate)
        self.stop.raise_if_requested(_NOTHING_STARTED)
        return resolved, probe

    def _run_todo(self, campaign: Campaign, policy: Policy, probe: Probe | None) -> int:
        opened_manifest, paths = open_manifest(campaign, policy, self.observer), campaign.paths
        todo = list_todo(opened_manifest.rows, policy)
        if todo and probe is None:
            probe = self._probe(campaign)
            self._run_quick_checks(campaign, probe)
        if probe is not None:
            save_probe(paths.probe, probe, campaign.matrix)
        if todo:
            self.stop.raise_if_requested(_NOTHING_STARTED)
        elif policy.selection:
            policy.selection.check(opened_manifest.rows)  # again: opening the manifest may have changed states
        begun = build_resume_policy(policy, opened_manifest.rows, todo)
        if policy.selection.rerun:
            reset_suites(campaign, opened_manifest, todo)
        facts = {} if probe is None else probe.facts
        sets = device_sets(campaign.matrix, 0 if probe is None else len(probe.gpus))
        if (jobs := campaign.matrix.run.jobs) > len(sets) and probe is not None:
            made = format_count(len(sets), "set")
            self.observer.note(f"warning: --jobs {jobs}: the devices of this machine make {made} for runs this wide")
        chosen = dataclasses.replace(begun, retry_failed=policy.retry_failed)
        schedule = Scheduler(
            campaign, opened_manifest, todo, chosen, facts, self.make_launcher, self.observer, self.stop, sets
        )
        with explain_storage_errors(paths, lambda: next_command(paths, begun, schedule.left)):
            schedule.run()
        if self.stop and schedule.left:
            raise make_stopped_error(self.stop, next_command(paths, begun, schedule.left))
        return schedule.exit_code

    def _run_quick_checks(self, campaign: Campaign, probe: Probe) -> None:
        """Report the warnings of the doctor's quick checks. Raises `UnfitError` if the machine is unfit."""
        found = self.examine(campaign.paths.results, compute_requirements(campaign, probe))
        for finding in found:
            if finding.state == WARN:
                self.observer.note(f"warning: {finding.check}: {finding.found}. {finding.advice}")
        doctor.raise_if_unfit(found)

    def _probe(self, campaign: Campaign) -> Probe:
        plugins.require("engine", campaign.matrix.engines, "variant")
        probe = load_probe(campaign.paths.probe, campaign.matrix)
        if probe is None:
            self.observer.note("checking data, models and device...")
            self.stop.raise_if_requested(_NOTHING_STARTED)
            probe = self.ask(campaign.matrix, self.stop)
        probe.check(campaign.matrix)
        return probe


_NOTHING_STARTED = "Nothing was started; type the same command again."


def _check_disk(estimate: Estimate, campaign: Campaign) -> None:
    if estimate.fits:
        return
    needed = (estimate.kept_bytes or 0) + (estimate.peak_bytes or 0)
    raise EcrlError(
        "ECRL-308",
        f"{campaign.paths.results}: {format_bytes(estimate.free_bytes)} free, expected at least {format_bytes(needed)}"
        f" for the checkpoints of {estimate.runs_todo} runs. Nothing was started.\n"
        "Free some space, lower checkpoint.keep, or name a folder on another disk with --results.",
    )
