"""The registration file of a campaign, against what ran (docs/metrics.md, "The registration file")."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecrl.analysis.run.metrics import RunAnalysis
from ecrl.config.frozen import FrozenMatrix
from ecrl.config.registration import (
    RegistrationFile,
    compute_analysis_version,
    describe_claim,
    get_kept_path,
    read_registration,
)
from ecrl.config.stamp import read_time
from ecrl.errors import EcrlError
from ecrl.records.paths import CampaignPaths

_ENDED = ("completed", "failed")


@dataclass(frozen=True)
class Plan:
    """A registration file. name: of the file. is_kept: whether it was there when the campaign was frozen."""

    name: str
    file: RegistrationFile
    is_kept: bool


@dataclass(frozen=True)
class PlanComparison:
    """What was registered, against what ran. Texts; empty: no difference.

    time: when it was registered. analysis: the versions of the code, if they differ.
    claims: 'claim X: changed (...)'. missing: registered runs that did not end. added: runs that nobody registered.
    settings: what else of the matrix differs.
    """

    prefix: str
    name: str
    sha256: str
    time: str
    is_kept: bool
    n_blocks: int
    claims: tuple[str, ...]
    missing: tuple[str, ...]
    added: tuple[str, ...]
    settings: tuple[str, ...]
    analysis: str


def find_plan(paths: CampaignPaths, frozen: FrozenMatrix, given: Path | None) -> Plan | None:
    """The registration of a campaign: the given file, else the one that is kept with it.

    Raises:
        EcrlError: the given file registers another experiment, or a file was changed.
    """
    kept = get_kept_path(paths)
    if given is not None:
        found = read_registration(given)
        if not any(map(found.covers, frozen.generations)):
            raise EcrlError(
                "ECRL-724",
                f"--registration: {given} registers none of the suites of {paths.prefix}: it is that of another"
                f" experiment.\nExpected the file that `ecrl register` wrote for {frozen.header.get('source', 'it')}.",
            )
        return Plan(given.name, found, kept.is_file() and read_registration(kept) == found)
    return Plan(kept.name, read_registration(kept), True) if kept.is_file() else None


def compare_with_plan(
    plan: Plan, frozen: FrozenMatrix, runs: Sequence[RunAnalysis], stray: Sequence[str], prefix: str
) -> PlanComparison:
    """Compare a registration with the frozen matrix and the runs. stray: run folders that no matrix asks for."""
    content = plan.file.content
    registered = {(b["suite"], variant, b["seed"]) for b in content["blocks"] for variant in b["variants"]}
    ended = {run.key for run in runs if run.row["outcome"] in _ENDED}
    claims = [describe_claim(claim) for claim in frozen.matrix.claims]
    analysis = compute_analysis_version()
    changed = _compare_claims(content["claims"], claims)
    fits = any(map(plan.file.fits, frozen.generations))
    same_blocks = {run.key for run in runs} == registered
    other = not fits and not changed and same_blocks
    return PlanComparison(
        prefix,
        plan.name,
        plan.file.sha256,
        _describe_time(plan.file, frozen),
        plan.is_kept,
        len(content["blocks"]),
        changed,
        tuple(_format_runs(registered - ended)),
        (*_format_runs(ended - registered), *stray),
        ("settings that are in no suite's id (the device, or a schedule's name)",) if other else (),
        "" if content["analysis"] == analysis else f"{content['analysis']} was registered, {analysis} wrote this",
    )


def _format_runs(keys: set[tuple[str, str, int]]) -> list[str]:
    return ["{}/{}/seed{}".format(*key) for key in sorted(keys)]


def _compare_claims(registered: Sequence[dict[str, Any]], judged: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    old, new = ({claim["name"]: claim for claim in claims} for claims in (registered, judged))
    found = []
    for name in dict.fromkeys([*old, *new]):
        if name not in new:
            found.append(f"claim {name!r}: registered, and dropped from the matrix")
        elif name not in old:
            found.append(f"claim {name!r}: added after the registration")
        else:
            keys = [key for key in dict.fromkeys([*old[name], *new[name]]) if old[name].get(key) != new[name].get(key)]
            texts = [f"{key} was {old[name].get(key, 'absent')}, is {new[name].get(key, 'absent')}" for key in keys]
            found += [f"claim {name!r}: {'; '.join(texts)}"] if texts else []
    return tuple(found)


def _describe_time(registered: RegistrationFile, frozen: FrozenMatrix) -> str:
    """'in commit 1a2b3c4 of 2026-01-01T...; the campaign was frozen 2026-01-02T...'."""
    commit, stamp = registered.content["commit"], registered.stamp
    told = []
    if commit is not None:
        changed = "" if commit["clean"] else ", other files of its working tree changed"
        told.append(f"its matrix is in commit {commit['id'][:12]} of {commit['date']}{changed}")
    if stamp is not None:
        time = read_time(stamp)
        told.append(
            "it has an RFC 3161 stamp, which cannot be read without `rfc3161-client`"
            if time is None
            else f"it has an RFC 3161 stamp of {time:%Y-%m-%dT%H:%M:%SZ}, whose signature was not checked here"
        )
    told = told or ["nothing shows when it was written: no commit holds its matrix, and it has no stamp"]
    return "; ".join([*told, f"the campaign was frozen {frozen.header.get('frozen', 'at an unknown time')}"])
