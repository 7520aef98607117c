"""The metrics that a claim about training jobs may name."""

from ecrl.config.kind import ConfigKind
from ecrl.records.columns import CLAIM_METRICS, OUTCOME_METRICS, REFUSED_METRICS

PLUGIN = ConfigKind(claim_metrics=CLAIM_METRICS, outcome_metrics=OUTCOME_METRICS, refused_metrics=REFUSED_METRICS)
