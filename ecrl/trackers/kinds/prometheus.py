"""`prometheus`: a file for the textfile collector of node_exporter, with the newest value of every series.

Let `--collector.textfile.directory` name the tracker's folder, or link the file into the folder that it names.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from ecrl.trackers.tracker import Point, RunLog, TrackedRun, Tracker, TrackerPlugin

EXTRA = ("prometheus", "prometheus_client")

_MAX_RUNS = 100  # of a long campaign: Prometheus keeps the older ones, and every run is a series more


def _name_metric(series: str) -> str:
    """`final/wall_s` as `ecrl_final_wall_seconds`: Prometheus wants the unit in full."""
    return "ecrl_" + re.sub(r"_s$", "_seconds", series).replace("_per_seconds", "_per_second").replace("/", "_").lower()


class _Labels(RunLog):
    """The series of one run, which differ from those of others in their labels."""

    def __init__(self, tracker: "Prometheus", run: TrackedRun) -> None:
        self._tracker = tracker
        self._values = dict(run.values)
        tracker.shown[run.name] = {"campaign": run.campaign, **run.labels}, self._values
        while len(tracker.shown) > _MAX_RUNS:
            del tracker.shown[next(iter(tracker.shown))]

    def log(self, points: Sequence[Point]) -> None:
        """See `RunLog.log`."""
        for point in points:
            self._values |= {"step": point.step, **point.values}

    def commit(self) -> None:
        """See `RunLog.commit`. The file holds no history that could be there twice."""
        self._tracker.write()

    def end(self, *, completed: bool) -> None:
        """See `RunLog.end`. `final/completed` says it."""


class Prometheus(Tracker):
    """One file for the campaign."""

    def __init__(self, folder: Path, campaign: str) -> None:
        self.where = str(folder / f"ecrl_{campaign}.prom")
        self.shown: dict[str, tuple[dict[str, str], dict[str, float]]] = {}

    def open_run(self, run: TrackedRun) -> RunLog:
        """See `Tracker.open_run`."""
        return _Labels(self, run)

    def write(self) -> None:
        """Replace the file."""
        registry, gauges = CollectorRegistry(), dict[str, Gauge]()
        for labels, values in self.shown.values():
            for series, value in values.items():
                name = _name_metric(series)
                if name not in gauges:
                    told = f"{series} of a run, as docs/trackers.md says"
                    gauges[name] = Gauge(name, told, list(labels), registry=registry)
                gauges[name].labels(**labels).set(value)
        write_to_textfile(self.where, registry)


PLUGIN = TrackerPlugin(description="a file for the textfile collector of Prometheus's node_exporter", make=Prometheus)
