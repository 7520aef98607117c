"""Write one rank's files of a staged snapshot directly from the slot, without a second copy, and fsync them."""

import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import xxhash

from ecrl.checkpoint.sharded.snapshot import Slot
from ecrl.checkpoint.state_view import META_LEAF, leaf_digest, meta_digest
from ecrl.storage.atomic import fsync_dir, write_all
from ecrl.storage.commit import FileFacts, ShardNames

RANK_SCHEMA = 1
_CHUNK_BYTES = 8 << 20  # for one write and one digest update; bounds how long each of them blocks other threads


def write_rank(
    folder: Path,
    slot: Slot,
    *,
    run: str,
    step: int,
    rank: int,
    attempt: int,
    halfway: Callable[[], None] = lambda: None,
) -> dict[str, FileFacts]:
    """Write and fsync this rank's shard and its `rank-<r>.json`, then fsync the folder.

    Returns the facts of both files by name, as `commit.commit` takes them. halfway: called when half of the tensors'
    bytes are written.

    Raises:
        OSError: the disk is full or failing. The folder has no COMMIT.json, so only this checkpoint is lost.
    """
    names = ShardNames(rank)
    folder.mkdir(exist_ok=True)  # without parents: below a mount point, those would be folders of another disk
    payload = _call_at(slot.layout.payload_bytes // 2, halfway, slot.read())
    shard = _write_durable(folder / names.tensors, itertools.chain([memoryview(slot.layout.header())], payload))
    leaves = {name: leaf_digest(view) for name, view in slot.views.items()}
    facts = {
        "schema": RANK_SCHEMA,
        "run": run,
        "step": step,
        "rank": rank,
        "attempt": attempt,
        "leaves": leaves | {META_LEAF: meta_digest(slot.meta)},
        "meta": slot.meta,
    }
    if slot.layout.places:
        facts["shards"] = slot.layout.places
    described = _write_durable(folder / names.facts, [memoryview(json.dumps(facts).encode())])
    fsync_dir(folder)
    fsync_dir(folder.parent)  # the folder's own name
    return {names.tensors: shard, names.facts: described}


def _call_at(position: int, call: Callable[[], None], parts: Iterable[memoryview]) -> Iterator[memoryview]:
    """Pass `parts` on. Calls when `position` bytes are through."""
    left = position
    for part in parts:
        if 0 <= left < len(part):
            yield part[:left]
            call()
            part = part[left:]
            left = -1
        elif left >= 0:
            left -= len(part)
        yield part
    if left >= 0:
        call()


def _write_durable(path: Path, parts: Iterable[memoryview]) -> FileFacts:
    digest = xxhash.xxh3_128()
    count = 0
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        for part in parts:
            for begin in range(0, len(part), _CHUNK_BYTES):
                chunk = part[begin : begin + _CHUNK_BYTES]
                digest.update(chunk)
                write_all(fd, chunk)
                count += len(chunk)
        os.fsync(fd)
    finally:
        os.close(fd)
    return FileFacts(count, digest.hexdigest())
