"""One rank of one run, inside torchrun: `python -m ecrl.worker RUN_FOLDER`.

The run folder's `run.json` defines everything that the rank does. The rank records its events in its own file. Heavy
imports happen after the first event, so the records show their share of a restart.
"""

import gc
import os
import socket
import sys
import traceback
from pathlib import Path

from ecrl.checkpoint.sharded.prefetch_verify import PrefetchedVerification
from ecrl.config.run import RunSpec
from ecrl.errors import EcrlError
from ecrl.records.clock import boot_id, real_minus_boot_ns
from ecrl.records.failure_checks import count_expected_restarts
from ecrl.records.paths import RunPaths
from ecrl.records.places import list_places
from ecrl.records.reader import Event, read_events
from ecrl.records.recorder import Recorder
from ecrl.worker.leave import leave
from ecrl.worker.rank_info import read_rank_info

# The exit code of an attempt that follows an unplanned crash. Python, signals and torchrun do not use it.
EXIT_REFUSED = 86


def main(folder: Path) -> int:
    """Record the start, then run. Returns the exit code: EXIT_REFUSED if the attempt follows an unplanned crash."""
    paths = RunPaths(folder)
    rank_info = read_rank_info()
    attempt = rank_info.attempt
    recorder = Recorder(paths.events(attempt, rank_info.rank))
    recorder.event(
        "start",
        rank=rank_info.rank,
        attempt=attempt,
        world_size=rank_info.world_size,
        pid=os.getpid(),
        host=socket.gethostname(),
        boot_id=boot_id(),
        real_minus_boot_ns=real_minus_boot_ns(),
        process_start=_process_start_ns(),
    )
    fired = _load_fired(paths, attempt)
    if (planned := count_expected_restarts(fired)) != attempt:
        reason = f"attempt {attempt} follows {planned} planned failures: a rank of attempt {attempt - 1} died unplanned"
        recorder.event("refused", reason=reason)
        print(reason, file=sys.stderr)
        return EXIT_REFUSED
    gc.disable()  # imports create many objects and no garbage; collections would take a sixth of the import time
    try:
        spec = RunSpec.read(paths.spec)
        verify = PrefetchedVerification(
            list_places(paths), run=spec.hash, world_size=rank_info.world_size, recorder=recorder
        )
        already_fired = [event["index"] for event in fired]
        # These imports load torch: 1.3 s and more, after the first record.
        if spec.job is None:
            from ecrl.worker.run import run

            ended_ns = run(spec, paths, rank_info, recorder, already_fired, verify)
        else:
            from ecrl.worker.attach.script import run_script
            from ecrl.worker.attach.session import Session

            ended_ns = run_script(Session(spec, paths, rank_info, recorder, already_fired, verify))
    except Exception as error:
        message = error.format_message() if isinstance(error, EcrlError) else str(error)
        recorder.event("error", type=type(error).__name__, message=message[:2000], trace=traceback.format_exc()[-8000:])
        raise
    finally:
        gc.enable()
    recorder.event("end", t=ended_ns)
    return 0


def _load_fired(paths: RunPaths, attempt: int) -> list[Event]:
    """The `failure` events of all ranks in earlier attempts."""
    warnings: list[str] = []  # ignored: a `failure` event is one write, so its own kill cannot tear its line
    files = [path for (a, _), path in paths.all_events().items() if a < attempt]
    return [e for path in files for e in read_events(path, warnings) if e["e"] == "failure"]


def _process_start_ns() -> int | None:
    """The stamp at which the kernel started this process (resolution 10 ms); None without /proc."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[19]) * 10**9 // os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    leave(main(Path(sys.argv[1])))
