"""Findings about GPUs and PyTorch: other users of the GPUs, driver against build, and the back ends that work."""

import json
import os
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from ecrl.launch.doctor.finding import OK, UNFIT, WARN, Finding, Requirements
from ecrl.launch.system import nvidia
from ecrl.launch.system.child import Reply, ask, build_module_command
from ecrl.launch.system.environment import build_child_environment
from ecrl.launch.system.process_identity import CAMPAIGN_MARKER, iterate_environments
from ecrl.launch.system.torch_import import advise_on_import, is_import_failure
from ecrl.launch.system.wait import Wait
from ecrl.units import format_bytes

EXAMINE_COMMAND = build_module_command("ecrl.worker.device_check")
_TIMEOUT_S = 120.0
_MIB = 1 << 20
_QUERY = ("index", "uuid", "name", "driver_version", "memory.total", "memory.used", "utilization.gpu", "compute_mode")


def check_gpus(
    wanted: Requirements | None,
    command: Sequence[str] = EXAMINE_COMMAND,
    say: Callable[[str], None] = lambda _text: None,
) -> Iterator[Finding]:
    """Findings about the GPUs as the driver shows them, then about PyTorch on this machine. say: what takes long."""
    cuda = wanted is not None and wanted.device == "cuda"
    cards = yield from _cards(wanted, cuda)
    try:
        reply = _run_examine(command, say)
    except OSError as error:  # also a TimeoutError
        yield Finding("torch", UNFIT, " ".join(str(error).split())[:200], f"Try: {' '.join(command)}")
        return
    if reply.code != 0:
        yield _explain_failure(reply)
        return
    told: dict[str, Any] = json.loads(reply.text)
    yield Finding("torch", OK, f"{told['torch']}, built for {_describe_build(told)}")
    yield from _match(told, cards, cuda)
    yield _gloo(told)
    yield _nccl(told, wanted is not None and wanted.nccl)
    if cuda and wanted is not None and wanted.nproc > len(wanted.gpus or told["gpus"]):
        yield _ranks(wanted, len(wanted.gpus or told["gpus"]))


def _ranks(wanted: Requirements, there: int) -> Finding:
    """The finding for more ranks than GPUs."""
    said = f"{wanted.nproc} rank{'' if wanted.nproc == 1 else 's'} for {there} GPU{'' if there == 1 else 's'}"
    if wanted.nccl or not there:
        advice = f"Type --nproc {there}, or --device cpu." if there else "Type --device cpu."
        return Finding("ranks", UNFIT, said, advice)
    return Finding("ranks", WARN, f"{said}: ranks share a GPU over gloo", "Times mean little; other results are valid.")


def _cards(wanted: Requirements | None, cuda: bool) -> Generator[Finding, None, list[dict[str, str]]]:
    """Yields a finding for every GPU; returns the GPUs as nvidia-smi lists them."""
    if shutil.which("nvidia-smi") is None:
        yield Finding("gpu", UNFIT if cuda else OK, "no nvidia-smi here", "Type --device cpu." if cuda else "")
        return []
    text, problem = nvidia.query_smi([f"--query-gpu={','.join(_QUERY)}"])
    if problem:
        yield Finding(
            "gpu", UNFIT if cuda else WARN, f"nvidia-smi: {problem}", "Check that the driver is loaded: dmesg"
        )
        return []
    rows = [row for row in nvidia.parse_table(text, len(_QUERY)) if row[0].isdecimal()]
    cards = [dict(zip(_QUERY, row, strict=True)) for row in rows]
    if odd := [line for line in text.splitlines() if line.strip() and line.split(", ") not in rows]:
        said = f"nvidia-smi: found {odd[0][:100]!r}, expected {', '.join(_QUERY)}"
        yield Finding("gpu", WARN if cards or not cuda else UNFIT, said, "Check the driver: nvidia-smi")
    apps, _ = nvidia.query_smi(["--query-compute-apps=gpu_uuid,pid,process_name,used_memory"])
    users: dict[str, list[str]] = {}
    campaigns = dict(iterate_environments(CAMPAIGN_MARKER))
    own = dict[str, list[str]]()  # by GPU, the ecrl campaigns of its users; '' for any other user
    for uuid, pid, name, memory in (line.split(", ", 3) for line in apps.splitlines() if line.count(", ") >= 3):
        campaign = campaigns.get(int(pid) if pid.isdecimal() else 0, "")
        of = f", campaign {campaign}" if campaign else ""
        users.setdefault(uuid, []).append(f"pid {pid} {_owner(pid)}{Path(name).name} ({memory}{of})")
        own.setdefault(uuid, []).append(campaign)
    for card in cards:
        yield _card(card, users.get(card["uuid"], []), wanted, all(own.get(card["uuid"], [""])))
    return cards


def _card(card: dict[str, str], users: list[str], wanted: Requirements | None, is_own: bool) -> Finding:
    """The finding for one GPU. is_own: only ecrl's own campaigns of this user are on it."""
    check = f"gpu {card['index']}"
    used, total = _bytes(card["memory.used"]), _bytes(card["memory.total"])
    of = (
        "memory use unknown" if used is None or total is None else f"{format_bytes(used)} of {format_bytes(total)} used"
    )
    said = f"{card['name']}, {of}, {card['utilization.gpu']} busy"
    chosen = wanted is None or not wanted.gpus or int(card["index"]) in wanted.gpus
    state = WARN if chosen else OK
    if card["compute_mode"] == "Prohibited":
        state = UNFIT if chosen and wanted is not None and wanted.device == "cuda" else state
        return Finding(check, state, f"{said}, computing prohibited", f"Type: nvidia-smi -i {card['index']} -c 0")
    if users:
        more = f" and {len(users) - 3} more" if len(users) > 3 else ""
        advice = "Leave it out with --gpus: on a shared GPU, times mean little." if chosen else ""
        if chosen and is_own:
            advice = "It is your own campaign: wait for it (ecrl matrix list), or end what a dead one left with resume."
        return Finding(check, state, f"{said}; {'; '.join(users[:3])}{more}", advice)
    if used is not None and total is not None and used > total // 10:
        return Finding(
            check, state, f"{said} by an unknown process", "Check whether another container uses it: nvidia-smi"
        )
    return Finding(check, OK, said)


def _bytes(told: str) -> int | None:
    """Bytes of a text like '81559 MiB'. None: the driver does not report them ('[N/A]')."""
    number = told.partition(" ")[0]
    return int(number) * _MIB if number.isdecimal() else None


def _owner(pid: str) -> str:
    try:
        uid = Path("/proc", pid).stat().st_uid
    except (OSError, ValueError):
        return ""  # ended just now, or in another container
    if uid == os.getuid():
        return "(yours) "
    import pwd

    try:
        return f"({pwd.getpwuid(uid).pw_name}) "
    except KeyError:
        return f"(uid {uid}) "


def _run_examine(command: Sequence[str], say: Callable[[str], None]) -> Reply:
    """The answer of the process that loads PyTorch.

    Raises:
        OSError: it cannot be started, or takes too long.
    """
    deadline = time.monotonic() + _TIMEOUT_S
    wait = Wait(lambda: f"PyTorch to load and to compute here, at most {_TIMEOUT_S:.0f} s", say)

    def check() -> None:
        wait.look()
        if time.monotonic() > deadline:
            raise TimeoutError(f"no answer after {_TIMEOUT_S:.0f} s")

    extra = {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0", "OMP_NUM_THREADS": "1"}
    return ask(command, build_child_environment(os.environ, extra), check=check)


def _explain_failure(reply: Reply) -> Finding:
    """The finding for a process that loads PyTorch and failed."""
    lines = reply.output.strip().splitlines() or [f"exit code {reply.code}"]
    advice = advise_on_import(reply.output) if is_import_failure(reply.output) else f"It ended with {reply.code}."
    return Finding("torch", UNFIT, lines[-1][:200], advice)


def _describe_build(told: dict[str, Any]) -> str:
    return f"CUDA {told['cuda']}" if told["cuda"] else "the CPU alone"


def _match(told: dict[str, Any], cards: list[dict[str, str]], cuda: bool) -> Iterator[Finding]:
    """Findings about driver and PyTorch build: whether they fit, and whether each GPU computes."""
    driver = cards[0]["driver_version"] if cards else ""
    if cards and not told["cuda"]:
        advice = "Install the build for CUDA: https://pytorch.org/get-started/locally/"
        yield Finding("driver", UNFIT if cuda else WARN, f"driver {driver}, but PyTorch is built for the CPU", advice)
    elif cards and not told["cuda_available"]:
        advice = f"Update the driver, or install a PyTorch for what {driver} supports (nvidia-smi shows the version)."
        said = f"driver {driver} and CUDA {told['cuda']} do not fit: {told['cuda_error'] or 'no device is usable'}"
        yield Finding("driver", UNFIT if cuda else WARN, said, advice)
    elif cards:
        yield Finding("driver", OK, f"driver {driver} fits CUDA {told['cuda']}")
    for number, gpu in enumerate(told["gpus"]):
        if gpu["error"]:
            advice = (
                "Leave it out with --gpus; if the error persists, reset it or ask an administrator (nvidia-smi -q)."
            )
            yield Finding(f"gpu {number} computing", UNFIT if cuda else WARN, gpu["error"], advice)
        else:
            yield Finding(f"gpu {number} computing", OK, f"{gpu['name']}: a matrix product is correct")


def _gloo(told: dict[str, Any]) -> Finding:
    if not told["gloo"]:
        return Finding("gloo", UNFIT, "not in this PyTorch", "Install a PyTorch with distributed support.")
    if told["gloo_error"]:
        advice = "Check that this host finds its own name: getent hosts $(hostname); or set GLOO_SOCKET_IFNAME=lo"
        return Finding("gloo", UNFIT, told["gloo_error"], advice)
    if told["gloo_average"] != 1.5:
        said = f"reduce-scatter averages 1 and 2 to {told['gloo_average']:g} (pytorch#162338)"
        advice = "fsdp2 and hsdp avoid it; scripts that use FSDP2 need set_force_sum_reduction_for_comms(True)."
        return Finding("gloo", WARN, said, advice)
    return Finding("gloo", OK, "a process group works, reduce-scatter averages")


def _nccl(told: dict[str, Any], needed: bool) -> Finding:
    if told["nccl"]:
        return Finding("nccl", OK, told["nccl"])
    advice = "Install a PyTorch for CUDA: ranks on GPUs communicate through NCCL." if needed else ""
    return Finding("nccl", UNFIT if needed else OK, "not in this PyTorch (only GPUs need it)", advice)
