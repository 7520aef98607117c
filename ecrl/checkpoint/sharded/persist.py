"""Write one rank's files of a staged snapshot directly from the slot, without a second copy, and fsync them."""

import errno
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import xxhash

from ecrl.checkpoint.sharded.snapshot import Slot
from ecrl.checkpoint.state_view import META_LEAF, StateView, leaf_digest, meta_digest, raw_bytes
from ecrl.storage.atomic import fsync_dir, write_all
from ecrl.storage.commit import COMMIT_FILE, FileFacts, ShardNames

RANK_SCHEMA = 1
FROZEN_FOLDER = "frozen"
# The file system has no hard links, or no more of this file.
_LINKLESS = frozenset((errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK))
_CHUNK_BYTES = 8 << 20  # for one write and one digest update; bounds how long each of them blocks other threads


def write_rank(
    folder: Path,
    slot: Slot,
    *,
    run: str,
    step: int,
    rank: int,
    attempt: int,
    frozen: "FrozenFile | None" = None,
    halfway: Callable[[], None] = lambda: None,
) -> dict[str, FileFacts]:
    """Write and fsync this rank's shard and its `rank-<r>.json`, link `frozen`, then fsync the folder.

    Returns the facts of the files by name, as `commit.commit` takes them. halfway: called when half of the shard's
    tensors are written.

    Raises:
        OSError: the disk is full or failing. The folder has no COMMIT.json, so only this checkpoint is lost.
    """
    names = ShardNames(rank)
    folder.mkdir(exist_ok=True)  # without parents: below a mount point, those would be folders of another disk
    payload = _call_at(slot.layout.payload_bytes // 2, halfway, slot.read())
    shard = _write_durable(folder / names.tensors, itertools.chain([memoryview(slot.layout.header())], payload))
    files = {names.tensors: shard}
    leaves = {name: leaf_digest(view) for name, view in slot.views.items()}
    places = slot.layout.places
    if frozen is not None:
        files[names.frozen] = frozen.put_into(folder)
        leaves, places = leaves | frozen.leaves, places | frozen.layout.places
    facts = {
        "schema": RANK_SCHEMA,
        "run": run,
        "step": step,
        "rank": rank,
        "attempt": attempt,
        "leaves": leaves | {META_LEAF: meta_digest(slot.meta)},
        "meta": slot.meta,
    }
    if places:
        facts["shards"] = places
    files[names.facts] = _write_durable(folder / names.facts, [memoryview(json.dumps(facts).encode())])
    fsync_dir(folder)
    fsync_dir(folder.parent)  # the folder's own name
    return files


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


class FrozenFile:
    """One rank's share of the tensors that nothing changes: written once, then linked into every checkpoint.

    The file is in the folder `frozen` beside the checkpoints. By the links each checkpoint is complete in itself, and
    the bytes stay for as long as one of them does.
    """

    def __init__(self, view: StateView, rank: int, world_size: int) -> None:
        """view: see `StateView.select_frozen`."""
        self._name = ShardNames(rank).frozen
        self._tensors = view.list_written(rank, world_size)
        self.layout = view.build_layout(rank, world_size)
        self.leaves: dict[str, str] = {}
        self._sources: dict[Path, FileFacts] = {}

    def adopt(self, folder: Path, leaves: Mapping[str, str]) -> None:
        """Use the file of the checkpoint in `folder`, which was loaded and has these digests of tensors, from now on.

        Raises:
            OSError: the file cannot be linked.
        """
        content = json.loads((folder / COMMIT_FILE).read_bytes())
        source = self._find_source(folder)
        source.parent.mkdir(exist_ok=True)
        temporary = source.with_suffix(".partial")
        temporary.unlink(missing_ok=True)
        temporary.hardlink_to(folder / self._name)
        temporary.replace(source)
        self.leaves = {name: leaves[name] for name in self._tensors}
        self._sources[source] = FileFacts(**content["files"][self._name])

    def put_into(self, folder: Path) -> FileFacts:
        """Put the file into a checkpoint's folder. The caller fsyncs the folder.

        Raises:
            OSError: the disk is full or failing.
        """
        source, target = self._find_source(folder), folder / self._name
        if source not in self._sources:
            source.parent.mkdir(exist_ok=True)
            temporary = source.with_suffix(".partial")
            facts = self._write(temporary)
            temporary.replace(source)
            fsync_dir(source.parent)
            self._sources[source] = facts
        target.unlink(missing_ok=True)  # of an attempt that was given up
        try:
            target.hardlink_to(source)
        except OSError as error:
            if error.errno not in _LINKLESS:
                raise
            return self._write(target)
        return self._sources[source]

    def _find_source(self, folder: Path) -> Path:
        return folder.parent / FROZEN_FOLDER / self._name

    def _write(self, path: Path) -> FileFacts:
        if not self.leaves:
            self.leaves = {name: leaf_digest(tensor) for name, tensor in self._tensors.items()}
        tensors = (raw_bytes(self._tensors[name]) for name in self.layout.entries)
        return _write_durable(path, itertools.chain([memoryview(self.layout.header())], tensors))


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
