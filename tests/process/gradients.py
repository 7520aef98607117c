"""One rank of a group: the gradients of one backward pass under every parallelism, against those of DDP.

Prints for each parallelism the largest relative difference of a tensor of this rank, as JSON.
"""

import json
import sys

import torch
import torch.distributed as dist

from ecrl import plugins
from ecrl.checkpoint.state_view import Shard
from ecrl.worker.build import build_model
from ecrl.worker.dtensor import find_shard
from ecrl.worker.parallelism import Group
from ecrl.workloads.task import TaskSettings, load_task

CPU = torch.device("cpu")


def compute_gradients(parallel: str, rank: int, world_size: int) -> dict[str, torch.Tensor | Shard]:
    settings = TaskSettings(
        batch_size=4, sequence_length=0, augment=False, seed=1, rank=rank, world_size=world_size, device=CPU
    )
    task = load_task("noise", "cnn", settings)
    model = build_model(task, 7, CPU)
    name, _, shard_ranks = parallel.partition("/")
    group = Group(device=CPU, world_size=world_size, deterministic=True, shard_ranks=int(shard_ranks or 0))
    wrapped = plugins.load("parallelism", name).wrap(model, group)
    torch.manual_seed(rank)  # dropout
    torch.autograd.backward(task.loss(wrapped, task.batch(1)))
    return {n: find_shard(n, p.grad) for n, p in model.named_parameters() if p.grad is not None}


def main() -> None:
    dist.init_process_group("gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()
    expected, found = compute_gradients("ddp", rank, world_size), dict[str, float]()
    for parallel in sys.argv[1:]:
        gradients = compute_gradients(parallel, rank, world_size)
        assert gradients.keys() == expected.keys()
        found[parallel] = 0.0
        for name, part in gradients.items():
            whole = expected[name]
            assert isinstance(whole, torch.Tensor)
            rows, right = (part.rows, whole[part.begin : part.end]) if isinstance(part, Shard) else (part, whole)
            if len(rows):
                error = ((rows - right).norm() / right.norm()).item()
                found[parallel] = max(found[parallel], error)
    print(json.dumps(found) + "\n", end="", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
