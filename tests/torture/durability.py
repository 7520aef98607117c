"""Durability under strace: of every checkpoint nothing is written after the last fsync, its folder is fsynced,
and COMMIT.json comes last, by rename, after all of that, and is fsynced with its folder too.

    python -m tests.torture.durability               # starts the saves below under strace and judges the log
    python -m tests.torture.durability --only-save DIR
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.torture.verdict import Verdict, told

WORLD_SIZE = 2
_CALLS = "openat,creat,write,pwrite64,writev,pwritev,pwritev2,ftruncate,fallocate,sendfile,copy_file_range,mmap,fsync,"
_CALLS += "fdatasync,msync,rename,renameat,renameat2,unlink,unlinkat"
_LINE = re.compile(r"(?P<pid>\d+) +(?P<rest>.*)")
_RESUMED = re.compile(r"<\.\.\. (?P<call>\w+) resumed>")
_CALL = re.compile(r"(?P<call>\w+)\((?P<arguments>.*)")
_FD_PATH = re.compile(r"\d+<(?P<path>[^>]*)>")
_QUOTED = re.compile(r'"(?P<path>[^"]*)"')
_WRITES = {
    "write",
    "pwrite64",
    "writev",
    "pwritev",
    "pwritev2",
    "ftruncate",
    "fallocate",
    "sendfile",
    "copy_file_range",
}


@dataclass(frozen=True)
class Call:
    """One system call: begun and ended are places in the log; path is what it is about (rename: the new name)."""

    name: str
    arguments: str
    path: str
    begun: int
    ended: int


@dataclass
class History:
    """What happened to one path, in the order of the log."""

    writes: list[Call] = field(default_factory=list)
    syncs: list[Call] = field(default_factory=list)
    named: list[Call] = field(default_factory=list)  # opened with O_CREAT, or renamed to


def calls(lines: Iterable[str]) -> list[Call]:
    """The log of `strace -f -y`; calls of several threads interleave as unfinished and resumed."""
    pending: dict[str, tuple[int, str]] = {}
    found = []
    for place, line in enumerate(lines):
        if not (match := _LINE.match(line)):
            continue
        pid, rest, begun = match["pid"], match["rest"], place
        if rest.endswith("<unfinished ...>"):
            pending[pid] = (place, rest.removesuffix("<unfinished ...>"))
            continue
        if resumed := _RESUMED.match(rest):
            begun, head = pending.pop(pid)
            rest = head + rest[resumed.end() :]
        if (call := _CALL.match(rest)) and not re.search(r"\) += -1 E", rest):
            path = _path_of(call["call"], call["arguments"])
            if path is not None:
                found.append(Call(call["call"], call["arguments"], path, begun, place))
    return found


def _path_of(name: str, arguments: str) -> str | None:
    if name.startswith("rename"):
        return str(_QUOTED.findall(arguments)[-1])
    if name in ("openat", "creat", "unlink", "unlinkat"):
        quoted = _QUOTED.search(arguments)
        if quoted and not quoted["path"].startswith("/"):  # relative to the folder whose descriptor stands before it
            folder = _FD_PATH.match(arguments)
            return f"{folder['path']}/{quoted['path']}" if folder else quoted["path"]
        return quoted["path"] if quoted else None
    of_fd = _FD_PATH.search(arguments)
    return of_fd["path"] if of_fd else None


def judged(log: list[Call], root: str) -> tuple[list[str], int]:
    """What is wrong, and how many commits were seen."""
    histories: dict[str, History] = {}
    for call in log:
        if not call.path.startswith(root):
            continue
        history = histories.setdefault(call.path, History())
        if call.name in _WRITES or (
            call.name == "mmap" and "MAP_SHARED" in call.arguments and "PROT_WRITE" in call.arguments
        ):
            history.writes.append(call)
        elif call.name in ("fsync", "fdatasync", "msync"):
            history.syncs.append(call)
        elif call.name.startswith("rename") or (call.name == "openat" and "O_CREAT" in call.arguments):
            history.named.append(call)
    faults = []
    for path, history in histories.items():
        last_sync = max((sync.begun for sync in history.syncs), default=-1)
        late = [call for call in history.writes if call.ended > last_sync]
        faults += [f"{path}: {call.name} after the last fsync" for call in late[:1]]
    commits = [
        c for h in histories.values() for c in h.named if c.name.startswith("rename") and c.path.endswith("COMMIT.json")
    ]
    direct = [p for p, h in histories.items() if p.endswith("/COMMIT.json") and h.writes]
    faults += [f"{path}: written in place, not renamed" for path in direct]
    for commit in commits:
        faults += _commit_faults(commit, histories)
    return faults, len(commits)


def _commit_faults(commit: Call, histories: dict[str, History]) -> list[str]:
    folder = str(Path(commit.path).parent)
    files = {p: h for p, h in histories.items() if str(Path(p).parent) == folder and Path(p).name[0] in "sr"}
    folder_syncs = histories.get(folder, History()).syncs
    faults = []
    if len(files) != 2 * WORLD_SIZE:
        faults.append(f"{commit.path}: {len(files)} files were written, expected {2 * WORLD_SIZE}")
    for path, history in files.items():
        synced = [sync for sync in history.syncs if sync.ended < commit.begun]
        if not synced or len(synced) != len(history.syncs):
            faults.append(f"{path}: not fsynced before the commit")
            continue
        named = max(call.ended for call in history.named)
        if not any(named < sync.begun and sync.ended < commit.begun for sync in folder_syncs):
            faults.append(f"{path}: its folder was not fsynced between its making and the commit")
    temporary = _QUOTED.findall(commit.arguments)[0]
    if not any(sync.ended < commit.begun for sync in histories.get(temporary, History()).syncs):
        faults.append(f"{temporary}: not fsynced before the rename")
    if not any(sync.begun > commit.ended for sync in folder_syncs):
        faults.append(f"{commit.path}: the folder was not fsynced after the rename")
    parents = [sync for sync in histories.get(str(Path(folder).parent), History()).syncs if sync.ended < commit.begun]
    if not parents:
        faults.append(f"{folder}: its own name was not fsynced before the commit")
    return faults


def sweep(saves: int = 100) -> Verdict:
    """Saves of both engines, two ranks, under strace."""
    strace = shutil.which("strace")
    if strace is None:
        return Verdict("durability", "there is no strace here (Debian: apt-get install strace)", ["no strace"])
    faults: list[str] = []
    committed = looked = 0
    for engine in ("blocking", "overlapped"):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary).resolve()
            log = folder / "strace.log"
            command = [strace, "-f", "-y", "--seccomp-bpf", "-s", "0", "-o", str(log), "-e", f"trace={_CALLS}"]
            # strings are cut to nothing (-s 0) except paths, which strace never cuts
            own = [sys.executable, "-m", "tests.torture.durability", "--only-save", engine, str(folder), str(saves)]
            subprocess.run([*command, *own], check=True, capture_output=True)
            with log.open(errors="replace") as lines:
                found = calls(line.rstrip("\n") for line in lines)
            wrong, commits = judged(found, f"{folder}/checkpoints")
            looked += len(found)
        faults += [f"{engine}: {fault}" for fault in wrong]
        if commits != saves:
            faults.append(f"{engine}: {commits} commits in the log, expected {saves}")
        committed += commits
    text = f"{len(faults)} faults in {committed} commits of {looked} traced calls"
    return Verdict("durability", text, faults)


def save(engine: str, folder: Path, saves: int) -> None:
    """What strace watches."""
    from tests.unit.checkpoint.ranks_in_threads import Group

    group = Group(folder, engine, WORLD_SIZE, checkpoint_every=1)
    group.train(1, saves)
    group.settle()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--only-save"]:
        save(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
        sys.exit(0)
    sys.exit(told(sweep, __doc__, {"saves": 100}))
