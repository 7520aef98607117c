"""Steps of a program, each a process of its own within its part of a time budget, recorded as they end.

Time that a step leaves over is the next one's; none takes what is kept for those that follow. A step that fails or is
late is told with the last lines that it wrote, and the next one goes on.
"""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from bench.module_command import build_command
from ecrl.storage.atomic import write_atomic

SCHEMA = 1
WAITING, RUNNING, OK, FAILED, TIMEOUT, SKIPPED = "waiting", "running", "ok", "failed", "timeout", "skipped"
_LEAST_S = 2.0  # an interpreter would hardly have started
_GRACE_S = (10.0, 5.0, 5.0)  # after SIGTERM, a second one (ecrl then hurries), and SIGKILL
_TAIL_LINES = 15


@dataclass(frozen=True)
class Step:
    """One process. module: what `python -m` runs; weight: its part of the budget, beside those of the others; figure:
    reads the figure that matters, given the files with its stdout and stderr; copies: files that it makes and the
    reader wants.
    """

    name: str
    module: str
    arguments: tuple[str, ...]
    weight: float
    figure: Callable[[Path, Path], str]
    copies: tuple[Path, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    shown: bool = True  # its stdout is for people to read, no document of many pages

    @property
    def command(self) -> str:
        """As a person would type it."""
        program = "ecrl" if self.module == "ecrl" else f"python -m {self.module}"
        names = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        return " ".join([*names, program, *map(shlex.quote, self.arguments)])

    def get_stdout(self, logs: Path) -> Path:
        """The file of what it prints on stdout."""
        return logs / f"{self.name.replace(' ', '-')}.{'out.txt' if self.shown else 'json'}"

    def get_stderr(self, logs: Path) -> Path:
        """The file of what it prints on stderr."""
        return logs / f"{self.name.replace(' ', '-')}.err.txt"


@dataclass
class Outcome:
    """What came of a step. tail: the last lines that a failed one wrote."""

    name: str
    command: str
    state: str = WAITING
    limit_s: float | None = None
    seconds: float | None = None
    exit_code: int | None = None
    figure: str = ""
    tail: list[str] = field(default_factory=list)


def compute_limit_s(weights: Sequence[float], index: int, budget_s: float, left_s: float) -> float:
    """Seconds that a step may take: what is left of the budget, less what is kept for the steps after it."""
    return max(left_s - budget_s * sum(weights[index + 1 :]) / sum(weights), 0.0)


class Program:
    """Steps in their order. logs: the folder of what they print; record: told of all outcomes whenever one changes."""

    def __init__(
        self, steps: Sequence[Step], budget_s: float, logs: Path, record: Callable[[Sequence[Outcome]], None]
    ) -> None:
        self.steps, self.budget_s, self.logs, self._record = steps, budget_s, logs, record
        self.outcomes = [Outcome(step.name, step.command) for step in steps]

    def run(self, reason_to_skip: Callable[[Step], str], say: Callable[[str], None]) -> list[Outcome]:
        """Carry out every step, but for those that there is a reason to skip."""
        begun, weights = time.monotonic(), [step.weight for step in self.steps]
        self.logs.mkdir(parents=True, exist_ok=True)
        self._record(self.outcomes)
        for index, (step, outcome) in enumerate(zip(self.steps, self.outcomes, strict=True)):
            left_s = self.budget_s - (time.monotonic() - begun)
            outcome.limit_s = round(compute_limit_s(weights, index, self.budget_s, left_s), 1)
            reason = reason_to_skip(step)
            if not reason and outcome.limit_s < _LEAST_S:
                reason = "the budget is spent"
            if reason:
                outcome.state, outcome.figure = SKIPPED, reason
            else:
                say(f"[{index + 1}/{len(self.steps)}] {step.name}, at most {outcome.limit_s:.0f} s: {step.command}")
                outcome.state = RUNNING
                self._record(self.outcomes)
                self._carry_out(step, outcome)
            say(f"[{index + 1}/{len(self.steps)}] {step.name}: {outcome.state}. {outcome.figure}")
            self._record(self.outcomes)
        return self.outcomes

    def _carry_out(self, step: Step, outcome: Outcome) -> None:
        assert outcome.limit_s is not None
        begun = time.monotonic()
        out, errors = step.get_stdout(self.logs), step.get_stderr(self.logs)
        command = build_command(step.module, *step.arguments)
        busy_with: list[str] = []
        outcome.exit_code = run_within(
            outcome.limit_s, command, out, errors, step.environment, lambda: busy_with.extend(get_tail(errors)[-1:])
        )
        outcome.seconds = round(time.monotonic() - begun, 1)
        outcome.state = {0: OK, None: TIMEOUT}.get(outcome.exit_code, FAILED)
        try:
            outcome.figure = step.figure(out, errors)
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            # An ok step without its result has failed; of one that failed, its last words say more.
            if outcome.state == OK:
                outcome.state, outcome.figure = FAILED, f"its result cannot be read: {type(error).__name__}: {error}"
        if outcome.state != OK:
            outcome.tail = get_tail(errors) or get_tail(out)
            said = outcome.figure or next(iter([*busy_with, *outcome.tail[-1:]]), "it said nothing")
            why = f"ended after {outcome.seconds:.0f} s" if outcome.state == TIMEOUT else f"exit {outcome.exit_code}"
            outcome.figure = f"{why}: {said}"


def run_within(
    limit_s: float,
    command: Sequence[str],
    out: Path,
    errors: Path,
    environment: Mapping[str, str],
    look: Callable[[], None],
) -> int | None:
    """Run a command to its end; returns its exit code, or None if it had to be ended. None of its processes is left.
    look: called before a late one is ended, as it will then say other things."""
    with out.open("wb") as stdout, errors.open("wb") as stderr:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, **environment},
            start_new_session=True,  # Ctrl-C is this program's to answer
        )
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired:
        look()
        return None
    finally:
        if process.poll() is None:
            end_all(process)


def end_all(process: "subprocess.Popen[bytes]") -> None:
    """End a process and whatever it started: gently, as it may have workers to end itself, then by force."""
    root, family = psutil.Process(process.pid), set[psutil.Process]()
    for signum, grace_s in zip((signal.SIGTERM, signal.SIGTERM, signal.SIGKILL), _GRACE_S, strict=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
            family.update(root.children(recursive=True))  # its children have sessions of their own
        process.send_signal(signum)
        with contextlib.suppress(subprocess.TimeoutExpired):  # the next signal is not so gentle
            process.wait(grace_s)
            break
    for left in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            left.kill()


def get_tail(path: Path) -> list[str]:
    """The last lines of a log that say anything."""
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    return [line.rstrip() for line in lines if line.strip()][-_TAIL_LINES:]


def build_table(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """A header and a row for each step."""
    rows = [["step", "state", "seconds", "figure"]]
    for outcome in outcomes:
        seconds = "-" if outcome.seconds is None else f"{outcome.seconds:.0f}"
        rows.append([outcome.name, outcome.state, seconds, " ".join(outcome.figure.split())])
    return rows


def build_text(rows: Sequence[Sequence[str]]) -> str:
    """A table in plain text."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows)
    return "\n".join("  ".join(row).rstrip() for row in padded)


def build_markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    header, *rest = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [header, ["---"] * len(header), *rest]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def write_json(path: Path, facts: Mapping[str, Any], outcomes: Sequence[Outcome]) -> None:
    """Write `facts` and every outcome, atomically."""
    document = {"schema": SCHEMA, **facts, "steps": [asdict(outcome) for outcome in outcomes]}
    write_atomic(path, json.dumps(document, indent=1).encode())
