"""The campaign loop: suite after suite, block after block, run after run, every change of state on disk first.

States of a suite: pending -> running -> completed | failed | interrupted; interrupted, failed and stale running
suites run again (failed ones when asked to); completed -> skipped_exists when the prefix is run once more.
"""

import dataclasses
import itertools
import signal
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ecrl.errors import EXIT_OK, EXIT_SOME_FAILED, EcrlError
from ecrl.launch.campaign import Campaign
from ecrl.launch.classify import BUG, TIMEOUT, Alike, signature
from ecrl.launch.devices import DeviceSet, Lease, holders, leased
from ecrl.launch.handover import next_command
from ecrl.launch.liveness import this_process
from ecrl.launch.progress import Observer, RunTimes, Totals
from ecrl.launch.selection import ALL
from ecrl.launch.serial import OneAtATime
from ecrl.launch.signals import StopRequest
from ecrl.launch.supervise import Supervisor, set_aside
from ecrl.launch.takeover import Policy, to_do
from ecrl.launch.torchrun import Launcher
from ecrl.records import manifest
from ecrl.records.manifest import COMPLETED, FAILED, INTERRUPTED, RUNNING, Manifest, Row
from ecrl.records.paths import RunPaths
from ecrl.records.reader import read_result, token_of
from ecrl.records.schema import Result
from ecrl.spec.run import RunSpec
from ecrl.spec.suite import Suite

_PRIMED_SUITES = 50  # how many earlier suites are read to know how long runs take
_WAIT_S = 0.25  # between two looks whether devices have become free
_JOIN_S = 0.2
_NOBODYS: dict[str, Any] = {"owner": None, "run": "", "where": ""}


def kept(spec: RunSpec, paths: RunPaths, retry_failed: bool) -> Result | None:
    """The run's result that makes running it superfluous, or None."""
    result = read_result(paths, spec.hash)
    return None if result is None or (result["outcome"] == "failed" and retry_failed) else result


class NoDevicesLeftError(EcrlError):
    """Every set of devices has failed too often in the same way; what is left was not begun."""

    exit_code = EXIT_SOME_FAILED


class Schedule:
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
        self._observer = OneAtATime(observer, self._lock)
        self._stop = stop
        self._owner = this_process(campaign.paths.root)
        self._times = RunTimes()
        self._left: Counter[tuple[str, str, str]] = Counter()  # runs not settled yet, by kind
        self._todo = to_do(opened_manifest.rows, policy)
        self._next_place = 0
        self._settled: set[str] = set()
        self._lanes = max(min(campaign.matrix.run.jobs, len(sets), len(self._todo)), 1)
        self._sets = {devices: Alike(campaign.matrix.run.stop_after_same) for devices in sets}
        self._busy: set[DeviceSet] = set()
        self._retired: dict[DeviceSet, str] = {}
        self._errors: list[BaseException] = []
        rows = [opened_manifest.rows[suite_id] for suite_id in self._todo]
        all_runs, suites = opened_manifest.runs_total(), len(opened_manifest.rows)
        if policy.selection:  # what was not chosen is neither done nor left
            left_out = set(to_do(opened_manifest.rows, dataclasses.replace(policy, selection=ALL))) - set(self._todo)
            all_runs -= sum(opened_manifest.rows[suite_id].runs_total for suite_id in left_out)
            suites -= len(left_out)
        self._totals = Totals(
            suites=suites,
            suites_done=suites - len(self._todo),
            runs=all_runs,
            runs_done=all_runs - sum(row.runs_total for row in rows),
        )

    def run(self) -> None:
        """Run every suite that is to be done; returns early, suites marked `interrupted`, when asked to stop.

        Raises:
            NoDevicesLeftError: no set of devices is left that works.
        """
        self._estimate()
        try:
            if self._todo:
                self._run_lanes()
        finally:
            self._manifest.close()
        self._manifest.compact()
        left = len(self._todo) - self._next_place
        if self._retired and left and not self._stop:
            why = "; ".join(f"{devices}: {sign}" for devices, sign in self._retired.items())
            statuses, again = self._manifest.rows.statuses(), dataclasses.replace(self._policy, retry_failed=True)
            undone = [suite_id for suite_id in self._todo if statuses[suite_id] not in manifest.DONE]
            raise NoDevicesLeftError(
                f"no devices are left to use ({why}); {left} suites were not begun.\n"
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
            self._lane()
            return
        lanes = [threading.Thread(target=self._guarded_lane, name=f"lane-{n}") for n in range(self._lanes)]
        for lane in lanes:
            lane.start()
        for lane in lanes:
            while lane.is_alive():
                lane.join(_JOIN_S)
        if self._errors:
            raise self._errors[0]

    def _guarded_lane(self) -> None:
        try:
            self._lane()
        except BaseException as error:  # raised again where the campaign was started
            with self._lock:
                self._errors.append(error)
            self._stop.ask(signal.SIGTERM)  # the others hand over

    def _lane(self) -> None:
        """Take a set of devices and run suites on it, until there are no more suites or it is not to be used on."""
        while (lease := self._leased()) is not None:
            launcher = self._launcher.on(lease)
            try:
                while lease.devices not in self._retired and (suite_id := self._next()) is not None:
                    self._suite(self._campaign.suite(suite_id, self._place(suite_id)), launcher, lease.devices)
            finally:
                launcher.close()
                lease.release()
                with self._lock:
                    self._busy.discard(lease.devices)

    def _leased(self) -> Lease | None:
        """A lease of a set that no other lane has, waiting for one to get free. None: nothing is left to do with it."""
        told = False
        while not self._stop:
            with self._lock:
                usable = [d for d in self._sets if d not in self._retired]
                if self._next_place >= len(self._todo) or not usable:
                    return None
                for devices in (d for d in usable if d not in self._busy):
                    if (lease := leased(devices, self._campaign.paths)) is not None:
                        self._busy.add(devices)
                        return lease
                    if not told:
                        self._observer.note(f"waiting for {devices}: taken by {holders(devices)}")
                told = True
            time.sleep(_WAIT_S)
        return None

    def _next(self) -> str | None:
        """The next suite to run, or None: no more, or asked to stop."""
        with self._lock:
            if self._stop or self._next_place >= len(self._todo):
                return None
            self._next_place += 1
            return self._todo[self._next_place - 1]

    def _place(self, suite_id: str) -> int:
        return self._manifest.rows.place(suite_id)

    def _count(self, devices: DeviceSet, spec: RunSpec, result: Result) -> None:
        """Take a run's outcome in: a set on which too many fail alike is not used any more."""
        with self._lock:
            alike = self._sets[devices]
            if result["outcome"] == "completed":
                alike.completed()
                return
            sign = signature(result.get("failure", {}).get("kind", BUG), result["reason"])
            if alike.failed(sign) and devices not in self._retired:
                self._retired[devices] = f"{alike.number} runs in a row failed alike: {sign}"
                self._observer.note(
                    f"warning: {devices} is not used any more: {alike.number} runs in a row failed alike ({sign}),"
                    f" the last one {_name(spec)}"
                )

    # -- a suite --------------------------------------------------------------------------------------------------

    def _record(self, suite_id: str, **changes: Any) -> Row:
        with self._lock:
            return self._manifest.record(suite_id, **changes)

    def _suite(self, suite: Suite, launcher: Launcher, devices: DeviceSet) -> None:
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
        self._observer.suite_started(row, self._totals)
        status, messages, done, wall_s = COMPLETED, list[str](), 0, 0.0
        try:
            for spec, paths in self._campaign.runs(suite):
                result = self._run(spec, paths, launcher, devices, done, wall_s)
                if result is None:
                    status = INTERRUPTED
                    messages.append(f"stopped in {spec.variant} seed{spec.seed}")
                    break
                done, wall_s = done + 1, wall_s + result["wall_s"]
                if result["outcome"] == "failed":
                    status = FAILED
                    messages.append(self._failure(spec, paths, result))
        except BaseException:
            # Whatever goes wrong with ecrl itself, the workers are gone and the suite is not running any more.
            self._record(suite_id, status=INTERRUPTED, message="ecrl stopped with an error", **_NOBODYS)
            raise
        finished_at = "" if status == INTERRUPTED else manifest.utc_now()
        message = messages[0] if messages else ""
        if len(messages) > 1:
            message = f"{len(messages)} runs failed; first: {message}" if status == FAILED else messages[-1]
        ended = {"runs_done": done, "wall_s": wall_s if done else None, "finished_at": finished_at}
        row = self._record(suite_id, status=status, message=message, **ended, **_NOBODYS)
        with self._lock:
            if status != INTERRUPTED:
                self._settled.add(suite_id)
            self._totals.suites_done += status != INTERRUPTED
        self._observer.suite_finished(row, self._totals)

    def _run(
        self, spec: RunSpec, paths: RunPaths, launcher: Launcher, devices: DeviceSet, done: int, wall_s: float
    ) -> Result | None:
        """The run's result: the one that is there, or a new one, after as many retries as it takes and may take."""
        with self._lock:
            self._left[spec.dataset, spec.model, spec.variant] -= 1
            if (there := kept(spec, paths, self._policy.retry_failed)) is not None:
                self._totals.runs_done += 1
                return there
        result: Result | None = None
        retries = self._campaign.matrix.run.retries
        for retry in range(1 + retries):
            if self._stop:
                return None
            if retry:
                self._observer.note(f"retry {retry} of {retries}: {_name(spec)}")
            spec = self._begun(spec, paths, done, wall_s)
            with self._lock:
                totals = self._with_time_left(spec)
            self._observer.run_started(spec, totals)
            result = self._supervisor(launcher).run(spec, paths)
            if result is not None:
                with self._lock:
                    self._totals.runs_done += result["outcome"] == "completed" or retry == retries
                    self._times.add(spec, result["wall_s"])
                self._count(devices, spec, result)
            log = "" if result is None else str(_shown(paths.folder / result["log"]))
            self._observer.run_finished(spec, result, log, self._totals)
            if result is None or result["outcome"] == "completed" or devices in self._retired:
                break
        return result

    def _begun(self, spec: RunSpec, paths: RunPaths, done: int, wall_s: float) -> RunSpec:
        """The run with a token that is higher than that of every attempt before it, recorded; its folder is free."""
        with self._lock:
            self._manifest.token = max(self._manifest.token, token_of(paths))
            token = self._manifest.next_token()
            run = f"{paths.folder.parent.name}/{paths.folder.name}"
            self._record(spec.suite_id, token=token, run=run, runs_done=done, wall_s=wall_s if done else None)
        set_aside(paths)
        return dataclasses.replace(spec, token=token)

    def _supervisor(self, launcher: Launcher) -> Supervisor:
        timeout_s = self._campaign.matrix.run.timeout_s
        return Supervisor(launcher, self._campaign.marker, self._observer, self._stop, self._facts, timeout_s)

    def _estimate(self) -> None:
        """Count what is left, and learn from runs made earlier how long such runs take."""
        for suite_id in self._todo:
            row = self._manifest.rows[suite_id]
            for variant in row.variants:
                self._left[row.dataset, row.model, variant] += len(row.seeds)
        for place, suite_id in enumerate(itertools.islice(self._manifest.rows, _PRIMED_SUITES if self._todo else 0)):
            for spec, paths in self._campaign.runs(self._campaign.suite(suite_id, place)):
                result = read_result(paths, spec.hash)
                if result is not None and result["outcome"] == "completed":
                    self._times.add(spec, result["wall_s"])

    def _with_time_left(self, spec: RunSpec) -> Totals:
        self._totals.run_s = self._times.expected_s(spec.dataset, spec.model, spec.variant)
        expected = [(number, self._times.expected_s(*kind)) for kind, number in self._left.items() if number > 0]
        known = [number * each for number, each in expected if each is not None]
        self._totals.left_s = sum(known) / self._lanes if len(known) == len(expected) else None
        return self._totals

    def _failure(self, spec: RunSpec, paths: RunPaths, result: Result) -> str:
        """Reason and log path, short enough for a journal line; `result.json` has the whole reason."""
        log = (paths.folder / result["log"]).relative_to(self._campaign.marker)
        kind = result.get("failure", {}).get("kind", BUG)
        reason = f"{spec.variant} seed{spec.seed}: {'' if kind in (BUG, TIMEOUT) else f'[{kind}] '}{result['reason']}"
        room = max(220 - len(str(log)), 60)
        return f"{reason if len(reason) <= room else reason[: room - 1] + '…'}; log: {log}"


def _name(spec: RunSpec) -> str:
    return f"{spec.suite_id} {spec.variant} seed{spec.seed}"


def _shown(path: Path) -> Path:
    """The path as it is shortest to type from here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
