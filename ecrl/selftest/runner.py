"""The orchestrator's part of the self-test: the child that makes the checks, the killed run, and the report."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ecrl import plugins
from ecrl.config.run import RunSpec
from ecrl.config.train import CheckpointSettings, TrainSettings
from ecrl.errors import EXIT_OK, EXIT_SOME_FAILED, EcrlError, unknown_name
from ecrl.launch.runs.file_tail import FileTail
from ecrl.launch.runs.launcher import load_launcher
from ecrl.launch.runs.progress import SilentObserver
from ecrl.launch.runs.run import Run
from ecrl.launch.runs.supervisor import Supervisor
from ecrl.launch.system.child import REPLY_VARIABLE, build_module_command, find_working_folder
from ecrl.launch.system.environment import build_child_environment
from ecrl.launch.system.process_group import ExitWait, end_run, open_exit_fd
from ecrl.launch.system.process_identity import RUN_MARKER
from ecrl.launch.system.signals import StopRequest
from ecrl.launch.system.torch_import import advise_on_import, is_import_failure
from ecrl.launch.system.wait import Wait
from ecrl.records.failure_checks import format_failure_step
from ecrl.records.paths import RunPaths
from ecrl.records.reader import RunRecord, read_run

SCHEMA = 1
COMMAND = build_module_command("ecrl.selftest", "check")
DEVICES = ("cpu", "cuda")
MIN_STEPS = 3  # the first snapshot, one in between, and the last, which no step follows
STAND_IN = "FakeCUDA"

# The verdicts of ecrl.selftest.verdict. The report takes the worst one.
PASS, WARN, INCONCLUSIVE, WRONG, TORN = "pass", "warn", "inconclusive", "wrong", "torn"
_WORST_FIRST = (TORN, WRONG, INCONCLUSIVE)

_POLL_S = 0.05
_TIMEOUT_S = 1800.0
_RUN_TIMEOUT_S = 300.0
KILLED = "killed between copy and commit"
_KILLED_STEPS = 7
_KILLED_EVERY = 2


@dataclass(frozen=True)
class Check:
    """One check's outcome. evidence: one sentence; details: numbers."""

    name: str
    verdict: str
    evidence: str
    wall_s: float
    details: dict[str, Any] = field(default_factory=dict)


@dataclass
class Report:
    """The results of a self-test."""

    device: str
    machine: dict[str, Any] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    wall_s: float = 0.0

    @property
    def verdict(self) -> str:
        """The worst verdict of all checks. It is never a pass without checks or on a stand-in for a GPU."""
        found = {check.verdict for check in self.checks}
        worst = next((verdict for verdict in _WORST_FIRST if verdict in found), PASS)
        stand_in = STAND_IN in str(self.machine.get("device_name"))
        return INCONCLUSIVE if worst == PASS and (stand_in or not self.checks) else worst

    @property
    def exit_code(self) -> int:
        """EXIT_OK for a pass; otherwise EXIT_SOME_FAILED: a check failed, or showed nothing."""
        return EXIT_OK if self.verdict == PASS else EXIT_SOME_FAILED

    def to_json(self) -> dict[str, Any]:
        """The report as `--json` prints it."""
        return {
            "schema": SCHEMA,
            "device": self.device,
            "verdict": self.verdict,
            "wall_s": round(self.wall_s, 3),
            "machine": self.machine,
            "checks": [dataclasses.asdict(check) for check in self.checks],
        }


@dataclass(frozen=True)
class Selftest:
    """A self-test of this machine. command: starts the child that makes the checks. kills: also kill real workers."""

    device: str
    model: str = "resnet18"
    steps: int = 20
    command: Sequence[str] = COMMAND
    kills: bool = True

    def run(
        self, stop: StopRequest, show: Callable[[Check], None], say: Callable[[str], None] = lambda _text: None
    ) -> Report:
        """Run the self-test. show: called with each check when it ends. say: shows what takes long.

        Raises:
            EcrlError: an unknown name, too few steps or no GPU.
            StoppedError: a signal arrived.
        """
        self._validate()
        begun = time.monotonic()
        report = Report(self.device)
        folder = Path(tempfile.mkdtemp(prefix="ecrl-selftest-"))
        try:
            for check in self._checks(report, folder, stop, say):
                report.checks.append(check)
                show(check)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        report.wall_s = time.monotonic() - begun
        return report

    def _validate(self) -> None:
        if self.device not in DEVICES:
            raise EcrlError("ECRL-102", f"--device: {unknown_name('device', self.device, DEVICES)}")
        if self.model not in plugins.names("model"):
            raise EcrlError("ECRL-102", f"--model: {unknown_name('model', self.model, plugins.names('model'))}")
        if self.steps < MIN_STEPS:
            raise EcrlError("ECRL-102", f"--steps: found {self.steps}, expected at least {MIN_STEPS}.")

    def _checks(self, report: Report, folder: Path, stop: StopRequest, say: Callable[[str], None]) -> Iterator[Check]:
        for told in self._read_messages(folder, stop, say):
            match told.pop("e"):
                case "machine":
                    report.machine = told
                case "refused":
                    raise EcrlError("ECRL-803", told["reason"])
                case "check":
                    yield Check(**told)
        if self.kills:
            yield check_killed_run(self.device, self.model, folder, stop, say)

    def _read_messages(self, folder: Path, stop: StopRequest, say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
        """The child's messages as they arrive. If the child crashes, the last message is a failed check."""
        out, errors = folder / "results.jsonl", folder / "stderr.log"
        extra = {
            "OMP_NUM_THREADS": "1",
            "TORCH_DEVICE_BACKEND_AUTOLOAD": "0",
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # cuBLAS is deterministic only with a fixed workspace
            RUN_MARKER: str(folder),
        }
        command = [*self.command, self.device, self.model, str(self.steps), str(folder / "work")]
        begun = time.monotonic()
        with out.open("wb") as results, errors.open("wb") as log:
            environment = build_child_environment(os.environ, extra | {REPLY_VARIABLE: str(results.fileno())})
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                cwd=find_working_folder(), pass_fds=[results.fileno()], start_new_session=True,
            )  # fmt: skip
        exit_wait, tail = ExitWait(process.poll, open_exit_fd(process.pid)), FileTail(out)
        try:
            code, number, wait = None, 0, _wait_for_check(1, say)
            while code is None:
                code = exit_wait.wait(_POLL_S)
                wait.look()
                for line in tail.lines():
                    number += 1
                    wait = _wait_for_check(number, say)  # the first message is about the machine
                    yield json.loads(line)
                stop.raise_if_requested("Nothing was left behind; type the same command again.")
                if time.monotonic() - begun > _TIMEOUT_S:
                    raise EcrlError("ECRL-804", f"the checks took longer than {_TIMEOUT_S:.0f} s and were stopped.")
        finally:
            if process.poll() is None:
                end_run(process.pid, folder, stop_now=lambda: True)
                process.wait()
            exit_wait.close()
            tail.close()
        if code != 0:
            yield _death_message(code, errors.read_text(errors="replace"), time.monotonic() - begun)


def _wait_for_check(number: int, say: Callable[[str], None]) -> Wait:
    return Wait(lambda: f"check {number}" if number > 1 else "PyTorch to load, and check 1", say)


def _death_message(code: int, errors: str, wall_s: float) -> dict[str, Any]:
    last = next((line for line in reversed(errors.splitlines()) if line.strip()), "(no output)")
    if is_import_failure(last):
        raise EcrlError(
            "ECRL-506", f"{sys.executable} cannot import PyTorch ({last.strip()}).\n{advise_on_import(errors)}"
        )
    evidence = f"the process of the checks ended with exit code {code}: {last.strip()}"
    check = Check("the checks run to their end", WRONG, evidence, round(wall_s, 3), {"stderr": errors[-8000:]})
    return {"e": "check", **dataclasses.asdict(check)}


def check_killed_run(
    device: str, model: str, folder: Path, stop: StopRequest, say: Callable[[str], None] = lambda _text: None
) -> Check:
    """Check under real torchrun that a run with kills ends with the digest of an undisturbed run.

    The worker is killed while it writes a checkpoint, and again before it commits one.

    Raises:
        StoppedError: a signal arrived.
    """
    begun = time.monotonic()
    names: tuple[Literal["reference", "overlapped"], ...] = ("reference", "overlapped")
    runs = {name: Run(_spec(device, model, name), RunPaths(folder / name)) for name in names}
    supervisor = Supervisor(load_launcher("cold"), folder, SilentObserver(), stop, timeout_s=_RUN_TIMEOUT_S)
    # The runs are concurrent because nothing is timed here. A GPU may be set to serve one process at a time.
    with ThreadPoolExecutor(1 if device == "cuda" else len(runs)) as pool:
        wait = Wait(lambda: "two runs of torchrun, one of which is killed twice", say)
        ended = [pool.submit(supervisor.run, run) for run in runs.values()]
        while futures.wait(ended, _POLL_S).not_done:
            wait.look()
        for one in ended:
            one.result()
    stop.raise_if_requested("Nothing was left behind; type the same command again.")
    verdict, evidence, details = compare_final_states(*(read_run(run.paths) for run in runs.values()))
    return Check(KILLED, verdict, evidence, round(time.monotonic() - begun, 3), details)


def compare_final_states(reference: RunRecord, struck: RunRecord) -> tuple[str, str, dict[str, Any]]:
    """Compare the final states of two runs. A failure that struck at another place than planned proves nothing."""
    details: dict[str, Any] = {
        "restored_steps": [e["step"] for _, _, e in struck.get_events("restored")],
        "failures": [format_failure_step(e) for _, _, e in struck.get_events("failure")],
        "reference": _final(reference),
        "resumed": _final(struck),
    }
    for record in (reference, struck):
        if record.result is None or record.result["outcome"] != "completed":
            reason = "no result" if record.result is None else record.result["reason"]
            return WRONG, f"the run {record.spec['variant']} failed: {reason}", details
    exact = struck.result is not None and struck.result["gates"]["C2"]
    if not exact or exact["passed"] is not True:
        return WRONG, f"restored state: {exact['evidence'] if exact else 'unknown'}", details
    if details["reference"] != details["resumed"]:
        return WRONG, "the run that was killed and resumed ended in another state than the uninterrupted one", details
    steps = details["restored_steps"]
    evidence = (
        f"SIGKILL at {' and '.join(map(str, details['failures']))}, resumed from steps {steps[1:]}:"
        f" model, optimizer and generators end as if nothing had happened"
    )
    return PASS, evidence, details


def _final(record: RunRecord) -> dict[str, str]:
    return {key: e[key] for _, _, e in record.get_events("final") for key in ("digest", "rng_digest")}


def _spec(device: str, model: str, variant: Literal["reference", "overlapped"]) -> RunSpec:
    commit_at = _KILLED_STEPS - 1
    plan = (
        {"index": 0, "kind": "kill", "rank": 0, "at": commit_at - _KILLED_EVERY, "phase": "persist"},
        {"index": 1, "kind": "kill", "rank": 0, "at": commit_at, "phase": "commit"},
    )
    return RunSpec(
        prefix="selftest",
        suite_id="selftest",
        dataset="fashion-mini",
        model=model,
        failure_label="selftest",
        checkpoint_every=_KILLED_EVERY,
        max_inflight=2,
        variant=variant,
        seed=1337,
        device=device,
        train=TrainSettings(steps=_KILLED_STEPS, batch_size=2 if device == "cpu" else 32, optimizer="adamw", lr=0.001),
        checkpoint=CheckpointSettings(),
        failures=() if variant == "reference" else plan,
    )
