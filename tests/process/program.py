"""`ecrl` as its users start it, over real torchrun groups: what several process tests need of it."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import ecrl
from ecrl.config.load import load
from ecrl.experiments.training.probe import build_probe_request
from ecrl.launch.system.device_leases import LEASE_MARKER
from ecrl.launch.system.process_identity import CAMPAIGN_MARKER, RUN_MARKER, find_marked_pids, iterate_environments
from ecrl.records.manifest import store as manifest
from ecrl.records.paths import CampaignPaths, RunPaths
from ecrl.records.reader import RunRecord, read_run
from tests.matrices import without_warm_up

PATIENCE_S = 240.0


# What the probe answered in campaigns of earlier tests. ecrl checks whether an answer suits the campaign.
_PROBES: dict[str, bytes] = {}  # by what was asked


class Ecrl:
    """`ecrl matrix` on one results folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths = CampaignPaths(folder / "results", "exp")
        self.started: list[subprocess.Popen[str]] = []
        self._question: str | None = None

    def start(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        if arguments[0] == "run":
            self._save_the_probe(arguments[1])
        process = subprocess.Popen(
            self.command(*arguments),
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "ecrl", "matrix", *arguments, *self._where]

    @property
    def _where(self) -> list[str]:
        return ["--prefix", self.paths.prefix, "--results", str(self.paths.results)]

    def run(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        process = self.start(*arguments, **environment)
        out, errors = process.communicate(timeout=PATIENCE_S)
        return process.returncode, out, errors

    def _save_the_probe(self, matrix: str) -> None:
        """Put the answer to the same question where ecrl looks for it: a probe takes as long as a worker's start."""
        question = json.dumps(build_probe_request(load(Path(matrix))))
        if question in _PROBES and not self.paths.root.exists():
            self.paths.root.mkdir(parents=True)
            self.paths.probe.write_bytes(_PROBES[question])
        self._question = question

    def report(self) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "ecrl", "report", *self._where]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        return done.returncode, done.stdout, done.stderr

    def matrix(self, text: str) -> str:
        path = self.folder / "matrix.toml"
        path.write_text(without_warm_up(text))
        return str(path)

    def workers(self) -> list[int]:
        return find_marked_pids(CAMPAIGN_MARKER, self.paths.root.resolve())

    def results(self) -> dict[str, int]:
        found = self.paths.root.rglob("result.json")
        return {str(p): p.stat().st_mtime_ns for p in found if ".aside-" not in str(p)}

    def status(self) -> str:
        return next(iter(manifest.read(self.paths).rows.values())).status

    def live(self) -> dict[str, set[str]]:
        """The devices that the ranks of each suite were given, as their own environments say, now."""
        folders, leases = dict(iterate_environments(RUN_MARKER)), dict(iterate_environments(LEASE_MARKER))
        root, found = self.paths.root.resolve(), dict[str, set[str]]()
        for pid in folders.keys() & leases.keys():
            if Path(folders[pid]).is_relative_to(root):  # a warm agent's marker is no run's folder
                found.setdefault(Path(folders[pid]).parts[-3], set()).add(leases[pid])
        return found

    def close(self) -> None:
        """End whatever a test has left going."""
        if self._question is not None and self.paths.probe.is_file():
            _PROBES[self._question] = self.paths.probe.read_bytes()
        for process in self.started:
            process.kill()
            process.communicate()
        for pid in self.workers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.05)


def run_copy(folder: Path, files: Mapping[str, str], *commands: Sequence[str]) -> dict[str, dict[str, RunRecord]]:
    """Run commands of a copy of ecrl in `folder` that has some files more, by their path.

    Returns, by prefix, the run of each variant.
    """
    shutil.copytree(Path(ecrl.__file__).parent, folder / "ecrl")
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(without_warm_up(text) if path.suffix == ".toml" else text, encoding="utf-8")
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-m", "ecrl", *command],
            cwd=folder,
            env=os.environ | {"NO_COLOR": "1", "PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            timeout=550,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    runs: dict[str, dict[str, RunRecord]] = {}
    for path in (folder / "results").rglob("run.json"):
        record = read_run(RunPaths(path.parent))
        runs.setdefault(record.spec["prefix"], {})[record.spec["variant"]] = record
    return runs
