"""Train a small transformer with FSDP2: torchrun --nproc-per-node 2 examples/fsdp2.py."""

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

import ecrl

STEPS, WORDS, WIDTH = 40, 64, 32


def main() -> None:
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(WIDTH, 4, 64, batch_first=True)
    model = nn.Sequential(nn.Embedding(WORDS, WIDTH), nn.TransformerEncoder(layer, 2), nn.Linear(WIDTH, WORDS))
    fully_shard(model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    assert isinstance(model, FSDPModule)
    model.set_force_sum_reduction_for_comms(True)  # gloo averages in some versions only (pytorch#162338)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)  # after fully_shard
    torch.manual_seed(dist.get_rank() + 1)
    job = ecrl.attach(model, optimizer, steps=STEPS)
    for _ in job:
        text = torch.randint(WORDS, (8, 17))
        loss = nn.functional.cross_entropy(model(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        job.log(loss=loss)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
