"""Campaigns that are killed: how they are started, and what must be true of them at the end."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from ecrl.launch.system.process_identity import CAMPAIGN_MARKER, find_marked_pids
from ecrl.records.manifest import store as manifest
from ecrl.records.paths import CampaignPaths
from tests.torture.orchestrator_ecrl import CLAIMS

MATRIX = """
[matrix]
datasets = ["noise"]
models = ["cnn"]
checkpoint_every = {every}
variants = ["reference"]
[failures]
base = [51]
[train]
steps = 60
nproc = 1
batch_size = 4
[run]
jobs = {jobs}
warmup = false
"""
_PATIENCE_S = 120.0


@dataclass
class Scene:
    """One shared machine of fake devices; campaigns by prefix."""

    folder: Path
    suites: int
    jobs: int = 1
    devices: int = 2
    kills: int = 0
    finished: dict[Path, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.claims.mkdir(parents=True, exist_ok=True)
        self.source.write_text(MATRIX.format(every=list(range(1, self.suites + 1)), jobs=self.jobs))

    @property
    def claims(self) -> Path:
        return self.folder / "claims"

    @property
    def source(self) -> Path:
        return self.folder / "matrix.toml"

    def paths(self, prefix: str) -> CampaignPaths:
        return CampaignPaths(self.folder / "results", prefix)

    def start(self, prefix: str) -> "subprocess.Popen[bytes]":
        """ecrl, on what there is of the campaign."""
        paths = self.paths(prefix)
        command = "resume" if paths.matrix.exists() else "run"
        environment = {
            "ECRL_LEASES": str(self.folder / "leases"),
            "ECRL_FAKE_GPUS": str(self.devices),
            CLAIMS: str(self.claims),
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        program = [sys.executable, "-m", "tests.torture.orchestrator_ecrl", command]
        with (self.folder / f"{prefix}.log").open("ab") as log:
            return subprocess.Popen(
                [*program, str(paths.results), prefix, str(self.source)],
                env=os.environ | environment,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )

    def killed_at_random(self, process: "subprocess.Popen[bytes]", rng: random.Random, most_s: float) -> bool:
        """Kill it (-9) at a random instant; False: it had ended by then, with 0."""
        try:
            code = process.wait(rng.uniform(0.0, most_s))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            self.kills += 1
            self.remember()
            return True
        assert code == 0, f"ecrl ended with {code}, see {self.folder}"
        return False

    def ended(self, process: "subprocess.Popen[bytes]") -> None:
        """Let it end by itself."""
        assert process.wait(_PATIENCE_S) == 0, f"see {self.folder}"

    def remember(self) -> None:
        """Every result there is: none of them may change from now on."""
        for path in self.results():
            status = path.stat()
            seen = (status.st_ino, status.st_mtime_ns)
            assert self.finished.setdefault(path, seen) == seen, f"{path} was made twice"

    def results(self) -> list[Path]:
        return list((self.folder / "results").glob("*/suites/*/*/seed*/result.json"))

    def check(self, *prefixes: str) -> None:
        """0 lost, 0 repeated, 0 devices shared, nobody left behind."""
        self.remember()
        assert set(self.finished) <= set(self.results()), "a result was lost"
        assert not list((self.folder / "results").glob("*/suites/*/*/*.aside-*/result.json")), "a run was repeated"
        assert not list(self.claims.glob("*.violated")), "two runs shared a device"
        for prefix in prefixes:
            paths = self.paths(prefix)
            view = manifest.read(paths)
            assert view.counts["completed"] == self.suites, view.counts
            assert len([p for p in self.results() if p.is_relative_to(paths.root)]) == self.suites
            tokens = [json.loads(p.read_text())["token"] for p in paths.root.rglob("run.json")]
            assert len(set(tokens)) == len(tokens), "two attempts had one token"
            assert find_marked_pids(CAMPAIGN_MARKER, paths.root.resolve()) == []


def kill_until(scene: Scene, kills: int, rng: random.Random, most_s: float) -> int:
    """Kill ecrl again and again, campaign after campaign; returns how many campaigns were completed."""
    completed = 0
    while scene.kills < kills:
        prefix = f"exp{completed}"
        while True:
            if not scene.killed_at_random(scene.start(prefix), rng, most_s):
                break
            if scene.kills >= kills:
                scene.ended(scene.start(prefix))
                break
        completed += 1
        scene.check(*(f"exp{n}" for n in range(completed)))
    return completed


def eight_at_once(scene: Scene, kills: int, rng: random.Random) -> None:
    """Eight campaigns on the same devices, killed now and then and started again, until all are done."""
    running = {f"exp{n}": scene.start(f"exp{n}") for n in range(8)}
    deadline = time.monotonic() + _PATIENCE_S * 4
    while running:
        assert time.monotonic() < deadline
        time.sleep(rng.uniform(0.1, 0.5))
        for prefix, process in list(running.items()):
            if process.poll() is not None:
                assert process.returncode == 0, f"see {scene.folder}/{prefix}.log"
                del running[prefix]
        if running and scene.kills < kills:
            prefix = rng.choice(sorted(running))
            running[prefix].send_signal(signal.SIGKILL)
            if running[prefix].wait() == -signal.SIGKILL:
                scene.kills += 1
                running[prefix] = scene.start(prefix)
    scene.check(*(f"exp{n}" for n in range(8)))
