"""What a campaign would run and roughly cost; computed before anything starts."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ecrl.config.run import RunSpec
from ecrl.launch.campaign.campaign import Campaign
from ecrl.launch.campaign.expected_time import ExpectedTime, compute_expected_time
from ecrl.launch.campaign.recover import Policy
from ecrl.launch.campaign.reusable_result import get_reusable_result
from ecrl.launch.campaign.warmup import build_warm_up
from ecrl.launch.runs.experiment import DiskUse, ExperimentKind, Machine, SuiteGroup, Work
from ecrl.launch.runs.run import Run
from ecrl.launch.system.free_space import find_existing_folder, get_free_bytes
from ecrl.records.manifest.store import DONE, Row
from ecrl.units import format_bytes

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
class PlaceUse:
    """A disk that runs write to. needed: bytes at the peak. fallback: it gets what another disk refuses."""

    folder: Path
    needed: int
    free: int
    fallback: bool = False

    @property
    def fits(self) -> bool:
        """Whether there is room for what is needed."""
        return self.needed <= self.free

    def to_json(self) -> dict[str, Any]:
        """One entry of `places`."""
        told = {"folder": str(self.folder), "needed_bytes": self.needed, "free_bytes": self.free}
        return told | {"fallback": self.fallback}


@dataclass(frozen=True)
class Estimate:
    """Sums over the runs to start. disk: None without a machine, and if the machine does not tell. places: the disks
    of results and checkpoints, and fallbacks. warmups: at least so many runs of `WARMUP_S` come before, and are
    discarded."""

    suites: int
    runs: int
    runs_todo: int
    warmups: int
    work: Work
    disk: DiskUse | None
    free_bytes: int
    places: tuple[PlaceUse, ...] = ()

    @property
    def full(self) -> list[PlaceUse]:
        """The disks that do not hold what is needed."""
        return [place for place in self.places if not place.fits]

    @property
    def fits(self) -> bool:
        """Whether all disks, or fallbacks in their place, hold what is needed. True if that is not known."""
        missing = sum(place.needed - place.free for place in self.full)
        return missing <= sum(place.free for place in self.places if place.fallback)

    def describe_disks(self) -> list[str]:
        """A sentence on every disk that does not hold what is needed."""
        room = sum(place.free for place in self.places if place.fallback)
        rest = f"; checkpoint.fallback_dirs have {format_bytes(room)}" if room else ""
        return [
            f"{place.folder}: {format_bytes(place.free)} free,"
            f" about {format_bytes(place.needed)} needed at the peak{rest}"
            for place in self.full
        ]

    @property
    def large(self) -> bool:
        """Whether to ask the user before starting: many runs, or much of the free disk space."""
        return self.runs_todo > 200 or (self.disk is not None and self.disk.kept > self.free_bytes // 2)

    def to_json(self) -> dict[str, Any]:
        """The object `estimate` of the preview."""
        disk = self.disk
        return {
            "suites": self.suites, "runs": self.runs, "runs_todo": self.runs_todo, "warmups": self.warmups,
            **self.work.numbers,
            "written_bytes": None if disk is None else disk.written,
            "kept_bytes": None if disk is None else disk.kept,
            "peak_bytes": None if disk is None else disk.peak,
            "free_bytes": self.free_bytes,
            "places": [place.to_json() for place in self.places],
        }  # fmt: skip


@dataclass(frozen=True)
class Preview:
    """Everything that `--dry-run` shows."""

    campaign: Campaign
    rows: list[Row]
    runs: dict[str, list[PlannedRun]]
    estimate: Estimate
    expected_time: ExpectedTime

    def to_json(self) -> dict[str, Any]:
        """The preview as one JSON document."""
        return {
            "schema": 1,
            "prefix": self.campaign.paths.prefix,
            "device": self.campaign.matrix.run.device,
            "experiment": self.campaign.experiment_hash,
            "estimate": self.estimate.to_json(),
            "expected_time": self.expected_time.to_json(),
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


def build_preview(
    campaign: Campaign,
    kind: ExperimentKind,
    rows: Mapping[str, Row],
    todo: Iterable[str],
    policy: Policy,
    machine: Machine | None,
    try_groups: Callable[[Sequence[SuiteGroup]], Mapping[str, float]] = lambda _groups: {},
) -> Preview:
    """The runs that would start if the suites `todo` were run, and their cost.

    machine: None: it was not inspected. try_groups: asked for the seconds of suites that no campaign measured.
    """
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
    groups = [
        SuiteGroup(suite, 1, Counter(planned.spec.variant for planned in runs[suite.suite_id] if planned.todo))
        for suite in campaign.suites
    ]
    expected = compute_expected_time(
        campaign,
        {group.suite.suite_id: sum(group.runs.values()) for group in groups},
        lambda suite_ids: try_groups([group for group in groups if group.suite.suite_id in suite_ids]),
    )
    return Preview(campaign, list(rows.values()), runs, _sum_up(campaign, kind, groups, machine), expected)


def compute_estimate(campaign: Campaign, kind: ExperimentKind, machine: Machine) -> Estimate:
    """An upper bound of what would run: counts every run of every suite."""
    each = dict.fromkeys(campaign.matrix.matrix.variants, len(campaign.matrix.matrix.seeds))
    # Fast for large matrices: no result is read, and equal suites are built once.
    groups = [SuiteGroup(suite, number, each) for suite, number in campaign.suites.group_equivalent()]
    return _sum_up(campaign, kind, groups, machine)


def _sum_up(
    campaign: Campaign, kind: ExperimentKind, groups: Sequence[SuiteGroup], machine: Machine | None
) -> Estimate:
    suites_todo = sum(group.number for group in groups if sum(group.runs.values()))
    warms_up = suites_todo and build_warm_up(campaign, kind, campaign.suites[0]) is not None
    disk = None if machine is None else machine.compute_disk_use(campaign.matrix, groups)
    return Estimate(
        suites=len(campaign.suites),
        runs=sum(campaign.row(suite).runs_total for suite in campaign.suites[:1]) * len(campaign.suites),
        runs_todo=sum(group.number * sum(group.runs.values()) for group in groups),
        warmups=min(campaign.matrix.run.jobs, suites_todo) if warms_up else 0,
        work=kind.count_work(groups),
        disk=disk,
        free_bytes=get_free_bytes(campaign.paths.results),
        places=() if machine is None or disk is None else _list_places(campaign, machine, groups, disk),
    )


def _list_places(
    campaign: Campaign, machine: Machine, groups: Sequence[SuiteGroup], disk: DiskUse
) -> tuple[PlaceUse, ...]:
    """The disks that the runs write to, results first. Folders on one disk are one place."""
    results, needed = campaign.paths.results, Counter[Path]()
    needed[results] += disk.records
    for place in dict.fromkeys(group.suite.checkpoint.dir for group in groups):
        own = machine.compute_disk_use(campaign.matrix, [g for g in groups if g.suite.checkpoint.dir == place])
        if own is not None:
            needed[results if place is None else Path(place)] += own.kept + own.peak
    found: dict[int, PlaceUse] = {}
    for folder, more in needed.items():
        there = find_existing_folder(folder.absolute()).stat().st_dev
        before = found.get(there, PlaceUse(folder, 0, get_free_bytes(folder)))
        found[there] = replace(before, needed=before.needed + more)
    for folder in map(Path, campaign.matrix.checkpoint_settings.fallback_dirs):
        there = find_existing_folder(folder).stat().st_dev
        found.setdefault(there, PlaceUse(folder, 0, get_free_bytes(folder), fallback=True))
    return tuple(found.values())
