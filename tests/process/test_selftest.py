"""`ecrl selftest --device cpu` as a user types it: the small model here, real workers killed."""

import json
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]


def test_it_passes_on_this_machine_and_says_what_it_saw() -> None:
    command = [sys.executable, "-m", "ecrl", "selftest", "--device", "cpu", "--model", "cnn", "--steps", "6", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    report = json.loads(done.stdout)
    assert {c["name"]: c["evidence"] for c in report["checks"] if c["verdict"] != "pass"} == {}
    assert done.returncode == 0, done.stderr
    killed = report["checks"][-1]
    assert killed["details"]["failures"] == ["4@persist", "6@commit"]
    assert killed["details"]["restored_steps"] == [0, 2, 4]
    assert report["machine"]["torch"]
    assert len(report["checks"]) == 10
