"""Taking a campaign over: stale rows judged, orphans ended, the manifest folded together, and what is left to do."""

import os
from dataclasses import dataclass, replace

from ecrl.errors import EcrlError, PrefixHeldError
from ecrl.launch.campaign import Campaign, reconciled
from ecrl.launch.group import end_orphans
from ecrl.launch.liveness import NOBODY, Liveness, judged
from ecrl.launch.progress import Observer
from ecrl.records.manifest import COMPLETED, DONE, FAILED, INTERRUPTED, PENDING, RUNNING, SKIPPED, Manifest, Row


@dataclass(frozen=True)
class Policy:
    """What to do with what is there. retry_failed: run failed suites again. mark_skipped: finished suites become
    `skipped_exists` (a plain second `run`). assume_dead: hosts whose running suites the user knows to be dead."""

    retry_failed: bool = False
    mark_skipped: bool = False
    assume_dead: tuple[str, ...] = ()


def opened(campaign: Campaign, policy: Policy, observer: Observer) -> Manifest:
    """The campaign's manifest, ready to work on: stale rows judged, orphans ended, the journal folded in.

    Call it under the prefix's lease.

    Raises:
        RecordError: the manifest was edited into nonsense.
        EcrlError: a running suite's owner may be alive, as far as this host can know.
    """
    paths = campaign.paths
    if not paths.manifest.exists():
        opened_manifest = Manifest.create(paths, campaign.rows())
    else:
        opened_manifest = Manifest.open(paths)
        for warning in opened_manifest.warnings:
            observer.note(f"warning: {warning}")
        opened_manifest.rows = reconciled(campaign, opened_manifest.rows, paths.manifest)
    for row in opened_manifest.rows.values():
        if row.status == RUNNING:
            _check_dead(row, campaign, policy)
    if ended := end_orphans(campaign.marker):
        observer.note(f"ended {ended} orphaned processes of an ecrl that died")
    for suite_id, row in opened_manifest.rows.items():
        opened_manifest.rows[suite_id] = changed = _settled(row, policy, campaign)
        if changed.status == PENDING and row.status in DONE:
            observer.note(f"warning: {suite_id}: {row.status}, but results of it are gone; what is missing runs again")
    opened_manifest.compact()
    return opened_manifest


def _check_dead(row: Row, campaign: Campaign, policy: Policy) -> None:
    host = NOBODY if row.owner is None else row.owner.host
    if host in policy.assume_dead:
        return
    match judged(row.owner):
        case Liveness.ALIVE:
            assert row.owner is not None
            raise PrefixHeldError(f"suite {row.suite_id} is being run by pid {row.owner.pid} on this host.")
        case Liveness.UNKNOWN:
            by = "no record says by whom" if row.owner is None else f"by pid {row.owner.pid} on host {host}"
            raise EcrlError(
                f"suite {row.suite_id} is marked running, {by}; whether that still lives cannot be seen from here.\n"
                f"If it does not: ecrl matrix resume --prefix {campaign.paths.prefix} --assume-dead {host}"
            )


def _settled(row: Row, policy: Policy, campaign: Campaign) -> Row:
    """The row as work begins: nothing is running."""
    status = row.status
    if status == RUNNING:
        status = INTERRUPTED
    elif status in DONE and not _results_exist(row, campaign):
        status = PENDING
    elif status == COMPLETED and policy.mark_skipped:
        status = SKIPPED
    return replace(row, status=status, owner=None)


def _results_exist(row: Row, campaign: Campaign) -> bool:
    """Whether every result of a finished suite is still there; what they say was checked when it was finished."""
    folder = f"{campaign.paths.root}/suites/{row.suite_id}"
    return all(
        os.path.exists(f"{folder}/{variant}/seed{seed}/result.json")  # noqa: PTH110 (asked for every run there is)
        for variant in row.variants
        for seed in row.seeds
    )


def to_do(rows: dict[str, Row], policy: Policy) -> list[str]:
    """Suites that will be run, in order."""
    left_alone = DONE if policy.retry_failed else (*DONE, FAILED)
    return [suite_id for suite_id, row in rows.items() if row.status not in left_alone]
