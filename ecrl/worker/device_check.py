"""Try out what PyTorch can do on this machine, and answer with the result. `ecrl doctor` itself loads no torch."""

import math
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import (
    HashStore,
    ProcessGroupGloo,
    ReduceScatterOptions,
)  # dist re-exports them silently

from ecrl.worker.reply import send_reply


def examine() -> dict[str, Any]:
    """Versions, built-in features, and the result of using each back end and each GPU once.

    Errors are texts, which are empty on success.
    """
    return {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cuda_available": torch.cuda.is_available(),
        "cuda_error": _cuda_error(),
        "gpus": [_gpu(number) for number in range(torch.cuda.device_count())],
        "gloo": dist.is_gloo_available(),
        "gloo_error": (gloo_error := _gloo_error() if dist.is_gloo_available() else ""),
        "gloo_average": reduce_scatter_average() if dist.is_gloo_available() and not gloo_error else None,
        "nccl": nccl_version(),
    }


def nccl_version() -> str | None:
    """The version of PyTorch's NCCL, e.g. '2.27.7'; None if PyTorch was built without NCCL."""
    if not dist.is_nccl_available():
        return None
    return ".".join(map(str, torch.cuda.nccl.version()))  # type: ignore[no-untyped-call]


def _cuda_error() -> str:
    if torch.version.cuda is None:
        return ""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        return _one_line(error)
    return ""


def _gpu(number: int) -> dict[str, Any]:
    told: dict[str, Any] = {"name": "", "error": ""}
    try:
        told["name"] = torch.cuda.get_device_name(number)
        told["bytes"] = torch.cuda.get_device_properties(number).total_memory
        square = torch.ones(64, 64, device=f"cuda:{number}")
        if float((square @ square).sum()) != 64.0**3:
            told["error"] = "a product of two matrices came out wrong"
    except RuntimeError as error:
        told["error"] = _one_line(error)
    return told


def _gloo_error() -> str:
    """Why a gloo group cannot be used on this host; empty if it can."""
    # Even a group of one rank makes gloo resolve this host's name and open a socket.
    try:
        store = HashStore()
        dist.init_process_group("gloo", store=store, rank=0, world_size=1)
        one = torch.ones(1)
        dist.all_reduce(one)
        dist.destroy_process_group()
    except (RuntimeError, ValueError) as error:
        return _one_line(error)
    return ""


def reduce_scatter_average() -> float:
    """The average of 1 and 2 by gloo's reduce-scatter of two ranks; some versions of it give the sum instead."""
    store = HashStore()

    def reduce(rank: int) -> float:
        group = ProcessGroupGloo(store, rank, 2, timedelta(seconds=60))
        options, result = ReduceScatterOptions(), torch.zeros(1)
        options.reduceOp = dist.ReduceOp.AVG
        group._reduce_scatter_base(result, torch.full((2,), 1.0 + rank), options).wait()  # type: ignore[attr-defined]
        return result.item()

    with ThreadPoolExecutor(2) as ranks:
        first, second = ranks.map(reduce, range(2))
    return first if first == second else math.nan


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


if __name__ == "__main__":
    send_reply(examine())
