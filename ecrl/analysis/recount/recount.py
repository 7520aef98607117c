"""Compares the metrics of every run with those that SQL computes from the same files."""

import importlib.util
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecrl.plugins import MissingExtraError

METRICS = ("goodput_steps_per_s", "replayed_steps", "ettr_ref")
# Both sides add up whole nanoseconds, so they differ in the order of a few floating-point operations only.
TOLERANCE = 1e-9
_QUERY = Path(__file__).parent / "runs.sql"
_MOST_NAMED = 12
_NOT_READ = ("missing", "unreadable")  # outcomes of runs whose records ecrl does not use

RunKey = tuple[str, str, int]


@dataclass(frozen=True)
class Difference:
    """A metric of one run that the two implementations do not agree on. None: there is no value."""

    run: str
    metric: str
    ours: float | None
    recounted: float | None

    def __str__(self) -> str:
        return f"{self.run}: {self.metric} is {self.ours}, counted again {self.recounted}"


@dataclass(frozen=True)
class Recount:
    """The result of counting twice. runs: the number of runs that have a value of each metric, on either side."""

    runs: Mapping[str, int]
    differences: tuple[Difference, ...]

    @property
    def sentences(self) -> tuple[str, ...]:
        """One sentence for each metric; one that does not agree is followed by the runs."""
        return tuple(self._describe(metric) for metric in METRICS)

    def _describe(self, metric: str) -> str:
        n, own = self.runs[metric], [found for found in self.differences if found.metric == metric]
        if not n:
            return f"{metric}: no run has it, so nothing was counted twice"
        if not own:
            return f"{metric}: 2 of 2 agree in {n} {'run' if n == 1 else 'runs'}"
        named = "; ".join(map(str, own[:_MOST_NAMED]))
        rest = f"; and {len(own) - _MOST_NAMED} more" if len(own) > _MOST_NAMED else ""
        return f"{metric}: the two counts differ in {len(own)} of {n} {'run' if n == 1 else 'runs'}: {named}{rest}"


def check_extra() -> None:
    """Raise if duckdb is not installed."""
    if importlib.util.find_spec("duckdb") is None:
        raise MissingExtraError("ECRL-290", "--check needs the extra `check`: pip install 'ecrl[check]'")


def recount(rows: Iterable[Mapping[str, Any]], folders: Mapping[RunKey, Path]) -> Recount:
    """Compute the metrics of every run a second time. rows: of the runs table. folders: of the runs, by key."""
    known = [row for row in rows if row["outcome"] not in _NOT_READ]
    found = _query([folders[_get_key(row)] for row in known])
    runs, differences = dict.fromkeys(METRICS, 0), []
    for row in known:
        key = _get_key(row)
        again = found.get(str(folders[key]), {})
        for metric in METRICS:
            ours, theirs = row[metric], again.get(metric)
            runs[metric] += ours is not None or theirs is not None
            if not _agree(ours, theirs):
                differences.append(Difference("{}/{}/seed{}".format(*key), metric, ours, theirs))
    return Recount(runs, tuple(differences))


def _get_key(row: Mapping[str, Any]) -> RunKey:
    return row["suite_id"], row["variant"], row["seed"]


def _query(folders: Sequence[Path]) -> dict[str, dict[str, float | None]]:
    """The metrics by the path of the run's folder."""
    files = {
        "events": [str(path) for folder in folders for path in sorted(folder.glob("events-*.jsonl"))],
        "specs": [str(folder / "run.json") for folder in folders],
        "results": [str(path) for folder in folders if (path := folder / "result.json").is_file()],
    }
    if not folders:
        return {}
    import duckdb

    with duckdb.connect() as database:
        # DuckDB reads no empty list; runs that did not finish have no result.
        read = {name: paths or [os.devnull] for name, paths in files.items()}
        answer = database.execute(_QUERY.read_text(encoding="utf-8"), read)
        names = [column[0] for column in answer.description or ()]
        rows = [dict(zip(names, values, strict=True)) for values in answer.fetchall()]
    return {row.pop("run"): row for row in rows}


def _agree(a: float | None, b: float | None) -> bool:
    return a is b or (a is not None and b is not None and math.isclose(a, b, rel_tol=TOLERANCE))
