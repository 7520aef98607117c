"""What a campaign would run and roughly cost; computed before anything starts."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ecrl.config.recipe import REFERENCE
from ecrl.config.run import RunSpec
from ecrl.config.suite import Suite, list_train_settings
from ecrl.launch.campaign.campaign import Campaign
from ecrl.launch.campaign.recover import Policy
from ecrl.launch.campaign.remaining import get_reusable_result
from ecrl.launch.doctor.finding import Requirements
from ecrl.launch.runs.run import Run
from ecrl.launch.system.free_space import get_free_bytes
from ecrl.launch.system.torch_probe import Probe
from ecrl.records.failure_checks import is_ending
from ecrl.records.manifest.store import DONE, Row

_TO_RUN, _DONE, _NOT_CHOSEN = "to run", "done", "not chosen"


@dataclass(frozen=True)
class PlannedRun:
    """One run, in run order. state: to run, done (a valid result exists), or not chosen."""

    spec: RunSpec
    state: str

    @property
    def todo(self) -> bool:
        """Whether it would run."""
        return self.state == _TO_RUN


@dataclass(frozen=True)
class Estimate:
    """Sums over the runs to start.

    steps: without replayed steps. replayed_steps: a lower bound, from failures inside a checkpoint interval.
    peak_bytes: disk space that the largest single run needs while it runs. The bytes written, kept and at the peak are
    None without a probe.
    """

    suites: int
    runs: int
    runs_todo: int
    steps: int
    replayed_steps: int
    checkpoints: int
    written_bytes: int | None
    kept_bytes: int | None
    peak_bytes: int | None
    free_bytes: int

    @property
    def fits(self) -> bool:
        """Whether the disk holds all kept checkpoints plus the peak of one run. True if these sizes are unknown."""
        return self.kept_bytes is None or self.kept_bytes + (self.peak_bytes or 0) <= self.free_bytes

    @property
    def large(self) -> bool:
        """Whether to ask the user before starting: many runs, or much of the free disk space."""
        return self.runs_todo > 200 or (self.kept_bytes or 0) > self.free_bytes // 2


@dataclass(frozen=True)
class Preview:
    """Everything that `--dry-run` shows."""

    campaign: Campaign
    rows: list[Row]
    runs: dict[str, list[PlannedRun]]
    estimate: Estimate

    def to_json(self) -> dict[str, Any]:
        """The preview as one JSON document."""
        return {
            "schema": 1,
            "prefix": self.campaign.paths.prefix,
            "device": self.campaign.matrix.run.device,
            "experiment": self.campaign.experiment_hash,
            "estimate": {name: getattr(self.estimate, name) for name in Estimate.__dataclass_fields__},
            "suites": [
                row.to_json()
                | {
                    "runs": [
                        {
                            "variant": p.spec.variant,
                            "seed": p.spec.seed,
                            "position": p.spec.block_position,
                            "todo": p.todo,
                            "state": p.state,
                        }
                        for p in self.runs[row.suite_id]
                    ]
                }
                for row in self.rows
            ],
        }


@dataclass(frozen=True)
class _SuiteGroup:
    """Suites of equal cost. suite: one of them. number: how many there are. runs: variant -> runs to make per suite."""

    suite: Suite
    number: int
    runs: Mapping[str, int]


def build_preview(
    campaign: Campaign, rows: Mapping[str, Row], todo: Iterable[str], policy: Policy, probe: Probe | None
) -> Preview:
    """The runs that would start if the suites `todo` were run, and their cost. Without a probe, bytes are None."""
    wanted, again = set(todo), policy.selection.select_reruns(rows)

    def state(suite_id: str, run: Run) -> str:
        if suite_id in again:
            return _TO_RUN if suite_id in wanted else _NOT_CHOSEN
        if suite_id in wanted:
            return _TO_RUN if get_reusable_result(run, policy.retry_failed) is None else _DONE
        there = rows[suite_id].status in DONE or get_reusable_result(run, False) is not None
        return _DONE if there else _NOT_CHOSEN

    runs = {
        suite.suite_id: [PlannedRun(run.spec, state(suite.suite_id, run)) for run in campaign.runs(suite)]
        for suite in campaign.suites
    }
    lots = (
        _SuiteGroup(suite, 1, Counter(planned.spec.variant for planned in runs[suite.suite_id] if planned.todo))
        for suite in campaign.suites
    )
    return Preview(campaign, list(rows.values()), runs, _compute_estimate(campaign, lots, probe))


def compute_estimate(campaign: Campaign, probe: Probe | None) -> Estimate:
    """An upper bound of what would run: counts every run of every suite."""
    each = dict.fromkeys(campaign.matrix.matrix.variants, len(campaign.matrix.matrix.seeds))
    # Fast for large matrices: no result is read, and equal suites are built once.
    lots = (_SuiteGroup(suite, number, each) for suite, number in campaign.suites.group_equivalent())
    return _compute_estimate(campaign, lots, probe)


def _compute_estimate(campaign: Campaign, lots: Iterable[_SuiteGroup], probe: Probe | None) -> Estimate:
    keep = campaign.matrix.checkpoint_settings.keep
    runs = steps = replayed = checkpoints = written = kept_bytes = peak = 0
    for lot in lots:
        suite = lot.suite
        state_bytes = 0 if probe is None else probe.state_bytes[f"{suite.dataset}/{suite.model}"]
        boundaries = suite.train.steps // suite.checkpoint_every
        making = lot.number * sum(lot.runs.values())
        saving = making - lot.number * lot.runs.get(REFERENCE, 0)
        runs += making
        steps += suite.train.steps * making
        replayed += saving * sum(
            _count_replayed_steps(failure_step, suite.checkpoint_every)
            for failure_step, planned in zip(suite.failure_steps, suite.failures, strict=True)
            if is_ending(planned)
        )
        checkpoints += saving * boundaries
        written += saving * boundaries * state_bytes
        kept_bytes += saving * min(keep, boundaries) * state_bytes
        if saving:  # the checkpoints that a run keeps, plus those it is writing
            peak = max(peak, min(keep + suite.max_inflight, boundaries) * state_bytes)
    known = probe is not None
    return Estimate(
        suites=len(campaign.suites),
        runs=sum(campaign.row(suite).runs_total for suite in campaign.suites[:1]) * len(campaign.suites),
        runs_todo=runs,
        steps=steps,
        replayed_steps=replayed,
        checkpoints=checkpoints,
        written_bytes=written if known else None,
        kept_bytes=kept_bytes if known else None,
        peak_bytes=peak if known else None,
        free_bytes=get_free_bytes(campaign.paths.results),
    )


def _count_replayed_steps(failure_step: int | str, every: int) -> int:
    """The least number of steps that a failure at this place makes the run repeat.

    failure_step: as `ecrl.records.failure_checks.format_failure_step` formats it.
    """
    if isinstance(failure_step, int):
        return failure_step % every
    return every if failure_step.endswith(("@staging", "@persist", "@commit")) else 0


def compute_requirements(campaign: Campaign, probe: Probe, disk_bytes: int = 0) -> Requirements:
    """What `run.jobs` runs at the same time need of a machine, from the campaign's matrix and the probe's sizes."""
    every, run = list_train_settings(campaign.matrix), campaign.matrix.run
    device = probe.device(run.device)
    return Requirements(
        device=device,
        gpus=tuple(run.gpus),
        nproc=max(train.nproc for train in every) * run.jobs,
        threads=max(train.nproc * train.threads for train in every) * run.jobs,
        slots=max(campaign.matrix.matrix.max_inflight) * run.jobs,
        checkpoint_bytes=max(probe.state_bytes.values(), default=0),
        disk_bytes=disk_bytes,
        nccl=any(train.get_backend(device) == "nccl" for train in every),
    )
