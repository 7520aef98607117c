"""What a disk does to its users, told as an error with the next command."""

import errno
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
}


@contextmanager
def explain_storage_errors(paths: CampaignPaths, next_command: Callable[[], str] | None = None) -> Iterator[None]:
    """Turn what a disk does to its users (full, not writable), or a user to the disk (a run's folder removed while it
    goes on), into an error with the next command, asked for when it is needed; None: the same one again.

    Raises:
        EcrlError: in place of such an OSError.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        if error.errno not in _STORAGE_ERRORS or not (full or error.filename):
            raise
        if error.errno == errno.ENOENT and not Path(error.filename).is_relative_to(paths.suites.resolve()):
            raise
        where = error.filename or paths.root
        again = "then type the same command again" if next_command is None else f"then type: {next_command()}"
        raise EcrlError(
            "ECRL-504",
            f"{where}: {_STORAGE_ERRORS[error.errno]}. Expected to write results there; what was finished is kept.\n"
            f"Put that right (or name another folder with --results), {again}",
        ) from error
