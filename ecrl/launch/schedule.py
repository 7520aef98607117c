"""The campaign loop: suite after suite, block after block, run after run, every change of state on disk first.

States of a suite: pending -> running -> completed | failed | interrupted; interrupted, failed and stale running
suites run again (failed ones when asked to); completed -> skipped_exists when the prefix is run once more.
"""

from collections import Counter
from pathlib import Path
from typing import Any

from ecrl.errors import EXIT_OK, EXIT_SOME_FAILED
from ecrl.launch.campaign import Campaign
from ecrl.launch.liveness import this_process
from ecrl.launch.progress import Observer, RunTimes, Totals
from ecrl.launch.signals import StopRequest
from ecrl.launch.supervise import Supervisor, set_aside
from ecrl.launch.takeover import Policy, to_do
from ecrl.launch.torchrun import Launcher
from ecrl.records import manifest
from ecrl.records.manifest import COMPLETED, DONE, FAILED, INTERRUPTED, RUNNING, Manifest
from ecrl.records.paths import RunPaths
from ecrl.records.reader import read_result
from ecrl.records.schema import Result
from ecrl.spec.run import RunSpec
from ecrl.spec.suite import Suite

_PRIMED_SUITES = 50  # how many earlier suites are read to know how long runs take


def kept(spec: RunSpec, paths: RunPaths, retry_failed: bool) -> Result | None:
    """The run's result that makes running it superfluous, or None."""
    result = read_result(paths, spec.hash)
    return None if result is None or (result["outcome"] == "failed" and retry_failed) else result


class Schedule:
    """Runs what is to be done of a campaign whose manifest is open."""

    def __init__(
        self,
        campaign: Campaign,
        opened_manifest: Manifest,
        policy: Policy,
        facts: dict[str, Any],
        launcher: Launcher,
        observer: Observer,
        stop: StopRequest,
    ) -> None:
        self._campaign = campaign
        self._manifest = opened_manifest
        self._policy = policy
        self._observer = observer
        self._stop = stop
        self._owner = this_process()
        self._supervisor = Supervisor(launcher, campaign.marker, observer, stop, facts, campaign.matrix.run.timeout_s)
        self._times = RunTimes()
        self._left: Counter[tuple[str, str, str]] = Counter()  # runs not settled yet, by kind
        self._todo = to_do(opened_manifest.rows, policy)
        rows = opened_manifest.rows.values()
        self._totals = Totals(
            suites=len(rows),
            suites_done=len(rows) - len(self._todo),
            runs=sum(row.runs_total for row in rows),
            runs_done=sum(row.runs_done for row in rows if row.status in DONE),
        )

    def run(self) -> None:
        """Run every suite that is to be done; returns early, suite marked `interrupted`, when asked to stop."""
        suites = {suite.suite_id: suite for suite in self._campaign.suites}
        self._estimate(suites)
        try:
            for suite_id in self._todo:
                if self._stop:
                    break
                self._suite(suites[suite_id])
        finally:
            self._manifest.close()
        self._manifest.compact()

    @property
    def unfinished(self) -> bool:
        """Whether something that was to be done is left, because of a request to stop."""
        left = (manifest.PENDING, INTERRUPTED, RUNNING)
        return any(self._manifest.rows[suite_id].status in left for suite_id in self._todo)

    @property
    def exit_code(self) -> int:
        """0: every suite is done; 4: some failed."""
        failed = any(row.status == FAILED for row in self._manifest.rows.values())
        return EXIT_SOME_FAILED if failed else EXIT_OK

    def _suite(self, suite: Suite) -> None:
        suite_id, before = suite.suite_id, self._manifest.rows[suite.suite_id]
        row = self._manifest.record(
            suite_id,
            status=RUNNING,
            attempts=before.attempts + 1,
            started_at=before.started_at or manifest.utc_now(),
            finished_at="",
            message="",
            runs_done=0,
            wall_s=None,
            owner=self._owner,
        )
        self._observer.suite_started(row, self._totals)
        status, messages, done, wall_s = COMPLETED, list[str](), 0, 0.0
        try:
            for spec, paths in self._campaign.runs(suite):
                result = self._run(spec, paths)
                if result is None:
                    status = INTERRUPTED
                    messages.append(f"stopped in {spec.variant} seed{spec.seed}")
                    break
                done, wall_s = done + 1, wall_s + result["wall_s"]
                if result["outcome"] == "failed":
                    status = FAILED
                    messages.append(self._failure(spec, paths, result))
                self._manifest.record(suite_id, runs_done=done, wall_s=wall_s)
        except BaseException:
            # Whatever goes wrong with ecrl itself, the workers are gone and the suite is not running any more.
            self._manifest.record(suite_id, status=INTERRUPTED, message="ecrl stopped with an error", owner=None)
            raise
        finished_at = "" if status == INTERRUPTED else manifest.utc_now()
        message = messages[0] if messages else ""
        if len(messages) > 1:
            message = f"{len(messages)} runs failed; first: {message}" if status == FAILED else messages[-1]
        row = self._manifest.record(suite_id, status=status, message=message, finished_at=finished_at, owner=None)
        self._totals.suites_done += status != INTERRUPTED
        self._observer.suite_finished(row, self._totals)

    def _run(self, spec: RunSpec, paths: RunPaths) -> Result | None:
        """The run's result: the one that is there, or a new one, after as many retries as it takes and may take."""
        self._left[spec.dataset, spec.model, spec.variant] -= 1
        if (there := kept(spec, paths, self._policy.retry_failed)) is not None:
            self._totals.runs_done += 1
            return there
        result: Result | None = None
        for retry in range(1 + self._campaign.matrix.run.retries):
            if self._stop:
                return None
            if retry:
                self._observer.note(f"retry {retry} of {self._campaign.matrix.run.retries}: {_name(spec)}")
            set_aside(paths)
            self._observer.run_started(spec, self._with_time_left(spec))
            result = self._supervisor.run(spec, paths)
            if result is not None:
                self._totals.runs_done += result["outcome"] == "completed" or retry == self._campaign.matrix.run.retries
                self._times.add(spec, result["wall_s"])
            log = "" if result is None else str(_shown(paths.folder / result["log"]))
            self._observer.run_finished(spec, result, log, self._totals)
            if result is None or result["outcome"] == "completed":
                break
        return result

    def _estimate(self, suites: dict[str, Suite]) -> None:
        """Count what is left, and learn from runs made earlier how long such runs take."""
        for suite_id in self._todo:
            row = self._manifest.rows[suite_id]
            for variant in row.variants:
                self._left[row.dataset, row.model, variant] += len(row.seeds)
        for suite_id in list(self._manifest.rows)[:_PRIMED_SUITES]:
            for spec, paths in self._campaign.runs(suites[suite_id]):
                result = read_result(paths, spec.hash)
                if result is not None and result["outcome"] == "completed":
                    self._times.add(spec, result["wall_s"])

    def _with_time_left(self, spec: RunSpec) -> Totals:
        self._totals.run_s = self._times.expected_s(spec.dataset, spec.model, spec.variant)
        expected = [(number, self._times.expected_s(*kind)) for kind, number in self._left.items() if number > 0]
        known = [number * each for number, each in expected if each is not None]
        self._totals.left_s = sum(known) if len(known) == len(expected) else None
        return self._totals

    def _failure(self, spec: RunSpec, paths: RunPaths, result: Result) -> str:
        """Reason and log path, short enough for a journal line; `result.json` has the whole reason."""
        log = (paths.folder / result["log"]).relative_to(self._campaign.marker)
        reason = f"{spec.variant} seed{spec.seed}: {result['reason']}"
        room = max(220 - len(str(log)), 60)
        return f"{reason if len(reason) <= room else reason[: room - 1] + '…'}; log: {log}"


def _name(spec: RunSpec) -> str:
    return f"{spec.suite_id} {spec.variant} seed{spec.seed}"


def _shown(path: Path) -> Path:
    """The path as it is shortest to type from here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
