"""One rank of one run, inside torchrun: `python -m ecrl.worker RUN_FOLDER`.

Everything it does is in the run folder's `run.json`; everything it did goes to its own events file. Heavy
imports happen after the first record, so that the cost of a restart can be told apart.
"""

import gc
import os
import socket
import sys
import traceback
from pathlib import Path

from ecrl.checkpoint.sharded.prefetch_verify import PrefetchedVerification
from ecrl.config.run import RunSpec
from ecrl.records.clock import boot_id, real_minus_boot_ns
from ecrl.records.failure_checks import count_expected_restarts
from ecrl.records.paths import RunPaths
from ecrl.records.reader import Event, read_events
from ecrl.records.recorder import Recorder
from ecrl.worker.leave import leave
from ecrl.worker.rank_info import read_rank_info

# Not an exit code of Python, of a signal or of torchrun: this attempt follows a crash that nobody planned.
EXIT_REFUSED = 86


def main(folder: Path) -> int:
    """Record the start, refuse to follow an unplanned crash, then run."""
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
    gc.disable()  # imports make hundreds of thousands of objects and no garbage: collecting costs a sixth of them
    try:
        spec = RunSpec.read(paths.spec)
        verify = PrefetchedVerification(
            paths.checkpoints, run=spec.hash, world_size=rank_info.world_size, recorder=recorder
        )
        from ecrl.worker.run import run  # torch: 1.3 s and more, after the first record

        run(spec, paths, rank_info, recorder, [event["index"] for event in fired], verify)
    except Exception as error:
        recorder.event(
            "error", type=type(error).__name__, message=str(error)[:2000], trace=traceback.format_exc()[-8000:]
        )
        raise
    finally:
        gc.enable()
    recorder.event("end")
    return 0


def _load_fired(paths: RunPaths, attempt: int) -> list[Event]:
    """The `failure` events of earlier attempts, of any rank."""
    warnings: list[str] = []  # a line torn by the very kill that it announces does not exist: it is one write
    files = [path for (a, _), path in paths.all_events().items() if a < attempt]
    return [e for path in files for e in read_events(path, warnings) if e["e"] == "failure"]


def _process_start_ns() -> int | None:
    """When the kernel started this process, on the records' clock (10 ms resolution)."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[19]) * 10**9 // os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    leave(main(Path(sys.argv[1])))
