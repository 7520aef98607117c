"""Leases of devices: disjoint sets, one holder, kept by what inherits them, and by whoever carries the marker."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ecrl.launch.system.device_leases import FOLDER_VARIABLE, DeviceSet, Lease, describe_holders, try_lease
from ecrl.launch.system.process_identity import get_start_ticks, iterate_environments
from ecrl.records.paths import CampaignPaths

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
ONE = DeviceSet(("fake-0", "fake-1"))
OTHER = DeviceSet(("fake-1", "fake-2"))


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "leases"))


@pytest.fixture
def held() -> Iterator[Lease]:
    lease = try_lease(ONE, CampaignPaths(Path("results"), "exp"))
    assert lease is not None
    yield lease
    lease.release()


def freed(devices: DeviceSet) -> bool:
    lease = try_lease(devices)
    if lease is not None:
        lease.release()
    return lease is not None


def test_a_device_has_one_holder_whatever_set_it_is_in(held: Lease) -> None:
    assert try_lease(ONE) is None
    assert try_lease(OTHER) is None
    assert freed(DeviceSet(("fake-2",))), "what a set could not get whole is given back"
    assert f"pid {os.getpid()} (prefix exp)" in describe_holders(ONE)
    held.release()
    assert freed(OTHER)


def test_a_finished_holder_of_a_device_that_is_free_is_not_spoken_of(held: Lease) -> None:
    held.release()
    lock = held.folder / "fake-0.lock"
    ended = json.loads(lock.read_text())
    ended["owner"]["start_ticks"] += 1  # no process of this pid has this start time
    lock.write_text(json.dumps(ended | {"prefix": "finished"}))
    own = try_lease(DeviceSet(("fake-1",)), CampaignPaths(Path("results"), "exp"))
    assert own is not None
    assert describe_holders(ONE) == f"pid {os.getpid()} (prefix exp)"
    own.release()


def test_what_inherits_the_descriptors_holds_the_devices_on(held: Lease) -> None:
    with subprocess.Popen(SLEEP, pass_fds=held.fds) as child:
        held.release()
        assert try_lease(ONE) is None
        child.kill()
        child.wait()
        assert freed(ONE)


def test_a_worker_whose_launcher_is_gone_keeps_its_devices_by_its_marker(held: Lease) -> None:
    with subprocess.Popen(SLEEP, env={**os.environ, **held.environment}) as child:
        while child.pid not in dict(iterate_environments("ECRL_LEASE")):
            pass  # between fork and exec it has no environment of its own
        held.release()
        assert try_lease(ONE) is None
        assert describe_holders(ONE) == f"pid {os.getpid()} (prefix exp)"
        assert freed(DeviceSet(("fake-2",)))
        child.kill()
        child.wait()
        assert freed(ONE)


def test_a_worker_that_is_ending_has_ended_before_its_devices_are_free(held: Lease) -> None:
    # The more memory it has, the longer it takes from losing its environment to closing its files.
    large = "import sys; b = bytearray(400 << 20); b[::4096] = b'x' * len(b[::4096]); print(flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    environment = {**os.environ, **held.environment}
    with subprocess.Popen([sys.executable, "-c", large], env=environment, **pipes) as child:  # type: ignore[call-overload]
        child.stdout.readline()
        held.release()
        child.kill()
        while (lease := try_lease(ONE)) is None:
            pass
        assert get_start_ticks(child.pid) is None
        lease.release()


@pytest.mark.usefixtures("held")
def test_the_folder_and_its_locks_are_for_all_users(tmp_path: Path) -> None:
    assert (tmp_path / "leases").stat().st_mode & 0o7777 == 0o1777
    assert (tmp_path / "leases" / "fake-0.lock").stat().st_mode & 0o777 == 0o666


def test_gpus_are_told_to_cuda_in_the_order_of_nvidia_smi() -> None:
    lease = try_lease(DeviceSet(("gpu-x",), ("3",)))
    assert lease is not None
    assert lease.environment["CUDA_VISIBLE_DEVICES"] == "3"
    assert lease.environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    lease.release()
