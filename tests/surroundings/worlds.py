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

    name: of the test. environment: variables; in their values and in `before`, `{here}` is the folder of the test and
    `{path}` that of the package. before: shell commands that run ahead of every ecrl. unshare: namespaces of its own,
    as `unshare` names them. matrix: replacements in the tiny matrix. results: the name of the results folder. code:
    how `run` must exit; facts: what it must say. shown: how commands must exit that print on stdout. heard: whether
    somebody can read the messages. columns: of a terminal; 0: none. files: names in the current folder -> text.
    """

    name: str
    environment: dict[str, str] = field(default_factory=dict)
    before: str = ""
    unshare: tuple[str, ...] = ()
    matrix: tuple[tuple[str, str], ...] = ()
    results: str = "results"
    code: int = 0
    facts: tuple[str, ...] = ()
    shown: int = 0
    heard: bool = True
    columns: int = 0
    files: dict[str, str] = field(default_factory=dict)


def _refuse_flock(number: int) -> dict[str, str]:
    """A start-up file of Python by which flock fails, as on a file system without locks."""
    return {
        "site/sitecustomize.py": f"import fcntl\ndef flock(*_): raise OSError({number}, 'no locks here')\n"
        "fcntl.flock = flock\nprint('a start-up file prints this')\n"
    }


_SITE = {"PYTHONPATH": "{here}/site:{path}"}
_ANOTHER_JOB = {
    "RANK": "7", "LOCAL_RANK": "x", "WORLD_SIZE": "9", "MASTER_ADDR": "10.9.9.9", "MASTER_PORT": "1",
    "TORCHELASTIC_RESTART_COUNT": "3", "TORCHELASTIC_RUN_ID": "x", "SLURM_JOB_ID": "1", "SLURM_PROCID": "5",
    "OMP_NUM_THREADS": "abc", "CUDA_VISIBLE_DEVICES": "", "http_proxy": "http://10.9.9.9:1", "PET_RUN_PATH": "1",
}  # fmt: skip
_WARM = (("steps = 4", 'steps = 4\nlauncher = "warm"'),)

_XDG = ("CACHE_HOME", "CONFIG_HOME", "DATA_HOME", "STATE_HOME", "RUNTIME_DIR")
# The folder of the test as a mount of its own: what is done to the one that it lies in does not reach it.
_OWN_MOUNT = "mount --bind {here} {here}; cd {here}"
_CGROUP_V1 = (
    "mount -t tmpfs none /sys/fs/cgroup; mkdir /sys/fs/cgroup/memory;"
    " echo 9223372036854771712 > /sys/fs/cgroup/memory/memory.limit_in_bytes;"
    " printf 'under_oom 0\\noom_kill 0\\n' > /sys/fs/cgroup/memory/memory.oom_control"
)


def _shm(size: str) -> str:
    return f"mount -t tmpfs -o size={size} none /dev/shm"


def _gone(number: str) -> str:
    """The stream is a pipe whose reader has gone."""
    return f"test -p gone{number} || mkfifo gone{number}; true < gone{number} & exec {number}> gone{number}; wait"


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
    World("long_name_of_results", results=LONG_NAME, code=2, facts=("ECRL-514", "too long")),
    World("odd_name_of_results", results="-a 'b' \"c\" $HOME; `id`\n=1+1 é雪"),
    World("variables_of_another_job", _ANOTHER_JOB),
    World("warnings_are_errors", {"PYTHONWARNINGS": "error", "PYTHONDEVMODE": "1"}),
    World("optimised_python", {"PYTHONOPTIMIZE": "2"}),
    World("files_for_nobody_else", before="umask 0777"),
    World("matrix_with_byte_order_mark", matrix=(("[matrix]", "\ufeff[matrix]"),)),
    World("infinite_rate", matrix=(("steps = 4", "steps = 4\nlr = 1e400"),), code=2, facts=("train.lr", "finite")),
    World("deep_nesting", matrix=(("[matrix]", f"x = {'[' * 3000}\n[matrix]"),), code=2, facts=("ECRL-203", "deep")),
    World("small_shared_memory", unshare=("--mount",), before=_shm("4k")),
    World(
        "small_shared_memory_warm", unshare=("--mount",), before=_shm("4k"), matrix=_WARM, code=6,
        facts=("ECRL-501", "/dev/shm", 'launcher = "cold"'),
    ),
    World("no_shared_memory", unshare=("--mount",), before="mount --bind /proc/1 /dev/shm"),
    World("full_temporary_folder", {"TMPDIR": "{here}/t"}, "mount -t tmpfs -o size=4k none {here}/t", ("--mount",)),
    World(
        "temporary_folder_read_only", {"ECRL_LEASES": "{here}/leases"},
        f"mount --rbind /tmp /tmp; {_OWN_MOUNT}; mount -o remount,ro,bind /tmp", ("--mount",),
    ),
    World(
        "leases_read_only", {"ECRL_LEASES": "{here}/leases"}, "mkdir -p leases; mount --bind /proc/1 leases",
        ("--mount",), code=2, facts=("ECRL-503", "ECRL_LEASES"),
    ),
    World(
        "results_read_only", {}, "mkdir -p results; mount --bind results results; mount -o remount,ro,bind results",
        ("--mount",), code=2, facts=("ECRL-504", "read-only"),
    ),
    World(
        "project_read_only", {}, f"{_OWN_MOUNT}; mkdir -p results; mount --bind results results;"
        " mount -o remount,ro,bind {here}; mount --bind {path}/ecrl {path}/ecrl; mount -o remount,ro,bind {path}/ecrl",
        ("--mount",),
    ),
    World("home_not_set", before="unset HOME USER LOGNAME"),
    World("home_not_writable", {"HOME": "/proc"}),
    World("xdg_folders_not_writable", {f"XDG_{name}": "/proc" for name in _XDG}),
    World("control_groups_version_1", before=_CGROUP_V1, unshare=("--mount",)),
    World("few_open_files", before="ulimit -n 32", code=6, facts=("ECRL-501", "ulimit -n")),
    World("small_files_only", before="ulimit -f 64", facts=("checkpoint 2 could not be kept", "File too large")),
    World("stderr_closed", before="exec 2>&-", heard=False),
    World("every_stream_closed", before="exec <&- >&- 2>&-", heard=False),
    World("stdout_full", before="exec >/dev/full", shown=2),
    World("stderr_full", before="exec 2>/dev/full", heard=False),
    World("reader_of_stdout_gone", before=_gone("1"), shown=141),
    World("reader_of_stderr_gone", before=_gone("2"), heard=False),
    World("ascii_alone", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}),
    World("latin_1", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1"}),
    World("no_columns", {"COLUMNS": "0", "TERM": "dumb"}),
    World("narrow_terminal", {"TERM": "xterm"}, columns=12),
    World("dumb_terminal", {"TERM": "dumb"}, columns=80),
    World("time_zone_ahead", {"TZ": "Pacific/Kiritimati"}),
    World("time_zone_unknown", {"TZ": "No/Where"}),
    World("matrix_of_the_future", before="touch -d 2099-01-01 m.toml"),
    World(
        "started_long_ago", unshare=("--time", "--boottime", "86400000", "--monotonic", "86400000"),
    ),
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
