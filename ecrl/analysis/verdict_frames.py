"""The report's claims and threats to validity as frames: the tables claims.csv and threats.csv."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ecrl.analysis.claims.result import ClaimResult
from ecrl.analysis.frames.columns import CATEGORY, COUNT, NUMBER, TEXT, TRUTH, DTypes, build_frame
from ecrl.analysis.threats.detect import BLOCKING, ThreatReport

_STATES = FOUND, NOT_FOUND, CANNOT_BE_SEEN = "found", "not found", "cannot be seen"
BLOCKS, WARNS = "blocks", "warns"

_CLAIM_DTYPES: DTypes = {
    "name": TEXT,
    "metric": CATEGORY,
    "compare": CATEGORY,
    "where": TEXT,
    "verdict": CATEGORY,
    "scope": TEXT,
    "noise_measured": TRUTH,
    "estimate": NUMBER,
    "low": NUMBER,
    "high": NUMBER,
    "p": NUMBER,
    "pairs": COUNT,
    "suites": COUNT,
    "looks": COUNT,
    "vetoes": TEXT,
}
_THREAT_DTYPES: DTypes = {
    "code": TEXT,
    "state": pd.CategoricalDtype(list(_STATES)),
    "weight": pd.CategoricalDtype([BLOCKS, WARNS]),
    "evidence": TEXT,
}
CLAIM_COLUMNS, THREAT_COLUMNS = tuple(_CLAIM_DTYPES), tuple(_THREAT_DTYPES)


def build_claims_frame(claims: Sequence[ClaimResult], threats: ThreatReport) -> pd.DataFrame:
    """One row per claim.

    compare: the variants, joined with ';'. scope: whom the verdict speaks of. noise_measured: whether equal runs were
    compared; missing where the claim names no effect of two variants. estimate, low, high: the effect and its 95 %
    interval, on the claim's scale. p: Holm-adjusted. looks: how often results may have been seen before the last run
    was made; 1: all runs were registered once, and none was made again. vetoes: the codes of the threats that keep the
    claim from being CONFIRMED or REFUTED, joined with ';'.
    """
    rows = [
        {
            "name": judged.claim.name,
            "metric": judged.claim.metric,
            "compare": ";".join(judged.claim.variants),
            "where": _format_where(judged.claim.where),
            "verdict": judged.verdict,
            "scope": judged.scope or None,
            "noise_measured": judged.noise_measured,
            "estimate": judged.estimate,
            "low": judged.low,
            "high": judged.high,
            "p": judged.p_adjusted,
            "pairs": judged.n_pairs,
            "suites": judged.n_suites,
            "vetoes": ";".join(threats.find_vetoes(judged.claim)),
            "looks": judged.looks,
        }
        for judged in claims
    ]
    return build_frame(rows, CLAIM_COLUMNS, _CLAIM_DTYPES)


def _format_where(where: Mapping[str, Any]) -> str:
    """'model=resnet18;checkpoint_every=50,100'."""
    lists = {axis: value if isinstance(value, list | tuple) else [value] for axis, value in where.items()}
    return ";".join(f"{axis}={','.join(map(str, values))}" for axis, values in lists.items())


def build_threats_frame(threats: ThreatReport) -> pd.DataFrame:
    """One row per condition: first those found (blocking before warning), then those not found, then those that the
    records cannot show.

    weight: the highest weight found; for a condition that was not found, the highest possible one. evidence: also names
    the parts of a condition that were not recorded.
    """
    said: dict[str, dict[str, list[str]]] = {}  # code -> state -> evidence
    for threat in sorted(threats.found, key=lambda threat: not threat.blocking):
        _note(said, threat.code, FOUND, threat.evidence)
    for code in threats.clear:
        _note(said, code, NOT_FOUND, "looked for and not met")
    for name, why in threats.not_applicable.items():
        _note(said, name, NOT_FOUND, f"does not apply: {why}")
    for name, why in threats.not_checked.items():
        _note(said, name, CANNOT_BE_SEEN, why)
    veto = set(threats.veto_codes)
    rows = []
    for code, by_state in said.items():
        is_unseen = CANNOT_BE_SEEN in by_state and code not in threats.clear
        state = FOUND if FOUND in by_state else CANNOT_BE_SEEN if is_unseen else NOT_FOUND
        may_block = code in (veto if state == FOUND else BLOCKING)
        evidence = "; ".join(text for texts in by_state.values() for text in texts)
        rows.append({"code": code, "state": state, "weight": BLOCKS if may_block else WARNS, "evidence": evidence})
    rows.sort(key=lambda row: _STATES.index(row["state"]))
    return build_frame(rows, THREAT_COLUMNS, _THREAT_DTYPES)


def _note(said: dict[str, dict[str, list[str]]], name: str, state: str, why: str) -> None:
    """Add a text to the evidence of a code and state. name: the code, or 'code (part)' for a part of the condition."""
    code, _, part = name.partition(" (")
    text = f"{part.removesuffix(')')}: {why}" if part else why
    said.setdefault(code, {}).setdefault(state, []).append(text)
