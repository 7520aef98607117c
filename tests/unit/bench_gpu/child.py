"""A step's process that behaves as it is told: `python -m tests.unit.bench_gpu.child ok|fail|hang [FILE]`."""

import signal
import subprocess
import sys
import time
from pathlib import Path

match sys.argv[1:]:
    case ["ok"]:
        print("42")
    case ["fail"]:
        print("before it went wrong", file=sys.stderr)
        raise SystemExit("it went wrong")
    case ["hang", pids]:
        signal.signal(signal.SIGTERM, lambda *_: print("go on with: x", file=sys.stderr, flush=True))
        other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
        Path(pids).write_text(str(other.pid))
        print("still at it", file=sys.stderr, flush=True)
        time.sleep(60)
