"""Records of a job without a campaign: what its user must know goes to the log, the rest is dropped."""

import logging
from typing import Any

from ecrl.records.recorder import Recorder

_LOG = logging.getLogger("ecrl")


class LogRecorder(Recorder):
    """Writes no file. A checkpoint that is given up is a warning of the logger `ecrl`, a restore an information."""

    def __init__(self) -> None:
        pass  # there is no file to open

    def event(self, kind: str, /, *, t: int | None = None, **fields: Any) -> None:
        """See `Recorder.event`."""
        match kind:
            case "persist_failed":
                _LOG.warning("checkpoint of step %s was given up: %s", fields["s"], fields["reason"])
            case "remove_failed":
                _LOG.warning("checkpoint of step %s was not removed: %s", fields["s"], fields["reason"])
            case "restored" if fields["step"]:
                _LOG.info("restored step %s", fields["step"])

    def close(self) -> None:
        """See `Recorder.close`."""
