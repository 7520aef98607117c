"""`tensorboard`: an event file for each run, and its parameters for the tab HParams.

See it with `tensorboard --logdir results/mine/trackers/tensorboard`.
"""

from collections.abc import Sequence
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams.api_pb2 import Status
from tensorboard.plugins.hparams.metadata import (
    PLUGIN_DATA_VERSION,
    PLUGIN_NAME,
    SESSION_END_INFO_TAG,
    SESSION_START_INFO_TAG,
)
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from tensorboard.summary.writer.record_writer import RecordWriter

from ecrl.trackers.tracker import Point, RunLog, TrackedRun, Tracker, TrackerPlugin

EXTRA = ("tensorboard", "tensorboard")


class _EventFile(RunLog):
    """One file for the whole life of a run: what was written after the last commit is cut off and written again."""

    def __init__(self, path: Path, run: TrackedRun) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        known = run.mark if run.mark is not None and self._file.tell() >= run.mark else 0
        self._file.truncate(known)
        self._records = RecordWriter(self._file)
        if not known:
            self._write(Event(file_version="brain.Event:2"))
            start = SessionStartInfo(group_name=run.name)
            for key, value in run.parameters.items():
                # A text is one, and what else there is a number: a bool is 0 or 1.
                field = "string_value" if isinstance(value, str) else "number_value"
                setattr(start.hparams[key], field, value)
            self._write_session(SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=start))

    def log(self, points: Sequence[Point]) -> None:
        """See `RunLog.log`."""
        for point in points:
            values = [Summary.Value(tag=name, simple_value=value) for name, value in point.values.items()]
            self._write(Event(wall_time=point.unix_s, step=point.step, summary=Summary(value=values)))

    def commit(self) -> int:
        """See `RunLog.commit`."""
        self._file.flush()
        return self._file.tell()

    def end(self, *, completed: bool) -> None:
        """See `RunLog.end`."""
        end = SessionEndInfo(status=Status.STATUS_SUCCESS if completed else Status.STATUS_FAILURE)
        self._write_session(SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end))
        self.close()

    def close(self) -> None:
        """See `RunLog.close`."""
        self._file.close()

    def _write(self, event: Event) -> None:
        self._records.write(event.SerializeToString())

    def _write_session(self, tag: str, content: HParamsPluginData) -> None:
        content.version = PLUGIN_DATA_VERSION
        plugin = SummaryMetadata.PluginData(plugin_name=PLUGIN_NAME, content=content.SerializeToString())
        told = Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin))
        self._write(Event(summary=Summary(value=[told])))


class TensorBoard(Tracker):
    """A folder for each run, below the tracker's own."""

    def __init__(self, folder: Path, _campaign: str) -> None:
        self.where = str(folder)
        self._folder = folder

    def open_run(self, run: TrackedRun) -> RunLog:
        """See `Tracker.open_run`."""
        return _EventFile(self._folder / run.name / "events.out.tfevents.ecrl", run)


PLUGIN = TrackerPlugin(description="event files for TensorBoard", make=TensorBoard)
