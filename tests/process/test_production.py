"""The example scripts under plain torchrun: a rank is killed, torchrun starts them again, and they end in the bits of
an undisturbed run, each rank's generator included."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ecrl.checkpoint.state_view import META_LEAF
from ecrl.storage import commit

pytestmark = [pytest.mark.torture, pytest.mark.process, pytest.mark.timeout(600)]

EXAMPLES = Path(__file__).parents[2] / "examples"
KILL = """        import os, signal
        if os.environ["RANK"] + os.environ["TORCHELASTIC_RESTART_COUNT"] == "10" and job.step == 12:
            os.kill(os.getpid(), signal.SIGKILL)
"""
# The scripts seed PyTorch's generator alone.
UNSEEDED = {META_LEAF, "own/rng/numpy_keys", "own/rng/numpy_rest"}
STEPS = {"ddp": 60, "fsdp2": 40}


def read_end(folder: Path, script: str, last: int) -> list[dict[str, Any]]:
    """What each rank saved after the last step, once the script is done."""
    folder.mkdir()
    (folder / "train.py").write_text(script)
    command = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1")
    done = subprocess.run(
        [sys.executable, *command, "train.py"],
        cwd=folder,
        env=os.environ | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    root = folder / "checkpoints"
    assert commit.verify(root, last, run="attach", world_size=2).state == "valid"
    assert len(commit.list_committed_steps(root)) == 2, "as many as `keep`"
    return [json.loads((commit.step_folder(root, last) / f"rank-{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("engine", ["blocking", "overlapped"])
@pytest.mark.parametrize("example", STEPS)
def test_a_killed_script_goes_on_and_ends_in_the_bits_of_an_undisturbed_one(
    example: str, engine: str, tmp_path: Path
) -> None:
    text = (EXAMPLES / f"{example}.py").read_text()
    assert (text.count("steps=STEPS"), text.count("        optimizer.step()\n")) == (1, 1)
    text = text.replace("steps=STEPS", f"steps=STEPS, every=5, engine={engine!r}")
    last = STEPS[example]
    undisturbed = read_end(tmp_path / "undisturbed", text, last)
    killed = text.replace("        optimizer.step()\n", f"{KILL}        optimizer.step()\n")
    disturbed = read_end(tmp_path / "disturbed", killed, last)
    assert [rank["attempt"] for rank in disturbed] == [1, 1]
    for one, other in zip(disturbed, undisturbed, strict=True):
        assert one["leaves"].keys() == other["leaves"].keys()
        differing = {name for name, digest in one["leaves"].items() if digest != other["leaves"][name]}
        assert differing <= UNSEEDED
