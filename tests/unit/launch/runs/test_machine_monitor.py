"""What is true of the machine beside a run. The driver is stood in for: a program called nvidia-smi that answers as
the real one does (its queries, CSV, bit masks); nothing here has met a GPU."""

import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from ecrl.launch.runs import machine_monitor
from ecrl.launch.runs.machine_monitor import MachineMonitor, find_foreign_pids, read_git_state
from ecrl.launch.system import nvidia
from ecrl.launch.system.process_identity import CAMPAIGN_MARKER

CARDS = {"0": "GPU-a, NVIDIA H100, 550.54.15, 0x0000000000000000", "1": "GPU-b, NVIDIA H100, 550.54.15, 0x{mask:016x}"}
# Answers for the cards after -i, and for all without; a query that the driver does not know ends with 2.
SMI = """#!/bin/sh
case "$*" in
{refused}
esac
case "$*" in
*--query-compute-apps=gpu_uuid,pid*) printf '%s\\n' {apps} ;;
"-i 1 "*) printf '%s\\n' "{one}" ;;
*--query-gpu*) printf '%s\\n' "{zero}" "{one}" ;;
esac | case "$*" in *reasons* | *apps*) cat ;; *) sed 's/, 0x.*//' ;; esac
"""


class Driver:
    """A nvidia-smi in a folder of its own that is put first on the PATH."""

    def __init__(self, folder: Path) -> None:
        self.script = folder / "nvidia-smi"

    def says(self, mask: int = 0, apps: tuple[str, ...] = (), refuses: str = "") -> None:
        """From now on, in one step, so that nobody reads half a script."""
        text = SMI.format(
            refused=f'*{refuses}*) echo "Field \\"{refuses}\\" is not a valid field to query."; exit 2 ;;'
            if refuses
            else "",
            apps=" ".join(f'"{app}"' for app in apps) or "''",
            zero=CARDS["0"],
            one=CARDS["1"].format(mask=mask),
        )
        new = self.script.with_suffix(".new")
        new.write_text(text)
        new.chmod(0o755)
        new.rename(self.script)

    def odd(self, answer: bytes) -> None:
        """From now on, to every query."""
        self.script.with_suffix(".answer").write_bytes(answer)
        self.script.write_text(f"#!/bin/sh\ncat {self.script.with_suffix('.answer')}\n")
        self.script.chmod(0o755)

    def hangs(self) -> None:
        """From now on."""
        self.script.write_text(f"#!/bin/sh\necho $$ >> {self.script.with_suffix('.asked')}\nexec sleep 300\n")
        self.script.chmod(0o755)

    def asked(self) -> list[int]:
        """The pids of those that were asked while it hung."""
        path = self.script.with_suffix(".asked")
        return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(nvidia, "_hung", threading.Event())
    return Driver(folder)


def test_a_sample_names_the_reasons_of_the_chosen_cards_alone(driver: Driver) -> None:
    driver.says(mask=0x4 | 0x40, apps=("GPU-a, 11", "GPU-b, 12"))
    one = nvidia.take_sample(["1"])
    assert one == nvidia.Sample(
        ("GPU-b",), ("NVIDIA H100",), "550.54.15", frozenset({"sw_power_cap", "hw_thermal_slowdown"}), frozenset({12})
    )
    both = nvidia.take_sample([])
    assert both is not None
    assert both.uuids == ("GPU-a", "GPU-b")
    assert both.pids == frozenset({11, 12})


def test_an_older_driver_is_asked_by_the_older_name(driver: Driver) -> None:
    driver.says(mask=0x1, refuses="clocks_event_reasons")
    found = nvidia.take_sample(["1"])
    assert found is not None
    assert found.reasons == frozenset({"gpu_idle"})


def test_what_the_driver_does_not_tell_is_unknown_not_empty(driver: Driver) -> None:
    driver.says(refuses="reasons")
    found = nvidia.take_sample([])
    assert found is not None
    assert found.reasons is None
    driver.says(refuses="compute-apps")
    found = nvidia.take_sample([])
    assert found is not None
    assert found.pids is None
    driver.script.unlink()
    assert nvidia.take_sample([]) is None


def test_what_the_driver_says_oddly_is_absent(driver: Driver) -> None:
    driver.odd(b"GPU-a, H\xff, 550, 0x4 (power cap)\nGPU-b, short\n\xfe\n")
    found = nvidia.take_sample([])
    assert found == nvidia.Sample(("GPU-a",), ("H\ufffd",), "550", frozenset({"sw_power_cap"}), frozenset())
    driver.odd(b"GPU-a, H100, 550\nGPU-a\n")
    assert nvidia.take_sample([]) is None
    driver.odd(b"GPU-a, H100, 550, 0xnone\n")
    found = nvidia.take_sample([])
    assert found is not None
    assert found.reasons is None


def test_a_driver_that_does_not_answer_is_asked_once(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvidia, "_TIMEOUT_S", 2.0)
    driver.hangs()
    for _ in range(2):
        with MachineMonitor(tmp_path, []) as watch:
            assert watch.get_facts().keys() <= {"git"}
    assert len(driver.asked()) == 1


def test_one_that_cannot_even_be_ended_is_waited_for_once(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.hangs()
    with MachineMonitor(tmp_path, []) as first:
        while not driver.asked():
            pass
        with monkeypatch.context() as patch:
            patch.setattr(machine_monitor, "_PATIENCE_S", 0.1)
            first.get_facts()
    with MachineMonitor(tmp_path, []) as second:
        assert second.get_facts().keys() <= {"git"}
    (pid,) = driver.asked()
    os.kill(pid, signal.SIGKILL)


def test_only_processes_that_are_not_the_runs_own_are_foreign() -> None:
    seen = frozenset({1, 2, 3})
    assert find_foreign_pids(seen, [2], first=True, visible=lambda _: False) == {1, 3}
    assert find_foreign_pids(seen, [2], first=False, visible=lambda pid: pid == 3) == {3}


def test_a_watch_gathers_all_reasons_and_strangers_that_it_ever_saw(driver: Driver, tmp_path: Path) -> None:
    campaign = tmp_path / "results" / "exp"
    own = subprocess.Popen(["sleep", "60"], env={CAMPAIGN_MARKER: str(campaign)})
    try:
        driver.says(mask=0x4, apps=(f"GPU-b, {own.pid}", "GPU-a, 1"))
        looks = _Looks()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(nvidia, "take_sample", looks.sample)
            with MachineMonitor(campaign, ["1"], sample_s=0.001) as watch:
                looks.wait_for(1)
                driver.says(mask=0x20, apps=("GPU-b, 1", f"GPU-b, {own.pid}"))
                looks.wait_for(3)  # the second may have begun before the driver changed its mind
                facts = watch.get_facts()
    finally:
        own.kill()
        own.wait()
    assert facts["gpu_uuids"] == ["GPU-b"]
    assert facts["driver"] == "550.54.15"
    assert facts["pressure_during"] == {
        "clock_event_reasons": ["sw_power_cap", "sw_thermal_slowdown"], "gpu_foreign_processes": 1,
    }  # fmt: skip


def test_killed_ranks_of_the_run_are_no_strangers(driver: Driver, tmp_path: Path) -> None:
    campaign = tmp_path / "results" / "exp"
    own = [subprocess.Popen(["sleep", "60"], env={CAMPAIGN_MARKER: str(campaign)}) for _ in range(2)]
    try:
        driver.says(apps=(f"GPU-b, {own[0].pid}", "GPU-a, 1"))
        looks = _Looks()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(nvidia, "take_sample", looks.sample)
            with MachineMonitor(campaign, ["1"], sample_s=0.001) as watch:
                looks.wait_for(1)
                for process in own:  # nobody has asked how they ended: /proc still has their numbers
                    process.kill()
                driver.says(apps=tuple(f"GPU-b, {process.pid}" for process in own))
                looks.wait_for(3)
                facts = watch.get_facts()
    finally:
        for process in own:
            process.kill()
            process.wait()
    assert facts["pressure_during"] == {"clock_event_reasons": [], "gpu_foreign_processes": 0}


class _Looks:
    """Counts finished samples of the real function."""

    def __init__(self) -> None:
        self._done = threading.Condition()
        self._count = 0
        self._real = nvidia.take_sample

    def sample(self, gpus: list[str]) -> nvidia.Sample | None:
        found = self._real(gpus)
        with self._done:
            self._count += 1
            self._done.notify_all()
        return found

    def wait_for(self, more: int) -> None:
        with self._done:
            wanted = self._count + more
            assert self._done.wait_for(lambda: self._count >= wanted, timeout=30)


def test_without_gpus_no_driver_is_asked(driver: Driver, tmp_path: Path) -> None:
    driver.says(mask=0x4)
    with MachineMonitor(tmp_path, None) as watch:
        assert watch.get_facts().keys() <= {"git"}


def test_a_machine_without_a_driver_tells_nothing_and_breaks_nothing(tmp_path: Path, driver: Driver) -> None:
    assert not driver.script.exists()
    with MachineMonitor(tmp_path, []) as watch:
        assert watch.get_facts().keys() <= {"git"}


def test_the_codes_commit_is_told_with_its_uncommitted_changes(tmp_path: Path) -> None:
    code = tmp_path / "code.py"
    code.write_text("")
    assert read_git_state(tmp_path) is None  # installed without its history

    def git(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b.invalid"]
        return subprocess.check_output(["git", "-C", str(tmp_path), *who, *words], text=True).strip()

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "first")
    assert read_git_state(tmp_path) == git("rev-parse", "--short=12", "HEAD")
    code.write_text("changed")
    assert read_git_state(tmp_path) == git("rev-parse", "--short=12", "HEAD") + "-dirty"
