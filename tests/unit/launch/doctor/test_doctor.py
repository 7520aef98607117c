"""The doctor: each finding with what to do, on machines that are made to look unfit."""

import dataclasses
import fcntl
import importlib.util
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ecrl.errors import EXIT_UNFIT, UnfitError
from ecrl.launch.campaign import control as control_module
from ecrl.launch.campaign.recover import Policy
from ecrl.launch.doctor import disk, gpu, host
from ecrl.launch.doctor import visit as doctor
from ecrl.launch.doctor.finding import OK, UNFIT, WARN, Finding, Place, Requirements
from ecrl.launch.system import wait
from ecrl.launch.system.cpu_users import CpuUse, CpuUser, measure_cpu_use
from ecrl.launch.system.process_identity import CAMPAIGN_MARKER
from ecrl.records import machine
from ecrl.worker.device_check import reduce_scatter_average
from tests.unit.launch.stand_in import StandIn, control, request

GB = 10**9
CPU = Requirements("cpu", (), nproc=2, threads=2, slots=4, checkpoint_bytes=10**8, disk_bytes=GB, nccl=False)
CUDA = dataclasses.replace(CPU, device="cuda", nccl=True)
SHARED = dataclasses.replace(CUDA, nccl=False)
FIT = {
    "torch": "2.9", "cuda": "13.0", "cuda_available": True, "cuda_error": "", "gloo": True, "gloo_error": "",
    "gloo_average": 1.5, "nccl": "2.27", "gpus": [{"name": "H100", "error": ""}, {"name": "H100", "error": ""}],
}  # fmt: skip


def states(found: Iterable[Finding]) -> dict[str, str]:
    return {finding.check: finding.state for finding in found}


def one(found: Iterable[Finding], check: str) -> Finding:
    return next(finding for finding in found if finding.check == check)


def test_every_finding_that_is_not_ok_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available_memory_bytes", lambda: GB)
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (100, 100))
    monkeypatch.setattr(os, "getloadavg", lambda: (99.0, 99.0, 99.0))
    monkeypatch.setattr(host, "measure_cpu_use", lambda: CpuUse((), 99.0))
    found = [*host.check_host(CPU), *disk.check_disk(tmp_path, CPU)]
    assert one(found, "memory").state == UNFIT
    assert one(found, "open files").state == UNFIT
    assert one(found, "processors").state == WARN
    assert all(bool(finding.advice) == (finding.state != OK) for finding in found)


def test_memory_is_weighed_against_the_slots_and_the_containers_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available_memory_bytes", lambda: 64 * GB)
    monkeypatch.setattr(machine, "memory_limit_bytes", lambda: None)
    assert one(host.check_host(CPU), "memory").state == OK
    monkeypatch.setattr(machine, "memory_limit_bytes", lambda: 1_700_000_000)
    finding = one(host.check_host(CPU), "memory")
    assert finding.state == UNFIT
    assert "--max-inflight 3" in finding.advice


def test_a_small_shm_is_unfit_for_nccl_and_a_warning_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    stat = SimpleNamespace(f_blocks=1000, f_frsize=4096, f_bavail=1000)
    monkeypatch.setattr(os, "statvfs", lambda _path: stat)
    assert one(host.check_host(CPU), "shm").state == WARN
    assert one(host.check_host(SHARED), "shm").state == WARN
    finding = one(host.check_host(CUDA), "shm")
    assert finding.state == UNFIT
    assert "--shm-size" in finding.advice


def test_without_room_for_semaphores_a_launcher_that_forks_is_unfit(monkeypatch: pytest.MonkeyPatch) -> None:
    forks = dataclasses.replace(CPU, forks=True)
    assert one(host.check_host(forks), "shm").state == OK
    monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_blocks=1, f_frsize=4096, f_bavail=1))
    assert one(host.check_host(CPU), "shm").state == WARN
    finding = one(host.check_host(forks), "shm")
    assert finding.state == UNFIT
    assert 'launcher = "cold"' in finding.advice


def test_locks_and_flushes_are_really_tried_and_leave_nothing_behind(tmp_path: Path) -> None:
    found = list(disk.check_disk(tmp_path / "not" / "there", CPU))
    assert one(found, "locks").state == OK
    assert "ms" in one(found, "fsync").found
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flock", "state", "fact"),
    [(lambda *_: None, UNFIT, "two"), (None, WARN, "No locks available")],
)
def test_locks_that_do_not_keep_others_out_are_unfit_and_missing_ones_are_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flock: Any, state: str, fact: str
) -> None:
    def refuses(*_: Any) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock or refuses)
    finding = one(disk.check_disk(tmp_path, None), "locks")
    assert finding.state == state
    assert fact in finding.found


def test_too_little_disk_for_the_matrix_is_unfit(tmp_path: Path) -> None:
    huge = dataclasses.replace(CPU, disk_bytes=10**18)
    assert one(disk.check_disk(tmp_path, huge), "disk").state == UNFIT


def test_network_and_memory_file_systems_are_told_by_their_mounts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "file_system", lambda _path: "nfs4")
    assert one(disk.check_disk(tmp_path, None), "file system").state == WARN
    monkeypatch.undo()
    assert machine.file_system(Path("/proc")) == "proc"


# -- GPUs: nvidia-smi and PyTorch, both stood in for ---------------------------------------------------------------

SMI = """#!/bin/sh
case "$1" in
--query-gpu*) printf '%s\\n' "0, GPU-a, H100, 550.1, 81559 MiB, 10 MiB, 0 %, Default" \\
  "1, GPU-b, H100, 550.1, 81559 MiB, 40000 MiB, 93 %, Default" ;;
*) printf '%s\\n' "GPU-b, 1, /usr/bin/python3, 39990 MiB" ;;
esac
"""


def examined(**changes: Any) -> tuple[str, ...]:
    return (
        sys.executable,
        "-c",
        f"import os; os.write(int(os.environ['ECRL_REPLY_FD']), {json.dumps(FIT | changes).encode()!r})",
    )


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "bin" / "nvidia-smi"
    script.parent.mkdir()
    script.write_text(SMI)
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:/usr/bin:/bin")


@pytest.mark.usefixtures("smi")
def test_gpus_are_shown_with_who_else_uses_them() -> None:
    found = list(gpu.check_gpus(CUDA, examined()))
    assert one(found, "gpu 0").state == OK
    assert one(found, "gpu 1").state == WARN
    assert "; pid 1 (" in one(found, "gpu 1").found
    assert "python3 (39990 MiB)" in one(found, "gpu 1").found
    assert "--gpus" in one(found, "gpu 1").advice
    assert one(found, "driver").found == "driver 550.1 fits CUDA 13.0"
    assert UNFIT not in states(found).values()


@pytest.mark.usefixtures("smi")
def test_what_nvidia_smi_says_oddly_is_told_once_and_breaks_nothing(tmp_path: Path) -> None:
    script = tmp_path / "bin" / "nvidia-smi"
    script.write_text(
        SMI.replace('"1, GPU-b,', "$'odd \\xff' '1, GPU-b, short' \"1, GPU-b,").replace("sh\n", "bash\n")
        .replace("40000 MiB", "[N/A]")
    )  # fmt: skip
    found = list(gpu.check_gpus(CUDA, examined()))
    (odd,) = [finding.found for finding in found if finding.check == "gpu"]
    assert "'odd \ufffd'" in odd
    assert "index, uuid, name, driver_version, memory.total, memory.used, utilization.gpu, compute_mode" in odd
    assert one(found, "gpu 0").state == OK
    assert "B used" not in one(found, "gpu 1").found


@pytest.mark.usefixtures("smi")
def test_a_gpu_that_was_not_chosen_may_be_in_use() -> None:
    chosen = dataclasses.replace(CUDA, gpus=(0,), nproc=1)
    assert one(gpu.check_gpus(chosen, examined()), "gpu 1").state == OK


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"cuda_available": False, "cuda_error": "driver too old", "gpus": []}, "driver"),
        ({"cuda": None, "cuda_available": False, "gpus": []}, "driver"),
        ({"gloo_error": "cannot resolve host"}, "gloo"),
        ({"nccl": None}, "nccl"),
        ({"gpus": [{"name": "H100", "error": "ECC error"}, {"name": "H100", "error": ""}]}, "gpu 0 computing"),
        ({"gpus": [{"name": "H100", "error": ""}]}, "ranks"),
    ],
)
@pytest.mark.usefixtures("smi")
def test_what_pytorch_cannot_do_is_unfit_where_it_is_needed(changes: dict[str, Any], check: str) -> None:
    assert one(gpu.check_gpus(CUDA, examined(**changes)), check).state == UNFIT


@pytest.mark.usefixtures("smi")
def test_a_reduce_scatter_that_sums_is_said_since_scripts_may_rely_on_it() -> None:
    finding = one(gpu.check_gpus(CPU, examined(gloo_average=3.0)), "gloo")
    assert (finding.state, "to 3 " in finding.found, "force_sum" in finding.advice) == (WARN, True, True)
    assert reduce_scatter_average() == 1.5


@pytest.mark.usefixtures("smi")
def test_ranks_that_talk_over_gloo_share_a_gpu_and_need_no_nccl() -> None:
    found = list(gpu.check_gpus(SHARED, examined(gpus=[{"name": "H100", "error": ""}], nccl=None)))
    assert (one(found, "nccl").state, one(found, "ranks").state) == (OK, WARN)
    assert one(found, "ranks").found.startswith("2 ranks for 1 GPU: ")
    assert one(gpu.check_gpus(SHARED, examined(gpus=[])), "ranks").state == UNFIT


def test_without_torch_the_machine_is_unfit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    command = (sys.executable, "-c", "raise ModuleNotFoundError(\"No module named 'torch'\")")
    finding = one(gpu.check_gpus(CPU, command), "torch")
    assert (finding.state, "pip install torch" in finding.advice) == (UNFIT, True)


# -- before a start --------------------------------------------------------------------------------------------------


def test_an_unfit_machine_is_told_before_anything_starts_or_is_written(tmp_path: Path) -> None:
    unfit = [Finding("locks", UNFIT, "nobody is kept out", "Name another folder."), Finding("shm", WARN, "small", "x")]
    notes: list[str] = []
    asked, launcher = request(tmp_path / "results"), StandIn()
    way_in = control(launcher)
    object.__setattr__(way_in, "examine", lambda _results, _needs: unfit)
    object.__setattr__(way_in.observer, "note", notes.append)
    with pytest.raises(UnfitError) as raised:
        way_in.run(asked, Policy())
    assert raised.value.exit_code == EXIT_UNFIT
    assert "locks: nobody is kept out" in str(raised.value)
    assert "warning: shm: small. x" in notes
    assert launcher.started == []
    assert not asked.paths.root.exists()


def test_the_short_visit_is_quick_and_shows_only_what_is_not_well(tmp_path: Path) -> None:
    assert all(finding.state != OK for finding in doctor.quick_checks(tmp_path, CPU))


def test_a_disk_that_answers_slowly_is_spoken_of_before_a_start_and_by_every_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def soon(what: str, say: Callable[[str], None]) -> AbstractContextManager[None]:
        return wait.keep_saying(what, say, 0.05)

    notes: list[str] = []
    flush = os.fsync

    def slow(fd: int) -> None:
        time.sleep(0.1)
        flush(fd)

    monkeypatch.setattr(os, "fsync", slow)
    monkeypatch.setattr(wait, "_LOOK_S", 0.02)
    monkeypatch.setattr(control_module, "keep_saying", soon)
    monkeypatch.setattr(doctor, "keep_saying", soon)
    monkeypatch.setattr(gpu, "check_gpus", lambda *_, **__: iter(()))
    asked, way_in = request(tmp_path / "results"), control(StandIn())
    object.__setattr__(way_in.observer, "note", notes.append)
    way_in.plan(asked)
    assert any("waiting for host and disks to be tried" in note for note in notes)
    spoken: list[str] = []
    place = Place("checkpoint.dir", tmp_path / "place", False)
    list(doctor.run_checks(tmp_path, dataclasses.replace(CPU, places=(place,)), spoken.append))
    for folder in (tmp_path, place.folder):
        assert any(f"waiting for the disk of {folder} to be tried" in text for text in spoken), spoken


# -- disks and processors --------------------------------------------------------------------------------------------


def test_the_speed_of_a_disk_counts_its_flush_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush = os.fsync

    def slow(fd: int) -> None:
        time.sleep(0.02)
        flush(fd)

    monkeypatch.setattr(os, "fsync", slow)
    monkeypatch.setattr(disk, "_SPEED_S", 0.01)
    finding = one(disk.check_disk(tmp_path, CPU), "write speed")
    assert "4.0 MB" in finding.found
    durable, cached = (float(n.replace(",", "")) for n in re.findall(r"([\d,.]+) MB/s", finding.found))
    assert durable < 4_000_000 / 0.02 / 1e6 < 10 * cached
    assert "a checkpoint of 100.0 MB takes about" in finding.found
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("spare", "state"), [(False, UNFIT), (True, WARN)])
def test_a_place_that_takes_no_files_is_told_before_a_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spare: bool, state: str
) -> None:
    place = Place("checkpoint.dir", tmp_path, spare)
    wanted = dataclasses.replace(CPU, places=(place,))

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(30, "Read-only file system", str(tmp_path))

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    finding = one(doctor.quick_checks(tmp_path, wanted), "checkpoint.dir")
    assert (finding.state, finding.found) == (state, f"{tmp_path}: Read-only file system")
    assert "checkpoint.dir" in finding.advice
    assert "write speed" not in states(disk.check_place(place, wanted))


def test_a_place_that_is_not_there_may_be_a_disk_that_is_not_mounted(tmp_path: Path) -> None:
    found = list(disk.check_place(Place("checkpoint.dir", tmp_path / "typo", False), CPU))
    assert one(found, "folder").state == WARN
    assert "would be made on" in one(found, "folder").found
    assert str(tmp_path / "typo") in one(found, "write speed").found


@pytest.mark.parametrize(
    ("use", "state", "said"),
    [
        (CpuUse((), 0.0), OK, "0.0 cores busy now"),
        (CpuUse((CpuUser(7, "make", 1.5),), 0.0), WARN, "make (pid 7)"),
        (CpuUse((CpuUser(7, "python", 1.5, "/r/mine"),), 0.0), WARN, "your own campaign /r/mine"),
        (CpuUse((), 1.5), WARN, "programs that cannot be seen"),
    ],
)
def test_a_load_of_the_last_minute_is_told_by_who_computes_now(
    monkeypatch: pytest.MonkeyPatch, use: CpuUse, state: str, said: str
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (99.0, 99.0, 99.0))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})
    monkeypatch.setattr(host, "measure_cpu_use", lambda: use)
    finding = one(host.check_host(None), "processors")
    assert (finding.state, said in finding.found) == (state, True)


def test_a_process_that_computes_is_found_with_its_campaign() -> None:
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"], env=os.environ | {CAMPAIGN_MARKER: "/r/mine"})
    try:
        deadline = time.monotonic() + 20
        found: list[CpuUser] = []
        while not found and time.monotonic() < deadline:
            found = [user for user in measure_cpu_use(0.2).users if user.pid == busy.pid]
    finally:
        busy.kill()
        busy.wait()
    assert found[0].campaign == "/r/mine"
    assert found[0].cores > 0
