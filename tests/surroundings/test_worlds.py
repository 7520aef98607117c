"""`ecrl matrix run | status`, `ecrl report` and `ecrl doctor` on a tiny campaign in each of the worlds."""

import fcntl
import json
import os
import select
import struct
import subprocess
import sys
import termios
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

import ecrl
from ecrl.launch.system.process_identity import CAMPAIGN_MARKER, find_marked_pids
from tests.surroundings.worlds import WORLDS, World, write_matrix

_PATIENCE_S = 280.0
_LONGEST_SILENCE_S = 10.0


@dataclass(frozen=True)
class Ended:
    """A command that has ended. stdout, stderr: what it printed; on a terminal, all of it is in `stderr`.

    silent_s: the longest time in which it printed nothing.
    """

    returncode: int
    stdout: str
    stderr: str
    silent_s: float


def run_in(world: World, here: Path, *arguments: str) -> Ended:
    """Run ecrl there."""
    package = str(Path(ecrl.__file__).parent.parent)
    given = {name: value.format(here=here, path=package) for name, value in world.environment.items()}
    alone = ["unshare", "-r", *world.unshare] if world.unshare else []
    before = world.before.format(here=here, path=package)
    with ExitStack() as ends:
        ours, theirs = open_streams(world.columns)
        for fd in ours:
            ends.callback(os.close, fd)
        process = ends.enter_context(
            subprocess.Popen(
                # -P: as the command `ecrl`, which takes nothing from the current folder
                [*alone, "sh", "-c", f'{before}\nexec "$@"', "sh", sys.executable, "-P", "-m", "ecrl", *arguments],
                cwd=here,
                env=os.environ | {"PYTHONPATH": package, "NO_COLOR": "1"} | given,
                stdin=subprocess.DEVNULL,
                stdout=theirs[0],
                stderr=theirs[-1],
            )
        )
        for fd in theirs:
            os.close(fd)
        try:
            said, silent_s = read_to_end(process, ours)
        finally:
            process.kill()
        return Ended(process.wait(), said[ours[0]], said[ours[-1]], silent_s)


def open_streams(columns: int) -> tuple[list[int], list[int]]:
    """Our ends and the ends of ecrl: of two pipes for its stdout and stderr, or of one terminal for both."""
    if columns:
        ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        return [ours], [theirs]
    (out, its_out), (errors, its_errors) = os.pipe(), os.pipe()
    return [out, errors], [its_out, its_errors]


def read_to_end(process: "subprocess.Popen[bytes]", fds: list[int]) -> tuple[dict[int, str], float]:
    """What comes from the descriptors until the process has ended, and the longest time in which nothing came."""
    said, open_fds = dict.fromkeys(fds, b""), set(fds)
    begun = heard = time.monotonic()
    silent_s = 0.0
    while open_fds:
        ready, _, _ = select.select(list(open_fds), [], [], 0.1)
        now = time.monotonic()
        for fd in ready:
            try:
                data = os.read(fd, 65536)
            except OSError:  # a terminal whose other end is closed
                data = b""
            said[fd] += data
            open_fds -= set() if data else {fd}
        if ready or process.poll() is None:
            silent_s = max(silent_s, now - heard)
        heard = now if ready else heard
        if now - begun > _PATIENCE_S:
            raise TimeoutError(f"{process.args!r} did not end: {said}")
        if not ready and process.poll() is not None:
            break  # whoever else holds a pipe is no part of it
    process.wait(_PATIENCE_S)
    return {fd: data.decode(errors="replace") for fd, data in said.items()}, silent_s


@pytest.fixture
def here(world: World, tmp_path: Path) -> Path:
    """The current folder in a world."""
    if world.unshare and subprocess.run(["unshare", "-r", *world.unshare, "true"], check=False).returncode:
        pytest.skip("namespaces of one's own need rights that this user lacks")
    for name, text in world.files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    if "TMPDIR" in world.environment:
        Path(world.environment["TMPDIR"].format(here=tmp_path)).mkdir()
    write_matrix(world, tmp_path / "m.toml")
    return tmp_path


@pytest.mark.sampled("surroundings")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("world", WORLDS, ids=[world.name for world in WORLDS])
def test_a_world_gives_the_right_result_or_a_clear_exit(world: World, here: Path) -> None:
    results = here / world.results
    where = ("--prefix", "p", "--results", str(results))
    done = run_in(world, here, "matrix", "run", *where, str(here / "m.toml"))
    told = done.stderr
    assert done.returncode == world.code, told
    assert not world.heard or all(fact in told for fact in world.facts), told
    assert find_marked_pids(CAMPAIGN_MARKER, (results / "p").resolve()) == [], "processes are left"
    later = [run_in(world, here, "doctor", "--results", str(results))]
    if world.code == 0:
        result = json.loads(next(results.rglob("result.json")).read_text())
        assert result["outcome"] == "completed", result
        assert result["restarts"] == 1
        status = run_in(world, here, "matrix", "status", *where)
        report = run_in(world, here, "report", *where, "--format", "csv")
        assert (status.returncode, report.returncode) == (world.shown,) * 2, status.stderr + report.stderr
        later += [status, report]
    for one in (done, *later):
        assert "Traceback" not in one.stderr, one.stderr
        assert not world.heard or one.silent_s < _LONGEST_SILENCE_S, one.stderr
    assert later[0].returncode in (world.shown or 0, 6, world.code), later[0].stderr
