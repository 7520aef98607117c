"""State as named tensors: what each rank writes, the layout of its shard, digests, and loading in place.

A shard is a plain safetensors file: 8 bytes of header length, a JSON header, the tensors' bytes without gaps.
The staging buffer has exactly the layout of the payload, so persisting is one write of it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors import safe_open

META_LEAF = "own/meta"

# torch dtype -> name in the safetensors format
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.bool: "BOOL",
}


@dataclass(frozen=True)
class StateView:
    """Live training state, as names and tensors that alias it.

    replicated: equal on every rank (parameters, optimizer state), changed by `optimizer.step` alone; each rank
        writes its share. local: this rank's own tensors that the *forward* changes (buffers). host: this
        rank's own state that is already a private copy (RNG states). meta: JSON-able host state (step, ...).
        Names in local and host begin with `own/`: every rank writes its own; no replicated name does.
    """

    replicated: dict[str, torch.Tensor]
    local: dict[str, torch.Tensor]
    host: dict[str, torch.Tensor] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)


def partition_tensors(replicated: Mapping[str, torch.Tensor], world_size: int) -> list[list[str]]:
    """Which rank writes which replicated tensors: largest first onto the least loaded rank, ties by name.

    Every rank computes the same answer from shapes alone; loads differ by at most the largest tensor.
    """
    loads = [0] * world_size
    result: list[list[str]] = [[] for _ in range(world_size)]
    for name in sorted(replicated, key=lambda n: (-replicated[n].nbytes, n)):
        rank = loads.index(min(loads))
        result[rank].append(name)
        loads[rank] += replicated[name].nbytes
    return result


class ForeignCheckpointError(Exception):
    """A checkpoint of another run, world size or model; the message says what differs."""


class UnsupportedDtypeError(Exception):
    """State of a type that a shard cannot hold."""


@dataclass(frozen=True)
class Entry:
    """Where one tensor lies in the payload (bytes)."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


class Layout:
    """The payload of one shard: tensors back to back, widest elements first so that each is aligned.

    Raises:
        UnsupportedDtypeError: the format has no name for a tensor's type.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self.entries: dict[str, Entry] = {}
        offset = 0
        for name in sorted(tensors, key=lambda n: (-tensors[n].element_size(), n)):
            tensor = tensors[name]
            if tensor.dtype not in _DTYPES:
                raise UnsupportedDtypeError(f"{name}: safetensors cannot hold {tensor.dtype}, so no checkpoint can")
            self.entries[name] = Entry(tensor.dtype, tuple(tensor.shape), offset, offset + tensor.nbytes)
            offset += tensor.nbytes
        self.payload_bytes = offset

    def header(self) -> bytes:
        """Length and JSON header as the format wants them, padded with blanks to a multiple of 8 bytes."""
        table = {
            name: {"dtype": _DTYPES[e.dtype], "shape": list(e.shape), "data_offsets": [e.begin, e.end]}
            for name, e in self.entries.items()
        }
        text = json.dumps(table, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text

    def views(self, payload: torch.Tensor) -> dict[str, torch.Tensor]:
        """The tensors inside a uint8 `payload`, by name; writing to a view writes to the payload."""
        return {name: _view(payload[e.begin : e.end], e) for name, e in self.entries.items()}


def _view(part: torch.Tensor, entry: Entry) -> torch.Tensor:
    if not part.numel():  # an empty tensor has no bytes to view, and its offset need not be aligned
        return part.new_empty(entry.shape, dtype=entry.dtype)
    return part.view(entry.dtype).view(entry.shape)


def raw_bytes(tensor: torch.Tensor) -> memoryview:
    """The bytes of a tensor: without a copy where it lies contiguous in host memory."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy().data) if flat.numel() else memoryview(b"")


def leaf_digest(tensor: torch.Tensor) -> str:
    """XXH3-128 of one tensor's bytes."""
    return xxhash.xxh3_128(raw_bytes(tensor)).hexdigest()


def meta_digest(meta: Mapping[str, Any]) -> str:
    """XXH3-128 of host state that is kept as JSON."""
    return xxhash.xxh3_128(json.dumps(meta, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def root_digest(leaves: Mapping[str, str]) -> str:
    """SHA-256 over sorted names and leaf digests: one digest of a whole rank's state."""
    digest = hashlib.sha256()
    for name in sorted(leaves):
        digest.update(f"{name}={leaves[name]}\n".encode())
    return digest.hexdigest()


def state_digest(tensors: Mapping[str, torch.Tensor], meta: Mapping[str, Any] | None = None) -> str:
    """SHA-256 over sorted names, dtypes, shapes and raw bytes (metrics: the digest of C3 and C6)."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}|{_DTYPES[tensor.dtype]}|{tuple(tensor.shape)}|".encode())
        digest.update(raw_bytes(tensor))
    if meta is not None:
        digest.update(json.dumps(meta, sort_keys=True, separators=(",", ":")).encode())
    return digest.hexdigest()


def live_leaves(view: StateView) -> dict[str, str]:
    """Leaf digests of everything one rank holds: what a checkpoint's `rank-<r>.json` files record of it."""
    tensors = view.replicated | view.local | view.host
    return {name: leaf_digest(t) for name, t in tensors.items()} | {META_LEAF: meta_digest(view.meta)}


@dataclass(frozen=True)
class TensorSpec:
    """What a saved tensor must share with the live one that it is copied into, which would convert it silently."""

    dtype: str
    shape: tuple[int, ...]


def get_tensor_specs(tensors: Mapping[str, torch.Tensor]) -> dict[str, TensorSpec]:
    """The types and shapes of tensors, by name."""
    return {name: TensorSpec(str(tensor.dtype), tuple(tensor.shape)) for name, tensor in tensors.items()}


def read_tensor_specs(path: Path) -> dict[str, TensorSpec]:
    """The types and shapes of a shard's tensors, by name; no tensor is read."""
    named = {name: str(dtype) for dtype, name in _DTYPES.items()}
    with safe_open(str(path), framework="pt") as shard:
        slices = {name: shard.get_slice(name) for name in shard.keys()}  # noqa: SIM118 (not a dict)
        return {
            name: TensorSpec(named.get(found.get_dtype(), found.get_dtype()), tuple(found.get_shape()))
            for name, found in slices.items()
        }


def check_same_model(live: Mapping[str, torch.Tensor], saved: Mapping[str, TensorSpec], folder: Path) -> None:
    """Refuse a checkpoint whose tensors have other names, types or shapes: copying would fit the one to the other.

    Raises:
        ForeignCheckpointError: with the first tensor that differs, and in what.
    """
    if differing := sorted(live.keys() ^ saved.keys()):
        raise ForeignCheckpointError(f"{folder}: of another model, {differing[0]} is on one side only")
    for name, expected in get_tensor_specs(live).items():
        for one, other in ((saved[name].shape, expected.shape), (saved[name].dtype, expected.dtype)):
            if one != other:
                raise ForeignCheckpointError(f"{folder}: of another model, {name}: found {one}, expected {other}")


def load_shard(path: Path, wanted: Mapping[str, torch.Tensor]) -> None:
    """Copy the named tensors of a shard into live ones, in place, straight from the mapped file."""
    with safe_open(str(path), framework="pt") as shard:
        for name, live in wanted.items():
            live.copy_(shard.get_tensor(name))
