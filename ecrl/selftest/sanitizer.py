"""Run the production stager under PyTorch's stream sanitizer, which finds unordered accesses from the fences alone."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import torch

from ecrl.selftest import drill
from ecrl.selftest.checks import CheckSetup, StagerMaker
from ecrl.selftest.verdict import INCONCLUSIVE, PASS, TORN, CheckResult
from ecrl.selftest.watched import StressPlan, WatchedOverlapped

SWITCH = "TORCH_CUDA_SANITIZER"
STEPS = 3
# The mutants that leave work on the device unordered. The sanitizer does not see faults of the host.
ON_DEVICE = ("copy_ignores_update", "forward_ignores_copy", "update_ignores_copy")
_TIMEOUT_S = 240


def collect_complaints(setup: CheckSetup) -> dict[str, str | None]:
    """The sanitizer's complaint about the right code and about each mutant that it can see; None: no complaint.

    Call it in a process with the sanitizer switched on.
    """
    stagers: dict[str, StagerMaker] = {"right": setup.right}
    stagers |= {mutant.name: mutant.make_stager for mutant in setup.mutants if mutant.name in ON_DEVICE}
    return {name: _find_complaint(setup, make_stager) for name, make_stager in stagers.items()}


def _find_complaint(setup: CheckSetup, make_stager: StagerMaker) -> str | None:
    from torch.cuda._sanitizer import CUDASanitizerErrors

    subject = setup.subject("sgd")
    torch.cuda.synchronize()
    planned = StressPlan(make_stager, WatchedOverlapped, STEPS, handed_over_late=setup.handed_over_late)
    try:
        drill.run_stress(planned, subject, setup.twins["sgd"].leaves, setup.new_folder())
    except CUDASanitizerErrors as errors:
        torch.cuda.synchronize()  # otherwise unordered work of this stager would count against the next one
        return str(errors.errors[0])
    return None


def check_sanitizer(command: Sequence[str]) -> CheckResult:
    """Run `command` in a child with the sanitizer, and judge its answer.

    It answers with `collect_complaints` as JSON on the descriptor that ECRL_REPLY_FD names.
    """
    with tempfile.TemporaryFile("w+") as answer:  # on stdout, libraries print, too
        environment = os.environ | {SWITCH: "1", "ECRL_REPLY_FD": str(answer.fileno())}
        try:
            child = subprocess.run(
                command, env=environment, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S,
                check=False, pass_fds=[answer.fileno()],
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return CheckResult(INCONCLUSIVE, f"the child with {SWITCH}=1 was not done after {_TIMEOUT_S} s")
        answer.seek(0)
        said = answer.read()
    if child.returncode != 0:
        lines = child.stderr.strip().splitlines() or ["(no output)"]
        evidence = f"the child with {SWITCH}=1 ended with exit code {child.returncode}: {lines[-1]}"
        return CheckResult(INCONCLUSIVE, evidence, {"stderr": child.stderr[-4000:]})
    return judge_complaints(json.loads(said))


def judge_complaints(said: dict[str, Any]) -> CheckResult:
    """The result of the complaints `said`: one about the right code is a race; a mutant without one proves nothing."""
    if said["right"] is not None:
        return CheckResult(TORN, f"a race in the right code: {' '.join(said['right'].split())[:300]}", said)
    if silent := [name for name, words in said.items() if name != "right" and words is None]:
        return CheckResult(INCONCLUSIVE, f"no complaint, but none about {', '.join(silent)} either", said)
    evidence = f"no complaint about {STEPS} steps of the right code; missing fences are found: {', '.join(ON_DEVICE)}"
    return CheckResult(PASS, evidence, said)


def command(model: str) -> list[str]:
    """The command that `check_sanitizer` starts."""
    return [sys.executable, "-P", "-m", "ecrl.selftest", "sanitizer", model]
