"""The campaign loop: suite after suite, block after block, run after run, every change of state on disk first.

States of a suite: pending -> running -> completed | failed | interrupted; interrupted, failed and stale running
suites run again (failed ones when asked to); completed -> skipped_exists when the prefix is run once more.
"""

import dataclasses
import signal
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ecrl.config.run import RunSpec
from ecrl.config.suite import Suite
from ecrl.errors import EXIT_OK, EXIT_SOME_FAILED, EcrlError
from ecrl.launch.campaign.campaign import Campaign
from ecrl.launch.campaign.remaining import RemainingRuns, get_reusable_result
from ecrl.launch.campaign.resume_command import next_command
from ecrl.launch.campaign.serial import LockedObserver
from ecrl.launch.campaign.takeover import Policy, list_todo
from ecrl.launch.launchers.base import Launcher
from ecrl.launch.runs.failure_cause import BUG, TIMEOUT, RepeatedFailures, build_signature
from ecrl.launch.runs.progress import Observer
from ecrl.launch.runs.supervisor import Supervisor, set_aside
from ecrl.launch.system.device_leases import DeviceSet, Lease, describe_holders, try_lease
from ecrl.launch.system.process_identity import get_current_owner
from ecrl.launch.system.signals import StopRequest
from ecrl.records.manifest import store as manifest
from ecrl.records.manifest.store import COMPLETED, FAILED, INTERRUPTED, RUNNING, Manifest, Row
from ecrl.records.paths import RunPaths
from ecrl.records.reader import read_token
from ecrl.records.schema import Result

_WAIT_S = 0.25  # between two looks whether devices have become free
_JOIN_S = 0.2
_NO_OWNER: dict[str, Any] = {"owner": None, "run": "", "where": ""}


class NoDevicesLeftError(EcrlError):
    """Every set of devices has failed too often in the same way; what is left was not finished."""

    exit_code = EXIT_SOME_FAILED


class Scheduler:
    """Runs what is to be done of a campaign whose manifest is open, on one lane or several: a lane holds a set of
    devices and runs one suite after another on it. What lanes share is changed under one lock."""

    def __init__(
        self,
        campaign: Campaign,
        opened_manifest: Manifest,
        policy: Policy,
        facts: dict[str, Any],
        launcher: Launcher,
        observer: Observer,
        stop: StopRequest,
        sets: Sequence[DeviceSet] = (),
    ) -> None:
        self._campaign = campaign
        self._manifest = opened_manifest
        self._policy = policy
        self._facts = facts
        self._launcher = launcher
        self._lock = threading.RLock()
        self._observer = LockedObserver(observer, self._lock)
        self._stop = stop
        self._owner = get_current_owner(campaign.paths.root)
        self._todo = list_todo(opened_manifest.rows, policy)
        self._waiting = deque(self._todo)
        self._settled: set[str] = set()
        self._moved: dict[str, int] = {}  # how many runs of a suite had their turn before it had to change devices
        self._lanes = max(min(campaign.matrix.run.jobs, len(sets), len(self._todo)), 1)
        self._sets = {devices: RepeatedFailures(campaign.matrix.run.stop_after_same) for devices in sets}
        self._busy: set[DeviceSet] = set()
        self._retired: dict[DeviceSet, str] = {}
        self._errors: list[BaseException] = []
        self._remaining = RemainingRuns(campaign, opened_manifest, self._todo, policy, self._lanes)

    def run(self) -> None:
        """Run every suite that is to be done; returns early, suites marked `interrupted`, when asked to stop.

        Raises:
            NoDevicesLeftError: no set of devices is left that works.
        """
        self._remaining.count()
        try:
            if self._todo:
                self._run_lanes()
        finally:
            self._manifest.close()
        self._manifest.compact()
        left = len(self._waiting)
        if self._retired and left and not self._stop:
            why = "; ".join(f"{devices}: {sign}" for devices, sign in self._retired.items())
            statuses, again = self._manifest.rows.statuses(), dataclasses.replace(self._policy, retry_failed=True)
            undone = [suite_id for suite_id in self._todo if statuses[suite_id] not in manifest.DONE]
            raise NoDevicesLeftError(
                f"no devices are left to use ({why}); {left} suite{'' if left == 1 else 's'} not finished.\n"
                f"Put that right, then type: {next_command(self._campaign.paths, again, undone)}"
            )

    @property
    def left(self) -> list[str]:
        """Suites that were to be done and are not: ecrl was asked to stop, or could not go on."""
        return [suite_id for suite_id in self._todo if suite_id not in self._settled]

    @property
    def exit_code(self) -> int:
        """0: every suite is done; 4: some failed."""
        return EXIT_SOME_FAILED if self._manifest.rows.counts()[FAILED] else EXIT_OK

    # -- lanes ----------------------------------------------------------------------------------------------------

    def _run_lanes(self) -> None:
        """One lane runs here; several run in threads, and signals are noted here meanwhile."""
        if self._lanes == 1:
            self._run_lane()
            return
        lanes = [threading.Thread(target=self._run_lane_safely, name=f"lane-{n}") for n in range(self._lanes)]
        for lane in lanes:
            lane.start()
        for lane in lanes:
            while lane.is_alive():
                lane.join(_JOIN_S)
        if self._errors:
            raise self._errors[0]

    def _run_lane_safely(self) -> None:
        try:
            self._run_lane()
        except BaseException as error:  # raised again where the campaign was started
            with self._lock:
                self._errors.append(error)
            self._stop.request(signal.SIGTERM)  # the others hand over

    def _run_lane(self) -> None:
        """Take a set of devices and run suites on it, until there are no more suites or it is not to be used on."""
        while (lease := self._acquire_lease()) is not None:
            launcher = self._launcher.copy_with_lease(lease)
            try:
                while lease.devices not in self._retired and (suite_id := self._pop_suite()) is not None:
                    self._run_suite(self._campaign.suite(suite_id, self._index_of(suite_id)), launcher, lease.devices)
            finally:
                launcher.close()
                lease.release()
                with self._lock:
                    self._busy.discard(lease.devices)

    def _acquire_lease(self) -> Lease | None:
        """A lease of a set that no other lane has, waiting for one to get free. None: nothing is left to do with it."""
        told = False
        while not self._stop:
            with self._lock:
                usable = [d for d in self._sets if d not in self._retired]
                if not self._waiting or not usable:
                    return None
                for devices in (d for d in usable if d not in self._busy):
                    if (lease := try_lease(devices, self._campaign.paths)) is not None:
                        self._busy.add(devices)
                        return lease
                    if not told:
                        self._observer.note(f"waiting for {devices}: taken by {describe_holders(devices)}")
                told = True
            time.sleep(_WAIT_S)
        return None

    def _pop_suite(self) -> str | None:
        """The next suite to run, or None: no more, or asked to stop."""
        with self._lock:
            return None if self._stop or not self._waiting else self._waiting.popleft()

    def _index_of(self, suite_id: str) -> int:
        return self._manifest.rows.index_of(suite_id)

    def _count(self, devices: DeviceSet, spec: RunSpec, result: Result) -> None:
        """Take a run's outcome in: a set on which too many fail alike is not used any more."""
        with self._lock:
            alike = self._sets[devices]
            if result["outcome"] == "completed":
                alike.reset()
                return
            sign = build_signature(result.get("failure", {}).get("kind", BUG), result["reason"])
            if alike.add_failure(sign) and devices not in self._retired:
                self._retired[devices] = f"{alike.number} runs in a row failed alike: {sign}"
                self._observer.note(
                    f"warning: {devices} is not used any more: {alike.number} runs in a row failed alike ({sign}),"
                    f" the last one {_name(spec)}"
                )

    # -- a suite --------------------------------------------------------------------------------------------------

    def _record(self, suite_id: str, **changes: Any) -> Row:
        with self._lock:
            return self._manifest.record(suite_id, **changes)

    def _run_suite(self, suite: Suite, launcher: Launcher, devices: DeviceSet) -> None:
        suite_id, before = suite.suite_id, self._manifest.rows[suite.suite_id]
        row = self._record(
            suite_id,
            status=RUNNING,
            attempts=before.attempts + 1,
            started_at=before.started_at or manifest.utc_now(),
            finished_at="",
            message="",
            runs_done=0,
            wall_s=None,
            where=str(devices),
            owner=self._owner,
        )
        self._observer.suite_started(row, self._remaining.totals)
        status, messages, done, wall_s = COMPLETED, list[str](), 0, 0.0
        block, leaves = None, False  # block: the last one that was worked on
        try:
            for spec, paths in self._campaign.runs(suite):
                result = self._find_result(spec, paths, done)
                if result is None and devices in self._retired and spec.seed != block:
                    status = INTERRUPTED
                    messages.append(f"{devices} is not used any more: left before seed{spec.seed}")
                    leaves = True
                    break
                if result is None:
                    block = spec.seed
                    result = self._run(spec, paths, launcher, devices, done, wall_s)
                if result is None:
                    status = INTERRUPTED
                    messages.append(f"stopped in {spec.folder_name} seed{spec.seed}")
                    break
                done, wall_s = done + 1, wall_s + result["wall_s"]
                if result["outcome"] == "failed":
                    status = FAILED
                    messages.append(self._describe_failure(spec, paths, result))
        except BaseException:
            # Whatever goes wrong with ecrl itself, the workers are gone and the suite is not running any more.
            self._record(suite_id, status=INTERRUPTED, message="ecrl stopped with an error", **_NO_OWNER)
            raise
        finished_at = "" if status == INTERRUPTED else manifest.utc_now()
        message = messages[0] if messages else ""
        if len(messages) > 1:
            message = f"{len(messages)} runs failed; first: {message}" if status == FAILED else messages[-1]
        ended = {"runs_done": done, "wall_s": wall_s if done else None, "finished_at": finished_at}
        row = self._record(suite_id, status=status, message=message, **ended, **_NO_OWNER)
        with self._lock:
            if status != INTERRUPTED:
                self._settled.add(suite_id)
            self._remaining.totals.suites_done += status != INTERRUPTED
        self._observer.suite_finished(row, self._remaining.totals)
        if leaves:
            with self._lock:
                self._moved[suite_id] = done
                self._waiting.appendleft(suite_id)  # for another set, or for resume

    def _find_result(self, spec: RunSpec, paths: RunPaths, number: int) -> Result | None:
        """The result that a suite's run of this number has already. One that was made before the suite changed
        devices counts as it is."""
        again = number < self._moved.get(spec.suite_id, 0)
        found = get_reusable_result(spec, paths, self._policy.retry_failed and not again)
        if found is not None and not again:
            with self._lock:
                self._remaining.add_existing_run(spec)
        return found

    def _run(
        self, spec: RunSpec, paths: RunPaths, launcher: Launcher, devices: DeviceSet, done: int, wall_s: float
    ) -> Result | None:
        """A new result of the run, after as many retries as it takes and may take; None: asked to stop."""
        with self._lock:
            self._remaining.begin_run(spec)
        result: Result | None = None
        retries = self._campaign.matrix.run.retries
        for retry in range(1 + retries):
            if self._stop:
                return None
            if retry:
                self._observer.note(f"retry {retry} of {retries}: {_name(spec)}")
            spec = self._begin_run(spec, paths, done, wall_s)
            with self._lock:
                totals = self._remaining.get_totals(spec)
            self._observer.run_started(spec, totals)
            result = self._supervisor(launcher).run(spec, paths)
            if result is not None:
                self._count(devices, spec, result)
                settled = result["outcome"] == "completed" or retry == retries or devices in self._retired
                with self._lock:
                    self._remaining.finish_run(spec, result, settled=settled)
            log = "" if result is None else str(_shorten_path(paths.folder / result["log"]))
            self._observer.run_finished(spec, result, log, self._remaining.totals)
            if result is None or result["outcome"] == "completed" or devices in self._retired:
                break
        return result

    def _begin_run(self, spec: RunSpec, paths: RunPaths, done: int, wall_s: float) -> RunSpec:
        """The run with a token that is higher than that of every attempt before it, recorded; its folder is free."""
        with self._lock:
            self._manifest.token = max(self._manifest.token, read_token(paths))
            token = self._manifest.next_token()
            run = f"{paths.folder.parent.name}/{paths.folder.name}"
            self._record(spec.suite_id, token=token, run=run, runs_done=done, wall_s=wall_s if done else None)
        set_aside(paths)
        return dataclasses.replace(spec, token=token)

    def _supervisor(self, launcher: Launcher) -> Supervisor:
        timeout_s = self._campaign.matrix.run.timeout_s
        return Supervisor(launcher, self._campaign.marker, self._observer, self._stop, self._facts, timeout_s)

    def _describe_failure(self, spec: RunSpec, paths: RunPaths, result: Result) -> str:
        """Reason and log path, short enough for a journal line; `result.json` has the whole reason."""
        log = (paths.folder / result["log"]).relative_to(self._campaign.marker)
        kind = result.get("failure", {}).get("kind", BUG)
        reason = (
            f"{spec.folder_name} seed{spec.seed}: {'' if kind in (BUG, TIMEOUT) else f'[{kind}] '}{result['reason']}"
        )
        room = max(220 - len(str(log)), 60)
        return f"{reason if len(reason) <= room else reason[: room - 1] + '…'}; log: {log}"


def _name(spec: RunSpec) -> str:
    return f"{spec.suite_id} {spec.folder_name} seed{spec.seed}"


def _shorten_path(path: Path) -> Path:
    """The path as it is shortest to type from here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
