"""The GPU's self-test on the stand-in for CUDA: its drills, mutants, shards and sanitizer child, without kernels.

`python -m tests.unit.selftest.test_standin plan|sanitizer` is the program that the tests start on it.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from ecrl.checkpoint.engine import CheckpointableState, Engine
from ecrl.checkpoint.sharded.snapshot import StreamStager
from ecrl.checkpoint.state_view import META_LEAF, StateView, leaf_digest, meta_digest
from ecrl.selftest import cuda, sanitizer
from ecrl.selftest.__main__ import describe, no_gpu
from ecrl.selftest.checks import CheckSetup
from ecrl.selftest.progress import no_delay
from ecrl.selftest.subject import OPTIMIZERS, ReferenceTraining
from ecrl.selftest.verdict import Plan
from ecrl.worker.reply import send_reply
from tests.cuda_standin.build import build_or_skip, cache_of
from tests.cuda_standin.library import StandIn
from tests.cuda_standin.toy import ToyTraining

STEPS = 6
POLICIES = ("eager", "lazy", "hostile")
MODULE = "tests.unit.selftest.test_standin"

# What each schedule can see missing, by what is missing (of "without ..."). Host state and slots are the host's
# business and are seen under every schedule.
ON_THE_HOST = {"host state copied at the call", "snapshots waiting for a free slot"}
SEEN = {
    "eager": ON_THE_HOST,
    "lazy": ON_THE_HOST | {"the copy waiting for the update", "the persister waiting for the copy"},
    "hostile": ON_THE_HOST
    | {
        "the forward waiting for the buffers",
        "the update waiting for the copy",
        "the persister waiting for the copy",
    },
}


# --- the program --------------------------------------------------------------------------------------------


class ToyState(CheckpointableState):
    def __init__(self, toy: ToyTraining) -> None:
        self._toy = toy

    def view(self, step: int) -> StateView:
        return self._toy.view(step)

    def load_host_state(self, meta: dict[str, Any], host: dict[str, torch.Tensor]) -> None:
        raise AssertionError("nothing is restored here")


class ToySubject:
    """The stand-in's toy, where a model would be."""

    def __init__(self, standin: StandIn, policy: str) -> None:
        self.device = torch.device("cuda", 0)
        standin.reset("eager")
        self._toy = ToyTraining(self.device, STEPS)
        self.state = ToyState(self._toy)
        standin.reset(policy)

    def train(self, engine: Engine, steps: int) -> None:
        for step in range(1, steps + 1):
            engine.before_forward()
            self._toy.forward(step)
            engine.before_update(step)
            self._toy.update(step)
            engine.synchronize_if_due(step)
            if engine.is_due(step):
                engine.save(step)
        engine.drain()

    def twin(self) -> ReferenceTraining:
        tables = {step: self._toy.expected(step) for step in range(1, STEPS + 1)}
        return ReferenceTraining(
            {
                step: {name: leaf_digest(t) for name, t in tensors.items()} | {META_LEAF: meta_digest({"step": step})}
                for step, tensors in tables.items()
            }
        )


def setup_on(standin: StandIn, policy: str, folder: Path) -> CheckSetup:
    device = torch.device("cuda", 0)
    right, mutants = cuda.build_stagers(device, no_delay)
    return CheckSetup(
        device,
        folder,
        lambda _: ToySubject(standin, policy),
        dict.fromkeys(OPTIMIZERS, ToySubject(standin, "eager").twin()),
        punctual=lambda _: StreamStager(device),
        right=right,
        mutants=mutants,
        steps=STEPS,
        handed_over_late=True,
    )


def findings(plan: Plan) -> dict[str, tuple[str, str]]:
    found = {}
    for name, check in plan:
        finding = check()
        found[name] = (finding.verdict, finding.evidence)
    return found


def main(mode: str) -> None:
    standin = StandIn()
    with tempfile.TemporaryDirectory() as folder:
        if mode == "sanitizer":
            send_reply(sanitizer.collect_complaints(setup_on(standin, "eager", Path(folder))))
            return
        told: dict[str, Any] = {"no_gpu": no_gpu(), "machine": describe("cuda")}
        for policy in POLICIES:
            setup = setup_on(standin, policy, Path(folder) / policy)
            told[policy] = {
                "right": findings(cuda.build_unmodified_plan(setup, "sgd")),
                "mutants": findings(cuda.build_mutants_plan(setup)),
                "disk": findings(cuda.build_disk_plan(setup)),
            }
        finding = sanitizer.check_sanitizer([sys.executable, "-m", MODULE, "sanitizer"])
        told["sanitizer"] = (finding.verdict, finding.evidence, finding.details)
    print(json.dumps(told))


# --- the tests ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def library(request: pytest.FixtureRequest) -> Path:
    return build_or_skip(cache_of(request.config))


def on_standin(library: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "LD_LIBRARY_PATH": str(library),
        "LD_PRELOAD": "libcuda.so.1",
        "TORCH_DEVICE_BACKEND_AUTOLOAD": "0",
        "OMP_NUM_THREADS": "1",
    }
    for unwanted in ("CUDA_VISIBLE_DEVICES", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "TORCH_CUDA_SANITIZER"):
        environment.pop(unwanted, None)
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=Path(__file__).parents[3],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@pytest.fixture(scope="module")
def told(library: Path) -> Any:
    result = on_standin(library, MODULE, "plan")
    assert result.returncode == 0, result.stderr[-4000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize("policy", POLICIES)
def test_the_right_code_passes_under_every_schedule(told: Any, policy: str) -> None:
    assert len(told[policy]["right"]) == 4
    assert {verdict for verdict, _ in told[policy]["right"].values()} == {"pass"}


@pytest.mark.parametrize("policy", POLICIES)
def test_each_schedule_sees_the_fences_it_can_see_and_says_inconclusive_of_the_others(told: Any, policy: str) -> None:
    mutants = told[policy]["mutants"]
    seen = {name.removeprefix("without ") for name, (verdict, _) in mutants.items() if verdict == "pass"}
    assert seen == SEEN[policy]
    assert {verdict for verdict, _ in mutants.values()} <= {"pass", "inconclusive"}


def test_lazy_and_hostile_together_see_every_fence_missing(told: Any) -> None:
    assert {f"without {fence}" for fence in SEEN["lazy"] | SEEN["hostile"]} == set(told["lazy"]["mutants"])


@pytest.mark.parametrize("policy", POLICIES)
def test_no_poison_reaches_the_disk(told: Any, policy: str) -> None:
    assert {verdict for verdict, _ in told[policy]["disk"].values()} == {"pass"}


def test_the_sanitizer_child_is_quiet_about_the_right_code_only(told: Any) -> None:
    verdict, _, said = told["sanitizer"]
    assert verdict == "pass", said
    assert set(said) == {"right", *sanitizer.ON_DEVICE}


def test_the_device_is_described(told: Any) -> None:
    assert told["machine"]["device_name"] == "FakeCUDA (no kernels)"
    assert {"driver", "torch", "cuda", "compute_capability", "cudnn"} <= told["machine"].keys()


def test_the_stand_in_is_refused_as_a_gpu(told: Any, library: Path, tmp_path: Path) -> None:
    assert "FakeCUDA" in told["no_gpu"]
    result = on_standin(library, "ecrl.selftest", "check", "cuda", "cnn", "4", str(tmp_path / "work"))
    assert [json.loads(line)["e"] for line in result.stdout.splitlines()] == ["refused"]


if __name__ == "__main__":
    main(sys.argv[1])
