"""`kill`: SIGKILL of the planned rank, or of several at once. No exit handler runs, nothing is drained."""

import contextlib
import os
import signal

from ecrl.failures.base import FailureKind, Strike


class Kill(FailureKind):
    """Sends SIGKILL to the peers and then to the calling process."""

    def on_phase(self, strike: Strike) -> None:
        for pid in strike.peers:
            with contextlib.suppress(ProcessLookupError):  # the process has ended already
                os.kill(pid, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


PLUGIN = Kill(
    description="SIGKILL of one rank, or of several at once",
    ends_attempt=True,
    phases=("step", "staging", "persist", "commit", "retention", "restore", "init"),
)
