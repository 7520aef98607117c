"""What a campaign registered, against what is there: blocks that are gone, strays, extensions, runs made again.

Definitions: docs/metrics.md, "Registered blocks".
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ecrl.analysis.frames.kind import MetricsKind
from ecrl.analysis.run.metrics import Row, RunAnalysis, get_run_key
from ecrl.config.block_order import extend_block_orders
from ecrl.config.frozen import FrozenMatrix
from ecrl.config.hashing import content_hash
from ecrl.config.suite import expand_matrix, name_repeat
from ecrl.errors import RecordError
from ecrl.records.manifest import store as manifest
from ecrl.records.paths import CampaignPaths, RunPaths
from ecrl.records.reader import read_run

RunKey = tuple[str, str, int]
BlockKey = tuple[str, int]
Histories = Mapping[str, Sequence[Mapping[str, Any]]]  # see `manifest.read_histories`

SET_ASIDE = re.compile(r"seed(\d+)\.aside-(\d+)")
_ENDED = (*manifest.DONE, manifest.FAILED)  # of a suite: every run has ended


@dataclass(frozen=True)
class Aside:
    """A result that was set aside before its run was made again. row: None if its records cannot be read.

    token: of its attempt; 0 if it is not known.
    """

    key: RunKey
    number: int
    outcome: str
    row: Row | None
    token: int = 0

    @property
    def name(self) -> str:
        """The run's folder below `suites`."""
        return "{}/{}/seed{}.aside-{}".format(*self.key, self.number)


@dataclass(frozen=True)
class Registration:
    """The registered runs of a campaign, against the runs that are there.

    generations: the number of the frozen matrix that first registered a run; 0, the first one, for runs not in it.
    pending: blocks that are not done. gone: blocks that were done and are not there. stray: run folders that no
    generation registers. late: runs that began under other claims or under another matrix.
    asides: results of runs that were made again. untraced: runs made again of which no earlier result is left.
    """

    generations: Mapping[RunKey, int] = field(default_factory=dict)
    pending: tuple[BlockKey, ...] = ()
    gone: tuple[str, ...] = ()
    stray: tuple[str, ...] = ()
    late: tuple[str, ...] = ()
    asides: tuple[Aside, ...] = ()
    untraced: tuple[RunKey, ...] = ()

    def count_looks(self, keys: Iterable[RunKey], *, of_outcome: bool = False) -> int:
        """How often the results of these runs may have been seen before the last of them was made.

        1: they were registered at once and none was made again. Each extension and each repetition of a suite is one
        more. A failed run that was made again counts for claims about outcomes only: it has no other result.
        """
        wanted = set(keys)
        extensions = len({self.generations.get(key, 0) for key in wanted})
        again: dict[str, set[int]] = {}
        for aside in self.asides:
            if aside.key in wanted and (of_outcome or aside.outcome == "completed"):
                again.setdefault(aside.key[0], set()).add(aside.number)
        untraced = {key[0] for key in self.untraced if key in wanted}
        return max(extensions, 1) + sum(map(len, again.values())) + len(untraced)

    def list_blocks_made_again(self, rows: Sequence[Row]) -> set[tuple[str, int | None]]:
        """The blocks in which a completed result of one of these runs was made again."""
        keys = set(map(get_run_key, rows))
        return {(one.key[0], one.key[2]) for one in self.asides if one.key in keys and one.outcome == "completed"}

    def get_first_rows(self, rows: Sequence[Row]) -> list[Row] | None:
        """The rows with the first completed result of every run; None if one of them is not there any more."""
        keys = set(map(get_run_key, rows))
        if keys & set(self.untraced):
            return None
        first: dict[RunKey, Row | None] = {}
        for aside in sorted(self.asides, key=lambda one: one.number):
            if aside.outcome == "completed":
                first.setdefault(aside.key, aside.row)
        if any(first[key] is None for key in keys & first.keys()):
            return None
        found = map(first.get, map(get_run_key, rows))
        return [row if early is None else row | early for row, early in zip(rows, found, strict=True)]


def compare_with_registration(
    kind: MetricsKind,
    paths: CampaignPaths,
    frozen: FrozenMatrix,
    runs: Sequence[RunAnalysis],
    statuses: Mapping[str, manifest.Row],
    stray: Sequence[str],
    journal_hash: str,
) -> Registration:
    """Compare the registered runs with those that are there.

    stray: run folders that the matrix does not ask for. journal_hash: the matrix that the journal was written for, ''
    if it does not say.
    """
    generations = _number_runs(frozen)
    pending: dict[BlockKey, None] = {}
    gone: dict[BlockKey, list[str]] = {}
    for run in runs:
        suite_id, variant, seed = run.key
        if run.row["outcome"] in ("completed", "failed"):
            continue
        if _has_ended(statuses.get(suite_id), variant, seed):
            gone.setdefault((suite_id, seed), []).append(f"{variant} is {run.row['outcome']}")
        else:
            pending[suite_id, seed] = None
    texts = [f"{suite_id}/seed{seed} ({', '.join(why)})" for (suite_id, seed), why in gone.items()]
    texts += _find_unregistered_rows(frozen, statuses)
    if journal_hash and journal_hash.partition("+")[0] not in {content_hash(m.content) for m in frozen.generations}:
        texts.append(f"{paths.journal.name} was written for another matrix (experiment {journal_hash[:8]})")
    asides = tuple(_load_asides(kind, paths, {run.key for run in runs}))
    histories = manifest.read_histories(paths)
    texts += _find_lost_repeats(paths, statuses, histories)
    if lost := _find_lost_attempts(runs, asides, histories):
        named = f"{len(lost)}, the first is number {lost[0]}"
        texts.append(f"attempts of which {manifest.history_path(paths).name} does not tell any more ({named})")
    return Registration(
        generations,
        tuple(pending),
        tuple(texts),
        tuple(stray),
        tuple(_find_late_runs(frozen, runs, generations)),
        asides,
        tuple(_find_untraced(histories, {run.key for run in runs}, asides)),
    )


def _number_runs(frozen: FrozenMatrix) -> dict[RunKey, int]:
    """The generation of every run that a later matrix than the first one registers."""
    if not frozen.older:
        return {}
    found: dict[RunKey, int] = {}
    for number, matrix in enumerate(frozen.generations):
        for suite in expand_matrix(matrix):
            suite_id = suite.suite_id
            for variant in suite.variants:
                for seed in suite.seeds:
                    found.setdefault((suite_id, variant, seed), number)
    return found


def _has_ended(row: manifest.Row | None, variant: str, seed: int) -> bool:
    """Whether the manifest says that the run has ended."""
    # between an extension and its first start, the rows are those of the matrix before it
    return row is not None and row.status in _ENDED and variant in row.variants and seed in row.seeds


def _find_unregistered_rows(frozen: FrozenMatrix, statuses: Mapping[str, manifest.Row]) -> list[str]:
    """The suites, seeds and variants that the manifest has and the frozen matrix lacks."""
    if not statuses:
        return []
    suites = {suite.suite_id for suite in expand_matrix(frozen.matrix)}
    axes = frozen.matrix.matrix
    found = [f"{suite_id} (in the manifest, not in the matrix)" for suite_id in statuses if suite_id not in suites]
    seeds = dict.fromkeys(seed for row in statuses.values() for seed in row.seeds if seed not in axes.seeds)
    variants = dict.fromkeys(name for row in statuses.values() for name in row.variants if name not in axes.variants)
    found += [f"seed {seed} (in the manifest, not in the matrix)" for seed in seeds]
    return found + [f"variant {name} (in the manifest, not in the matrix)" for name in variants]


def _find_late_runs(
    frozen: FrozenMatrix, runs: Sequence[RunAnalysis], generations: Mapping[RunKey, int]
) -> Iterator[str]:
    """The runs that carry other claims than the matrix they began under, or that began under another matrix."""
    hashes = [matrix.claims_hash for matrix in frozen.generations]
    # The order of a block is drawn from the hash of the whole matrix, claims included. So a run that began under other
    # claims has another order, even if the hash of the new claims was written into its run.json.
    drawn = [(expand_matrix(one), content_hash(one.content)) for one in frozen.generations]
    orders = extend_block_orders(drawn, frozen.order_rule)
    variants = frozen.matrix.matrix.variants
    repeats = {name_repeat(variant) for variant in variants}.difference(variants)
    for run in runs:
        if "claims_hash" not in run.facts:
            continue
        if {hashes[generations.get(run.key, 0)], hashes[-1]} != {run.facts["claims_hash"]}:
            yield f"{run.label} (other claims)"
            continue
        order = tuple(variant for variant in run.facts["block_order"] if variant not in repeats)
        suite_id, _, seed = run.key
        if order and order != orders[suite_id, seed][: len(order)]:
            yield f"{run.label} (the order of its block is that of another matrix)"


def _load_asides(kind: MetricsKind, paths: CampaignPaths, registered: set[RunKey]) -> Iterator[Aside]:
    """The results that were set aside, by run and number."""
    found = []
    for path in paths.suites.glob("*/*/seed*.aside-*/result.json"):
        folder = path.parent
        if (match := SET_ASIDE.fullmatch(folder.name)) is not None:
            found.append(((folder.parents[1].name, folder.parent.name, int(match[1])), int(match[2]), folder))
    for key, number, folder in sorted(found):
        if key not in registered:
            continue
        try:
            record = read_run(RunPaths(folder))
        except RecordError:
            yield Aside(key, number, "completed", None)
            continue
        if record.result is None:
            yield Aside(key, number, "completed", None)
            continue
        row = kind.analyse(record, None, has_reference=False).row
        yield Aside(key, number, record.result["outcome"], row, record.spec.get("token", 0))


def _find_untraced(histories: Histories, registered: set[RunKey], asides: Sequence[Aside]) -> Iterator[RunKey]:
    """The runs that the journal says were made again after they had ended, and whose earlier results are gone."""
    for suite_id, records in histories.items():
        ended: dict[str, int] = {}
        open_runs: dict[str, int] = {}  # run -> the suite's runs that were done when it began
        for record in records:
            done = record.get("runs_done", 0)
            for name, before in list(open_runs.items()):
                if done > before or record.get("status") in _ENDED:
                    ended[name] = ended.get(name, 0) + 1
                    del open_runs[name]
            if begun := record.get("run"):
                open_runs[begun] = done
        for name, times in ended.items():
            variant, _, seed = name.rpartition("/seed")
            if not seed.isdigit() or (key := (suite_id, variant, int(seed))) not in registered:
                continue
            if times - 1 > sum(aside.key == key for aside in asides):
                yield key


def _find_lost_repeats(
    paths: CampaignPaths, statuses: Mapping[str, manifest.Row], histories: Histories
) -> Iterator[str]:
    """The second runs (A/A) of finished suites that began and whose results are not there."""
    for suite_id, records in histories.items():
        row = statuses.get(suite_id)
        if row is None or row.status not in manifest.DONE:
            continue
        repeats = set(map(name_repeat, row.variants)).difference(row.variants)
        for place in dict.fromkeys(record["run"] for record in records if record.get("run")):
            variant, _, seed = place.rpartition("/seed")
            if variant in repeats and seed.isdigit() and not paths.run(suite_id, variant, int(seed)).result.exists():
                yield f"{suite_id}/{place} (A/A)"


def _find_lost_attempts(runs: Sequence[RunAnalysis], asides: Sequence[Aside], histories: Histories) -> list[int]:
    """The tokens of attempts of which neither the manifest's history nor a run tells."""
    # Tokens are issued without gaps, and every version has recorded them: with the history of what was made again
    # goes only the proof of what it was.
    known = {int(record["token"]) for records in histories.values() for record in records if record.get("token")}
    known |= {token for run in runs if (token := run.facts.get("token"))} | {aside.token for aside in asides}
    return sorted(set(range(1, max(known, default=0))) - known)


def merge_registrations(found: Sequence[tuple[Registration, Sequence[RunKey], str]]) -> Registration:
    """One registration of pooled campaigns. Each has its registration, the runs that are used of it, and its prefix."""
    generations: dict[RunKey, int] = {}
    first = 0
    for registration, keys, _ in found:
        own = {key: registration.generations.get(key, 0) for key in keys}
        generations |= {key: first + number for key, number in own.items()}
        first += max(own.values(), default=0) + 1
    kept = [(registration, set(keys)) for registration, keys, _ in found]
    return Registration(
        generations,
        tuple(block for one, keys in kept for block in one.pending if block in {(key[0], key[2]) for key in keys}),
        tuple(f"{prefix}: {text}" for one, _, prefix in found for text in one.gone),
        tuple(f"{prefix}: {text}" for one, _, prefix in found for text in one.stray),
        tuple(f"{prefix}: {text}" for one, _, prefix in found for text in one.late),
        tuple(aside for one, keys in kept for aside in one.asides if aside.key in keys),
        tuple(key for one, keys in kept for key in one.untraced if key in keys),
    )
