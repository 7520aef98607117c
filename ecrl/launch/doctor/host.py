"""Findings about the host: memory, limits, processors, clock, network, environment. Takes milliseconds."""

import os
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from ecrl.launch.doctor.finding import OK, UNFIT, WARN, Finding, Requirements
from ecrl.launch.system.cpu_users import CpuUse, measure_cpu_use
from ecrl.launch.system.environment import format_inputs
from ecrl.records import machine
from ecrl.units import format_bytes, format_count

_GB = 10**9
_RANK_BYTES = 700 * 10**6  # host memory of a PyTorch rank before any training
_SHM_BYTES = 256 << 20
_SEMAPHORES_BYTES = 1 << 20  # of the ranks that a server forks: a page each
_UNLIMITED = resource.RLIM_INFINITY
_BUSY_SHARE, _BUSY_CORES = 0.25, 0.5  # more of the cores than this disturb runs
_EPOCH = 1704067200  # 2024: a clock before this was never set


def check_host(wanted: Requirements | None) -> Iterator[Finding]:
    """All findings about the host."""
    yield _memory(wanted)
    yield _shm(wanted)
    yield from _limits(wanted)
    yield _processors(wanted)
    yield from _clock()
    yield from check_network(wanted)
    yield _inputs()


def _memory(wanted: Requirements | None) -> Finding:
    available, limited = machine.usable_memory_bytes(), machine.memory_limit_bytes() is not None
    said = f"{format_bytes(available)} available" + (" (within this container's limit)" if limited else "")
    if wanted is None:
        few = available < 2 * _GB
        return Finding("memory", WARN if few else OK, said, "This is enough for one rank at most." if few else "")
    need = wanted.nproc * _RANK_BYTES + wanted.slots * wanted.checkpoint_bytes
    said += f", about {format_bytes(need)} needed: {format_count(wanted.nproc, 'rank')}"
    if wanted.slots:
        said += f" and {format_count(wanted.slots, 'slot')} of {format_bytes(wanted.checkpoint_bytes)}"
    if need > available:
        slots = max(int((available - wanted.nproc * _RANK_BYTES) // max(wanted.checkpoint_bytes, 1)), 0)
        less = f"Use --max-inflight {slots}" if slots else "Lower --nproc"
        return Finding("memory", UNFIT, said, f"{less}, or free memory: the kernel would kill a rank.")
    return Finding(
        "memory", WARN if need > available * 0.8 else OK, said, "This is just enough." if need > available * 0.8 else ""
    )


def _shm(wanted: Requirements | None) -> Finding:
    forks = wanted is not None and wanted.forks
    cold = 'Or, without forks, write launcher = "cold" under [train]. ' if forks else ""
    try:
        stat = os.statvfs("/dev/shm")
    except OSError:
        advice = "NCCL and data loaders share memory there: mount a tmpfs on it. "
        return Finding("shm", UNFIT if forks else WARN, "no /dev/shm", (advice + cold).strip())
    size, free = stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize
    said = f"/dev/shm: {format_bytes(size)}, {format_bytes(free)} free"
    if free >= _SHM_BYTES:
        return Finding("shm", OK, said)
    nccl = wanted is not None and wanted.nccl and wanted.nproc > 1
    unfit = (nccl and free < 16 << 20) or (forks and free < _SEMAPHORES_BYTES)
    remedy = "Start the container with --shm-size=1g (or --ipc=host), or: mount -o remount,size=1g /dev/shm. "
    return Finding("shm", UNFIT if unfit else WARN, said, (remedy + cold).strip())


def _limits(wanted: Requirements | None) -> Iterator[Finding]:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    state = _state(files, unfit=256, warn=1024)
    yield Finding("open files", state, f"ulimit -n: {_number(files)}", "" if state == OK else "Type: ulimit -n 65536")
    processes = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    need = 64 * (1 if wanted is None else wanted.nproc)  # threads count
    state = _state(processes, unfit=need, warn=4 * need)
    remedy = "" if state == OK else "Type: ulimit -u 65536, or ask an administrator. Every thread counts as a process."
    yield Finding("processes", state, f"ulimit -u: {_number(processes)}", remedy)
    locked = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    rdma = any(Path("/sys/class/infiniband").iterdir()) if Path("/sys/class/infiniband").is_dir() else False
    little = rdma and locked != _UNLIMITED
    remedy = "InfiniBand pins memory. Type: ulimit -l unlimited (docker: --ulimit memlock=-1)" if little else ""
    shown = "unlimited" if locked == _UNLIMITED else format_bytes(locked)
    yield Finding("locked memory", WARN if little else OK, f"ulimit -l: {shown}", remedy)


def _state(found: int, *, unfit: int, warn: int) -> str:
    if found == _UNLIMITED or found >= warn:
        return OK
    return UNFIT if found < unfit else WARN


def _number(limit: int) -> str:
    return "unlimited" if limit == _UNLIMITED else str(limit)


def _processors(wanted: Requirements | None) -> Finding:
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    said = f"{cores} cores, load {load:.1f}"
    if wanted is not None and wanted.device == "cpu" and wanted.threads > cores:
        remedy = (
            f"{wanted.threads} training threads do not fit: lower --nproc or train.threads; times will mean little."
        )
        return Finding("processors", WARN, said, remedy)
    if load <= max(cores * 0.5, 1.0):
        return Finding("processors", OK, said)
    # The load is that of the last minute: it may be one's own last run. So look who computes now.
    return _judge_use(f"{said} in the last minute", measure_cpu_use(), max(cores * _BUSY_SHARE, _BUSY_CORES))


def _judge_use(said: str, use: CpuUse, limit: float) -> Finding:
    own = [user for user in use.users if user.campaign]
    others = [user for user in use.users if not user.campaign]
    now = f"{said}, {use.cores:.1f} cores busy now"
    if use.hidden + sum(user.cores for user in others) > limit:
        named = [f"{user.name} (pid {user.pid})" for user in others[:3] if user.cores > 0.05]
        named += ["programs that cannot be seen from here"] if use.hidden > limit else []
        return Finding("processors", WARN, f"{now}: {', '.join(named)}", "Measured times will scatter. See: top")
    if sum(user.cores for user in own) > limit:
        campaigns = ", ".join(dict.fromkeys(user.campaign for user in own))
        advice = "Wait for it, or a second campaign would disturb both. See: ecrl matrix list"
        return Finding("processors", WARN, f"{now}: your own campaign {campaigns}", advice)
    return Finding("processors", OK, now)


def _clock() -> Iterator[Finding]:
    now = time.time()
    if now < _EPOCH:
        said = time.strftime("%Y-%m-%d", time.gmtime(now))
        yield Finding(
            "clock", WARN, f"found {said}", "Set the clock, because records contain its time. See: timedatectl"
        )
    else:
        yield Finding("clock", OK, time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now)))
    source = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    if source.is_file() and (name := source.read_text().strip()) in ("hpet", "acpi_pm", "jiffies"):
        yield Finding("clock source", WARN, name, "This clock is slow to read; a host with tsc measures better.")


def check_network(wanted: Requirements | None) -> Iterator[Finding]:
    """Findings about what ranks on one host need of its network: loopback, the host's name, gloo's interface."""
    yield _loopback()
    yield _host_name()
    known = {name for _, name in socket.if_nameindex()}
    named = [name for name in os.environ.get("GLOO_SOCKET_IFNAME", "").split(",") if name]
    if absent := [name for name in named if name not in known]:
        said = f"GLOO_SOCKET_IFNAME names {', '.join(absent)}, but this host has {', '.join(sorted(known))}"
        over_nccl = wanted is not None and wanted.nccl
        yield Finding("gloo interface", WARN if over_nccl else UNFIT, said, "Type: unset GLOO_SOCKET_IFNAME")


def _loopback() -> Finding:
    try:
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), 2.0):
            return Finding("loopback", OK, "127.0.0.1 answers")
    except OSError as error:
        said = f"127.0.0.1 does not answer ({error.strerror or error}): ranks find each other there"
        return Finding("loopback", UNFIT, said, "Type: ip link set lo up")


def _host_name() -> Finding:
    """Whether this host's name leads to an address. ecrl does not need it; libraries may wait for it."""
    name = socket.gethostname()
    try:
        lines = Path("/etc/hosts").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    if any(name in line.partition("#")[0].split()[1:] for line in lines):
        return Finding("host name", OK, f"{name} is in /etc/hosts")
    # Not asked of a name server: where none answers, that takes longer than everything else together.
    return Finding("host name", OK, f"{name} is not in /etc/hosts; runs use 127.0.0.1")


def _inputs() -> Finding:
    """The variables that change what ranks do."""
    if not (said := format_inputs()):
        return Finding("environment", OK, "nothing that PyTorch, gloo, NCCL or OpenMP reads is set")
    return Finding("environment", WARN, said, "The ranks read this; it is recorded with every run. Unset what is old.")
