"""What suites are called in a report: only what tells them apart, as their ids are too long for a plot or a phone."""

from collections.abc import Callable, Mapping

from ecrl.analysis.run.metrics import Row

_PARTS: tuple[Callable[[Row], str], ...] = (
    lambda row: str(row["dataset"]),
    lambda row: str(row["model"]),
    lambda row: str(row["failure_label"]),
    lambda row: f"every {row['checkpoint_every']}",
    lambda row: f"{row['max_inflight']} in flight",
    lambda row: str(row["launcher"]),
)
_LEAST = 3  # data set, model and schedule name a suite that has no other beside it


def suite_names(suites: Mapping[str, Row]) -> dict[str, str]:
    """A short name for every suite id. Suites that differ in nothing but their settings keep the hash of their id."""
    parts = {suite_id: [part(row) for part in _PARTS] for suite_id, row in suites.items()}
    columns = list(zip(*parts.values(), strict=True))
    varying = [place for place, values in enumerate(columns) if len(set(values)) > 1] or range(_LEAST)
    names = {suite_id: ", ".join(values[place] for place in varying) for suite_id, values in parts.items()}
    taken = list(names.values())
    return {
        suite_id: name if taken.count(name) == 1 else f"{name}, {suite_id.rpartition('-')[2]}"
        for suite_id, name in names.items()
    }
