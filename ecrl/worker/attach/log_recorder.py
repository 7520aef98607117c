"""Records of a job without a campaign: what its user must know goes to the log, the rest is dropped."""

import logging
from typing import Any

from ecrl.records.recorder import Recorder

_LOG = logging.getLogger("ecrl")


class LogRecorder(Recorder):
    """Writes no file. A checkpoint that is given up is a warning of the logger `ecrl`, a restore an information.

    settled: the step of the newest checkpoint that is committed or given up; what is committed, rank 0 alone knows.
    """

    def __init__(self) -> None:
        self.settled = 0  # there is no file to open

    def event(self, kind: str, /, *, t: int | None = None, **fields: Any) -> None:
        """See `Recorder.event`."""
        match kind:
            case "committed":
                self.settled = fields["s"]
            case "persist_failed":
                self.settled = fields["s"]
                _LOG.warning("checkpoint of step %s was given up: %s", fields["s"], fields["reason"])
            case "remove_failed":
                _LOG.warning("checkpoint of step %s was not removed: %s", fields["s"], fields["reason"])
            case "restored" if fields["step"]:
                _LOG.info("restored step %s", fields["step"])

    def close(self) -> None:
        """See `Recorder.close`."""
