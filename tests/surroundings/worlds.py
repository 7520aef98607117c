"""The worlds. A new one is one line: its name, how to make it, and what must hold there."""

import errno
from dataclasses import dataclass, field
from pathlib import Path

# What stands in the current folder of a person: none of it may be imported.
NAMESAKES = ("random", "queue", "inspect", "profile", "secrets", "dis", "numpy", "torch", "typing")
LONG_NAME = "x" * 300


@dataclass(frozen=True)
class World:
    """One world.

    name: of the test. environment: variables; `{here}` is the folder of the test. before: shell commands that run ahead
    of every ecrl. unshare: namespaces of its own, as `unshare` names them. matrix: replacements in the tiny matrix.
    arguments: more of them for `run`. code: how `run` must exit; facts: what it must say. files: names in the current
    folder -> text.
    """

    name: str
    environment: dict[str, str] = field(default_factory=dict)
    before: str = ""
    unshare: tuple[str, ...] = ()
    matrix: tuple[tuple[str, str], ...] = ()
    arguments: tuple[str, ...] = ()
    code: int = 0
    facts: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)


def _refuse_flock(number: int) -> dict[str, str]:
    """A start-up file of Python by which flock fails, as on a file system without locks."""
    return {
        "site/sitecustomize.py": f"import fcntl\ndef flock(*_): raise OSError({number}, 'no locks here')\n"
        "fcntl.flock = flock\nprint('a start-up file prints this')\n"
    }


_SITE = {"PYTHONPATH": "{here}/site:{path}"}
_WARM = (("steps = 4", 'steps = 4\nlauncher = "warm"'),)

WORLDS = (
    World("nothing_odd"),
    World("namesakes", files={f"{name}.py": "x = 1\n" for name in NAMESAKES}),
    World("namesakes_warm", files={f"{name}.py": "x = 1\n" for name in NAMESAKES}, matrix=_WARM),
    World("pods_of_an_operator", {"PET_NNODES": "2", "PET_LOCAL_ADDR": "10.9.9.9", "PET_NO_PYTHON": "1"}),
    World("log_level_in_lower_case", {"LOGLEVEL": "info"}),
    World("gloo_interface_absent", {"GLOO_SOCKET_IFNAME": "ib0"}, code=6, facts=("ECRL-501", "ib0")),
    World(
        "debug_variable_left", {"TORCH_DISTRIBUTED_DEBUG": "INFO"}, facts=("TORCH_DISTRIBUTED_DEBUG=INFO", "warning")
    ),
    World(
        "host_name_unknown", before="hostname no-such-host; ip link set lo up", unshare=("--uts", "--net"),
    ),
    World("loopback_down", unshare=("--net",), code=6, facts=("ECRL-501", "127.0.0.1")),
    World("no_locks", _SITE, files=_refuse_flock(errno.ENOLCK), facts=("a record of its owner",)),
    World("locks_not_implemented", _SITE, files=_refuse_flock(errno.ENOSYS), facts=("a record of its owner",)),
    World("current_folder_removed", before="mkdir gone; cd gone; rmdir ../gone"),
    World("streams_closed", before="exec <&- >&-"),
    World("long_name_of_temporary_folder", {"TMPDIR": "{here}/" + "t" * 110}, matrix=_WARM),
    World("little_memory", before="ulimit -v 2500000", code=2, facts=("ECRL-506", "ulimit -v")),
    World("long_name_of_results", arguments=("--results", LONG_NAME), code=2, facts=("ECRL-514", "too long")),
    World("matrix_with_byte_order_mark", matrix=(("[matrix]", "\ufeff[matrix]"),)),
    World("infinite_rate", matrix=(("steps = 4", "steps = 4\nlr = 1e400"),), code=2, facts=("train.lr", "finite")),
    World("deep_nesting", matrix=(("[matrix]", f"x = {'[' * 3000}\n[matrix]"),), code=2, facts=("ECRL-203", "deep")),
    World("nproc_of_a_build_shell", {"NPROC": "1"}, facts=("NPROC=1 (environment)", "train.nproc")),
)  # fmt: skip


MATRIX = """[matrix]
datasets = ["noise"]
models = ["cnn"]
checkpoint_every = [2]
variants = ["blocking"]
[failures]
mid = [3]
[train]
steps = 4
nproc = 1
batch_size = 2
[run]
warmup = false
"""


def write_matrix(world: World, path: Path) -> None:
    """Write the tiny matrix as this world has it."""
    text = MATRIX
    for old, new in world.matrix:
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text, encoding="utf-8")
