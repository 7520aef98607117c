"""`kill`: SIGKILL of the planned rank, or of several at once. No exit handler runs, nothing is drained."""

import contextlib
import os
import signal
from collections.abc import Sequence

from ecrl.failures.base import FailureKind


class Kill(FailureKind):
    """SIGKILL to the calling process, and before that to its peers."""

    description = "SIGKILL of one rank, or of several at once"

    def strike(self, peers: Sequence[int]) -> None:
        for pid in peers:
            with contextlib.suppress(ProcessLookupError):  # it went by itself
                os.kill(pid, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


PLUGIN = Kill()
