"""ecrl with a stand-in launcher and probe, to be killed: `python -m tests.torture.orchestrator_ecrl run|resume RESULTS
PREFIX MATRIX`. Its workers claim every device of their lease for themselves in $ECRL_CLAIMS, and tell on each other.
"""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from ecrl.launch.runs.run import Run
from ecrl.launch.system.device_leases import LEASE_MARKER
from ecrl.launch.system.process_identity import get_start_ticks
from tests.unit.launch import stand_in, stand_in_worker
from tests.unit.launch.stand_in import StandIn

CLAIMS = "ECRL_CLAIMS"


@dataclass
class Claiming(StandIn):
    """Starts this program as the worker."""

    def command(self, run: Run) -> list[str]:
        return [sys.executable, "-m", "tests.torture.orchestrator_ecrl", "worker", str(run.paths.folder)]


def worker(folder: Path) -> int:
    """A run: its devices are claimed as long as it goes on; a claim of a living other is a violation."""
    claims = [Path(os.environ[CLAIMS]) / name for name in os.environ[LEASE_MARKER].partition(":")[2].split(",")]
    me = f"{os.getpid()} {get_start_ticks(os.getpid())}"
    for claim in claims:
        other = claim.read_text() if claim.exists() else ""
        if other and get_start_ticks(int(other.split()[0])) == int(other.split()[1]):
            claim.with_suffix(".violated").write_text(f"{me} found {other}")
        claim.write_text(me)
    code = stand_in_worker.main("ok", folder)
    time.sleep(0.05)
    for claim in claims:
        if claim.read_text() != me:
            claim.with_suffix(".violated").write_text(f"{me} lost it to {claim.read_text()}")
        claim.unlink()
    return code


def main(command: str, *arguments: str) -> int:
    """Worker or orchestrator."""
    if command == "worker":
        return worker(Path(arguments[0]))
    stand_in.StandIn = Claiming  # type: ignore[misc]
    results, prefix, matrix = arguments
    return stand_in.main(command, results, prefix, matrix, "{}")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
