"""The campaign loop: distributes suites over lanes and stops using devices that keep failing.

States of a suite: pending -> running -> completed | failed | interrupted. Interrupted and stale running suites run
again; failed suites only on request.
"""

import dataclasses
import signal
import threading
import time
from collections.abc import Sequence
from typing import Any

from ecrl.config.run import RunSpec
from ecrl.errors import EXIT_OK, EXIT_SOME_FAILED, EcrlError
from ecrl.launch.campaign.campaign import Campaign
from ecrl.launch.campaign.lock import record_wait
from ecrl.launch.campaign.recover import Policy
from ecrl.launch.campaign.remaining import RemainingRuns
from ecrl.launch.campaign.resume_command import next_command
from ecrl.launch.campaign.suite_runner import Shared, SuiteRunner
from ecrl.launch.campaign.warmup import warm_up
from ecrl.launch.runs.experiment import ExperimentKind, Lane
from ecrl.launch.runs.failure_cause import BUG, RepeatedFailures, build_signature
from ecrl.launch.runs.progress import Observer, RunProgress, Totals
from ecrl.launch.runs.run import Run
from ecrl.launch.system.device_leases import DeviceSet, Lease, describe_holders, try_lease
from ecrl.launch.system.signals import StopRequest
from ecrl.launch.system.wait import QUIET_S, Reminder
from ecrl.records.manifest import store as manifest
from ecrl.records.manifest.store import FAILED, Manifest, Row
from ecrl.records.result import Result
from ecrl.units import format_count, format_duration

_WAIT_S = 0.25  # between two checks for free devices
_JOIN_S = 0.2


class NoDevicesLeftError(EcrlError):
    """Every device set was retired after repeated equal failures, and some suites are not finished."""

    exit_code = EXIT_SOME_FAILED


class Scheduler:
    """Runs the suites `todo` of an open manifest on one or more lanes.

    A lane leases a device set and runs one suite after another on it. State that lanes share is changed under one lock.
    """

    def __init__(
        self,
        campaign: Campaign,
        opened_manifest: Manifest,
        todo: Sequence[str],
        policy: Policy,
        kind: ExperimentKind,
        facts: dict[str, Any],
        observer: Observer,
        stop: StopRequest,
        sets: Sequence[DeviceSet] = (),
    ) -> None:
        self._shared = Shared()
        self._campaign = campaign
        self._manifest = opened_manifest
        self._policy = policy
        self._kind = kind
        self._facts = facts
        self._observer = LockedObserver(observer, self._shared.lock)
        self._stop = stop
        self._todo = todo
        self._shared.waiting.extend(self._todo)
        self._lanes = max(min(campaign.matrix.run.jobs, len(sets), len(self._todo)), 1)
        self._sets = {devices: RepeatedFailures(campaign.matrix.run.stop_after_same) for devices in sets}
        self._busy: set[DeviceSet] = set()
        self._warm: set[DeviceSet] = set()
        self._errors: list[BaseException] = []
        self._remaining = RemainingRuns(campaign, opened_manifest, self._todo, policy, self._lanes, kind)
        self._suites = SuiteRunner(
            campaign, opened_manifest, policy, self._observer, stop, self._remaining, self._shared, self._count
        )

    def run(self, whole: Sequence[str] = ()) -> None:
        """Run every suite of `todo`. Returns early, with suites marked `interrupted`, when asked to stop.

        whole: the suites of `todo` in which no run is missing. They get their status first, without devices.

        Raises:
            NoDevicesLeftError: suites are left, but no working device set.
        """
        self._remaining.count()
        try:
            for suite_id in whole:
                if self._suites.settle(self._campaign.suite(suite_id, self._index_of(suite_id))):
                    self._shared.waiting.remove(suite_id)
            if self._shared.waiting:
                self._run_lanes()
        finally:
            self._manifest.close()
        self._manifest.compact()
        left = len(self._shared.waiting)
        if self._shared.retired and left and not self._stop:
            why = "; ".join(f"{devices}: {sign}" for devices, sign in self._shared.retired.items())
            statuses, again = self._manifest.rows.statuses(), dataclasses.replace(self._policy, retry_failed=True)
            undone = [suite_id for suite_id in self._todo if statuses[suite_id] not in manifest.DONE]
            raise NoDevicesLeftError(
                "ECRL-311",
                f"no devices are left to use ({why}); {format_count(left, 'suite')} not finished.\n"
                f"Put that right, then type: {next_command(self._campaign.paths, again, undone)}",
            )

    @property
    def left(self) -> list[str]:
        """Suites of `todo` that are neither completed nor failed, because ecrl was asked to stop or cannot continue."""
        return [suite_id for suite_id in self._todo if suite_id not in self._shared.settled]

    @property
    def exit_code(self) -> int:
        """0: no suite has failed; 4: some failed."""
        return EXIT_SOME_FAILED if self._manifest.rows.counts()[FAILED] else EXIT_OK

    # -- lanes ----------------------------------------------------------------------------------------------------

    def _run_lanes(self) -> None:
        """Run a single lane in this thread, or several lanes in threads of their own."""
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
        except BaseException as error:  # raised again by _run_lanes
            with self._shared.lock:
                self._errors.append(error)
            self._stop.request(signal.SIGTERM)  # makes the other lanes stop

    def _run_lane(self) -> None:
        """Lease a device set and run suites on it until none is left or the set is retired; then lease another one."""
        while (lease := self._acquire_lease()) is not None:
            self._warm_up(lease)
            executor = self._kind.make_executor(self._build_lane(lease))
            try:
                while lease.devices not in self._shared.retired and (suite_id := self._pop_suite()) is not None:
                    self._suites.run(self._campaign.suite(suite_id, self._index_of(suite_id)), executor, lease.devices)
            finally:
                executor.close()
                lease.release()
                with self._shared.lock:
                    self._busy.discard(lease.devices)

    def _build_lane(self, lease: Lease) -> Lane:
        run = self._campaign.matrix.run
        return Lane(
            lease,
            self._campaign.marker,
            self._observer,
            self._stop,
            self._facts,
            run.timeout_s,
            run.stall_timeout_s,
        )

    def _warm_up(self, lease: Lease) -> None:
        """Warm a device set up for the next suite, once a session."""
        with self._shared.lock:
            if lease.devices in self._warm or not self._shared.waiting:
                return
            self._warm.add(lease.devices)
            suite_id = self._shared.waiting[0]
        suite = self._campaign.suite(suite_id, self._index_of(suite_id))
        warm_up(self._campaign, self._kind, suite, self._build_lane(lease))

    def _acquire_lease(self) -> Lease | None:
        """Lease a device set that no other lane uses; waits until one is free.

        None: no suite is waiting, every set is retired, or ecrl was asked to stop.
        """
        begun, reminder, waits = time.monotonic(), Reminder(), False
        while not self._stop:
            with self._shared.lock:
                usable = [d for d in self._sets if d not in self._shared.retired]
                if not self._shared.waiting or not usable:
                    return None
                taken = [d for d in usable if d not in self._busy]
                for devices in taken:
                    if (lease := try_lease(devices, self._campaign.paths)) is not None:
                        self._busy.add(devices)
                        if waits:
                            record_wait(self._campaign.paths, "")
                        return lease
                waited_s = time.monotonic() - begun
                if taken and (reminder.is_due(waited_s) or not waits):
                    self._say_wait(taken, waited_s)
                    waits = True
            time.sleep(_WAIT_S)
        return None

    def _say_wait(self, taken: Sequence[DeviceSet], waited_s: float) -> None:
        """Say that these device sets are in use, here and in `status`."""
        told = "; ".join(f"{devices}: taken by {describe_holders(devices)}" for devices in taken)
        so_far = f" (for {format_duration(waited_s)} so far)" if waited_s >= QUIET_S else ""
        self._observer.note(f"waiting for {told}{so_far}")
        record_wait(self._campaign.paths, told)

    def _pop_suite(self) -> str | None:
        """The next suite to run. None: no suite is left, or ecrl was asked to stop."""
        with self._shared.lock:
            return None if self._stop or not self._shared.waiting else self._shared.waiting.popleft()

    def _index_of(self, suite_id: str) -> int:
        return self._manifest.rows.index_of(suite_id)

    def _count(self, devices: DeviceSet, run: Run, result: Result) -> None:
        """Count a run's outcome for its device set, and retire the set after too many equal failures in a row."""
        with self._shared.lock:
            alike = self._sets[devices]
            if result["outcome"] == "completed":
                alike.reset()
                return
            sign = build_signature(result.get("failure", {}).get("kind", BUG), result["reason"])
            if alike.add_failure(sign) and devices not in self._shared.retired:
                self._shared.retired[devices] = f"{alike.number} runs in a row failed in the same way: {sign}"
                self._observer.note(
                    f"warning: {devices} is not used any more: {alike.number} runs in a row failed in the same way"
                    f" ({sign}), the last one {run.name}"
                )


class LockedObserver:
    """Forwards every call while holding the lock that also guards the state being reported."""

    def __init__(self, observer: Observer, lock: threading.RLock) -> None:
        self._observer = observer
        self._lock = lock

    def note(self, text: str) -> None:
        with self._lock:
            self._observer.note(text)

    def suite_started(self, row: Row, totals: Totals) -> None:
        with self._lock:
            self._observer.suite_started(row, totals)

    def run_started(self, spec: RunSpec, totals: Totals) -> None:
        with self._lock:
            self._observer.run_started(spec, totals)

    def run_progress(self, spec: RunSpec, progress: RunProgress) -> None:
        with self._lock:
            self._observer.run_progress(spec, progress)

    def run_finished(self, spec: RunSpec, result: Result | None, log: str, totals: Totals) -> None:
        with self._lock:
            self._observer.run_finished(spec, result, log, totals)

    def suite_finished(self, row: Row, totals: Totals) -> None:
        with self._lock:
            self._observer.suite_finished(row, totals)
