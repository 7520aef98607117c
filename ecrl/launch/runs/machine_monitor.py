"""Records the state of the machine during a run: the version of the code and the load of its GPUs."""

import subprocess
import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Self

from ecrl.launch.system import nvidia
from ecrl.launch.system.process_identity import CAMPAIGN_MARKER, find_marked_pids, is_ending

SAMPLE_S = 10.0  # between two samples of the GPUs; a sample takes the driver tens of milliseconds
_PATIENCE_S = 30.0  # for the first sample; a driver that takes longer is hung
_GIT_TIMEOUT_S = 10.0
_CHECKOUT = Path(__file__).parents[3]


class MachineMonitor:
    """Samples the machine until its block ends or `get_facts` is called.

    gpus: numbers or UUIDs of the run's GPUs; empty: all; None: the run uses none. campaign: the value of the marker
    that the run's own processes carry.
    """

    def __init__(self, campaign: Path, gpus: Sequence[str] | None, sample_s: float = SAMPLE_S) -> None:
        self._campaign, self._gpus, self._sample_s = campaign, gpus, sample_s
        self._facts: dict[str, object] = {}
        self._reasons: set[str] = set()
        self._foreign: set[int] = set()
        self._own: set[int] = set()  # kept, because an ending process shows no marker any more
        self._told: dict[str, object] = {}
        self._looked, self._stop = threading.Event(), threading.Event()
        # In a thread, so that no run waits for git or a driver.
        self._thread = threading.Thread(target=self._watch, name="ecrl-beside", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def get_facts(self) -> dict[str, object]:
        """Stop sampling and return the facts. A fact that could not be determined is absent.

        Facts: `git` (version of the code), and with GPUs `driver`, `gpu_uuids` and `pressure_during`
        {clock_event_reasons, gpu_foreign_processes}.
        """
        self._stop.set()
        if not self._looked.wait(_PATIENCE_S):
            nvidia.stop_querying()
        found = dict(self._facts)
        return found | {"pressure_during": dict(self._told)} if self._told else found

    def _watch(self) -> None:
        try:
            if (state := read_git_state()) is not None:
                self._facts = {"git": state}
            if self._gpus is not None:
                self._take_sample(self._gpus, first=True)
        finally:
            self._looked.set()
        while self._gpus is not None and not self._stop.wait(self._sample_s):
            self._take_sample(self._gpus, first=False)

    def _take_sample(self, gpus: Sequence[str], *, first: bool) -> None:
        self._own.update(find_marked_pids(CAMPAIGN_MARKER, self._campaign))
        seen = nvidia.take_sample(gpus)
        self._own.update(find_marked_pids(CAMPAIGN_MARKER, self._campaign))
        if seen is None:
            return
        self._facts = {**self._facts, "driver": seen.driver, "gpu_uuids": list(seen.uuids)}
        told = dict(self._told)
        if seen.reasons is not None:
            self._reasons |= seen.reasons
            told["clock_event_reasons"] = sorted(self._reasons)
        if seen.pids is not None:
            there = frozenset(pid for pid in seen.pids if not is_ending(pid))  # an ending process shows no owner
            self._foreign |= find_foreign_pids(there, self._own, first=first)
            told["gpu_foreign_processes"] = len(self._foreign)
        self._told = told


def find_foreign_pids(
    pids: frozenset[int], own: Collection[int], *, first: bool, visible: Callable[[int], bool] | None = None
) -> set[int]:
    """The pids that do not belong to the run.

    first: the run has not reached its GPUs yet, so every process there is foreign. Otherwise a pid that this process
    cannot see is not counted, because it may belong to the run: pids of other containers are hidden, and some drivers
    count in the host's numbers.
    """
    seen = visible or (lambda pid: Path("/proc", str(pid)).exists())
    return {pid for pid in pids if pid not in own and (first or seen(pid))}


def read_git_state(root: Path = _CHECKOUT) -> str | None:
    """The commit of ecrl's code, with '-dirty' if there are uncommitted changes. None outside a git checkout."""
    if not (root / ".git").exists():  # installed as a package; a repository further up is not ecrl's
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None  # no git here: the facts still have the version of ecrl
    return done.stdout.strip() or None
