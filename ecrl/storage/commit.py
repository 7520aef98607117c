"""Checkpoint folders: which ones a restore may use, and whether every byte is what was committed. Loads no tensors.

    step-00000400/shard-<rank>.safetensors, rank-<rank>.json, COMMIT.json, frozen-<rank>.safetensors if there is any

A checkpoint exists when its COMMIT.json exists. COMMIT.json is written last, lists every other file with its size
and digest, and carries a digest of itself. The states of a checkpoint:

    valid         every byte is what was committed
    partial       no COMMIT.json
    corrupt       a file is missing, unreadable or not what was committed
    unverifiable  a complete checkpoint in the format of another engine, which keeps no digests
    removed       a live run removed or replaced the checkpoint during the check; a restore treats it like corrupt
    mismatched    the checkpoint belongs to another run or world size than the caller asked for
"""

import errno
import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from ecrl.storage import formats, row_ranges, safetensors_header
from ecrl.storage.atomic import fsync_dir, write_atomic

COMMIT_SCHEMA = 1
COMMIT_FILE = "COMMIT.json"
_STEP = re.compile(r"step-(\d{8,})")
_CHUNK_BYTES = 8 << 20


@dataclass(frozen=True)
class ShardNames:
    """The files of one rank in a checkpoint folder. A rank without tensors that never change has no `frozen`."""

    rank: int

    @property
    def tensors(self) -> str:
        return f"shard-{self.rank}.safetensors"

    @property
    def frozen(self) -> str:
        return f"frozen-{self.rank}.safetensors"

    @property
    def facts(self) -> str:
        return f"rank-{self.rank}.json"


@dataclass(frozen=True)
class FileFacts:
    """Size and XXH3-128 digest of one file of a checkpoint."""

    bytes: int
    xxh3_128: str


@dataclass(frozen=True)
class Verdict:
    """The result of checking a checkpoint folder. state: one of those above. reason: None for a valid checkpoint."""

    step: int
    state: str
    reason: str | None = None


def step_folder(root: Path, step: int) -> Path:
    """The folder of the checkpoint of `step`."""
    return root / f"step-{step:08d}"


def list_steps(root: Path) -> list[int]:
    """Steps that have a folder, committed or not, oldest first."""
    if not root.is_dir():
        return []
    return sorted(int(m[1]) for path in root.iterdir() if (m := _STEP.fullmatch(path.name)) and path.is_dir())


def list_committed_steps(root: Path) -> list[int]:
    """Steps whose folder holds a COMMIT.json, oldest first. Nothing is verified."""
    return [step for step in list_steps(root) if _exists(step_folder(root, step) / COMMIT_FILE)]


def _exists(path: Path) -> bool:
    """Whether `path` exists.

    Raises:
        OSError: the path cannot be examined (EIO, ESTALE).
    """
    # `Path.exists` returns False for such errors from Python 3.14 on.
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def file_facts(path: Path) -> FileFacts:
    """The size and digest of a file."""
    digest = xxhash.xxh3_128()
    count = 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            count += len(chunk)
    return FileFacts(count, digest.hexdigest())


def commit(folder: Path, *, run: str, step: int, world_size: int, files: Mapping[str, FileFacts]) -> None:
    """Publish a checkpoint. All its files must be durable already; a restore may use it once this returns."""
    content: dict[str, Any] = {
        "schema": COMMIT_SCHEMA,
        "run": run,
        "step": step,
        "world_size": world_size,
        "files": {name: {"bytes": f.bytes, "xxh3_128": f.xxh3_128} for name, f in sorted(files.items())},
    }
    try:
        write_atomic(folder / COMMIT_FILE, json.dumps(content | {"digest": _digest(content)}, indent=1).encode())
    except (OSError, MemoryError):
        # The file may be in place and yet not durable. The caller gives this checkpoint up: no restore may use it.
        (folder / COMMIT_FILE).unlink(missing_ok=True)
        raise


def verify(root: Path, step: int, *, run: str | None = None, world_size: int | None = None) -> Verdict:
    """Check every byte of a checkpoint against its COMMIT.json, and its owner against `run` and `world_size` if given.

    Raises:
        OSError: this process is out of file descriptors or memory.
    """
    folder = step_folder(root, step)
    try:
        text = (folder / COMMIT_FILE).read_bytes()
    except FileNotFoundError:
        return _make_partial_verdict(folder, step)
    except OSError as error:
        _raise_own(error)
        return Verdict(step, "corrupt", f"{COMMIT_FILE}: {error.strerror}")
    verdict = _decide_verdict(folder, step, text, run, world_size)
    if verdict.state != "valid" and _is_replaced(folder, text):
        return Verdict(step, "removed", "removed or replaced during the check")
    return verdict


def _decide_verdict(folder: Path, step: int, text: bytes, run: str | None, world_size: int | None) -> Verdict:
    """The verdict on a folder whose COMMIT.json contains `text`."""
    content = _read(text)
    if content is None:
        return Verdict(step, "corrupt", f"{COMMIT_FILE}: does not match its own digest")
    if fault := _find_mismatch(content):
        return Verdict(step, "corrupt", f"{COMMIT_FILE}: {fault}")
    if content["step"] != step:
        return Verdict(step, "corrupt", f"belongs to another step: found {content['step']}, expected {step}")
    for what, found, expected in (("run", content["run"], run), ("world size", content["world_size"], world_size)):
        if expected is not None and found != expected:
            return Verdict(step, "mismatched", f"belongs to another {what}: found {found}, expected {expected}")
    for name, entry in content["files"].items():
        if fault := _find_file_fault(folder / name, FileFacts(**entry)):
            return Verdict(step, "corrupt", f"{name}: {fault}")
    fault = _find_gap(
        ([folder / name for name in (names.tensors, names.frozen) if name in content["files"]], folder / names.facts)
        for names in map(ShardNames, range(content["world_size"]))
    )
    return Verdict(step, "valid") if fault is None else Verdict(step, "corrupt", fault)


def _is_replaced(folder: Path, text: bytes) -> bool:
    """Whether the COMMIT.json that contained `text` is now gone or has other content."""
    # `remove` deletes COMMIT.json first.
    try:
        return (folder / COMMIT_FILE).read_bytes() != text
    except FileNotFoundError:
        return True
    except OSError:
        return False


def find_orphan_files(root: Path, step: int) -> list[str]:
    """The names in the folder of a valid checkpoint that its COMMIT.json does not list, sorted.

    No digest covers these files, and no restore reads them. The list is empty if the checkpoint was removed meanwhile.
    """
    folder = step_folder(root, step)
    try:
        named = json.loads((folder / COMMIT_FILE).read_bytes())["files"]
        return sorted({path.name for path in folder.iterdir()} - {COMMIT_FILE, *named})
    except FileNotFoundError:
        return []


def _make_partial_verdict(folder: Path, step: int) -> Verdict:
    if (written := formats.find_complete_format(folder)) is not None:
        reason = f"written by {written.engine}, whose format has no digests: cannot be verified"
        return Verdict(step, "unverifiable", reason)
    if (begun := formats.find_partial_format(folder)) is not None:
        return Verdict(step, "partial", f"written by {begun.engine}, but not completed: no {begun.complete}")
    if not _exists(folder):
        return Verdict(step, "removed", f"no {COMMIT_FILE}, and its folder is gone")
    return Verdict(step, "partial", f"no {COMMIT_FILE}")


def _read(text: bytes) -> dict[str, Any] | None:
    """The content of a commit file, or None if the text is not byte for byte what `commit` writes for its digest."""
    try:
        content: dict[str, Any] = json.loads(text)
        stored = content.pop("digest")
        # Compare the bytes too, not only the values: a flipped blank or digit must not pass.
        canonical = json.dumps(content | {"digest": stored}, indent=1).encode()
        known = content["schema"] == COMMIT_SCHEMA and {"run", "step", "world_size", "files"} <= content.keys()
        whole = known and stored == _digest(content) and canonical == text
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return content if whole else None


def _find_mismatch(content: Mapping[str, Any]) -> str | None:
    """Why `commit` cannot have written a commit file whose digest matches; None if it can."""
    # A restore opens the files named here.
    ranks, files = content["world_size"], content["files"]
    if type(ranks) is not int or ranks < 1:
        return f"found world size {ranks!r}, expected a number of ranks"
    keys = {"bytes", "xxh3_128"}
    if type(files) is not dict or not all(type(entry) is dict and entry.keys() == keys for entry in files.values()):
        return "lists its files without their sizes and digests"
    if 2 * ranks <= len(files) <= 3 * ranks:  # checked first, since a wrong world size could be huge
        names = [*map(ShardNames, range(ranks))]
        needed = {name for own in names for name in (own.tensors, own.facts)}
        if needed <= files.keys() <= needed | {own.frozen for own in names}:
            return None
    found = ", ".join(sorted(files))[:200] or "no file"
    return f"names {found}, expected a shard and a rank file of each of {ranks} ranks"


def _find_file_fault(path: Path, expected: FileFacts) -> str | None:
    try:
        if path.stat().st_size != expected.bytes:  # before a byte is read
            return f"{path.stat().st_size} bytes, committed with {expected.bytes}"
        if file_facts(path) != expected:
            return "digest differs from the committed one"
        return safetensors_header.find_fault(path) if path.suffix == safetensors_header.SUFFIX else None
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        _raise_own(error)
        return f"unreadable ({error.strerror})"


def _find_gap(files: Iterable[tuple[Sequence[Path], Path]]) -> str | None:
    try:
        return row_ranges.find_gap(files)
    except OSError as error:
        _raise_own(error)
        return f"unreadable ({error.strerror})"


def _raise_own(error: OSError) -> None:
    """Raise `error` again if this process is out of file descriptors or memory."""
    # Such an error does not mean that the file is damaged.
    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        raise error


def remove(root: Path, step: int, *, halfway: Callable[[], None] = lambda: None) -> None:
    """Remove a checkpoint. At no instant is it committed with files missing.

    halfway: called when the commit file is gone and the other files still exist.
    """
    folder = step_folder(root, step)
    if not folder.exists():
        return
    (folder / COMMIT_FILE).unlink(missing_ok=True)
    fsync_dir(folder)
    halfway()
    shutil.rmtree(folder)
    fsync_dir(root)


def _digest(content: Mapping[str, Any]) -> str:
    return xxhash.xxh3_128(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
