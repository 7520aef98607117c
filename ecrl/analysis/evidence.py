"""Everything a report is written from, whether it came from a campaign or from somebody else's table."""

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import pandas as pd

from ecrl.analysis.campaign.axes import MATRIX_AXES, format_axis, list_axes
from ecrl.analysis.campaign.load import LoadedCampaign
from ecrl.analysis.campaign.variants import BLOCKING, OVERLAPPED, VariantRecipe, find_main_pair, list_recipes
from ecrl.analysis.claims.claims import ClaimResult, judge_claims
from ecrl.analysis.claims.noise import Noise, noise
from ecrl.analysis.frames.runs import build_runs_frame
from ecrl.analysis.next_runs import CommandLines, NextRun, next_runs
from ecrl.analysis.run.metrics import REFERENCE, Row, RunAnalysis
from ecrl.analysis.run.restarts import Medians, medians
from ecrl.analysis.statistics.compare import BlockKey, Comparison, Kind, compare
from ecrl.analysis.threats.base import format_count
from ecrl.analysis.threats.detect import ThreatReport, detect_threats

GOODPUT = "goodput_steps_per_s"
# Lines of a table beyond which the axes of `[axes]` are averaged over, and said to be.
MOST_ARMS = 12


@dataclass(frozen=True)
class Arm:
    """A variant in those suites that have one value each of the axes in `cell`, by column."""

    variant: str
    cell: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        return ", ".join((self.variant, *(format_axis(column, value) for column, value in self.cell)))

    def holds(self, row: Row) -> bool:
        """Whether a run is one of this arm's."""
        return row["variant"] == self.variant and all(row[column] == value for column, value in self.cell)


@dataclass(frozen=True)
class Evidence:
    """What is known. runs is empty and rows are partly unknown where the source is a table.

    columns: the table's columns, () for a campaign. loss_differences: signed final-loss difference of overlapped
    minus blocking by suite. dropped: blocks that no comparison uses, with the reason. unsupported: what this
    source can never show, and why (tables only). folders: each campaign's folder as seen from the report's. mixed:
    what pooled campaigns differ in. noise, again: of references that ran twice. axes: the columns of `[axes]`, in file
    order. recipes: of every variant but the reference, none where the source is a table.
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
    _made: dict[tuple[str, str, str, Kind], Comparison] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The rows as a frame, with every column of the runs table."""
        return build_runs_frame(self.rows, self.axes)

    @cached_property
    def suites(self) -> dict[str, Row]:
        """One representative row per suite, in order; the one that plans failures where there is one."""
        found: dict[str, Row] = {}
        for row in self.rows:
            if row["suite_id"] not in found or (row["failure_steps"] and not found[row["suite_id"]]["failure_steps"]):
                found[row["suite_id"]] = row
        return found

    def folder_of(self, run: RunAnalysis) -> str:
        """The folder of a run, relative to the report."""
        home = self.folders.get(run.facts.get("campaign", self.prefix), ".")
        return posixpath.normpath(f"{home}/suites/{run.name}")

    @property
    def completed(self) -> list[Row]:
        """Rows of runs that finished."""
        return [row for row in self.rows if row["outcome"] == "completed"]

    @property
    def whole(self) -> list[Row]:
        """Rows of runs that finished, of the blocks that comparisons use: means over anything else would set variants
        beside each other that ran different work."""
        return [row for row in self.completed if (row["suite_id"], row["seed"]) not in self.dropped]

    @property
    def whole_runs(self) -> list[RunAnalysis]:
        """The runs behind `whole`, none where the source is a table."""
        blocks = {(row["suite_id"], row["seed"]) for row in self.whole}
        return [run for run in self.runs if (run.row["suite_id"], run.row["seed"]) in blocks]

    @property
    def whole_basis(self) -> str:
        """'over 5 whole blocks', with how many are left out."""
        n = len({(row["suite_id"], row["seed"]) for row in self.whole})
        left = f" ({format_count(len(self.dropped), 'block')} left out)" if self.dropped else ""
        averaged = [axis for axis in self.varying_axes if axis in self.axes and axis not in self.separating_axes]
        mixed = f", every {' and '.join(averaged)} together" if averaged else ""
        return f"over {format_count(n, 'whole block')}{left}{mixed}"

    @cached_property
    def factors(self) -> dict[str, tuple[Any, ...]]:
        """The values that every axis has in these suites, in order, by column; those of settings only where they are
        axes."""
        rows = list(self.suites.values())
        settings = [axis for axis in list_axes(rows) if axis in MATRIX_AXES or axis in self.axes]
        return {axis: tuple(dict.fromkeys(row[axis] for row in rows)) for axis in settings}

    @property
    def varying_axes(self) -> tuple[str, ...]:
        """The axes with several values."""
        return tuple(axis for axis, values in self.factors.items() if len(values) > 1)

    @property
    def separating_axes(self) -> tuple[str, ...]:
        """The axes over which no line of a table averages. Runs that start in seconds and runs that start in tenths of
        one are never averaged; those of `[axes]` are where the lines would be too many to read."""
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
        """A variant with its engine and options where its name does not tell them."""
        return str(self.recipes.get(variant, variant))

    @property
    def engines(self) -> tuple[str, ...]:
        """Every variant but the reference."""
        return tuple(variant for variant in self.variants if variant != REFERENCE)

    @property
    def restarts(self) -> dict["Arm", Medians]:
        """What restarts of whole blocks took, by arm."""
        found = {arm: medians(run for run in self.whole_runs if arm.holds(run.row)) for arm in self.arms}
        return {arm: own for arm, own in found.items() if own is not None}

    @property
    def arms(self) -> tuple["Arm", ...]:
        """What may share one line of a table: a variant, apart by every axis that separates."""
        axes = self.separating_axes
        cells = dict.fromkeys(tuple((axis, row[axis]) for axis in axes) for row in self.suites.values())
        return tuple(Arm(variant, cell) for cell in cells or ((),) for variant in self.variants)

    @property
    def shortfalls(self) -> tuple[str, ...]:
        """What these runs are too few for, and which of them are in no comparison."""
        found = []
        done = self.completed
        if not done:
            found.append("no run completed: there is no result" if self.rows else "the matrix holds no suite")
        suites = {row["suite_id"] for row in self.rows}
        empty = [f"suite {s}: no run completed" for s in sorted(suites - {row["suite_id"] for row in done})]
        found += empty if done else []
        if (missing := len(self.rows) - len(done)) and done:
            found.append(f"{missing} of {len(self.rows)} runs did not complete; the report says why")
        if self.dropped and done:
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
        """The two variants of the main comparison; with one, it against the reference; None where that is not
        there."""
        if (pair := find_main_pair(self.variants)) is not None:
            return pair
        return (self.engines[0], REFERENCE) if self.engines and REFERENCE in self.variants else None

    def compare(self, a: str, b: str, metric: str = GOODPUT, kind: Kind = "ratio") -> Comparison:
        """Any pair of variants, any metric of the runs table. Sections ask for the same ones; each is made once."""
        key = (a, b, metric, kind)
        if key not in self._made:
            self._made[key] = compare(self.rows, a, b, metric, kind, self.dropped)
        return self._made[key]


def build_evidence(
    found: LoadedCampaign, caller: CommandLines | None = None, folders: Mapping[str, str] | None = None
) -> Evidence:
    """The evidence of a campaign. caller: how commands are to be typed. folders: where each campaign lies as seen
    from the report's folder; the report's folder itself unless given."""
    rows = tuple(run.row for run in found.runs)
    registered = _has_registered_claims(found)
    threats = detect_threats(found, registered=registered)
    claims = judge_claims(found.matrix.claims, rows, found.dropped, registered=registered, vetoes=threats.veto_codes)
    train = found.matrix.train_settings
    machines = [run.facts["machine"] for run in found.runs if run.facts.get("machine")]
    differences = _loss_differences(rows, found.dropped)
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
        machines[0] if machines else {},
        differences,
        claims,
        threats,
        next_runs(found, claims, caller or CommandLines()),
        tuple(warnings),
        {suite: row.status for suite, row in found.statuses.items()},
        folders=folders or {found.prefix: "."},
        mixed=found.mixed,
        noise=noise(found),
        again=found.again,
        axes=found.axes,
        recipes=list_recipes(found.matrix),
    )


def _has_registered_claims(found: LoadedCampaign) -> bool:
    """Whether every run that began carries the hash of the frozen matrix's claims."""
    hashes = {run.facts["claims_hash"] for run in found.runs if "claims_hash" in run.facts}
    return hashes <= {found.matrix.claims_hash}


def _loss_differences(rows: tuple[Row, ...], dropped: dict[BlockKey, str]) -> dict[str, float]:
    c = compare(rows, OVERLAPPED, BLOCKING, "final_loss", "difference", dropped)
    return {suite: effect.center for suite, effect in c.suites.items()}
