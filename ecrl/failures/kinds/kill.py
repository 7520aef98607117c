"""`kill`: SIGKILL of the planned rank. No exit handler runs, nothing is drained."""

import os
import signal

from ecrl.failures.plan import FailureKind


class Kill(FailureKind):
    """SIGKILL to the calling process."""

    description = "SIGKILL of one rank"

    def strike(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


PLUGIN = Kill()
