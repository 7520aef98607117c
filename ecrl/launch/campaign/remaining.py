"""Counts the runs that are left of a campaign, and estimates their time from measured runs."""

import dataclasses
import itertools
import os
from collections import Counter
from collections.abc import Sequence

from ecrl.config.run import RunSpec
from ecrl.launch.campaign.campaign import Campaign
from ecrl.launch.campaign.recover import Policy, list_todo
from ecrl.launch.campaign.reusable_result import get_reusable_result
from ecrl.launch.campaign.selection import ALL
from ecrl.launch.runs.experiment import ExperimentKind
from ecrl.launch.runs.progress import Totals
from ecrl.launch.runs.run_times import RunTimes, TimeKey
from ecrl.records.manifest.store import Manifest
from ecrl.records.reader import read_result
from ecrl.records.result import Result

_MAX_TIMED_SUITES = 50  # earlier suites whose results are read to learn how long runs take
_MAX_COUNTED_RUNS = 3000  # runs of started suites that are checked for results


class RemainingRuns:
    """The progress of the suites that are to be run. Lanes share it: call it under their lock."""

    def __init__(
        self,
        campaign: Campaign,
        manifest: Manifest,
        todo: Sequence[str],
        policy: Policy,
        lanes: int,
        kind: ExperimentKind,
    ) -> None:
        rows = manifest.rows
        self._campaign, self._manifest, self._todo, self._lanes = campaign, manifest, todo, lanes
        self._retry_failed, self._kind = policy.retry_failed, kind
        self._left: Counter[TimeKey] = Counter()  # runs to make
        self._seen: set[str] = set()  # suites whose results were counted beforehand
        self._times = RunTimes()
        runs, suites = manifest.runs_total(), len(rows)
        if policy.selection:  # suites outside the selection are neither done nor left
            left_out = set(list_todo(rows, dataclasses.replace(policy, selection=ALL))) - set(todo)
            runs -= sum(rows[suite_id].runs_total for suite_id in left_out)
            suites -= len(left_out)
        done = runs - sum(rows[suite_id].runs_total for suite_id in todo)
        self.totals = Totals(suites=suites, suites_done=suites - len(todo), runs=runs, runs_done=done)

    def count(self) -> None:
        """Count the runs that are left, and learn from earlier results how long such runs take."""
        folder = self._campaign.paths.suites
        # names, no paths: there may be 100,000
        begun = set(os.listdir(folder)) if self._todo and folder.is_dir() else set[str]()  # noqa: PTH208
        for suite_id in self._todo:
            row = self._manifest.rows[suite_id]
            if suite_id in begun and len(self._seen) * row.runs_total < _MAX_COUNTED_RUNS:
                self._count_suite(suite_id)
                continue
            for variant in row.variants:
                self._left[self._kind.build_time_key(row, variant)] += len(row.seeds)
            for variant in self._campaign.matrix.run.aa:
                self._left[self._kind.build_time_key(row, variant)] += variant in row.variants
        for index, suite_id in enumerate(itertools.islice(self._manifest.rows, _MAX_TIMED_SUITES if self._todo else 0)):
            for run in self._campaign.runs(self._campaign.suite(suite_id, index)):
                result = read_result(run.paths, run.spec.hash)
                if result is not None and result["outcome"] == "completed":
                    self._times.add(self._key(run.spec), result["wall_s"])

    def _count_suite(self, suite_id: str) -> None:
        self._seen.add(suite_id)
        for run in self._campaign.runs(self._campaign.suite(suite_id, self._manifest.rows.index_of(suite_id))):
            if get_reusable_result(run, self._retry_failed) is None:
                self._left[self._key(run.spec)] += 1
            else:
                self.totals.runs_done += 1

    def add_existing_run(self, spec: RunSpec) -> None:
        """Count a run that has a reusable result."""
        if spec.suite_id not in self._seen:
            self._left[self._key(spec)] -= 1
            self.totals.runs_done += 1

    def begin_run(self, spec: RunSpec) -> None:
        """Count a run that is about to start."""
        self._left[self._key(spec)] -= 1

    def finish_run(self, spec: RunSpec, result: Result, *, settled: bool) -> None:
        """Count an attempt that has ended. settled: the run is not retried."""
        self.totals.runs_done += settled
        self._times.add(self._key(spec), result["wall_s"])

    def get_totals(self, spec: RunSpec) -> Totals:
        """The totals at the start of this run."""
        self.totals.run_s = self._times.estimate_run_s(self._key(spec))
        left_s = self._times.estimate_left_s(self._left)
        self.totals.left_s = None if left_s is None else left_s / self._lanes
        return self.totals

    def _key(self, spec: RunSpec) -> TimeKey:
        return self._kind.build_time_key(spec, spec.variant)
