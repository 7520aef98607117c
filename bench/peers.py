"""The same questions put to GNU parallel, where it is installed: `--resume --joblog` over as many no-op jobs."""

import shutil
import subprocess
import time
from pathlib import Path

_HEADER = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n"


def version() -> str | None:
    """Which GNU parallel there is; None: there is none."""
    if shutil.which("parallel") is None:
        return None
    first = subprocess.run(["parallel", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    return first if "GNU parallel" in first else None


def resume_s(folder: Path, number: int) -> float:
    """Seconds to find and run the one job of `number` that its log does not name."""
    log = folder / "parallel.log"
    done = (n for n in range(1, number + 1) if n != number // 2)
    log.write_text(_HEADER + "".join(f"{n}\t:\t1700000000.000\t     0.001\t0\t0\t0\t0\ttrue {n}\n" for n in done))
    numbers = folder / "numbers"
    numbers.write_text("".join(f"{n}\n" for n in range(1, number + 1)))
    return _timed("--resume", "--joblog", str(log), "-j1", "true", "{}", "::::", str(numbers))


def per_job_s(folder: Path, number: int) -> float:
    """Seconds a job takes, start of GNU parallel included."""
    log = folder / "parallel-jobs.log"
    log.unlink(missing_ok=True)
    return _timed("--joblog", str(log), "-j1", "true", ":::", *map(str, range(number))) / number


def _timed(*arguments: str) -> float:
    before = time.perf_counter()
    command = ["parallel", "--will-cite", *arguments]
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - before
