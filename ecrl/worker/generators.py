"""The random generators of one rank as parts of its state."""

import random
from typing import Any

import numpy as np
import torch

NAMES = "own/rng/"


def get_generators(device: torch.device) -> dict[str, torch.Tensor]:
    """Private copies of the states of PyTorch's and NumPy's generators, by name."""
    _, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    generators = {
        f"{NAMES}torch": torch.get_rng_state(),
        f"{NAMES}numpy_keys": torch.from_numpy(np.asarray(keys, dtype=np.uint32).view(np.int32).copy()),
        f"{NAMES}numpy_rest": torch.tensor([position, has_gauss, gauss], dtype=torch.float64),
    }
    if device.type == "cuda":
        generators[f"{NAMES}cuda"] = torch.cuda.get_rng_state(device)
    return generators


def get_python_generator() -> list[Any]:
    """The state of Python's generator, in JSON's types."""
    version, internal, gauss = random.getstate()
    return [version, list(internal), gauss]


def set_generators(python: list[Any], generators: dict[str, torch.Tensor], device: torch.device) -> None:
    """Set all generators to the states that the other functions returned."""
    version, internal, gauss = python
    random.setstate((version, tuple(internal), gauss))
    position, has_gauss, cached = generators[f"{NAMES}numpy_rest"].tolist()
    keys = generators[f"{NAMES}numpy_keys"].numpy().view(np.uint32)
    np.random.set_state(("MT19937", keys, int(position), int(has_gauss), cached))
    if device.type == "cuda":
        torch.cuda.set_rng_state(generators[f"{NAMES}cuda"], device)
    torch.set_rng_state(generators[f"{NAMES}torch"])
