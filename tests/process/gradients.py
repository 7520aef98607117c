"""One rank of a group: the gradients of one step in several ways to train, against those of DDP.

A way is a parallelism, a precision and a number of micro-batches, which always share 4 samples a rank: 'hsdp/1-bf16-2'.
Prints for each the largest relative difference of a tensor of this rank, and the bytes that a forward pass keeps for
the backward pass, as JSON.
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from ecrl import plugins
from ecrl.checkpoint.engine import NoCheckpoints
from ecrl.checkpoint.state_view import Shard
from ecrl.config.train import TrainSettings
from ecrl.failures.injector import NoFailures
from ecrl.records.recorder import Recorder
from ecrl.selftest.drill import engine_context
from ecrl.worker.build import TrainingJob, assemble, build_model
from ecrl.worker.dtensor import find_shard
from ecrl.worker.loop import accumulate_gradients
from ecrl.worker.parallelism import Group
from ecrl.worker.precision import COMPUTE_DTYPES
from ecrl.workloads.task import TaskSettings, load_task

CPU = torch.device("cpu")
REFERENCE = "ddp-fp32-1"


def make_job(parallel: str, precision: str, num_batches: int) -> TrainingJob:
    rank, world_size = dist.get_rank(), dist.get_world_size()
    settings = TaskSettings(
        batch_size=4 // num_batches, sequence_length=16, augment=False, seed=1, rank=rank, world_size=world_size,
        device=CPU,
    )  # fmt: skip
    task = load_task("python-source", "gpt2-nano", settings)
    model = build_model(task, 7, CPU)
    name, _, shard_ranks = parallel.partition("/")
    group = Group(
        device=CPU, world_size=world_size, deterministic=True, shard_ranks=int(shard_ranks or 0),
        compute_dtype=COMPUTE_DTYPES[precision],
    )  # fmt: skip
    plugin = plugins.load("parallelism", name)
    train = TrainSettings(steps=1, precision=precision)  # type: ignore[arg-type]
    return assemble(task, CPU, model, plugin.wrap(model, group), train, plugin.no_sync)


def compute_gradients(way: str) -> tuple[dict[str, torch.Tensor | Shard], int]:
    parallel, precision, number = way.split("-")
    job = make_job(parallel, precision, int(number))
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = job.forward(job.task.batch(1))
    count = sum(storage.nbytes() for storage in kept.values())  # gathered weights that were freed have none
    torch.autograd.backward(loss)  # the next forward pass of a wrapped model wants the end of this one
    recorder = Recorder(Path("/dev/null"))
    engine = NoCheckpoints(engine_context(job, Path("/dev/null"), recorder))  # type: ignore[arg-type]
    accumulate_gradients(1, int(number), job, engine, NoFailures())
    job.scaler.unscale_gradients()
    recorder.close()
    names = {id(p): name for name, p in job.model.named_parameters()}
    parameters = [p for group in job.optimizer.param_groups for p in group["params"]]
    found = {names[id(p)].removeprefix("module."): p.grad for p in parameters}
    return {name: find_shard(name, gradient) for name, gradient in found.items()}, count


def main() -> None:
    dist.init_process_group("gloo")
    expected, _ = compute_gradients(REFERENCE)
    # The gradient of a key's bias is 0 but for rounding: no difference is relative to less than this.
    least = 1e-3 * torch.stack([t.norm() for t in expected.values() if isinstance(t, torch.Tensor)]).norm()
    differences, kept = dict[str, float](), dict[str, int]()
    for way in sys.argv[1:]:
        gradients, kept[way] = compute_gradients(way)
        assert gradients.keys() == expected.keys()
        differences[way] = 0.0
        for name, part in gradients.items():
            whole = expected[name]
            assert isinstance(whole, torch.Tensor)
            rows, right = (part.rows, whole[part.begin : part.end]) if isinstance(part, Shard) else (part, whole)
            if len(rows):
                error = ((rows - right).norm() / torch.maximum(right.norm(), least)).item()
                differences[way] = max(differences[way], error)
    print(json.dumps({"differences": differences, "kept": kept}) + "\n", end="", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
