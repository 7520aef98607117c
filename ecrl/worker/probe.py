"""Report what this machine can run to the orchestrator, which loads no torch. JSON in, JSON out.

In (stdin): {"datasets": [...], "models": [...], "optimizer": "sgd", "data_root": DIR or null,
"sequence_length": the longest, "global_batch": the largest, "precisions": ["bf16"]}.
Out (`send_reply`): versions, GPUs, whether each data set is complete, the bytes of each state, the footprint of each
model (`describe_footprint`), and why the CPU cannot compute in each short precision ("": it can). A data set's `files`
are {path: [bytes, mtime in ns]} for the files that its check has read; null: unknown.
"""

import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Any

import torch

from ecrl import plugins
from ecrl.config.task_fit import is_fitting_pair
from ecrl.errors import DataMissingError
from ecrl.worker.device_check import nccl_version
from ecrl.worker.footprint import describe_footprint
from ecrl.worker.precision import find_precision_fault
from ecrl.worker.reply import send_reply


def probe(request: dict[str, Any]) -> dict[str, Any]:
    """Answer a request. The module's docstring defines the keys."""
    root = None if request["data_root"] is None else Path(request["data_root"])
    size = request["sequence_length"], request["global_batch"]
    datasets = {name: _dataset(name, root, *size) for name in request["datasets"]}
    gpus = range(torch.cuda.device_count())
    pairs = [(d, m) for d in request["datasets"] for m in request["models"] if is_fitting_pair(d, m)]
    footprints = {f"{d}/{m}": describe_footprint(d, m, request["sequence_length"]) for d, m in pairs}
    return {
        "torch": torch.__version__,
        "torchvision": _torchvision(),
        "cuda": torch.version.cuda,
        "nccl": nccl_version(),
        "cuda_available": torch.cuda.is_available(),
        "gpus": [torch.cuda.get_device_name(gpu) for gpu in gpus],
        "gpu_bytes": [torch.cuda.get_device_properties(gpu).total_memory for gpu in gpus],
        "datasets": datasets,
        "state_bytes": {pair: _state_bytes(told, request["optimizer"]) for pair, told in footprints.items()},
        "footprints": footprints,
        "precisions": {precision: find_precision_fault(precision) for precision in request["precisions"]},
    }


def _torchvision() -> str | None:
    """The version of torchvision; None if it is not installed."""
    # Importing it takes as long as importing torch. Only models and data sets of the matrix may need it; they are
    # loaded below and report what is missing.
    try:
        return importlib.metadata.version("torchvision")
    except importlib.metadata.PackageNotFoundError:
        return None


def _dataset(name: str, root: Path | None, sequence_length: int, global_batch: int) -> dict[str, Any]:
    dataset = plugins.load("dataset", name)
    told = {"ok": True, "synthetic": dataset.synthetic}
    opened = _OpenedFiles()
    try:
        dataset.check(root)
        dataset.check_size(root, sequence_length, global_batch)
    except DataMissingError as error:
        return told | {"ok": False, "error": str(error)}
    if root is None or not dataset.needs_root:  # its files ship with ecrl
        return told | {"files": {}}
    return told | {"files": opened.describe(root) or None}


class _OpenedFiles:
    """Collects the files that this process opens after its construction."""

    # The hook cannot be removed; a probe runs in its own process.
    def __init__(self) -> None:
        self._names: list[str] = []
        sys.addaudithook(self._note)

    def describe(self, root: Path) -> dict[str, tuple[int, int]]:
        """The size in bytes and the mtime in ns of the opened files below `root`, by path."""
        files = {name: Path(name).stat() for name in self._names if Path(name).is_relative_to(root)}
        return {name: (status.st_size, status.st_mtime_ns) for name, status in files.items()}

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str):
            self._names.append(arguments[0])


def _state_bytes(footprint: dict[str, Any], optimizer: str) -> int:
    """The bytes of parameters, buffers and optimizer state.

    A checkpoint of all ranks also contains a few kilobytes of random generators and the other ranks' buffers.
    """
    moments: int = {"sgd": 1, "adamw": 2}[optimizer]
    size: int = footprint["parameters"] * (1 + moments) + footprint["buffers"]
    return size


if __name__ == "__main__":
    send_reply(probe(json.load(sys.stdin)))
