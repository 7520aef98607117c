"""A campaign as pandas frames: the object that `ecrl.load` returns."""

import os
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from ecrl.analysis.campaign.load import LoadedCampaign, load_campaign
from ecrl.analysis.campaign.tables import build_summary_frame
from ecrl.analysis.evidence import Evidence, build_evidence
from ecrl.analysis.frames.columns import COUNT, NUMBER, TEXT, TIME, DTypes, build_frame
from ecrl.analysis.frames.events import build_events_frame, build_steps_frame
from ecrl.analysis.frames.runs import DTYPES, build_runs_frame
from ecrl.analysis.threats.base import format_count, join_some
from ecrl.analysis.verdict_frames import build_claims_frame, build_threats_frame
from ecrl.config.suite import Suite, get_repeated_variant
from ecrl.errors import EcrlError, did_you_mean, unknown_name
from ecrl.records.manifest import store as manifest
from ecrl.records.paths import CampaignPaths, all_prefixes
from ecrl.records.reader import RunRecord, read_run

RunKey = tuple[str, str, int]
_SHOWN_PREFIXES = 10
_SUITE_DTYPES: DTypes = {
    **{column: DTYPES[column] for column in manifest.COLUMNS if column in DTYPES},
    **dict.fromkeys(("seeds", "variants", "message"), TEXT),
    **dict.fromkeys(("attempts", "runs_done", "runs_total"), COUNT),
    "wall_s": NUMBER,
    "status": pd.CategoricalDtype(list(manifest.STATUSES)),
    "started_at": TIME,
    "finished_at": TIME,
}


class Campaign:
    """One campaign, as its records were when it was loaded. Load it again to see later records.

    The frames belong to the caller: changing one changes no file and no other frame. Counts are `Int64`, other numbers
    `float64` (NaN: not known), truth values `boolean`; axes, variants and outcomes are `category`.
    """

    def __init__(self, paths: CampaignPaths, found: LoadedCampaign) -> None:
        self._paths = paths
        self._found = found

    def __repr__(self) -> str:
        outcomes = self.runs["outcome"].value_counts()
        counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items() if count)
        return f"<Campaign {self.prefix}: {format_count(len(self._found.suites), 'suite')}, runs: {counts or 'none'}>"

    @property
    def prefix(self) -> str:
        """The campaign's name."""
        return self._found.prefix

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is damaged, missing or contradictory in the records, in the words of `ecrl report`."""
        return self._evidence.warnings

    @cached_property
    def runs(self) -> pd.DataFrame:
        """One row per run of the matrix, missing runs included: the columns of `<prefix>_runs.csv`."""
        return self._build_runs()

    @cached_property
    def summary(self) -> pd.DataFrame:
        """One row per suite and variant, over the completed runs: the columns of `<prefix>_summary.csv`."""
        return build_summary_frame(self._build_runs(), self._found.axes)

    @cached_property
    def suites(self) -> pd.DataFrame:
        """One row per suite, in the order of the matrix, with its state: the columns of `<prefix>_manifest.csv`.

        If no manifest can be read, the columns hold only what the matrix decides.
        """
        rows = [self._describe_suite(suite) for suite in self._found.suites]
        return build_frame(rows, manifest.COLUMNS, _SUITE_DTYPES)

    @cached_property
    def claims(self) -> pd.DataFrame:
        """One row per registered claim, with its verdict: the columns of `<prefix>_claims.csv`."""
        return build_claims_frame(self._evidence.claims, self._evidence.threats)

    @cached_property
    def threats(self) -> pd.DataFrame:
        """One row per threat to validity, whether found or not: the columns of `<prefix>_threats.csv`."""
        return build_threats_frame(self._evidence.threats)

    def events(self, run: "str | tuple[Any, ...] | pd.Series[Any]") -> pd.DataFrame:
        """The events of one run in order of time.

        Columns: attempt, rank (missing for events of the launcher), event, t_s (seconds since the start of the run's
        launcher), and the fields of `ecrl.records.events`.

        run: a row of `runs`, (suite_id, variant, seed), or "suite_id/variant/seed1337".

        Raises:
            EcrlError: there is no such run, or it has no records.
        """
        return build_events_frame(self._read(run))

    def steps(self, run: "str | tuple[Any, ...] | pd.Series[Any]") -> pd.DataFrame:
        """One row per step that a rank of one run recorded.

        Columns: step, rank, attempt, begin_s (seconds since the start of the run's launcher), duration_s, loss,
        is_replay (an earlier attempt had executed the step), is_executed (false: the step was only queued).

        run: as in `events`.

        Raises:
            EcrlError: there is no such run, or it has no records.
        """
        return build_steps_frame(self._read(run))

    @cached_property
    def _evidence(self) -> Evidence:
        return build_evidence(self._found)

    def _build_runs(self) -> pd.DataFrame:
        return build_runs_frame((run.row for run in self._found.runs), self._found.axes, self._found.kind.columns)

    def _describe_suite(self, suite: Suite) -> dict[str, Any]:
        if (row := self._found.statuses.get(suite.suite_id)) is not None:
            return {name: _format_value(getattr(row, name)) for name in manifest.COLUMNS}
        facts = {name: getattr(suite, name, None) for name in manifest.FIXED}
        facts |= {"nproc": suite.train.nproc, "steps": suite.train.steps, "axes": suite.axes_text}
        facts["runs_total"] = len(suite.seeds) * len(suite.variants)
        return {name: _format_value(value) for name, value in facts.items()}

    def _read(self, run: "str | tuple[Any, ...] | pd.Series[Any]") -> RunRecord:
        suite_id, variant, seed = key = self._find_key(run)
        paths = self._paths.run(*key)
        name = f"{suite_id}/{variant}/seed{seed}"
        if not paths.spec.exists():
            raise EcrlError(
                "ECRL-710",
                f"{name} has left no records: there is no {paths.spec.name} in {paths.folder}.\n"
                f"Expected a run that has begun. To run what is missing: `ecrl matrix resume {self._paths.options}`.",
            )
        record = read_run(paths)
        written = tuple(record.spec.get(field) for field in ("suite_id", "variant", "seed"))
        arm = get_repeated_variant(variant) if key in {repeat.key for repeat in self._found.again} else variant
        if written != (suite_id, arm, seed):
            raise EcrlError(
                "ECRL-403", f"{paths.spec}: found the run {written}, expected {key}: a copied folder.\nRemove it."
            )
        return record

    def _find_key(self, run: "str | tuple[Any, ...] | pd.Series[Any]") -> RunKey:
        """The key of the run that `run` names.

        Raises:
            EcrlError: `run` does not name a run, or the campaign has no such run.
        """
        key = _parse_run(run)
        known = {found.key for found in (*self._found.runs, *self._found.again)}
        if key in known:
            return key
        suite_id, variant, seed = key
        variants = {one[1] for one in known if one[0] == suite_id}
        if not variants:
            near = did_you_mean(suite_id, {one[0] for one in known})
            raise EcrlError("ECRL-710", f"{self.prefix} has no suite {suite_id!r}.{near} `campaign.suites` lists them.")
        if variant not in variants:
            raise EcrlError("ECRL-710", f"{suite_id}: {unknown_name('variant', variant, variants)}.")
        seeds = sorted(one[2] for one in known if one[:2] == (suite_id, variant))
        raise EcrlError(
            "ECRL-710", f"{suite_id}/{variant}: found seed {seed}, expected one of {', '.join(map(str, seeds))}."
        )


def _parse_run(run: Any) -> RunKey:
    """(suite_id, variant, seed) from any of the forms that name a run.

    Raises:
        EcrlError: `run` has none of these forms.
    """
    try:
        if isinstance(run, str):
            suite_id, variant, seed = run.split("/")
            return suite_id, variant, int(seed.removeprefix("seed"))
        # rows from `iloc` and rows from `itertuples` both have attributes
        suite_id, variant, seed = (run.suite_id, run.variant, run.seed) if hasattr(run, "suite_id") else run
        return str(suite_id), str(variant), int(seed)
    except (ValueError, TypeError, AttributeError):
        raise EcrlError(
            "ECRL-710",
            f"run: found {run!r}, expected a row of `campaign.runs`, (suite_id, variant, seed) or"
            ' "suite_id/variant/seed1337".',
        ) from None


def _format_value(value: Any) -> Any:
    """A value as the manifest writes it: lists as text, None for an empty cell."""
    if isinstance(value, tuple):
        return manifest.format_cell(value)
    return None if value == "" else value


def open_campaign(path: "str | os.PathLike[str]") -> Campaign:
    """Load and analyse the campaign in `results/<prefix>`, which may be running.

    Raises:
        EcrlError: there is no campaign (the message names those nearby), or its frozen matrix cannot be read.
    """
    folder = Path(path)
    folder = folder if folder.name else folder.resolve()
    if not (folder / f"{folder.name}_matrix.toml").is_file():
        raise EcrlError("ECRL-301", _describe_missing_campaign(folder))
    paths = CampaignPaths(folder.parent, folder.name)
    return Campaign(paths, load_campaign(paths))


def _describe_missing_campaign(folder: Path) -> str:
    known = [str(home / prefix) for home in (folder, folder.parent) for prefix in all_prefixes(home)]
    nothing = f"No campaign is in {folder} or {folder.parent}."
    there = f"There are: {join_some(known, _SHOWN_PREFIXES)}." if known else nothing
    return (
        f"ecrl.load: found {str(folder)!r}, expected a campaign's folder, which holds {folder.name}_matrix.toml."
        f"{did_you_mean(str(folder), known)}\n{there} Type `ecrl matrix list --results {folder.parent}`."
    )
