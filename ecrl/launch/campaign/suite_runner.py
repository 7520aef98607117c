"""One suite of a campaign: block after block, run after run."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ecrl.config.suite import Suite
from ecrl.launch.campaign.campaign import Campaign
from ecrl.launch.campaign.recover import Policy
from ecrl.launch.campaign.remaining import RemainingRuns
from ecrl.launch.campaign.reusable_result import get_reusable_result
from ecrl.launch.runs.experiment import Executor
from ecrl.launch.runs.failure_cause import BUG, TIMEOUT
from ecrl.launch.runs.progress import Observer
from ecrl.launch.runs.run import Run
from ecrl.launch.runs.supervisor import set_aside
from ecrl.launch.system.device_leases import DeviceSet
from ecrl.launch.system.process_identity import get_current_owner
from ecrl.launch.system.signals import StopRequest
from ecrl.records.manifest import store as manifest
from ecrl.records.manifest.store import COMPLETED, FAILED, INTERRUPTED, RUNNING, Manifest, Row
from ecrl.records.paths import shorten_path
from ecrl.records.places import remove_checkpoints
from ecrl.records.reader import read_token
from ecrl.records.result import Result

_NO_OWNER: dict[str, Any] = {"owner": None, "run": "", "where": ""}


@dataclass
class Shared:
    """The state that lanes share. Change it only while holding `lock`.

    waiting: suites that no lane has taken. settled: suites that are completed or failed. retired: device sets that are
    no longer used -> reason. moved: suite that left a retired device set -> how many of its runs came before that.
    """

    lock: threading.RLock = field(default_factory=threading.RLock)
    waiting: deque[str] = field(default_factory=deque)
    settled: set[str] = field(default_factory=set)
    retired: dict[DeviceSet, str] = field(default_factory=dict)
    moved: dict[str, int] = field(default_factory=dict)


class SuiteRunner:
    """Runs suites one after another: their blocks, runs and retries. Every change of state is written to disk first.

    count: called with the device set, run and result of every attempt that ends with a result.
    """

    def __init__(
        self,
        campaign: Campaign,
        opened_manifest: Manifest,
        policy: Policy,
        observer: Observer,
        stop: StopRequest,
        remaining: RemainingRuns,
        shared: Shared,
        count: Callable[[DeviceSet, Run, Result], None],
    ) -> None:
        self._campaign = campaign
        self._manifest = opened_manifest
        self._policy = policy
        self._observer = observer
        self._stop = stop
        self._remaining = remaining
        self._shared = shared
        self._count = count
        self._owner = get_current_owner(campaign.paths.root)

    def run(self, suite: Suite, executor: Executor, devices: DeviceSet) -> None:
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
        block, leaves = None, False  # block: seed of the last block with a new run
        try:
            for run in self._campaign.runs(suite):
                spec = run.spec
                result = self._find_result(run, done)
                if result is None and devices in self._shared.retired and spec.seed != block:
                    status = INTERRUPTED
                    messages.append(f"{devices} is not used any more: left before seed{spec.seed}")
                    leaves = True
                    break
                if result is None:
                    block = spec.seed
                    result = self._run(run, executor, devices, done, wall_s)
                if result is None:
                    status = INTERRUPTED
                    messages.append(f"stopped in {spec.folder_name} seed{spec.seed}")
                    break
                done, wall_s = done + 1, wall_s + result["wall_s"]
                if result["outcome"] == "failed":
                    status = FAILED
                    messages.append(self._describe_failure(run, result))
        except BaseException:
            # An error of ecrl itself: the workers have ended, so the suite must not stay marked as running.
            self._record(suite_id, status=INTERRUPTED, message="ecrl stopped with an error", **_NO_OWNER)
            raise
        self._finish(suite_id, status, messages, done, wall_s)
        if leaves:
            with self._shared.lock:
                self._shared.moved[suite_id] = done
                self._shared.waiting.appendleft(suite_id)  # another device set or a later resume continues it

    def settle(self, suite: Suite) -> bool:
        """Give a suite in which no run is missing its status; needs no devices. False: a run is missing."""
        found = [(run, get_reusable_result(run, self._policy.retry_failed)) for run in self._campaign.runs(suite)]
        results = [(run, result) for run, result in found if result is not None]
        if len(results) < len(found):
            return False
        self._observer.suite_started(self._manifest.rows[suite.suite_id], self._remaining.totals)
        for run, result in results:
            self._remaining.add_existing_run(run.spec)
            self._drop_checkpoints(run, result)
        messages = [self._describe_failure(run, result) for run, result in results if result["outcome"] == "failed"]
        wall_s = sum(result["wall_s"] for _, result in results)
        self._finish(suite.suite_id, FAILED if messages else COMPLETED, messages, len(results), wall_s)
        return True

    def _finish(self, suite_id: str, status: str, messages: list[str], done: int, wall_s: float) -> None:
        """Record and announce what became of a suite. messages: one of each failed run, or why it was left."""
        finished_at = "" if status == INTERRUPTED else manifest.utc_now()
        message = messages[0] if messages else ""
        if len(messages) > 1:
            message = f"{len(messages)} runs failed; first: {message}" if status == FAILED else messages[-1]
        ended = {"runs_done": done, "wall_s": wall_s if done else None, "finished_at": finished_at}
        row = self._record(suite_id, status=status, message=message, **ended, **_NO_OWNER)
        with self._shared.lock:
            if status != INTERRUPTED:
                self._shared.settled.add(suite_id)
            self._remaining.totals.suites_done += status != INTERRUPTED
        self._observer.suite_finished(row, self._remaining.totals)

    def _record(self, suite_id: str, **changes: Any) -> Row:
        with self._shared.lock:
            return self._manifest.record(suite_id, **changes)

    def _find_result(self, run: Run, number: int) -> Result | None:
        """The existing result of the suite's run number `number` (0-based). None: the run must be made."""
        again = number < self._shared.moved.get(run.spec.suite_id, 0)
        # Results from before the suite moved to another device set are kept even if they failed.
        found = get_reusable_result(run, self._policy.retry_failed and not again)
        if found is not None and not again:
            with self._shared.lock:
                self._remaining.add_existing_run(run.spec)
            self._drop_checkpoints(run, found)  # if ecrl was killed between the two
        return found

    def _run(self, run: Run, executor: Executor, devices: DeviceSet, done: int, wall_s: float) -> Result | None:
        """Make the run and return its result. None: ecrl was asked to stop.

        A failed run is retried up to `run.retries` times, unless the device set was retired.
        """
        with self._shared.lock:
            self._remaining.begin_run(run.spec)
        result: Result | None = None
        retries = self._campaign.matrix.run.retries
        for retry in range(1 + retries):
            if self._stop:
                return None
            if retry:
                self._observer.note(f"retry {retry} of {retries}: {run.name}")
            run = self._begin_run(run, done, wall_s)
            with self._shared.lock:
                totals = self._remaining.get_totals(run.spec)
            self._observer.run_started(run.spec, totals)
            result = executor.execute(run)
            if result is not None:
                self._count(devices, run, result)
                settled = result["outcome"] == "completed" or retry == retries or devices in self._shared.retired
                with self._shared.lock:
                    self._remaining.finish_run(run.spec, result, settled=settled)
                self._drop_checkpoints(run, result)
            log = "" if result is None else str(shorten_path(run.paths.folder / result["log"]))
            self._observer.run_finished(run.spec, result, log, self._remaining.totals)
            if result is None or result["outcome"] == "completed" or devices in self._shared.retired:
                break
        return result

    def _begin_run(self, run: Run, done: int, wall_s: float) -> Run:
        """Record a new attempt at the run and free the run's folder; returns the run with the attempt's token.

        The token is higher than that of every earlier attempt.
        """
        folder = run.paths.folder
        with self._shared.lock:
            self._manifest.token = max(self._manifest.token, read_token(run.paths))
            token = self._manifest.next_token()
            place = f"{folder.parent.name}/{folder.name}"
            self._record(run.spec.suite_id, token=token, run=place, runs_done=done, wall_s=wall_s if done else None)
        set_aside(run.paths)
        return run.copy_with_token(token)

    def _drop_checkpoints(self, run: Run, result: Result) -> None:
        """Remove the checkpoints of a completed run, whose result is on disk, unless they are to be kept."""
        if result["outcome"] == "completed" and not self._campaign.matrix.run.keep_final:
            try:
                remove_checkpoints(run.paths)
            except OSError as error:  # costs room, and no result
                self._observer.note(f"warning: {run.name}: checkpoints stay: {error.strerror} ({error.filename})")

    def _describe_failure(self, run: Run, result: Result) -> str:
        """Reason and log path, short enough for a journal line; `result.json` has the whole reason."""
        spec = run.spec
        log = (run.paths.folder / result["log"]).relative_to(self._campaign.marker)
        kind = result.get("failure", {}).get("kind", BUG)
        reason = (
            f"{spec.folder_name} seed{spec.seed}: {'' if kind in (BUG, TIMEOUT) else f'[{kind}] '}{result['reason']}"
        )
        room = max(220 - len(str(log)), 60)
        return f"{reason if len(reason) <= room else reason[: room - 1] + '…'}; log: {log}"
