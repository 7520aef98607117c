"""Train with DistributedDataParallel: torchrun --nproc-per-node 2 examples/ddp.py, or a matrix with [job] script."""

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import ecrl

STEPS = 60


def main() -> None:
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    model = DistributedDataParallel(
        nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 14 * 14, 10))
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    torch.manual_seed(dist.get_rank() + 1)
    job = ecrl.attach(model, optimizer, steps=STEPS, scheduler=scheduler)
    for _ in job:
        images, labels = torch.randn(32, 1, 16, 16), torch.randint(10, (32,))
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        job.log(loss=loss)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
