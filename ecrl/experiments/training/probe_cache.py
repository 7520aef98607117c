"""Keeps the probe's answer in a file of the campaign.

While nothing that the answer depends on has changed, a campaign need not start the process that loads PyTorch again.
"""

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

from ecrl import __version__
from ecrl.config.matrix import Matrix
from ecrl.experiments.training.probe import Probe, build_probe_request
from ecrl.launch.system.device_leases import read_gpu_uuids
from ecrl.records.clock import boot_id
from ecrl.storage.atomic import write_atomic

SCHEMA = 2
_VISIBLE = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
_DEVICE_FILES = ("nvidia[0-9]*", "kfd", "dri/renderD*")
_DRIVER = Path("/proc/driver/nvidia/version")


def load_probe(path: Path, matrix: Matrix) -> Probe | None:
    """The stored answer, if this machine would give the same one again. None: the probe must run."""
    try:
        told = json.loads(path.read_text())
        probe = Probe(**told["probe"] | {key: tuple(told["probe"][key]) for key in ("gpus", "gpu_bytes")})
        known = told["schema"] == SCHEMA and told["machine"] == describe_machine(matrix)
        return probe if known and _has_its_data(probe) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # no answer is stored, or the file is damaged


def save_probe(path: Path, probe: Probe, matrix: Matrix) -> None:
    """Store an answer that `load_probe` can verify; other answers are not stored.

    An answer can be verified if every data set lists its files, and if GPUs show in /proc or /dev.
    """
    machine = describe_machine(matrix)
    if load_probe(path, matrix) == probe:  # it was loaded from this file
        return
    if not _has_its_data(probe) or (probe.gpus and not machine["devices"]):
        return
    told = {"schema": SCHEMA, "machine": machine, "probe": dataclasses.asdict(probe)}
    with contextlib.suppress(OSError):  # a full disk: the probe runs again next time
        write_atomic(path, json.dumps(told, indent=1).encode())


def describe_machine(matrix: Matrix) -> dict[str, Any]:
    """Everything that the answer for a matrix depends on, except the data sets' files. Does not load PyTorch."""
    return {
        "request": {key: value for key, value in build_probe_request(matrix).items() if key != "device"},
        "gpus": list(matrix.run.gpus),
        "boot_id": boot_id(),
        "python": [sys.executable, sys.version],
        "ecrl": __version__,
        "torch": [_find_version("torch"), _find_version("torchvision"), _find_origin("torch")],
        "devices": _list_devices(),
        "visible": {name: os.environ[name] for name in _VISIBLE if name in os.environ},
    }


def _has_its_data(probe: Probe) -> bool:
    """Whether every data set's files are the ones that the probe checked, by size and modification time."""
    for told in probe.datasets.values():
        if not told.get("ok") or told.get("files") is None:
            return False
        for name, (size, mtime_ns) in told["files"].items():
            try:
                status = Path(name).stat()
            except OSError:
                return False
            if (status.st_size, status.st_mtime_ns) != (size, mtime_ns):
                return False
    return True


def _find_version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _find_origin(package: str) -> str | None:
    spec = importlib.util.find_spec(package)
    return None if spec is None else spec.origin


def _list_devices() -> list[str]:
    """The accelerators of this machine and their driver, as far as /proc and /dev show them."""
    driver = [_DRIVER.read_text().partition("\n")[0]] if _DRIVER.exists() else []
    files = sorted(str(path) for pattern in _DEVICE_FILES for path in Path("/dev").glob(pattern))
    return [*driver, *files, *read_gpu_uuids().values()]
