"""Packs a campaign into one file, without the payloads of its checkpoints."""

import gzip
import hashlib
import os
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ecrl.errors import EcrlError
from ecrl.launch.campaign.contents import list_entries, require_folder
from ecrl.launch.campaign.lock import prefix_lease
from ecrl.records.paths import CampaignPaths
from ecrl.storage.atomic import fsync_dir

SUFFIX = ".tar.gz"
_COMMIT = "COMMIT.json"  # of a checkpoint: sizes and digests of its files
_CHUNK_BYTES = 1 << 20


def archive(paths: CampaignPaths, target: Path) -> int:
    """Write a campaign into a new file that `tar -x` unpacks as a folder named after the prefix.

    It is read again and compared with the campaign before it gets its name. Returns the number of packed files.

    Raises:
        EcrlError: there is no such campaign, the target exists or cannot be written, or the campaign changed meanwhile.
        PrefixHeldError: an ecrl works on the campaign.
    """
    require_folder(paths)
    if os.path.lexists(target):
        raise EcrlError("ECRL-106", f"{target}: exists already, expected a new file. Name one with --out.")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with prefix_lease(paths):
            packed = list(_list_packed(paths))
            _write(temporary, packed, paths.results)
            verify(temporary, packed, paths.results)
        _take_name(temporary, target)
        fsync_dir(target.parent)
    except OSError as error:
        where = target if error.filename in (None, str(temporary)) else error.filename
        raise EcrlError(
            "ECRL-106",
            f"{where}: {error.strerror or error}; no archive was written.\n"
            "Put that right, or name another file with --out.",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return len(packed)


def _take_name(temporary: Path, target: Path) -> None:
    target.touch(exist_ok=False)  # a rename alone would replace a file that somebody made meanwhile
    try:
        temporary.rename(target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _list_packed(paths: CampaignPaths) -> Iterator[Path]:
    """All files and links of the campaign but payloads of checkpoints and the lease."""
    lease = {paths.lock, paths.lock.with_suffix(".holder")}
    for path in list_entries(paths.root):
        payload = paths.name_run_folder(path) == "checkpoints" and path.name != _COMMIT
        if path not in lease and not payload and (path.is_symlink() or path.is_file()):
            yield path


def _write(target: Path, packed: list[Path], results: Path) -> None:
    with target.open("xb") as file:
        with tarfile.open(fileobj=file, mode="w:gz", compresslevel=6) as tar:
            for path in packed:
                tar.add(path, arcname=str(path.relative_to(results)), recursive=False)
        file.flush()
        os.fsync(file.fileno())


def verify(archived: Path, packed: list[Path], results: Path) -> None:
    """Check that the archive holds these files as they are now on disk.

    Raises:
        EcrlError: it does not.
    """
    try:
        differing = _find_differing(archived, {str(path.relative_to(results)): path for path in packed})
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise EcrlError(
            "ECRL-340",
            f"{archived}: cannot be read back ({error}); no archive was written.\nName another disk with --out.",
        ) from error
    if differing:
        more = f" and {len(differing) - 1} more" if len(differing) > 1 else ""
        raise EcrlError(
            "ECRL-340",
            f"{results / differing[0]}{more}: changed while it was archived; no archive was written.\n"
            "See that nothing writes there, then type the same command again.",
        )


def _find_differing(archived: Path, expected: dict[str, Path]) -> list[str]:
    """The names that only one side has, and those whose content differs from the file."""
    with tarfile.open(archived) as tar:
        members = {member.name: member for member in tar}
        both = [name for name in expected if name in members]
        return [
            *sorted(members.keys() ^ expected.keys()),
            *(name for name in both if not _is_same(tar, members[name], expected[name])),
        ]


def _is_same(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> bool:
    if path.is_symlink():
        return member.issym() and member.linkname == str(path.readlink())
    if not path.is_file():
        return False
    content = tar.extractfile(member)  # of a hard link, the content of the file that it is one of
    assert content is not None
    with content, path.open("rb") as own:
        return _compute_digest(content) == _compute_digest(own)


def _compute_digest(file: IO[bytes]) -> bytes:
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.digest()
