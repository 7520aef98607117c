"""`python -m bench [--suites N] [--repeats N]`: the orchestrator's budgets as a Markdown table, medians and spreads,
beside GNU parallel where it can do the same. Exit 4 if a budget is not kept.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import peers

_MANY = 1_000_000
_RUNS = 20


@dataclass(frozen=True)
class Line:
    """One row of the table."""

    what: str
    values: Sequence[float]
    budget: float
    unit: str = "s"
    peer: Sequence[float] = ()

    @property
    def kept(self) -> bool:
        """Whether the median is within the budget."""
        return statistics.median(self.values) <= self.budget

    def cells(self) -> list[str]:
        """The row's cells."""
        peer = _spread(self.peer, self.unit) if self.peer else "-"
        return [
            self.what,
            _spread(self.values, self.unit),
            f"{self.budget:g} {self.unit}",
            "yes" if self.kept else "NO",
            peer,
        ]


def _spread(values: Sequence[float], unit: str) -> str:
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:.3g} {unit} ({low:.3g}..{high:.3g})"


def _measured(what: str, folder: Path, number: int) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.measure", what, str(folder), str(number)]
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"bench {what} failed:\n{done.stderr}")
    told: dict[str, float] = json.loads(done.stdout)
    return {"whole": time.perf_counter() - begun} | told


def _command_s(*arguments: str) -> float:
    begun = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "ecrl", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True
    )
    return time.perf_counter() - begun


def _whole_s(what: str, folder: Path, number: int) -> float:
    return _measured(what, folder, number)["whole"]


def _again(repeats: int, measure: Callable[[], float]) -> list[float]:
    return [measure() for _ in range(repeats)]


def lines(folder: Path, suites: int, repeats: int) -> list[Line]:
    """Measure everything; every value is of a process of its own, its interpreter's start included."""
    peer = peers.version() is not None
    planned = [_measured("plan", folder, suites) for _ in range(repeats)]
    _measured("finish", folder, suites)
    decided = [_measured("decide", folder, suites) for _ in range(repeats)]
    status = ["matrix", "status", "--prefix", "exp", "--results", str(folder / "results")]
    found = [
        Line(f"plan and write {suites:,} suites", [told["whole"] for told in planned], 5.0),
        Line(f"`status` of {suites:,} suites", _again(repeats, lambda: _command_s(*status)), 0.5),
        Line(
            "its reading and counting alone",
            [_measured("counts", folder, suites)["whole"] for _ in range(repeats)],
            0.5,
        ),
        Line(
            f"resume decision, {suites - 1:,} done",
            [told["whole"] for told in decided],
            1.0,
            peer=_again(repeats, lambda: peers.resume_s(folder, suites)) if peer else (),
        ),
        Line("peak memory of planning", [told["peak_mb"] for told in planned], 300, "MB"),
        Line("peak memory of the resume decision", [told["peak_mb"] for told in decided], 300, "MB"),
    ]
    changed = [_measured("change", folder, suites) for _ in range(repeats)]
    found += [
        Line("a state change, beyond the disk's own flush", [told["seconds"] * 1e3 for told in changed], 2.0, "ms"),
        Line("(the disk's own write and flush)", [told["disk"] * 1e3 for told in changed], float("inf"), "ms"),
        Line(
            f"count {_MANY:,} cells, first ids",
            [_measured("count", folder, _MANY)["whole"] for _ in range(repeats)],
            1.0,
        ),
        Line("`ecrl --help`", _again(repeats, lambda: _command_s("--help")), 0.2),
        Line(
            "overhead a run",
            [_measured("overhead", folder, _RUNS)["seconds"] for _ in range(repeats)],
            0.1,
            peer=_again(repeats, lambda: peers.per_job_s(folder, _RUNS)) if peer else (),
        ),
    ]
    return found


def show(measured: Sequence[Line], repeats: int) -> None:
    """Print the table; clearing away hundreds of thousands of folders afterwards takes minutes on some disks."""
    python = platform.python_version()
    print(f"{os.cpu_count()} cores, Python {python}, {repeats} processes each: median (min..max)")
    rows = [["what", "ecrl", "budget", "kept", peers.version() or "GNU parallel (not installed)"], ["---"] * 5]
    for row in [*rows, *(line.cells() for line in measured)]:
        print("| " + " | ".join(row) + " |", flush=True)


def main() -> int:
    """Measure, print the table, and say by the exit code whether all budgets are kept."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--suites", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    with tempfile.TemporaryDirectory(prefix="ecrl-bench-") as folder:
        os.environ["ECRL_LEASES"] = f"{folder}/leases"
        measured = lines(Path(folder), asked.suites, asked.repeats)
        show(measured, asked.repeats)
    return 0 if all(line.kept for line in measured) else 4


if __name__ == "__main__":
    sys.exit(main())
