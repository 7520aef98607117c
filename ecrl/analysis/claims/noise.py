"""A/A: the reference run twice. What two equal runs differ by is noise, and an effect must exceed it.

Definitions: docs/metrics.md, "Noise of equal runs".
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ecrl.analysis.campaign.axes import select_rows
from ecrl.analysis.campaign.load import REPEAT_VARIANT, LoadedCampaign
from ecrl.analysis.run.metrics import REFERENCE
from ecrl.analysis.statistics.compare import Comparison, Kind, compare


@dataclass(frozen=True)
class Noise:
    """The second reference against the first. sd: root mean square of d (the true mean is 0, so that one pair tells
    something already), on the scale of d: the logarithm for a ratio."""

    comparison: Comparison
    sd: float


def noise(
    campaign: LoadedCampaign,
    metric: str = "goodput_steps_per_s",
    kind: Kind = "ratio",
    where: Mapping[str, Any] = MappingProxyType({}),
) -> Noise | None:
    """The noise of a metric, of the suites that `where` chooses as a claim's does.

    None where no reference was run twice, or where a reference never has any of it (it takes no checkpoint, so its
    stall is 0 twice over): that two zeros agree says nothing about what other runs differ by.
    """
    rows = [run.row for run in (*campaign.runs, *campaign.again) if run.row["variant"] in (REFERENCE, REPEAT_VARIANT)]
    if not campaign.again:
        return None
    found = compare(select_rows(rows, where), REPEAT_VARIANT, REFERENCE, metric, kind, campaign.dropped)
    if not any(pair.a or pair.b for pair in found.pairs):
        return None
    return Noise(found, math.sqrt(math.fsum(pair.d**2 for pair in found.pairs) / len(found.pairs)))
