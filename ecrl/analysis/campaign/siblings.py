"""Campaigns in the same results folder that ask the same question of the same suites."""

from collections.abc import Mapping

from ecrl.config.frozen import FrozenMatrix, load_frozen_matrix
from ecrl.config.matrix import Claim
from ecrl.config.suite import expand_matrix
from ecrl.errors import EcrlError
from ecrl.records.paths import CampaignPaths, all_prefixes


def find_siblings(paths: CampaignPaths, own: FrozenMatrix, warnings: list[str]) -> Mapping[str, tuple[str, ...]]:
    """The campaigns that test a claim on some of the same suites, by the claim's name, in the order they were frozen.

    This campaign is one of them. A campaign that cannot be read is named in `warnings`.
    """
    if not own.matrix.claims:
        return {}
    suites = {suite.suite_id for suite in expand_matrix(own.matrix)}
    asked = {claim.name: _describe(claim) for claim in own.matrix.claims}
    tested: dict[str, list[tuple[str, str]]] = {name: [] for name in asked}
    for prefix in all_prefixes(paths.results):
        try:
            found = own if prefix == paths.prefix else load_frozen_matrix(CampaignPaths(paths.results, prefix))
        except EcrlError as error:
            why = str(error).splitlines()[0].replace(f"{paths.results}/", "")
            warnings.append(f"campaign {prefix}: whether it tests the same claims cannot be seen here ({why})")
            continue
        claims = [_describe(claim) for claim in found.matrix.claims]
        names = [name for name, content in asked.items() if content in claims]
        if names and any(suite.suite_id in suites for suite in expand_matrix(found.matrix)):
            for name in names:
                tested[name].append((found.header.get("frozen", ""), prefix))
    return {name: tuple(prefix for _, prefix in sorted(own)) for name, own in tested.items()}


def _describe(claim: Claim) -> object:
    """What a claim asks: which variants, in which metric. With another bound or plan it is the same question again."""
    return sorted(claim.variants), claim.metric
