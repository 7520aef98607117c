"""State dictionaries as named tensors and a JSON skeleton, and back."""

import base64
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from ecrl.errors import EcrlError

# Keys of the skeleton's objects that stand for what JSON does not have.
_TENSOR, _BYTES, _ITEMS, _TUPLE, _ARRAY, _SCALAR = "$tensor", "$bytes", "$items", "$tuple", "$array", "$numpy"
_COUNTER = "$counter"

_NUMBERS = "biuf"  # the kinds of NumPy's types that a checkpoint holds


def flatten(value: Any, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    """The skeleton of `value`, which JSON can hold. Its tensors are added to `tensors`, with names below `name`.

    Raises:
        EcrlError: a part of the value is neither a tensor nor made of dictionaries, lists and plain values.
    """
    match value:
        case torch.Tensor():
            tensors[name] = value.detach()
            leaf = {_TENSOR: name, "dtype": str(value.dtype).removeprefix("torch."), "shape": list(value.shape)}
            return leaf | {"device": value.device.type, "split": hasattr(value, "device_mesh")}
        case np.ndarray() if value.dtype.kind in _NUMBERS:
            return {_ARRAY: flatten(torch.from_numpy(np.require(value, requirements=["C", "W"])), name, tensors)}
        case np.generic() if value.dtype.kind in _NUMBERS:
            return {_SCALAR: [value.dtype.str, value.item()]}
        case None | bool() | int() | float() | str():
            return value
        case bytes() | bytearray():
            return {_BYTES: base64.b64encode(value).decode()}
        case Counter():  # a scheduler calls what a plain dictionary lacks
            return {_COUNTER: flatten(dict(value), name, tensors)}
        case Mapping():
            if all(isinstance(key, str) and not key.startswith("$") for key in value):
                return {key: flatten(item, f"{name}/{key}", tensors) for key, item in value.items()}
            pairs = [[flatten(k, name, tensors), flatten(item, f"{name}/{k}", tensors)] for k, item in value.items()]
            return {_ITEMS: pairs}
        case list() | tuple():
            items = [flatten(item, f"{name}/{place}", tensors) for place, item in enumerate(value)]
            return items if isinstance(value, list) else {_TUPLE: items}
    raise EcrlError(
        "ECRL-655",
        f"{name}: found {type(value).__qualname__}, expected tensors, numbers, texts, lists and dictionaries.\n"
        "Give `extra` objects whose state_dict() is made of these.",
    )


def build(skeleton: Any, get_tensor: Callable[[dict[str, Any]], torch.Tensor]) -> Any:
    """The value of a skeleton. get_tensor: the tensor of a leaf, which has a name, a dtype and a shape."""
    match skeleton:
        case {"$tensor": _}:
            return get_tensor(skeleton)
        case {"$array": found}:
            return get_tensor(found).numpy()
        case {"$numpy": [dtype, value]}:
            return np.dtype(dtype).type(value)
        case {"$bytes": text}:
            return base64.b64decode(text)
        case {"$items": pairs}:
            return {build(key, get_tensor): build(item, get_tensor) for key, item in pairs}
        case {"$counter": counts}:
            return Counter(build(counts, get_tensor))
        case {"$tuple": items}:
            return tuple(build(item, get_tensor) for item in items)
        case dict():
            return {key: build(item, get_tensor) for key, item in skeleton.items()}
        case list():
            return [build(item, get_tensor) for item in skeleton]
    return skeleton


def get_leaf_name(leaf: Mapping[str, Any]) -> str:
    """The name of a skeleton's tensor."""
    return str(leaf[_TENSOR])


def make_tensor(leaf: Mapping[str, Any], like: torch.Tensor | None = None) -> torch.Tensor:
    """A tensor of zeros for a leaf of a skeleton; on the device of `like`, and split as it is, if the leaf's was."""
    dtype = getattr(torch, leaf["dtype"])
    if like is not None and leaf["split"]:
        return torch.zeros_like(like, dtype=dtype, requires_grad=False)
    device = "cpu" if like is None or leaf["device"] == "cpu" else like.device
    return torch.zeros(leaf["shape"], dtype=dtype, device=device)
