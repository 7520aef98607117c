"""Every parallelism averages gradients over the ranks as DDP does. Losses would not tell: Adam hides a wrong factor."""

import json
import subprocess
import sys

import pytest

from ecrl import plugins


@pytest.mark.process
@pytest.mark.timeout(200)
def test_gradients_are_those_of_ddp() -> None:
    ways = ["fsdp2", "hsdp/1", "hsdp/3"]
    assert {way.partition("/")[0] for way in ways} == {*plugins.names("parallelism")} - {"ddp"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3"]
    done = subprocess.run(
        [*torchrun, "-m", "tests.process.gradients", *ways], capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    ranks = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(ranks) == 3
    assert all(found.keys() == set(ways) and max(found.values()) < 1e-5 for found in ranks), ranks
