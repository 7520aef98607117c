"""The git commit that holds a file: evidence of when it was written."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

_TIMEOUT_S = 10


@dataclass(frozen=True)
class Commit:
    """The last commit that changed a file. clean: whether no other tracked file of the working tree is changed."""

    id: str
    date: str
    clean: bool


def find_commit(path: Path) -> Commit | None:
    """The last commit that changed the file; None if no commit holds the file as it is now."""
    name = path.resolve().name
    tracked = _ask_git(path, "ls-files", "--error-unmatch", "--", name)
    if tracked is None or _ask_git(path, "diff", "--quiet", "HEAD", "--", name) is None:
        return None
    commit, _, date = (_ask_git(path, "log", "-1", "--format=%H %cI", "--", name) or "").partition(" ")
    clean = _ask_git(path, "status", "--porcelain", "--untracked-files=no") == ""
    return Commit(commit, date, clean) if commit else None


def _ask_git(path: Path, *arguments: str) -> str | None:
    """What git answers in the file's folder; None if it fails or is not there."""
    command = ["git", "-C", str(path.resolve().parent), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
