"""The data of a report, from a campaign or from another tool's table."""

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import pandas as pd

from ecrl.analysis.campaign.axes import MATRIX_AXES, format_axis, list_axes
from ecrl.analysis.campaign.load import LoadedCampaign
from ecrl.analysis.campaign.registered_plan import PlanComparison
from ecrl.analysis.campaign.registration import Registration
from ecrl.analysis.campaign.variants import BLOCKING, OVERLAPPED, VariantRecipe, find_main_pair, list_recipes
from ecrl.analysis.claims.calibration import Calibration, describe_shape
from ecrl.analysis.claims.claims import judge_claims
from ecrl.analysis.claims.noise import Noise, measure_noise
from ecrl.analysis.claims.result import ClaimResult
from ecrl.analysis.frames.kind import load_kind
from ecrl.analysis.frames.runs import build_runs_frame
from ecrl.analysis.multiverse import Multiverse, explore
from ecrl.analysis.next_runs import CommandLines, NextRun, next_runs
from ecrl.analysis.recount.recount import Recount
from ecrl.analysis.run.metrics import REFERENCE, Row, RunAnalysis, get_run_key
from ecrl.analysis.run.restarts import Medians, medians
from ecrl.analysis.statistics.compare import BlockKey, Comparison, Faults, compare
from ecrl.analysis.statistics.gain_by_cause import split_wall_clock
from ecrl.analysis.statistics.intervals import Kind
from ecrl.analysis.threats.base import format_count
from ecrl.analysis.threats.detect import ThreatReport, detect_threats
from ecrl.config.kind import load_kind as load_config_kind
from ecrl.config.matrix import DEFAULT_KIND, Claim

GOODPUT = "goodput_steps_per_s"
_DISK = "checkpoint_disk"  # a fact of the machine in which runs may differ by intention
# Most lines of a table. Axes of `[axes]` that would give more lines are averaged over, and the report says so.
MOST_ARMS = 12


@dataclass(frozen=True)
class Arm:
    """A variant in the suites that have the axis values of `cell`. cell: (column, value) of each axis."""

    variant: str
    cell: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        return ", ".join((self.variant, *(format_axis(column, value) for column, value in self.cell)))

    def holds(self, row: Row) -> bool:
        """Whether the run of this row belongs to the arm."""
        return row["variant"] == self.variant and all(row[column] == value for column, value in self.cell)


@dataclass(frozen=True)
class Evidence:
    """The data of a report. From a table, `runs` is empty and `rows` are partly unknown.

    dropped: blocks in which a run is at fault, with the reason. faults: the runs at fault; a comparison leaves out the
    blocks in which a run of its own variants is.
    loss_differences: mean final loss of overlapped minus that of blocking, signed, by suite.
    columns: the table's columns; () for a campaign.
    unsupported: what this source cannot show, and why; () for a campaign.
    folders: the path of each campaign's folder relative to the report's folder, by prefix.
    mixed: the differences between pooled campaigns.
    noise, again: of references that ran twice.
    axes: the columns of `[axes]`, in the order of the matrix file.
    recipes: of every variant except the reference; empty for a table.
    kind: of the experiment.
    chosen: the two variants of the main comparison, if somebody chose them.
    plans: the registration files, against what ran. recount: None if nothing was counted twice.
    """

    source: Literal["campaign", "table"]
    prefix: str
    rows: tuple[Row, ...]
    runs: tuple[RunAnalysis, ...]
    dropped: dict[BlockKey, str]
    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    train: dict[str, object]
    machine: dict[str, object]
    loss_differences: dict[str, float]
    claims: tuple[ClaimResult, ...]
    threats: ThreatReport
    next_runs: tuple[NextRun, ...]
    warnings: tuple[str, ...]
    statuses: dict[str, str]
    columns: tuple[str, ...] = ()
    unsupported: tuple[str, ...] = ()
    folders: Mapping[str, str] = field(default_factory=dict)
    mixed: tuple[str, ...] = ()
    noise: Noise | None = None
    again: tuple[RunAnalysis, ...] = ()
    axes: tuple[str, ...] = ()
    recipes: Mapping[str, VariantRecipe] = field(default_factory=dict)
    kind: str = DEFAULT_KIND
    faults: Faults = field(default_factory=dict)
    registration: Registration = field(default_factory=Registration)
    siblings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    calibrations: tuple[Calibration, ...] = ()
    chosen: tuple[str, str] | None = None
    plans: tuple[PlanComparison, ...] = ()
    recount: Recount | None = None
    _made: dict[tuple[str, str, str, Kind], Comparison] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The rows as a frame, with every column of the runs table."""
        return build_runs_frame(self.rows, self.axes, load_kind(self.kind).columns)

    @cached_property
    def suites(self) -> dict[str, Row]:
        """One representative row per suite, in order: the first one that plans failures, otherwise the first one."""
        found: dict[str, Row] = {}
        for row in self.rows:
            if row["suite_id"] not in found or (row["failure_steps"] and not found[row["suite_id"]]["failure_steps"]):
                found[row["suite_id"]] = row
        return found

    def folder_of(self, run: RunAnalysis) -> str:
        """The path of a run's folder, relative to the report's folder."""
        home = self.folders.get(run.facts.get("campaign", self.prefix), ".")
        return posixpath.normpath(f"{home}/suites/{run.name}")

    @property
    def completed(self) -> list[Row]:
        """Rows of the completed runs."""
        return [row for row in self.rows if row["outcome"] == "completed"]

    @property
    def whole(self) -> list[Row]:
        """Rows of the completed runs in the blocks that comparisons use."""
        # means over other blocks would compare variants that did different work
        return [row for row in self.completed if (row["suite_id"], row["seed"]) not in self.dropped]

    @property
    def whole_runs(self) -> list[RunAnalysis]:
        """The runs of the blocks of `whole`; empty for a table."""
        blocks = {(row["suite_id"], row["seed"]) for row in self.whole}
        return [run for run in self.runs if (run.row["suite_id"], run.row["seed"]) in blocks]

    @property
    def whole_basis(self) -> str:
        """'over 5 whole blocks', with the number of blocks left out and the axes that are averaged over."""
        n = len({(row["suite_id"], row["seed"]) for row in self.whole})
        noun = "row" if self.source == "table" else "block"
        left = f" ({format_count(len(self.dropped), noun)} left out)" if self.dropped else ""
        averaged = [axis for axis in self.varying_axes if axis in self.axes and axis not in self.separating_axes]
        mixed = f", every {' and '.join(averaged)} together" if averaged else ""
        return f"over {format_count(n, f'whole {noun}')}{left}{mixed}{self._describe_gaps()}"

    def _describe_gaps(self) -> str:
        """', stall_s of overlapped over 7 of 8': the means of a table that rest on fewer rows."""
        found = []
        for variant in self.variants if self.source == "table" else ():
            own = [row for row in self.whole if row["variant"] == variant]
            for column in ("rel_goodput", "wall_s", "stall_s"):
                known = sum(row[column] is not None for row in own)
                found += [f", {column} of {variant} over {known} of {len(own)}"] if 0 < known < len(own) else []
        return "".join(found)

    @cached_property
    def factors(self) -> dict[str, tuple[Any, ...]]:
        """The values of every axis in these suites, in order, by column. Settings that are no axes are left out."""
        rows = list(self.suites.values())
        settings = [axis for axis in list_axes(rows) if axis in MATRIX_AXES or axis in self.axes]
        return {axis: tuple(dict.fromkeys(row[axis] for row in rows)) for axis in settings}

    @property
    def varying_axes(self) -> tuple[str, ...]:
        """The axes with several values."""
        return tuple(axis for axis, values in self.factors.items() if len(values) > 1)

    @property
    def separating_axes(self) -> tuple[str, ...]:
        """The axes over which no line of a table averages, of those with several values.

        They are the launcher, and the axes of `[axes]` that do not bring the lines above MOST_ARMS.
        """
        # some launchers start a run in seconds, others in tenths of a second: a mean over both has no meaning
        lines, found = len(self.variants), []
        for axis in ("launcher", *self.axes):
            several = len(self.factors.get(axis, ()))
            if several > 1 and (axis == "launcher" or lines * several <= MOST_ARMS):
                found.append(axis)
                lines *= several
        return tuple(found)

    @property
    def plans_failures(self) -> bool:
        """Whether a failure was planned anywhere."""
        return any(row["failure_steps"] or row["failures_fired"] for row in self.rows)

    def describe(self, variant: str) -> str:
        """The variant's name, with its engine and options if the name does not imply them."""
        return str(self.recipes.get(variant, variant))

    @property
    def engines(self) -> tuple[str, ...]:
        """Every variant except the reference."""
        return tuple(variant for variant in self.variants if variant != REFERENCE)

    @property
    def restarts(self) -> dict["Arm", Medians]:
        """The median durations of restarts in whole blocks, by arm. Arms without restarts are left out."""
        found = {arm: medians(run for run in self.whole_runs if arm.holds(run.row)) for arm in self.arms}
        return {arm: own for arm, own in found.items() if own is not None}

    @property
    def arms(self) -> tuple["Arm", ...]:
        """The lines of a table: every variant with every combination of the values of `separating_axes` that occurs."""
        axes = self.separating_axes
        cells = dict.fromkeys(tuple((axis, row[axis]) for axis in axes) for row in self.suites.values())
        return tuple(Arm(variant, cell) for cell in cells or ((),) for variant in self.variants)

    @property
    def shortfalls(self) -> tuple[str, ...]:
        """Sentences on what these runs are too few to show, and on runs that are in no comparison."""
        found = []
        done = self.completed
        if not done:
            found.append("no run completed: there is no result" if self.rows else "the matrix holds no suite")
        suites = {row["suite_id"] for row in self.rows}
        empty = [f"suite {s}: no run completed" for s in sorted(suites - {row["suite_id"] for row in done})]
        found += empty if done else []
        if (missing := len(self.rows) - len(done)) and done and self.source == "table":
            found.append(f"{missing} of {len(self.rows)} goodputs are not known; their rows are in no comparison")
        elif missing and done:
            found.append(f"{missing} of {len(self.rows)} runs did not complete; the report says why")
        if self.dropped and done and self.source == "campaign":
            blocks = format_count(len(self.dropped), "block")
            found.append(f"{blocks} in no comparison: a run is missing, failed or not correct")
        if len(self.variants) == 1:
            found.append(f"one variant only ({self.variants[0]}): there is nothing to compare it with")
        if len(suites) == 1:
            found.append("one suite only: nothing shows how an effect varies between workloads")
        if len(self.seeds) == 1:
            found.append(f"one seed only ({self.seeds[0]}): nothing speaks of other seeds, and no claim is CONFIRMED")
        return tuple(found)

    @property
    def headline(self) -> tuple[str, str] | None:
        """The two variants of the main comparison.

        With one variant only: that variant and the reference. None if there is no such pair.
        """
        if (pair := self.chosen or find_main_pair(self.variants)) is not None:
            return pair
        return (self.engines[0], REFERENCE) if self.engines and REFERENCE in self.variants else None

    def compare(self, a: str, b: str, metric: str = GOODPUT, kind: Kind = "ratio") -> Comparison:
        """Compare two variants by a metric of the runs table. Results are cached."""
        key = (a, b, metric, kind)
        if key not in self._made:
            self._made[key] = compare(self.rows, a, b, metric, kind, self.faults)
        return self._made[key]

    @property
    def looks(self) -> int:
        """How often results of the main comparison may have been seen before its last run was made."""
        compared = {*(self.headline or ()), REFERENCE}
        return self.registration.count_looks(get_run_key(row) for row in self.rows if row["variant"] in compared)

    @cached_property
    def replayed_warm_ups_s(self) -> dict[tuple[str, str, int], float]:
        """The warm-up that the bucket `replay` of a run holds, by suite, variant and seed."""
        return {run.key: own_s for run in self.runs if (own_s := run.replayed_warm_up_s) is not None}

    @cached_property
    def gain_by_cause(self) -> dict[str, Comparison]:
        """The wall-clock ratio of the main comparison by its causes (see `split_wall_clock`). Empty without ledgers."""
        if self.headline is None:
            return {}
        return split_wall_clock(self.rows, *self.headline, self.faults, self.replayed_warm_ups_s)

    @cached_property
    def multiverses(self) -> tuple[Multiverse, ...]:
        """That of every claim about an effect; without claims, that of the main comparison as a gain."""
        warm_ups_s = {run.key: own_s for run in self.runs if (own_s := run.first_warm_up_s) is not None}
        asked: list[tuple[Claim, ClaimResult | None]] = [(j.claim, j) for j in self.claims if j.comparison is not None]
        if not self.claims and self.headline is not None and not self.threats.flaws:
            pair = list(self.headline)
            # Not validated: a variant may be a recipe, which only its matrix knows.
            gain = Claim.model_construct(name=" / ".join(pair), compare=pair, metric=GOODPUT, expect="ratio > 1")
            asked = [(gain, None)]
        found = []
        for claim, judged in asked:
            others = [other for other in self.claims if other is not judged]
            found.append(explore(claim, judged, others, self.rows, self.faults, warm_ups_s))
        return tuple(one for one in found if one is not None)


def build_evidence(
    found: LoadedCampaign,
    caller: CommandLines | None = None,
    folders: Mapping[str, str] | None = None,
    calibrations: Sequence[Calibration] = (),
    chosen: tuple[str, str] | None = None,
) -> Evidence:
    """The evidence of a campaign.

    caller: how the suggested commands call ecrl. folders: the path of each campaign's folder relative to the report's
    folder, by prefix; by default both are the same folder. calibrations: of the claims; those that were made for other
    runs than these are left out. chosen: see `Evidence`.
    """
    rows = tuple(run.row for run in found.runs)
    registered = _has_registered_claims(found)
    threats = detect_threats(found, registered=registered, chosen=chosen)
    claims = judge_claims(
        found.matrix.claims,
        rows,
        found.faults,
        registered=registered,
        find_vetoes=threats.find_vetoes,
        has_noise=threats.has_noise,
        registration=found.registration,
        refused=load_config_kind(found.matrix.experiment.kind).refused_metrics,
    )
    train = found.matrix.train_settings
    machines = [run.facts["machine"] for run in found.runs if run.facts.get("machine")]
    differences = _loss_differences(rows, found.faults)
    warnings = [*found.warnings, *(f"{run.label}: {text}" for run in found.runs for text in run.warnings)]
    return Evidence(
        "campaign",
        found.prefix,
        rows,
        found.runs,
        found.dropped,
        tuple(found.matrix.matrix.variants),
        tuple(found.matrix.matrix.seeds),
        dict(vars(train)),
        _sum_up_machines(machines),
        differences,
        claims,
        threats,
        next_runs(found, claims, caller or CommandLines(), threats.find_vetoes),
        tuple(warnings),
        {suite: row.status for suite, row in found.statuses.items()},
        folders=folders or {found.prefix: "."},
        mixed=found.mixed,
        noise=measure_noise(found),
        again=found.again,
        axes=found.axes,
        recipes=list_recipes(found.matrix),
        kind=found.matrix.experiment.kind,
        faults=found.faults,
        registration=found.registration,
        siblings=found.siblings,
        calibrations=_select_calibrations(calibrations, claims),
        chosen=chosen,
        plans=found.plans,
    )


def _select_calibrations(made: Sequence[Calibration], claims: Sequence[ClaimResult]) -> tuple[Calibration, ...]:
    """Those that were made for these claims and these runs."""
    present = {(judged.claim.name, describe_shape(judged)) for judged in claims}
    return tuple(one for one in made if (one.name, one.basis) in present)


def _has_registered_claims(found: LoadedCampaign) -> bool:
    """Whether every started run began under the frozen matrix's claims."""
    hashes = {run.facts["claims_hash"] for run in found.runs if "claims_hash" in run.facts}
    return hashes <= {found.matrix.claims_hash} and not found.registration.late


def _loss_differences(rows: tuple[Row, ...], faults: Faults) -> dict[str, float]:
    c = compare(rows, OVERLAPPED, BLOCKING, "final_loss", "difference", faults)
    return {suite: effect.center for suite, effect in c.suites.items()}


def _sum_up_machines(machines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The facts of the first run, with every disk that checkpoints of a run were on."""
    if not machines:
        return {}
    disks = sorted({str(machine[_DISK]) for machine in machines if _DISK in machine})
    return machines[0] | ({_DISK: disks} if disks else {})
