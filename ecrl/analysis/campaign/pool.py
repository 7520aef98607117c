"""Pooling of several campaigns into one, and the differences between them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ecrl.analysis.campaign.axes import add_axes, format_where, get_axis_value
from ecrl.analysis.campaign.load import LoadedCampaign
from ecrl.analysis.campaign.registration import BlockKey, merge_registrations
from ecrl.analysis.campaign.variants import list_recipes
from ecrl.analysis.run.metrics import REFERENCE, RunAnalysis
from ecrl.config.matrix import Claim, Matrix
from ecrl.errors import EcrlError
from ecrl.records.manifest import store as manifest

# Facts of the machine and the versions. A report must name every one in which pooled campaigns differ.
MACHINE_FACTS = (
    "host", "kernel", "cpu", "cores", "memory_bytes", "gpu", "gpus", "driver", "nccl", "cuda", "python", "torch",
    "ecrl", "git", "disk", "filesystem", "checkpoint_disk",
)  # fmt: skip
# Axes to which a second campaign may add values, as to those of `[axes]`. It may also add failure schedules. Any other
# difference between the matrices counts as one (see `differences`).
AXES = ("datasets", "models", "checkpoint_every", "max_inflight", "seeds")
SEPARATOR = "+"


def differences(campaigns: Sequence[LoadedCampaign]) -> list[str]:
    """'torch: A has 2.9, B has 2.10' for every fact of machine, versions or matrix in which campaigns differ."""
    facts = {found.prefix: _facts(found) for found in campaigns}
    axes = {key for found in campaigns for key in found.matrix.axes}
    names = dict.fromkeys(name for known in facts.values() for name in known if name not in axes)
    found = []
    for name in names:
        values = {prefix: known.get(name, "nothing recorded") for prefix, known in facts.items()}
        if len(set(values.values())) > 1:
            found.append(f"{name}: " + ", ".join(f"{prefix} has {value}" for prefix, value in values.items()))
    return found + _find_label_conflicts(campaigns)


def _facts(found: LoadedCampaign) -> dict[str, str]:
    """Machine, versions and matrix of one campaign as text. A fact that varies within it lists all of its values."""
    machines = [run.facts["machine"] for run in found.runs if run.facts.get("machine")]
    facts = {}
    for name in MACHINE_FACTS:
        values = sorted({str(machine[name]) for machine in machines if name in machine})
        if values:
            facts[name] = " and ".join(values)
    devices = sorted({str(run.row["device"]) for run in found.runs if run.row["device"]})
    facts["device"] = " and ".join(devices) or found.matrix.run.device
    facts["variants"] = ", ".join(sorted(found.matrix.matrix.variants))
    for variant, recipe in list_recipes(found.matrix).items():
        facts[f"variants.{variant}.engine"] = recipe.engine
        facts |= {f"variants.{variant}.{option}": value for option, value in recipe.options.items()}
    facts |= {f"train.{name}": str(value) for name, value in vars(found.matrix.train_settings).items()}
    facts |= {f"checkpoint.{name}": str(value) for name, value in vars(found.matrix.checkpoint_settings).items()}
    facts["claims"] = "; ".join(map(_describe_claim, found.matrix.claims)) or "none"
    return facts


def _describe_claim(claim: Claim) -> str:
    told = (f"{claim.metric} of {' and '.join(claim.variants)}", claim.expect, format_where(claim.where))
    return f"{claim.name} ({', '.join(filter(None, told))})"


def _find_label_conflicts(campaigns: Sequence[LoadedCampaign]) -> list[str]:
    """A text for every label that campaigns use for different failure schedules."""
    places: dict[str, dict[str, str]] = {}
    for found in campaigns:
        for suite in found.suites:
            steps = ",".join(map(str, suite.failure_steps)) or "none"
            places.setdefault(suite.failure_label, {}).setdefault(found.prefix, steps)
    return [
        f"failures.{label}: " + ", ".join(f"{prefix} has {steps}" for prefix, steps in own.items())
        for label, own in places.items()
        if len(set(own.values())) > 1
    ]


def pool(campaigns: Sequence[LoadedCampaign], *, mix: bool = False) -> LoadedCampaign:
    """Pool the blocks of several campaigns into one. The order of the campaigns changes nothing.

    Raises:
        EcrlError: the campaigns differ in machine, versions or matrix, and `mix` is not set; or two of them ran one
            block.
    """
    # The order decides which blocks the sequential test takes for the first ones. A name could be chosen to fit.
    campaigns = sorted(campaigns, key=lambda found: (found.frozen_at, found.prefix))
    prefixes = [found.prefix for found in campaigns]
    if len(set(prefixes)) < len(prefixes):
        raise EcrlError("ECRL-102", f"--prefix: found one twice ({', '.join(prefixes)}), expected different campaigns.")
    mixed = differences(campaigns)
    if mixed and not mix:
        raise EcrlError(
            "ECRL-703",
            f"{' and '.join(prefixes)} differ. {'; '.join(mixed)}.\n"
            "Expected the same machine, versions and matrix (axes may differ).\n"
            f"See both: `ecrl compare {prefixes[0]} {prefixes[1]}`; pool anyway, and have the report say so: --mix.",
        )
    matrix = _merge_matrices(campaigns)
    suites = {suite.suite_id: suite for found in reversed(campaigns) for suite in found.suites}
    owners = _find_owners(campaigns)
    parts = [_take_blocks(found, owners) for found in campaigns]
    statuses: dict[str, manifest.Row] = {}
    for found in campaigns:
        for suite_id, row in found.statuses.items():
            if suite_id not in statuses or statuses[suite_id].status == manifest.COMPLETED:
                statuses[suite_id] = row
    warnings = [f"{found.prefix}: {text}" for found in campaigns for text in found.warnings]
    registered = [(part.registration, [run.key for run in part.runs], part.prefix) for part in parts]
    return LoadedCampaign(
        SEPARATOR.join(sorted(prefixes)),
        matrix,
        tuple(suites.values()),
        tuple(add_axes(run, suites[run.row["suite_id"]], matrix.axes) for part in parts for run in part.runs),
        {key: fault for part in parts for key, fault in part.faults.items()},
        statuses,
        tuple(warnings),
        again=tuple(add_axes(run, suites[run.row["suite_id"]], matrix.axes) for part in parts for run in part.again),
        parts=tuple(campaigns),
        mixed=tuple(mixed),
        registration=merge_registrations(registered),
        plans=tuple(plan for found in campaigns for plan in found.plans),
        siblings=_merge_siblings(campaigns),
    )


def _merge_siblings(campaigns: Sequence[LoadedCampaign]) -> dict[str, tuple[str, ...]]:
    """The siblings of all campaigns: one that tests a claim on the suites of a single one of them is a sibling, too."""
    found: dict[str, dict[str, None]] = {}
    for campaign in campaigns:
        for name, tested in campaign.siblings.items():
            found.setdefault(name, {}).update(dict.fromkeys(tested))
    return {name: tuple(tested) for name, tested in found.items()}


def _find_owners(campaigns: Sequence[LoadedCampaign]) -> dict[BlockKey, str]:
    """The campaign that each block is taken from: the one that ran it, or the first one that registered it.

    Raises:
        EcrlError: two campaigns ran the same block, perhaps under different labels.
    """
    # A block comes from one campaign as a whole: a second reference run must not be compared with a first one of
    # another session.
    owners: dict[BlockKey, str] = {}
    ran: dict[tuple[object, int], tuple[str, BlockKey]] = {}  # suite or its work, and seed -> campaign and block
    for found in campaigns:
        blocks: dict[BlockKey, list[RunAnalysis]] = {}
        for run in found.runs:
            blocks.setdefault((run.row["suite_id"], run.row["seed"]), []).append(run)
        for block, runs in blocks.items():
            owners.setdefault(block, found.prefix)
            if all(run.row["outcome"] == "missing" for run in runs):
                continue
            # Work is what every variant uses but the reference, which is the same for all schedules and intervals.
            work = tuple(sorted(run.row["uses"] for run in runs if run.row["variant"] != REFERENCE))
            for name in (block[0], work or block[0]):
                there, other = ran.setdefault((name, block[1]), (found.prefix, block))
                if there != found.prefix:
                    raise EcrlError("ECRL-708", _describe_repeated_block(there, other, found.prefix, block))
            owners[block] = found.prefix
    return owners


def _describe_repeated_block(there: str, other: BlockKey, prefix: str, block: BlockKey) -> str:
    label = "" if other == block else f" (in {there}: {other[0]}/seed{other[1]})"
    return (
        f"{there} and {prefix} both ran {block[0]}/seed{block[1]}{label}: a block counts once, and which of the two"
        " must not be a choice.\n"
        f"Report on one of them: `ecrl report --prefix {there}`; or compare them: `ecrl compare {there} {prefix}`."
    )


def _take_blocks(found: LoadedCampaign, owners: Mapping[BlockKey, str]) -> LoadedCampaign:
    """The campaign without the blocks that another one owns."""

    def is_own(suite_id: str, seed: int) -> bool:
        return owners[suite_id, seed] == found.prefix

    runs = [run for run in found.runs if is_own(run.row["suite_id"], run.row["seed"])]
    return replace(
        found,
        runs=tuple(replace(run, facts=run.facts | {"campaign": found.prefix}) for run in runs),
        again=tuple(run for run in found.again if is_own(run.row["suite_id"], run.row["seed"])),
        faults={key: fault for key, fault in found.faults.items() if is_own(key[0], key[2])},
    )


def _merge_matrices(campaigns: Sequence[LoadedCampaign]) -> Matrix:
    """The first matrix with the axes, schedules, variants and claims of all.

    A key in the `[axes]` of any matrix is in the result's `[axes]`, with the values of all campaigns: also of those in
    which it is a plain setting.
    """
    matrices = [found.matrix for found in campaigns]
    first = matrices[0]
    suites = [suite for found in campaigns for suite in found.suites]
    keys = dict.fromkeys(key for matrix in matrices for key in matrix.axes)
    settings = {key: list(dict.fromkeys(get_axis_value(suite, key) for suite in suites)) for key in keys}
    recipes = {name: table for matrix in reversed(matrices) for name, table in matrix.variants.items()}
    axes: dict[str, list[Any]] = {
        axis: list(dict.fromkeys(value for matrix in matrices for value in getattr(matrix.matrix, axis)))
        for axis in (*AXES, "variants")
    }
    schedules: Mapping[str, Any] = {label: own for m in reversed(matrices) for label, own in m.failures.items()}
    claims = [claim for place, claim in enumerate(c for m in matrices for c in m.claims)]
    unique = [claim for place, claim in enumerate(claims) if claim not in claims[:place]]
    return first.model_copy(
        update={
            "matrix": first.matrix.model_copy(update=axes),
            "axes": settings,
            "variants": recipes,
            "failures": schedules,
            "claims": unique,
        }
    )
