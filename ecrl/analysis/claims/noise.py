"""The A/A noise: the difference between two runs of the same reference. An effect must exceed it.

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
    """The comparison of the second reference runs with the first.

    sd: root mean square of d, on the scale of d (the logarithm for a ratio).
    """

    comparison: Comparison
    sd: float  # from one pair on, as the true mean of d is 0


def noise(
    campaign: LoadedCampaign,
    metric: str = "goodput_steps_per_s",
    kind: Kind = "ratio",
    where: Mapping[str, Any] = MappingProxyType({}),
) -> Noise | None:
    """The noise of a metric over the suites that `where` selects, as a claim's `where` does.

    None if no reference was run twice, or if the metric is 0 in all reference runs.
    """
    rows = [run.row for run in (*campaign.runs, *campaign.again) if run.row["variant"] in (REFERENCE, REPEAT_VARIANT)]
    if not campaign.again:
        return None
    found = compare(select_rows(rows, where), REPEAT_VARIANT, REFERENCE, metric, kind, campaign.faults)
    # A reference takes no checkpoint, so its stall is always 0. That two zeros agree says nothing about other runs.
    if not any(pair.a or pair.b for pair in found.pairs):
        return None
    return Noise(found, math.sqrt(math.fsum(pair.d**2 for pair in found.pairs) / len(found.pairs)))
