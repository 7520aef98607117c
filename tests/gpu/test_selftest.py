"""On a GPU: snapshots are never torn, and every fence is needed. `pytest -m gpu tests/gpu`"""

import json
import subprocess
import sys

import pytest
import torch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]


def test_the_self_test_passes_on_this_gpu() -> None:
    command = [sys.executable, "-m", "ecrl", "selftest", "--device", "cuda", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=880, check=False)
    report = json.loads(done.stdout)
    findings = {c["name"]: f"{c['verdict']}: {c['evidence']}" for c in report["checks"]}
    faults = {c["name"]: findings[c["name"]] for c in report["checks"] if c["verdict"] not in ("pass", "warn")}
    assert faults == {}
    assert done.returncode == 0, done.stderr
    assert report["machine"]["driver"]
    assert {"stream sanitizer", "overlap with kernels", "killed between copy and commit"} <= findings.keys()
