"""`python -m bench.environment`: what this machine is, as JSON: versions, cards, driver, cores, memory."""

import importlib.metadata
import json
import os
from typing import Any

from ecrl.launch.system import nvidia
from ecrl.records import machine
from ecrl.worker.device_check import examine

_PACKAGES = ("torchvision", "numpy", "pandas", "safetensors", "torchsnapshot", "torch-checkpointing")
_CARD = (
    "name", "driver_version", "memory.total", "memory.used", "compute_mode", "persistence_mode", "ecc.mode.current",
    "power.limit", "power.draw", "temperature.gpu", "clocks.sm", "clocks.max.sm", "clocks.mem",
    "pcie.link.gen.current", "pcie.link.gen.max", "pcie.link.width.current",
)  # fmt: skip
_PRIVATE = ("host", "boot_id")  # they say who, not what


def get_environment() -> dict[str, Any]:
    """Everything that a reader of the figures must know. cards: as nvidia-smi has them; nvidia_smi: its complaint."""
    facts = {name: value for name, value in machine.read_facts().items() if name not in _PRIVATE}
    told, problem = nvidia.query_smi([f"--query-gpu={','.join(_CARD)}"])
    return {
        **facts,
        "load1": machine.read_pressure()["load1"],
        **examine(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "cards": [dict(zip(_CARD, card, strict=True)) for card in nvidia.parse_table(told, len(_CARD))],
        "nvidia_smi": problem,
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    with os.fdopen(os.dup(1), "w") as answer:
        os.dup2(2, 1)  # drivers and libraries may print on stdout, too
        json.dump(get_environment(), answer, indent=1)
