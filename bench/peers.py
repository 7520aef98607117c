"""The same questions put to the tools that people use instead, where they are installed: over as many no-op jobs, how
long until the one that is not done has been found and run, how long until it is clear that none is left, and what a
job costs. GNU parallel (`--resume --joblog`), signac-flow and Snakemake; the last two live in `.venv-peers`.
"""

import os
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path

_PYTHON = Path(__file__).parent.parent / ".venv-peers" / "bin" / "python"
_PARALLEL_LOG = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n"
_FLOW_PROJECT = """
import flow

class Campaign(flow.FlowProject):
    pass

@Campaign.post.isfile("done")
@Campaign.operation(cmd=True)
def one(job):
    return f"touch {job.fn('done')}"

Campaign().main()
"""
_FLOW_JOBS = """
import sys
import signac

folder, number, done = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "done"
project = signac.init_project(folder)
for n in range(number):
    job = project.open_job({"n": n}).init()
    if done:
        open(job.fn("done"), "w").close()
    if n == number // 2:
        open(f"{folder}/the_one", "w").write(job.fn("done"))
"""
_FLOW_CHANGES = """
import itertools, statistics, sys, time
import signac

seconds = []
for job in itertools.islice(signac.get_project(sys.argv[1]), 200):
    before = time.perf_counter()
    job.document["status"] = "interrupted"
    seconds.append(time.perf_counter() - before)
print(statistics.median(seconds))
"""
_SNAKEFILE = """
rule all:
    input: expand("out/{n}", n=range(int(config["number"])))
rule one:
    output: "out/{n}"
    shell: "touch {output}"
"""


class Peer(ABC):
    """A tool that runs many jobs and leaves out those that are done. most: how many it is asked about; more takes it
    minutes."""

    name: str
    most = 1_000_000

    @abstractmethod
    def version(self) -> str | None:
        """Its version; None: it is not installed."""

    @abstractmethod
    def prepare(self, folder: Path, number: int, *, done: bool) -> None:
        """Jobs in a folder of their own, all of them done or none."""

    @abstractmethod
    def undo(self, folder: Path, number: int) -> None:
        """Of jobs that are all done, one in the middle is not any more."""

    @abstractmethod
    def command(self, folder: Path, number: int) -> list[str]:
        """What a user types to have done what is not done; started in the folder."""

    def run_s(self, folder: Path, number: int) -> float:
        """Seconds that the command takes."""
        return _timed(self.command(folder, number), folder)

    def per_job_s(self, folder: Path, number: int) -> float:
        """Seconds a job takes, the command's start included."""
        shutil.rmtree(folder, ignore_errors=True)
        self.prepare(folder, number, done=False)
        return self.run_s(folder, number) / number


class Parallel(Peer):
    """GNU parallel with a job log."""

    name = "GNU parallel"

    def version(self) -> str | None:
        """As it says itself; moreutils has another `parallel`."""
        if shutil.which("parallel") is None:
            return None
        told = subprocess.run(["parallel", "--version"], capture_output=True, text=True, check=True).stdout
        first = told.splitlines()[0]
        return first.rpartition(" ")[2] if first.startswith(self.name) else None

    def prepare(self, folder: Path, number: int, *, done: bool) -> None:
        """The arguments in a file, and the log."""
        folder.mkdir(parents=True)
        (folder / "numbers").write_text("".join(f"{n}\n" for n in range(1, number + 1)))
        self._log(folder, number if done else 0, -1)

    def undo(self, folder: Path, number: int) -> None:
        """A log without the one."""
        self._log(folder, number, number // 2)

    def _log(self, folder: Path, number: int, without: int) -> None:
        lines = (
            f"{n}\t:\t1700000000.000\t     0.001\t0\t0\t0\t0\ttrue {n}\n" for n in range(1, number + 1) if n != without
        )
        (folder / "log").write_text(_PARALLEL_LOG + "".join(lines))

    def command(self, folder: Path, number: int) -> list[str]:
        """One job at a time, as everybody here."""
        return ["parallel", "--will-cite", "--resume", "--joblog", "log", "-j1", "true", "{}", "::::", "numbers"]


class SignacFlow(Peer):
    """A signac workspace with one operation."""

    name = "signac-flow"

    def version(self) -> str | None:
        """As its package says."""
        return _python_package("flow")

    def prepare(self, folder: Path, number: int, *, done: bool) -> None:
        """A workspace that signac makes itself."""
        folder.mkdir(parents=True)
        (folder / "project.py").write_text(_FLOW_PROJECT)
        _called([str(_PYTHON), "-c", _FLOW_JOBS, str(folder), str(number), "done" if done else ""], folder)

    def undo(self, folder: Path, number: int) -> None:
        """The product of one is removed."""
        Path((folder / "the_one").read_text()).unlink()

    def command(self, folder: Path, number: int) -> list[str]:
        """Whatever is eligible."""
        return [str(_PYTHON), "project.py", "run"]

    def status_s(self, folder: Path) -> float:
        """Seconds that its status takes."""
        return _timed([str(_PYTHON), "project.py", "status"], folder)

    def change_s(self, folder: Path) -> float:
        """Seconds a state change takes, median of 200; it flushes nothing."""
        return float(_called([str(_PYTHON), "-c", _FLOW_CHANGES, str(folder)], folder))


class Snakemake(Peer):
    """A rule that makes one file a job."""

    name = "Snakemake"
    most = 10_000

    def version(self) -> str | None:
        """As its package says."""
        return _python_package("snakemake")

    def prepare(self, folder: Path, number: int, *, done: bool) -> None:
        """Files only: without records of its own it has less to compare, which is in its favour."""
        (folder / "out").mkdir(parents=True)
        (folder / "Snakefile").write_text(_SNAKEFILE)
        for n in range(number if done else 0):
            (folder / "out" / str(n)).touch()

    def undo(self, folder: Path, number: int) -> None:
        """The product of one is removed."""
        (folder / "out" / str(number // 2)).unlink()

    def command(self, folder: Path, number: int) -> list[str]:
        """One job at a time, saying nothing."""
        return [str(_PYTHON), "-m", "snakemake", "--cores", "1", "--quiet", "all", "--config", f"number={number}"]


def installed() -> dict[Peer, str]:
    """The peers there are here, each with its version."""
    peers: list[Peer] = [Parallel(), SignacFlow(), Snakemake()]
    return {peer: version for peer in peers if (version := peer.version()) is not None}


def _python_package(name: str) -> str | None:
    if not _PYTHON.exists():
        return None
    command = [str(_PYTHON), "-c", f"import {name}; print({name}.__version__)"]
    told = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
    if told.returncode:
        print(f"bench: {name} cannot be imported: {told.stderr.strip()[-200:]}", file=sys.stderr)
        return None
    return told.stdout.strip()


def _environment() -> dict[str, str]:
    """Ours without the path to our own packages."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def _called(command: list[str], folder: Path) -> str:
    environment = {**_environment(), "XDG_CACHE_HOME": str(folder)}  # Snakemake keeps things there
    done = subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"bench: {' '.join(command)[:200]} failed:\n{done.stdout[-1000:]}{done.stderr[-1000:]}")
    return done.stdout


def _timed(command: list[str], folder: Path) -> float:
    before = time.perf_counter()
    _called(command, folder)
    return time.perf_counter() - before
