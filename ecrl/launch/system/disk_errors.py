"""Explains storage errors (full disk, missing permission) with the next command to type."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ecrl.errors import EcrlError
from ecrl.records.paths import CampaignPaths

_STORAGE_ERRORS = {
    errno.ENOSPC: "no space left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "not writable",
    errno.EPERM: "not writable",
    errno.EROFS: "a read-only file system",
    errno.ENOTDIR: "not a folder",
    errno.EEXIST: "not a folder",
    errno.ELOOP: "a link to itself",
    errno.ENOENT: "gone while ecrl worked on it",
    errno.ENAMETOOLONG: "a name of more than 255 bytes, or a path that is too long",
    errno.EMFILE: "too many open files (see `ulimit -n`)",
    errno.EFBIG: "larger than files may be here (see `ulimit -f`)",
    errno.ESTALE: "gone from the file server",
    errno.ENOLCK: "a file system without locks",
}


@contextmanager
def explain_storage_errors(paths: CampaignPaths, next_command: Callable[[], str] | None = None) -> Iterator[None]:
    """Turn an OSError of the results folder into an error with the next command.

    This covers a full or read-only disk, and a run's folder that was removed during the run.

    next_command: called only when it is needed; None: the user repeats the same command.

    Raises:
        EcrlError: in place of such an OSError.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        if error.errno is None or not (full or error.filename):
            raise  # no file is named: `ecrl.__main__` says what is known
        if error.errno == errno.ENOENT and not Path(str(error.filename)).is_relative_to(paths.suites.resolve()):
            raise
        where = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else paths.root
        again = "then type the same command again" if next_command is None else f"then type: {next_command()}"
        said, cure = "Expected to write results there", " (or name another folder with --results)"
        if where.is_absolute() and not where.is_relative_to(paths.results.resolve()):
            said, cure = "Expected that a run can write there", ""
        raise EcrlError(
            "ECRL-504",
            f"{where}: {_STORAGE_ERRORS.get(error.errno, error.strerror)}. {said}; what was finished is kept.\n"
            f"Put that right{cure}, {again}",
        ) from error
