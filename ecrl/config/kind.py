"""What `config` asks of a kind of experiment: the file `config.py` of its folder exports a `ConfigKind`."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ecrl import plugins


@dataclass(frozen=True)
class ConfigKind:
    """The words of a kind of experiment in a matrix file.

    claim_metrics: those that a claim may name, numeric columns of the runs table. outcome_metrics: those of them that
    say how a run ended; a claim about one variant takes their rate, and the value of all others. refused_metrics: those
    of frozen matrices that no new file may name and no claim is judged by, with the reason.
    """

    claim_metrics: tuple[str, ...]
    outcome_metrics: tuple[str, ...] = ()
    refused_metrics: Mapping[str, str] = field(default_factory=dict)


def load_kind(name: str) -> ConfigKind:
    """The kind of experiment with this name."""
    kind: ConfigKind = plugins.load("experiment", name, "config")
    return kind
