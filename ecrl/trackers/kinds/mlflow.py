"""`mlflow`: an experiment for the campaign, in a SQLite file of its own or where MLFLOW_TRACKING_URI says.

See it with `mlflow ui --backend-store-uri sqlite:///results/mine/trackers/mlflow/mlflow.db`, from the package `mlflow`.
"""

import os
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read at import; a lab on a cluster calls nobody
# A server that does not answer is given up after half a minute, not after a quarter of an hour: feeding goes on later.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "4")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from ecrl.trackers.tracker import Point, RunLog, TrackedRun, Tracker, TrackerPlugin

EXTRA = ("mlflow", "mlflow")

_MAX_METRICS, _MAX_PARAMETERS = 1000, 100  # of one call, as MLflow's documentation says
_MAX_VALUE = 6000  # characters of a parameter
_RUN_TAG, _CAMPAIGN_TAG = "ecrl.run", "ecrl.campaign_id"


class _Run(RunLog):
    """MLflow keeps equal points (series, step, time and value) once, so that a repetition adds none."""

    def __init__(self, client: MlflowClient, experiment: str, run: TrackedRun) -> None:
        self._client = client
        own = {_RUN_TAG: run.name, _CAMPAIGN_TAG: run.campaign_id}
        wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in own.items())
        found = client.search_runs([experiment], wanted, max_results=1)
        if found:
            self._id = found[0].info.run_id
            client.update_run(self._id, status="RUNNING")
            return
        tags = own | {f"ecrl.{key}": value for key, value in run.labels.items()}
        self._id = client.create_run(experiment, run_name=run.name, tags=tags).info.run_id
        told = [Param(key, str(value)[:_MAX_VALUE]) for key, value in run.parameters.items()]
        for begin in range(0, len(told), _MAX_PARAMETERS):
            client.log_batch(self._id, params=told[begin : begin + _MAX_PARAMETERS])

    def log(self, points: Sequence[Point]) -> None:
        """See `RunLog.log`."""
        metrics = [
            Metric(name, value, round(point.unix_s * 1000), point.step)
            for point in points
            for name, value in point.values.items()
        ]
        for begin in range(0, len(metrics), _MAX_METRICS):
            self._client.log_batch(self._id, metrics=metrics[begin : begin + _MAX_METRICS])

    def commit(self) -> None:
        """See `RunLog.commit`. Each call of MLflow is a transaction."""

    def end(self, *, completed: bool) -> None:
        """See `RunLog.end`."""
        self._client.set_terminated(self._id, "FINISHED" if completed else "FAILED")


class Mlflow(Tracker):
    """One experiment, named as the campaign."""

    def __init__(self, folder: Path, campaign: str) -> None:
        own = f"sqlite:///{folder.absolute() / 'mlflow.db'}"
        self.address = os.environ.get("MLFLOW_TRACKING_URI", "")
        self.where = self.address or own
        self._client = MlflowClient(tracking_uri=self.where)
        found = self._client.get_experiment_by_name(campaign)
        artifacts = (folder / "artifacts").absolute().as_uri() if not self.address else None
        self._experiment = found.experiment_id if found else self._client.create_experiment(campaign, artifacts)

    def open_run(self, run: TrackedRun) -> RunLog:
        """See `Tracker.open_run`."""
        return _Run(self._client, self._experiment, run)


PLUGIN = TrackerPlugin(description="runs of an MLflow experiment, in SQLite or on a server", make=Mlflow)
