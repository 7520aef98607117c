"""The program of docs/parallelism.md makes whole tensors of a checkpoint whose ranks hold different parts."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from docs.generate.pages import DOCS
from ecrl.checkpoint.state_view import StateView
from tests.unit.checkpoint.ranks_in_threads import Group, ToyState

_PROGRAM = re.compile(r'^```python title="assemble.py"\n(.*?)^```$', re.MULTILINE | re.DOTALL)


class WithFrozen(ToyState):
    def view(self, step: int) -> StateView:
        return replace(super().view(step), frozen=frozenset(["model/wide"]))


@pytest.mark.parametrize("world_size", [1, 4])
def test_the_program_assembles_a_checkpoint(tmp_path: Path, world_size: int) -> None:
    group = Group(tmp_path, "blocking", world_size, state=WithFrozen)
    group.train(1, 10)
    group.settle()
    [text] = _PROGRAM.findall((DOCS / "parallelism.md").read_text(encoding="utf-8"))
    (tmp_path / "assemble.py").write_text(text)
    folder = tmp_path / "checkpoints" / "step-00000010"
    subprocess.run([sys.executable, "assemble.py", str(folder), "whole.safetensors"], cwd=tmp_path, check=True)
    found = load_file(tmp_path / "whole.safetensors")
    state = group.states[0]
    shapes = {name: tuple(tensor.shape) for name, tensor in state.weights.items()}
    shapes |= {name: shard.shape for name, shard in state.shards.items()}
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == shapes
    assert all(torch.equal(tensor, torch.full_like(tensor, 10)) for tensor in found.values())
    assert (folder / "frozen-0.safetensors").is_file()
