"""State as named tensors: which rank writes which tensor, the layout of a shard, digests, and loading in place.

A shard is a plain safetensors file: 8 bytes of header length, a JSON header, the tensors' bytes without gaps.
The staging buffer has exactly the layout of the payload, so persisting is one write of it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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
class Shard:
    """One rank's rows of a tensor that is split over ranks along dimension 0.

    rows: the live rows, contiguous; none if there are more ranks than rows. shape: that of the whole tensor. begin: the
    whole tensor's index of the first row. replicas, replica: how many ranks hold these rows, and this rank's place
    among them. whole: the object that stands for the whole tensor, for libraries that know it (a DTensor).
    """

    rows: torch.Tensor
    shape: tuple[int, ...]
    begin: int
    replicas: int = 1
    replica: int = 0
    whole: torch.Tensor | None = None

    @property
    def end(self) -> int:
        """The index after the last row."""
        return self.begin + len(self.rows)

    @property
    def place(self) -> dict[str, Any]:
        """The entry of these rows in `rank-<rank>.json`: the shape of the whole tensor and the index of the first."""
        return {"shape": list(self.shape), "begin": self.begin}


@dataclass(frozen=True)
class StateView:
    """Live training state as named tensors that alias it.

    replicated: equal on every rank (parameters, optimizer state); only `optimizer.step` changes it, and each rank
        writes its share.
    shards: this rank's rows of what is split over ranks; only `optimizer.step` changes them, and each rank writes its
        rows, or its share of them if other ranks hold them too.
    local: this rank's own tensors that the *forward* changes (buffers).
    host: this rank's own state that is already a private copy (RNG states).
    meta: host state that can be written as JSON (step, ...).
    frozen: the names in replicated and shards of what nothing ever changes.

    Names in local and host start with `own/`, and every rank writes its own. Replicated names do not start with it.
    """

    replicated: dict[str, torch.Tensor]
    local: dict[str, torch.Tensor]
    host: dict[str, torch.Tensor] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    shards: dict[str, Shard] = field(default_factory=dict)
    frozen: frozenset[str] = frozenset()

    def select_frozen(self) -> "StateView":
        """The part that nothing ever changes."""
        replicated = {name: tensor for name, tensor in self.replicated.items() if name in self.frozen}
        shards = {name: shard for name, shard in self.shards.items() if name in self.frozen}
        return StateView(replicated=replicated, local={}, shards=shards)

    def select_changing(self) -> "StateView":
        """The rest."""
        replicated = {name: tensor for name, tensor in self.replicated.items() if name not in self.frozen}
        shards = {name: shard for name, shard in self.shards.items() if name not in self.frozen}
        return replace(self, replicated=replicated, shards=shards, frozen=frozenset())

    @property
    def updated(self) -> dict[str, torch.Tensor]:
        """The live tensors that only `optimizer.step` changes."""
        return self.replicated | {name: shard.rows for name, shard in self.shards.items() if len(shard.rows)}

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """All live tensors of this rank."""
        return self.updated | self.local | self.host

    def list_written(self, rank: int, world_size: int) -> dict[str, torch.Tensor]:
        """The live tensors that this rank writes into a checkpoint of all ranks."""
        share = partition_tensors(self.replicated, world_size)[rank]
        found = {name: self.replicated[name] for name in share}
        # Ranks that hold the same rows compute the same partition of them.
        holders = {(shard.replicas, shard.replica) for shard in self.shards.values()}
        for replicas, replica in holders:
            rows = {name: s.rows for name, s in self.shards.items() if (s.replicas, s.replica) == (replicas, replica)}
            found |= {name: rows[name] for name in partition_tensors(rows, replicas)[replica] if len(rows[name])}
        return found | self.local | self.host

    def build_layout(self, rank: int, world_size: int) -> "Layout":
        """The layout of what this rank writes.

        Raises:
            UnsupportedDtypeError: see `Layout`.
        """
        written = self.list_written(rank, world_size)
        return Layout(written, {name: shard.place for name, shard in self.shards.items() if name in written})


def partition_tensors(replicated: Mapping[str, torch.Tensor], world_size: int) -> list[list[str]]:
    """The names of the replicated tensors that each rank writes, one list per rank.

    Tensors are assigned largest first to the least loaded rank; ties are broken by name. Every rank computes the same
    answer from the shapes alone. Loads differ by at most the largest tensor.
    """
    loads = [0] * world_size
    result: list[list[str]] = [[] for _ in range(world_size)]
    for name in sorted(replicated, key=lambda n: (-replicated[n].nbytes, n)):
        rank = loads.index(min(loads))
        result[rank].append(name)
        loads[rank] += replicated[name].nbytes
    return result


class ForeignCheckpointError(Exception):
    """The checkpoint belongs to another run, world size or model. The message says what differs."""


class UnsupportedDtypeError(Exception):
    """A tensor has a type that a shard cannot store."""


@dataclass(frozen=True)
class Entry:
    """The type, shape and byte range of one tensor in the payload."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


class Layout:
    """The payload of one rank's file: tensors without gaps, widest elements first, which keeps each tensor aligned.

    places: the place of each tensor of the file that is a part of a larger one, as in `rank-<rank>.json`.

    Raises:
        UnsupportedDtypeError: the format has no name for a tensor's type.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor], places: Mapping[str, Any] | None = None) -> None:
        self.places = dict(places or {})
        self.entries: dict[str, Entry] = {}
        offset = 0
        for name in sorted(tensors, key=lambda n: (-tensors[n].element_size(), n)):
            tensor = tensors[name]
            if tensor.dtype not in _DTYPES:
                raise UnsupportedDtypeError(f"{name}: safetensors cannot hold {tensor.dtype}, so no checkpoint can")
            self.entries[name] = Entry(tensor.dtype, tuple(tensor.shape), offset, offset + tensor.nbytes)
            offset += tensor.nbytes
        self.payload_bytes = offset

    def __eq__(self, other: object) -> bool:
        """Whether a payload of one layout can be read as one of the other."""
        return isinstance(other, Layout) and (self.entries, self.places) == (other.entries, other.places)

    __hash__ = None  # type: ignore[assignment]

    def header(self) -> bytes:
        """The length field and the JSON header, padded with blanks to a multiple of 8 bytes."""
        table = {
            name: {"dtype": _DTYPES[e.dtype], "shape": list(e.shape), "data_offsets": [e.begin, e.end]}
            for name, e in self.entries.items()
        }
        text = json.dumps(table, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text

    def views(self, payload: torch.Tensor) -> dict[str, torch.Tensor]:
        """The tensors inside a uint8 `payload`, by name. Writing to a view writes to the payload."""
        return {name: _view(payload[e.begin : e.end], e) for name, e in self.entries.items()}


def _view(part: torch.Tensor, entry: Entry) -> torch.Tensor:
    if not part.numel():  # an empty tensor has no bytes to view, and its offset need not be aligned
        return part.new_empty(entry.shape, dtype=entry.dtype)
    return part.view(entry.dtype).view(entry.shape)


def raw_bytes(tensor: torch.Tensor) -> memoryview:
    """The bytes of a tensor. Makes no copy if the tensor is contiguous in host memory."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy().data) if flat.numel() else memoryview(b"")


def leaf_digest(tensor: torch.Tensor) -> str:
    """XXH3-128 of one tensor's bytes."""
    return xxhash.xxh3_128(raw_bytes(tensor)).hexdigest()


def meta_digest(meta: Mapping[str, Any]) -> str:
    """XXH3-128 of host state in its canonical JSON form."""
    return xxhash.xxh3_128(json.dumps(meta, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def root_digest(leaves: Mapping[str, str]) -> str:
    """SHA-256 over sorted names and leaf digests: one digest of the whole state of a rank."""
    digest = hashlib.sha256()
    for name in sorted(leaves):
        digest.update(f"{name}={leaves[name]}\n".encode())
    return digest.hexdigest()


def state_digest(tensors: Mapping[str, torch.Tensor], meta: Mapping[str, Any] | None = None) -> str:
    """SHA-256 over sorted names, dtypes, shapes and raw bytes, and `meta` if given.

    Gates C3 and C6 compare this digest (docs/metrics.md, "Correctness gates").
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}|{_DTYPES[tensor.dtype]}|{tuple(tensor.shape)}|".encode())
        digest.update(raw_bytes(tensor))
    if meta is not None:
        digest.update(json.dumps(meta, sort_keys=True, separators=(",", ":")).encode())
    return digest.hexdigest()


def live_leaves(view: StateView) -> dict[str, str]:
    """The leaf digests of one rank's whole state, as a checkpoint's `rank-<r>.json` files record them."""
    return {name: leaf_digest(t) for name, t in view.tensors.items()} | {META_LEAF: meta_digest(view.meta)}


@dataclass(frozen=True)
class TensorSpec:
    """The type and shape that a saved tensor must share with the live tensor that it is copied into."""

    dtype: str
    shape: tuple[int, ...]


def get_tensor_specs(tensors: Mapping[str, torch.Tensor]) -> dict[str, TensorSpec]:
    """The types and shapes of `tensors`, by name."""
    return {name: TensorSpec(str(tensor.dtype), tuple(tensor.shape)) for name, tensor in tensors.items()}


def read_tensor_specs(path: Path) -> dict[str, TensorSpec]:
    """The types and shapes of a shard's tensors, by name. Reads no tensor."""
    named = {name: str(dtype) for dtype, name in _DTYPES.items()}
    with safe_open(str(path), framework="pt") as shard:
        slices = {name: shard.get_slice(name) for name in shard.keys()}  # noqa: SIM118 (not a dict)
        return {
            name: TensorSpec(named.get(found.get_dtype(), found.get_dtype()), tuple(found.get_shape()))
            for name, found in slices.items()
        }


def check_same_model(live: Mapping[str, TensorSpec], saved: Mapping[str, TensorSpec], folder: Path) -> None:
    """Check that a checkpoint's tensors have the names, types and shapes of the live ones.

    Raises:
        ForeignCheckpointError: a tensor differs; the message names the first one and the difference.
    """
    # Without this check, copying would convert types and broadcast shapes silently.
    if differing := sorted(live.keys() ^ saved.keys()):
        place = "the checkpoint" if differing[0] in saved else "this run"
        raise ForeignCheckpointError(f"{folder}: of another model, {differing[0]} is only in {place}")
    for name, expected in live.items():
        for one, other in ((saved[name].shape, expected.shape), (saved[name].dtype, expected.dtype)):
            if one != other:
                raise ForeignCheckpointError(f"{folder}: of another model, {name}: found {one}, expected {other}")
