"""Every parallelism averages gradients over the ranks as DDP does. Losses would not tell: Adam hides a wrong factor.

Micro-batches, and short precisions up to their rounding, give the same gradients.
"""

import json
import subprocess
import sys

import pytest

from ecrl import plugins

PARALLELISMS = ("ddp", "fsdp2", "hsdp/1", "hsdp/3")
# way to train -> the largest relative difference of a gradient to that of DDP, fp32 and one micro-batch
WAYS = {
    **{f"{parallel}-fp32-{number}": 1e-5 for parallel in PARALLELISMS for number in (1, 2)},
    **{f"{parallel}-bf16-2": 5e-2 for parallel in PARALLELISMS},
    **{f"{parallel}-fp16-2": 5e-3 for parallel in ("ddp", "fsdp2")},
}
_WEIGHTS = 858_880  # of gpt2-nano


@pytest.mark.process
@pytest.mark.timeout(300)
def test_gradients_are_those_of_ddp() -> None:
    assert {parallel.partition("/")[0] for parallel in PARALLELISMS} == {*plugins.names("parallelism")}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3"]
    done = subprocess.run(
        [*torchrun, "-m", "tests.process.gradients", *WAYS], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    ranks = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(ranks) == 3
    for rank in ranks:
        assert rank["differences"].keys() == WAYS.keys()
        assert {way: found for way, found in rank["differences"].items() if found > WAYS[way]} == {}
        # A split model keeps no weights from the forward to the backward pass; a whole one keeps copies in bf16.
        assert rank["kept"]["fsdp2-bf16-2"] < rank["kept"]["ddp-bf16-2"] - _WEIGHTS
        assert rank["kept"]["fsdp2-bf16-2"] < rank["kept"]["fsdp2-fp32-2"]
