"""Loading of a campaign: one analysed run for every run of the frozen matrix, missing runs included."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from ecrl.analysis.campaign.axes import add_axes, format_suite_axes
from ecrl.analysis.campaign.content import compute_contents, describe_other_work
from ecrl.analysis.campaign.registered_plan import PlanComparison, compare_with_plan, find_plan
from ecrl.analysis.campaign.registration import SET_ASIDE, BlockKey, Registration, RunKey, compare_with_registration
from ecrl.analysis.campaign.siblings import find_siblings
from ecrl.analysis.frames.kind import MetricsKind, load_kind
from ecrl.analysis.run.contradictions import find_contradictions
from ecrl.analysis.run.metrics import REFERENCE, RunAnalysis, empty_row
from ecrl.config.frozen import load_frozen_matrix
from ecrl.config.matrix import Matrix
from ecrl.config.run import RunSpec
from ecrl.config.suite import Suite, expand_matrix, name_repeat
from ecrl.errors import EcrlError, RecordError, did_you_mean
from ecrl.records.columns import get_axis_column
from ecrl.records.manifest import store as manifest
from ecrl.records.paths import CampaignPaths, RunPaths, all_prefixes
from ecrl.records.reader import read_run
from ecrl.records.result import Result

_RESULT_FIELDS = Result.__required_keys__
# Timelines and curves are kept for about this many runs: enough to draw, and 10,000 runs still fit into memory.
MAX_KEPT_TIMELINES = 48
# The variant that a second reference run of a block (A/A) is stored as. Like the repeats of other variants, it is not
# in the matrix, and no table counts it.
REPEAT_VARIANT = name_repeat(REFERENCE)


@dataclass(frozen=True)
class LoadedCampaign:
    """The analysed records of one prefix.

    runs: in the matrix's order of suites, seeds and variants.
    faults: the runs that no comparison may use, with the reason.
    statuses: rows of the manifest by suite id; empty if no manifest can be read.
    again: second runs of a variant (A/A), which are compared with the first run of it in their block only. Their
    variant in a row is the name of the repeat; `get_repeated_variant` says of which variant it is.
    parts: the campaigns that this one pools. mixed: the differences between them (see `pool`).
    registration: the registered runs, against those that are there. siblings: see `find_siblings`.
    plans: the registration file, against what ran; empty without one. frozen_at: when the matrix was frozen, as its
    header says.
    """

    prefix: str
    matrix: Matrix
    suites: tuple[Suite, ...]
    runs: tuple[RunAnalysis, ...]
    faults: dict[RunKey, str]
    statuses: dict[str, manifest.Row]
    warnings: tuple[str, ...]
    again: tuple[RunAnalysis, ...] = ()
    parts: tuple["LoadedCampaign", ...] = ()
    mixed: tuple[str, ...] = ()
    registration: Registration = field(default_factory=Registration)
    siblings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    plans: tuple[PlanComparison, ...] = ()
    frozen_at: str = ""

    @property
    def axes(self) -> tuple[str, ...]:
        """The columns of the axes of `[axes]`, in the order of the matrix file."""
        return tuple(map(get_axis_column, self.matrix.axes))

    @cached_property
    def dropped(self) -> dict[BlockKey, str]:
        """The blocks in which a run of any variant is at fault, with the reasons."""
        found: dict[BlockKey, list[str]] = {}
        for (suite_id, _, seed), fault in self.faults.items():
            found.setdefault((suite_id, seed), []).append(fault)
        return {block: "; ".join(own) for block, own in found.items()}

    @property
    def kind(self) -> MetricsKind:
        """The metrics of the kind of experiment."""
        return load_kind(self.matrix.experiment.kind)

    @cached_property
    def axes_texts(self) -> dict[str, str]:
        """The values of `[axes]` as text, by suite id."""
        return {suite.suite_id: format_suite_axes(suite, self.matrix.axes) for suite in self.suites}


def load_campaign(paths: CampaignPaths, registration_file: Path | None = None) -> LoadedCampaign:
    """Load and analyse a whole prefix, block by block.

    registration_file: by default the one that is kept with the campaign.

    Raises:
        EcrlError: there is no such prefix (the message lists the existing ones), or its frozen matrix cannot be read.
        RecordError: the frozen matrix was edited.
    """
    if not paths.matrix.is_file():
        raise EcrlError("ECRL-301", _unknown_prefix(paths))
    frozen = load_frozen_matrix(paths)
    matrix = frozen.matrix
    kind = load_kind(matrix.experiment.kind)
    suites = tuple(expand_matrix(matrix))
    warnings: list[str] = []
    runs: list[RunAnalysis] = []
    again: list[RunAnalysis] = []
    faults: dict[RunKey, str] = {}
    for suite in suites:
        suite_id, uses = suite.suite_id, compute_contents(suite)
        for seed in suite.seeds:
            block, repeats = _block(kind, paths, suite, suite_id, seed, keep=len(runs) < MAX_KEPT_TIMELINES)
            runs += [
                add_axes(replace(run, row=run.row | {"uses": uses[run.row["variant"]]}), suite, matrix.axes)
                for run in block
            ]
            again += [add_axes(run, suite, matrix.axes) for run in repeats]
            faults |= {run.key: fault for run in block if (fault := kind.find_fault(run)) is not None}
    foreign = _find_foreign_folders(paths, suites, again)
    warnings += foreign.values()
    statuses, journal_hash = _read_manifest(paths, warnings)
    # A second run (A/A) is in no comparison of variants, so one that cannot be used is no stray run.
    seconds = [f"/{name}/" for name in _list_repeats(matrix.matrix.variants)]
    stray = [folder for folder in foreign if not any(name in folder for name in seconds)]
    registration = compare_with_registration(kind, paths, frozen, runs, statuses, stray, journal_hash)
    siblings = find_siblings(paths, frozen, warnings)
    plan = find_plan(paths, frozen, registration_file)
    return LoadedCampaign(
        paths.prefix,
        matrix,
        suites,
        tuple(runs),
        faults,
        statuses,
        tuple(warnings),
        tuple(again),
        registration=registration,
        siblings=siblings,
        plans=() if plan is None else (compare_with_plan(plan, frozen, runs, stray, paths.prefix),),
        frozen_at=frozen.header.get("frozen", ""),
    )


def _unknown_prefix(paths: CampaignPaths) -> str:
    known = all_prefixes(paths.results)
    there = f"There are: {', '.join(known)}" if known else f"No prefix has a frozen matrix in {paths.results}/"
    return (
        f"--prefix: found {paths.prefix!r}, but {paths.matrix} does not exist.{did_you_mean(paths.prefix, known)}\n"
        f"{there}. Type `ecrl matrix list`, or begin one: `ecrl matrix run --prefix {paths.prefix} MATRIX.toml`."
    )


def _read_manifest(paths: CampaignPaths, warnings: list[str]) -> tuple[dict[str, manifest.Row], str]:
    """The manifest's rows by suite id, and the hash of the matrix that it was written for; empty if unreadable."""
    try:
        view = manifest.read(paths)
    except RecordError as error:
        said = str(error).splitlines()[0]  # a report does not show paths of the machine it was made on
        warnings.append(said.replace(f"{paths.root}/", "").replace(paths.options, f"--prefix {paths.prefix}"))
        return {}, ""
    warnings += view.warnings
    return dict(view.rows), view.experiment


def _block(
    kind: MetricsKind, paths: CampaignPaths, suite: Suite, suite_id: str, seed: int, *, keep: bool
) -> tuple[list[RunAnalysis], list[RunAnalysis]]:
    """The analysed runs of one block in the matrix's order of variants, and its second runs (A/A)."""
    has_reference = REFERENCE in suite.variants
    reference = _run(kind, paths, suite, suite_id, REFERENCE, seed, None, has_reference) if has_reference else None
    sound = reference if reference is not None and kind.can_compare_with(reference) else None
    repeats = [
        _load_repeat(kind, run_paths, name, sound, has_reference)
        for name in _list_repeats(suite.variants)
        if (run_paths := paths.run(suite_id, name, seed)).spec.exists()
    ]
    again = [run for run in repeats if run is not None]
    if sound is not None:
        told = [run.facts.get("final_digest") for run in again if run.row["variant"] == REPEAT_VARIANT]
        sound = replace(sound, facts=sound.facts | {"repeat_digest": next(iter(told), None)})
    found = [
        reference
        if reference is not None and variant == REFERENCE
        else _run(kind, paths, suite, suite_id, variant, seed, sound, has_reference)
        for variant in suite.variants
    ]
    kept = found if keep else [replace(run, timeline=None, curve=()) for run in found]
    return [replace(run, lineage=None) for run in kept], again


def _list_repeats(variants: Sequence[str]) -> list[str]:
    """The names that A/A repeats of these variants can have."""
    return [name for name in map(name_repeat, variants) if name not in variants]


def _load_repeat(
    kind: MetricsKind, run_paths: RunPaths, name: str, reference: RunAnalysis | None, has_reference: bool
) -> RunAnalysis | None:
    """The second run (A/A) of a variant in a block; None if it, or the block's reference, cannot be used."""
    if has_reference and reference is None:
        return None
    try:
        record = read_run(run_paths)
    except RecordError:
        return None  # _find_foreign_folders warns about it
    if name == REPEAT_VARIANT:  # compared with the first one, as other variants are
        record.spec["variant"] = name
    found = kind.analyse(record, reference, has_reference=has_reference)
    return replace(found, row=found.row | {"variant": name}, timeline=None, lineage=None, curve=())


def _run(
    kind: MetricsKind,
    paths: CampaignPaths,
    suite: Suite,
    suite_id: str,
    variant: str,
    seed: int,
    reference: RunAnalysis | None,
    has_reference: bool,
) -> RunAnalysis:
    run_paths = paths.run(suite_id, variant, seed)
    found = _read(kind, suite, suite_id, variant, seed, run_paths, reference, has_reference)
    if found.row["outcome"] in ("completed", "failed") or not _has_result(run_paths):
        return found
    facts, again = found.facts | {"damaged": True}, f"ecrl matrix run {paths.options} --rerun {suite_id}"
    if found.row["outcome"] == "missing":
        facts["reason"] = f"its run.json is gone. Put it back, or run the suite again: {again}"
    elif found.row["outcome"] == "unfinished":
        facts["reason"] = f"its result.json is damaged, or another run's. Run the suite again: {again}"
    return replace(found, facts=facts)


def _has_result(run_paths: RunPaths) -> bool:
    """Whether the run has a result file that is not empty."""
    # `resume` uses the same test for the runs of a finished suite: it does not read the content of the result
    try:
        return run_paths.result.stat().st_size > 0
    except OSError:
        return False


def _read(
    kind: MetricsKind,
    suite: Suite,
    suite_id: str,
    variant: str,
    seed: int,
    run_paths: RunPaths,
    reference: RunAnalysis | None,
    has_reference: bool,
) -> RunAnalysis:
    if not run_paths.spec.exists():
        reason = "never started: there is no run.json"
        return _make_absent_run(suite, suite_id, variant, seed, "missing", reason)
    try:
        spec = RunSpec.read(run_paths.spec)
        record = read_run(run_paths)
        if record.result is not None and not record.result.keys() >= _RESULT_FIELDS:
            absent = sorted(_RESULT_FIELDS - record.result.keys())
            record.warnings.append(f"result.json lacks {', '.join(absent)} and was not used")
            record.result = None
        if record.result is not None and not isinstance(record.result["machine"], dict):
            record.warnings.append(f"result.json: machine is {record.result['machine']!r}, expected an object")
            record.result["machine"] = {}
    except RecordError as error:
        reason = str(error).replace(f"{run_paths.spec}: ", "run.json: ")
        return _make_absent_run(suite, suite_id, variant, seed, "unreadable", reason, reason)
    if (spec.suite_id, spec.variant, spec.seed) != (suite_id, variant, seed):
        reason = f"run.json is that of {spec.suite_id}/{spec.variant}/seed{spec.seed}: a copied folder"
        return _make_absent_run(suite, suite_id, variant, seed, "unreadable", reason, reason)
    if (other := describe_other_work(suite, spec)) is not None:
        reason = f"run.json asks for other work than the matrix: {other}"
        return _make_absent_run(suite, suite_id, variant, seed, "unreadable", reason, reason)
    # Before the analysis, which drops what cannot be.
    told = {
        "contradictions": find_contradictions(record),
        "digested": "events" in (record.result or {}),
        "event_digests": record.digests,
    }
    found = kind.analyse(record, reference, has_reference=has_reference)
    return replace(found, facts=found.facts | told)


def _make_absent_run(
    suite: Suite, suite_id: str, variant: str, seed: int, outcome: str, reason: str, *warnings: str
) -> RunAnalysis:
    planned = () if variant == REFERENCE else suite.failure_steps
    row = empty_row(
        suite_id=suite_id,
        dataset=suite.dataset,
        model=suite.model,
        failure_label=suite.failure_label,
        failure_steps=";".join(map(str, planned)),
        checkpoint_every=suite.checkpoint_every,
        max_inflight=suite.max_inflight,
        variant=variant,
        seed=seed,
        nproc=suite.train.nproc,
        launcher=suite.train.launcher,
        steps=suite.train.steps,
        outcome=outcome,
    )
    return RunAnalysis(row, {}, warnings, facts={"reason": reason})


def _find_foreign_folders(
    paths: CampaignPaths, suites: tuple[Suite, ...], again: Iterable[RunAnalysis]
) -> dict[str, str]:
    """A warning for every run folder that the frozen matrix does not ask for. Such folders are not analysed."""
    wanted = {
        paths.run(suite_id, variant, seed).folder
        for suite, suite_id in [(suite, suite.suite_id) for suite in suites]
        for variant in suite.variants
        for seed in suite.seeds
    }
    wanted |= {paths.run(*run.key).folder for run in again}
    found: dict[str, str] = {}
    for folder in _run_folders(paths.root):
        if folder in wanted:
            continue
        where = str(folder.relative_to(paths.root))
        try:
            spec = RunSpec.read(RunPaths(folder).spec)
            own = paths.run(spec.suite_id, spec.variant, spec.seed).folder
        except (RecordError, EcrlError):
            found[where] = f"{where}: a run folder that the matrix does not ask for; it was not read"
            continue
        what = f"a duplicate of {own.relative_to(paths.root)}" if own in wanted else "not asked for by the matrix"
        found[where] = f"{where}: {what}; it was not read"
    return found


def _run_folders(root: Path) -> Iterator[Path]:
    """Every folder that holds a run, except those that the launcher set aside before running them again."""
    found = (path.parent for path in sorted((root / "suites").glob("*/*/*/run.json")))
    # A name that begins with a dot is half a copy of one that was set aside.
    return (folder for folder in found if not (SET_ASIDE.fullmatch(folder.name) or folder.name.startswith(".")))
