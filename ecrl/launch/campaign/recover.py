"""Restores a campaign's consistent state: stale rows, orphans, the manifest against the matrix, suites to run again."""

import dataclasses
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ecrl.errors import EcrlError, PrefixHeldError, did_you_mean
from ecrl.launch.campaign.campaign import Campaign
from ecrl.launch.campaign.missing_results import find_missing_results
from ecrl.launch.campaign.reusable_result import get_reusable_result
from ecrl.launch.campaign.selection import ALL, Selection
from ecrl.launch.runs.progress import Observer
from ecrl.launch.runs.supervisor import set_aside
from ecrl.launch.system.process_group import end_orphans
from ecrl.launch.system.process_identity import UNKNOWN_HOST, Liveness, check_owner
from ecrl.records.manifest import store as manifest
from ecrl.records.manifest.lazy_table import Rows
from ecrl.records.manifest.store import DONE, FAILED, INTERRUPTED, PENDING, RUNNING, Manifest, Row
from ecrl.units import format_count


@dataclass(frozen=True)
class Policy:
    """How to treat existing suites.

    retry_failed: run failed suites again. assume_dead: hosts whose running suites the user declares dead. selection:
    which suites to run.
    """

    retry_failed: bool = False
    assume_dead: tuple[str, ...] = ()
    selection: Selection = ALL


def load_manifest(campaign: Campaign, observer: Observer) -> Manifest:
    """The campaign's manifest, with a row for every suite of the current matrix. Call it under the prefix's lease.

    Rows of running suites keep their owners. A new manifest is written; changes to an existing one are not yet.

    Raises:
        RecordError: the manifest was edited and is not valid any more.
    """
    paths = campaign.paths
    if not paths.manifest.exists():
        return Manifest.create(paths, campaign.rows(), campaign.rows_hash)
    there = Manifest.open(paths)
    for warning in there.warnings:
        observer.note(f"warning: {warning}")
    if there.experiment != campaign.rows_hash:  # else the rows were checked when they were written
        if gone := len(campaign.suites) - len(there.rows):
            observer.note(f"{format_count(gone, 'suite')} without a row in the manifest; finished runs are kept")
        there.rows = reconcile_rows(campaign, there.rows, paths.manifest)
    there.experiment = campaign.rows_hash
    return there


def open_manifest(campaign: Campaign, policy: Policy, observer: Observer) -> Manifest:
    """The manifest of `load_manifest`, ready for work. Call it under the prefix's lease.

    Stale running suites become `interrupted`, orphaned processes are ended, and finished suites that lack a result
    become `pending`. The journal is written into the CSV.

    Raises:
        RecordError: the manifest was edited and is not valid any more.
        EcrlError: the owner of a running suite is alive or cannot be checked from this host, or the selection matches
            no suite.
    """
    opened_manifest = load_manifest(campaign, observer)
    rows = opened_manifest.rows
    policy.selection.check(rows)
    for suite_id in _ids_with_status(rows, RUNNING):
        _check_dead(rows[suite_id], campaign, policy)
    owners = [rows[suite_id].owner for suite_id in _ids_with_status(rows, RUNNING)]
    former = {owner.folder for owner in owners if owner is not None and check_owner(owner) is Liveness.DEAD}
    if ended := end_orphans(campaign.marker, observer.note, former - {0}):
        observer.note(f"ended {format_count(ended, 'orphaned process', 'orphaned processes')} of an ecrl that died")
    for suite_id in _ids_with_status(rows, RUNNING):
        rows.put(_clear_owner(rows[suite_id], INTERRUPTED))
    for suite_id in _find_incomplete(campaign, _ids_with_status(rows, *DONE)):
        what = rows[suite_id].status
        rows.put(_clear_owner(rows[suite_id], PENDING))
        observer.note(f"warning: {suite_id}: {what}, but results are missing; those runs are repeated")
    opened_manifest.compact()
    return opened_manifest


def _check_dead(row: Row, campaign: Campaign, policy: Policy) -> None:
    host = UNKNOWN_HOST if row.owner is None else row.owner.host
    copied = row.owner is not None and row.owner.folder not in (0, campaign.paths.root.stat().st_ino)
    if host in policy.assume_dead or copied:  # in a copied folder, the owner works on the original
        return
    match check_owner(row.owner):
        case Liveness.ALIVE:
            assert row.owner is not None
            raise PrefixHeldError("ECRL-309", f"suite {row.suite_id} is being run by pid {row.owner.pid} on this host.")
        case Liveness.UNKNOWN:
            by = "by no recorded owner" if row.owner is None else f"by pid {row.owner.pid} on host {host}"
            raise EcrlError(
                "ECRL-310",
                f"suite {row.suite_id} is marked running, {by}; whether its owner is alive is unknown here.\n"
                f"If it is dead, type: ecrl matrix resume {campaign.paths.options} --assume-dead {shlex.quote(host)}",
            )


def _ids_with_status(rows: Rows, *wanted: str) -> list[str]:
    return [suite_id for suite_id, status in rows.statuses().items() if status in wanted]


def _clear_owner(row: Row, status: str) -> Row:
    """The row with this status and no owner: nothing is running."""
    return replace(row, status=status, owner=None, run="", where="")


def _find_incomplete(campaign: Campaign, finished: Sequence[str]) -> list[str]:
    """Those of the finished suites that lack a result file. The contents of results are not checked."""
    suite = campaign.suites[0]  # its seeds and variants are those of the matrix, and of every suite
    own = campaign.paths.suites / suite.suite_id
    results = [campaign.paths.run(suite.suite_id, *run).result for run in campaign.run_names(suite)]
    # Results were checked when they were written.
    return find_missing_results(campaign.paths.suites, finished, [str(result.relative_to(own)) for result in results])


def find_whole_suites(campaign: Campaign, rows: Rows, policy: Policy, todo: Sequence[str]) -> list[str]:
    """Those of these suites in which no run is missing: only their status is, as when the manifest was lost."""
    if policy.selection.rerun:
        return []
    without = set(_find_incomplete(campaign, todo))
    there = [campaign.suite(suite_id, rows.index_of(suite_id)) for suite_id in todo if suite_id not in without]
    return [
        suite.suite_id
        for suite in there
        if all(get_reusable_result(run, policy.retry_failed) for run in campaign.runs(suite))
    ]


def list_todo(rows: Mapping[str, Row], policy: Policy) -> list[str]:
    """The suites that will be run, in order."""
    left_alone = DONE if policy.retry_failed else (*DONE, FAILED)
    statuses = rows.statuses() if isinstance(rows, Rows) else {name: row.status for name, row in rows.items()}
    return policy.selection.select(
        [suite_id for suite_id, status in statuses.items() if status not in left_alone], rows
    )


def reconcile_rows(campaign: Campaign, rows: Mapping[str, Row], path: Path) -> Rows:
    """The manifest's rows in matrix order, each checked against its suite.

    A suite without a row gets a `pending` one. A finished or failed suite that has more runs than before becomes
    `pending`; its finished runs still count.

    Raises:
        RecordError: a row contradicts the frozen matrix.
    """
    expected = {row.suite_id: row for row in campaign.rows()}
    for number, row in enumerate(rows.values(), start=1):
        if row.suite_id not in expected:
            hint = did_you_mean(row.suite_id, expected)
            what = f"a suite of {campaign.paths.matrix.name}.{hint}"
            raise manifest.make_cell_error(path, number, "suite_id", row.suite_id, what)
        should = expected[row.suite_id]
        for column in manifest.FIXED:
            is_now, wanted = getattr(row, column), getattr(should, column)
            if is_now != wanted and not _can_have_grown(campaign, row, column):
                raise manifest.make_cell_error(
                    path, number, column, manifest.format_cell(is_now), repr(manifest.format_cell(wanted))
                )
        if row.runs_done > row.runs_total:
            raise manifest.make_cell_error(path, number, "runs_done", str(row.runs_done), f"at most {row.runs_total}")
        state = {name: getattr(row, name) for name in manifest.STATE}
        state["runs_done"] = min(row.runs_done, should.runs_total)  # without `aa` a suite has fewer runs
        if should.runs_total > row.runs_total and row.status in (*manifest.DONE, manifest.FAILED):
            state["status"] = manifest.PENDING
        expected[row.suite_id] = dataclasses.replace(should, **state)
    return Rows.from_rows(expected.values(), path)


def _can_have_grown(campaign: Campaign, row: Row, column: str) -> bool:
    """Whether an extension of the matrix or a change of `aa` may explain that the row differs in this column."""
    if column == "runs_total":
        return 0 <= row.runs_total - len(row.seeds) * len(row.variants) <= len(row.variants)
    if column not in ("seeds", "variants"):
        return False
    now, there = getattr(campaign.suites[0], column), getattr(row, column)
    return bool(campaign.older) and set(there) <= set(now)


def reset_suites(campaign: Campaign, opened: Manifest, suite_ids: Collection[str]) -> None:
    """Make the rows of these suites `pending` on disk, then set their runs aside.

    Call it under the lease, after every check that could refuse to start them.
    """
    rows = opened.rows
    for suite_id in suite_ids:
        rows.put(
            replace(
                rows[suite_id],
                status=PENDING, runs_done=0, wall_s=None, started_at="", finished_at="", message="", owner=None,
            )
        )  # fmt: skip
    opened.compact()
    for suite_id in suite_ids:
        for run in campaign.runs(campaign.suite(suite_id, rows.index_of(suite_id))):
            set_aside(run.paths)
