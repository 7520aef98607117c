"""`python -m bench [--suites N] [--repeats N]`: the orchestrator's budgets as a Markdown table, beside GNU parallel,
signac-flow and Snakemake where they can do the same, asked in turn. Exit 4 if a budget is not kept.

Every figure is of processes of their own, the interpreters' start included: the median, the smallest and largest, and
the processor time, which says what of it was waiting for a processor that others had. `x`: a peer's median over ecrl's.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench import peers
from bench.module_command import build_command
from bench.peers import Peer
from ecrl.launch.system.child import ask

_ROOT = Path(__file__).parent.parent
_MANY = 1_000_000
_FEWER = 10_000  # what every peer can be asked about
_RUNS = 20
_SLOW_S = 5.0  # whoever takes longer is asked twice, not again and again
_ECRL = "ecrl"
_DECISION = "resume decision, all but one of {:,} done"
_NOTHING = "nothing left to do of {:,}, the whole command"


@dataclass(frozen=True)
class Answer:
    """What one process told. value: in the line's unit; cpu_s: processor time of it and its children."""

    value: float
    cpu_s: float


@dataclass
class Line:
    """One row of the table. budget: None: there is none, the figure is there to compare."""

    what: str
    budget: float | None
    unit: str = "s"
    whole: bool = True  # the figure is the time of whole processes, so that their processor time compares with it
    answers: dict[str, list[Answer]] = field(default_factory=dict)

    @property
    def kept(self) -> bool:
        """Whether the median is within the budget."""
        return self.budget is None or self._median(_ECRL) <= self.budget

    def _median(self, who: str) -> float:
        return statistics.median(answer.value for answer in self.answers[who])

    def cells(self, others: Sequence[str]) -> list[str]:
        """The row's cells."""
        budget = "-" if self.budget is None else f"{self.budget:g} {self.unit}"
        kept = "-" if self.budget is None else "yes" if self.kept else "NO"
        return [self.what, self.cell(_ECRL), budget, kept, *map(self.cell, others)]

    def cell(self, who: str) -> str:
        """Somebody's figure, spread and ratio."""
        if who not in self.answers:
            return "-"
        values = [answer.value for answer in self.answers[who]]
        cpu_s = statistics.median(answer.cpu_s for answer in self.answers[who])
        spread = f"{min(values):.3g}..{max(values):.3g}"
        text = f"{self._median(who):.3g} {self.unit} ({spread}{f'; cpu {cpu_s:.3g}' if self.whole else ''})"
        return text if who == _ECRL else f"{text} = {self._median(who) / self._median(_ECRL):.3g}x"


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def in_turn(line: Line, questions: Mapping[str, Callable[[], float]], repeats: int) -> Line:
    """Ask everybody, then everybody again, so that what else the machine does meets all alike."""
    for turn in range(repeats):
        for who, measure in questions.items():
            given = line.answers.setdefault(who, [])
            if turn >= 2 and min(answer.value for answer in given) > _SLOW_S:
                continue
            before = _cpu_s()
            value = measure()
            given.append(Answer(value, _cpu_s() - before))
    return line


def _measured(what: str, folder: Path, number: int) -> dict[str, float]:
    begun = time.perf_counter()
    done = ask(build_command("bench.measure", what, str(folder), str(number)), os.environ)
    if done.code:
        raise SystemExit(f"bench {what} failed:\n{done.output}")
    told: dict[str, float] = json.loads(done.text)
    return {"whole": time.perf_counter() - begun} | told


def _command_s(*arguments: str) -> float:
    begun = time.perf_counter()
    # its stdout is not kept: tens of megabytes here would count as the peak memory of the children that come later
    done = subprocess.run(
        build_command("ecrl", *arguments),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"bench: ecrl {' '.join(arguments)} failed:\n{done.stderr}")
    return time.perf_counter() - begun


def _undone_s(peer: Peer, folder: Path, number: int) -> float:
    peer.undo(folder, number)
    return peer.run_s(folder, number)


class Bench:
    """Asks everything, in an order in which one question leaves behind what the next one needs."""

    def __init__(self, folder: Path, repeats: int, others: Sequence[Peer]) -> None:
        self._folder = folder
        self._repeats = repeats
        self._others = others
        self._peaks: dict[str, list[float]] = {}

    def lines(self, suites: int) -> list[Line]:
        """Every row of the table."""
        large, small, found = self._folder / "large", self._folder / "small", list[Line]()
        for folder in (large, small):
            folder.mkdir()
        found.append(self._own(f"plan and write {suites:,} suites", 5.0, "plan", large, suites))
        matrix, elsewhere = large / f"matrix-{suites}.toml", self._folder / "planned"
        plan = ("matrix", "plan", "--prefix", "exp", "--results", str(elsewhere), str(matrix))
        found.append(
            self._ask("the same by `ecrl matrix plan`, which asks a child with torch about this machine", None, {
                _ECRL: lambda: _again_s(elsewhere, lambda: _command_s(*plan))
            })
        )  # fmt: skip
        fewer = min(_FEWER, suites)
        for number, folder in {fewer: small, suites: large}.items():
            if folder is small:
                _measured("plan", folder, number)
            _measured("finish", folder, number)
            there = {peer: folder / peer.name.replace(" ", "-") for peer in self._others if number <= peer.most}
            for peer, place in there.items():
                peer.prepare(place, number, done=True)
            found += self._decisions(folder, number, there)
            if number == suites:
                found += self._large(folder, number, there)
        found.append(self._own(f"count {_MANY:,} cells, first ids", 1.0, "count", large, _MANY))
        found.append(self._ask("`ecrl --help`", 0.2, {_ECRL: lambda: _command_s("--help")}))
        each: dict[str, Callable[[], float]] = {_ECRL: lambda: _measured("overhead", small, _RUNS)["seconds"]}
        each |= {peer.name: partial(peer.per_job_s, self._folder / "jobs", _RUNS) for peer in self._others}
        found.append(
            self._ask(f"overhead a run, of {_RUNS} (theirs: a job, its `true` or `touch` included)", 0.1, each)
        )
        for what, megabytes in self._peaks.items():
            found.append(
                Line(what, 300, "MB", whole=False, answers={_ECRL: [Answer(value, 0.0) for value in megabytes]})
            )
        return found

    def _decisions(self, folder: Path, number: int, there: Mapping[Peer, Path]) -> list[Line]:
        left: dict[str, Callable[[], float]] = {_ECRL: lambda: self._whole("decide", folder, number)}
        left |= {peer.name: partial(_undone_s, peer, place, number) for peer, place in there.items()}
        decided = self._ask(_DECISION.format(number), 1.0, left)
        _measured("finish_last", folder, number)
        resume = ("matrix", "resume", "--prefix", "exp", "--results", str(folder / "results"))
        none: dict[str, Callable[[], float]] = {_ECRL: lambda: _command_s(*resume)}
        none |= {peer.name: partial(peer.run_s, place, number) for peer, place in there.items()}
        return [decided, self._ask(_NOTHING.format(number), None, none)]

    def _large(self, folder: Path, number: int, there: Mapping[Peer, Path]) -> list[Line]:
        status = ("matrix", "status", "--prefix", "exp", "--results", str(folder / "results"))
        flow = {peer: place for peer, place in there.items() if isinstance(peer, peers.SignacFlow)}
        asked: dict[str, Callable[[], float]] = {_ECRL: lambda: _command_s(*status)}
        asked |= {peer.name: partial(peer.status_s, place) for peer, place in flow.items()}
        own: list[dict[str, float]] = []

        def change_ms() -> float:
            own.append(_measured("change", folder, number))
            return own[-1]["seconds"] * 1e3

        changes: dict[str, Callable[[], float]] = {_ECRL: change_ms}
        changes |= {peer.name: partial(_change_ms, peer, place) for peer, place in flow.items()}
        found = [
            self._ask(f"`status` of {number:,} suites", 0.5, asked),
            self._own("its reading and counting alone", 0.5, "counts", folder, number),
            self._ask(f"`status --json` of {number:,} suites", None, {_ECRL: lambda: _command_s(*status, "--json")}),
            self._ask(
                "a state change, beyond the disk's own flush (theirs flushes nothing)", 2.0, changes, "ms", whole=False
            ),
        ]
        disk = [Answer(told["disk"] * 1e3, 0.0) for told in own]
        return [*found, Line("(the disk's own write and flush)", None, "ms", whole=False, answers={_ECRL: disk})]

    def _own(self, what: str, budget: float, measure: str, folder: Path, number: int) -> Line:
        return self._ask(what, budget, {_ECRL: lambda: self._whole(measure, folder, number)})

    def _whole(self, measure: str, folder: Path, number: int) -> float:
        told = _measured(measure, folder, number)
        self._peaks.setdefault(f"peak memory: {measure} of {number:,}", []).append(told["peak_mb"])
        return told["whole"]

    def _ask(
        self,
        what: str,
        budget: float | None,
        questions: Mapping[str, Callable[[], float]],
        unit: str = "s",
        *,
        whole: bool = True,
    ) -> Line:
        line = in_turn(Line(what, budget, unit, whole), questions, self._repeats)
        told = "; ".join(f"{who} {line.cell(who)}" for who in questions)
        print(f"{what}: {told}", file=sys.stderr, flush=True)
        return line


def _again_s(folder: Path, ask: Callable[[], float]) -> float:
    """As if for the first time: what an earlier one left is removed."""
    shutil.rmtree(folder, ignore_errors=True)
    return ask()


def _change_ms(peer: peers.SignacFlow, folder: Path) -> float:
    return peer.change_s(folder) * 1e3


def show(measured: Sequence[Line], repeats: int, others: Mapping[Peer, str]) -> None:
    """Print the table."""
    load = ", ".join(f"{number:.1f}" for number in os.getloadavg())
    print(
        f"{os.cpu_count()} cores, load {load}, Python {platform.python_version()}; {repeats} processes each in turn"
        f" (2 of what takes longer than {_SLOW_S:g} s): median (min..max; processor seconds)"
    )
    names = [peer.name for peer in others]
    titles = [f"{peer.name} {version}" for peer, version in others.items()]
    rows = [["what", _ECRL, "budget", "kept", *titles], ["---"] * (4 + len(titles))]
    for row in [*rows, *(line.cells(names) for line in measured)]:
        print("| " + " | ".join(row) + " |", flush=True)


def main() -> int:
    """Measure, print the table, and say by the exit code whether all budgets are kept."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--suites", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    os.environ["PYTHONPATH"] = str(_ROOT)  # children take nothing from the current folder
    others = peers.installed()
    # clearing away hundreds of thousands of folders afterwards takes a while on some disks
    with tempfile.TemporaryDirectory(prefix="ecrl-bench-") as folder:
        os.environ["ECRL_LEASES"] = f"{folder}/leases"
        measured = Bench(Path(folder), asked.repeats, list(others)).lines(asked.suites)
        show(measured, asked.repeats, others)
    return 0 if all(line.kept for line in measured) else 4


if __name__ == "__main__":
    sys.exit(main())
