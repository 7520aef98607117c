"""One measurement in a process of its own: `python -m bench.measure WHAT FOLDER NUMBER` answers with its figures.

A process of its own, so that imports count as users pay for them and the peak of memory is that of one command.
"""

import dataclasses
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

BEGUN = time.perf_counter()

MATRIX = """
[matrix]
datasets = ["noise"]
models = ["cnn"]
checkpoint_every = {every}
max_inflight = {inflight}
variants = ["reference"]
[failures]
base = [1001]
[train]
steps = 2000
[run]
warmup = false
"""


def square(number: int) -> tuple[int, int]:
    """Two axes that make so many cells."""
    first = next(n for n in range(int(number**0.5), 0, -1) if number % n == 0)
    return first, number // first


def write_matrix(folder: Path, number: int) -> Path:
    """A matrix of so many suites, one run each."""
    every, inflight = square(number)
    path = folder / f"matrix-{number}.toml"
    path.write_text(MATRIX.format(every=list(range(1, every + 1)), inflight=list(range(1, inflight + 1))))
    return path


def plan(folder: Path, number: int) -> dict[str, float]:
    """Read and check the matrix, freeze it, write the manifest."""
    from ecrl.launch.campaign.request import Request, resolve_request
    from ecrl.launch.campaign.store import freeze
    from ecrl.records.manifest.store import Manifest
    from ecrl.records.paths import CampaignPaths

    campaign = resolve_request(Request(CampaignPaths(folder / "results", "exp"), write_matrix(folder, number))).campaign
    campaign = campaign.copy_with_device("cpu")
    freeze(campaign)
    Manifest.create(campaign.paths, campaign.rows(), campaign.rows_hash).close()
    return {}


def finish(folder: Path, number: int) -> dict[str, float]:
    """Set-up, not measured: all suites but one are completed, their results on the disk."""
    _complete(folder, lambda place: place != number // 2)
    return {}


def finish_last(folder: Path, number: int) -> dict[str, float]:
    """Set-up, not measured: so is that one."""
    _complete(folder, lambda place: place == number // 2)
    return {}


def _complete(folder: Path, which: Callable[[int], bool]) -> None:
    from ecrl.launch.campaign.store import load_frozen
    from ecrl.records.manifest.store import COMPLETED, Manifest
    from ecrl.records.paths import CampaignPaths

    campaign = load_frozen(CampaignPaths(folder / "results", "exp"))
    opened = Manifest.open(campaign.paths)
    for place, suite_id in enumerate(opened.rows):
        if not which(place):
            continue
        opened.rows.put(
            dataclasses.replace(opened.rows[suite_id], status=COMPLETED, attempts=1, runs_done=1, wall_s=1.5)
        )
        result = campaign.paths.run(suite_id, "reference", 1337).result
        result.parent.mkdir(parents=True)
        result.write_text("{}")  # an empty one would count as gone
    opened.compact()


def counts(folder: Path, number: int) -> dict[str, float]:
    """What `status` needs: the manifest and its journal read and counted."""
    from ecrl.records.manifest import store as manifest
    from ecrl.records.paths import CampaignPaths

    assert sum(manifest.read(CampaignPaths(folder / "results", "exp")).counts.values()) == number
    return {}


def decide(folder: Path, number: int) -> dict[str, float]:
    """`resume` up to the first run: what is to be done, every finished result looked for, the run's spec made."""
    from ecrl.launch.campaign.recover import Policy, list_todo, open_manifest
    from ecrl.launch.campaign.store import load_frozen
    from ecrl.launch.runs.progress import SilentObserver
    from ecrl.records.paths import CampaignPaths

    campaign = load_frozen(CampaignPaths(folder / "results", "exp"))
    taken = open_manifest(campaign, Policy(), SilentObserver())
    assert len(taken.rows) == number
    (suite_id,) = list_todo(taken.rows, Policy())
    suite = campaign.suite(suite_id, taken.rows.index_of(suite_id))
    (run,) = campaign.runs(suite)
    assert not run.paths.result.exists()
    taken.close()
    return {}


def change(folder: Path, number: int) -> dict[str, float]:
    """A state change among so many suites, beyond what writing and flushing as many bytes takes on this disk."""
    from ecrl.records.manifest.store import Manifest
    from ecrl.records.paths import CampaignPaths

    opened = Manifest.open(CampaignPaths(folder / "results", "exp"))
    ids, own, disk = list(islice(opened.rows, min(200, number))), [], []
    fd = os.open(folder / "raw", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for suite_id in ids:
        before = time.perf_counter()
        opened.record(suite_id, status="interrupted", attempts=1, started_at="2026-11-21T23:28:00Z")
        own.append(time.perf_counter() - before)
        before = time.perf_counter()
        os.write(fd, b"x" * 150)
        os.fsync(fd)
        disk.append(time.perf_counter() - before)
    opened.close()
    os.close(fd)
    return {"seconds": statistics.median(own) - statistics.median(disk), "disk": statistics.median(disk)}


def count(folder: Path, number: int) -> dict[str, float]:
    """A matrix of so many cells counted, and its first ten ids."""
    from ecrl.launch.campaign.request import Request, resolve_request
    from ecrl.records.paths import CampaignPaths

    campaign = resolve_request(
        Request(CampaignPaths(folder / "elsewhere", "exp"), write_matrix(folder, number))
    ).campaign
    assert len(campaign.suites) == number
    assert len({suite.suite_id for suite in islice(campaign.suites, 10)}) == 10
    return {}


def overhead(folder: Path, number: int) -> dict[str, float]:
    """ecrl's own time for each of so many runs: from the campaign's begin to its end, less the children's."""
    from bench.stand_in import load_kind
    from ecrl.launch.campaign.control import Control
    from ecrl.launch.campaign.recover import Policy
    from ecrl.launch.campaign.request import Request
    from ecrl.launch.runs.progress import SilentObserver
    from ecrl.launch.system.signals import StopRequest
    from ecrl.records.paths import CampaignPaths

    paths = CampaignPaths(folder / f"overhead-{os.getpid()}", "exp")
    control = Control(SilentObserver(), StopRequest(), load_kind=load_kind)
    before = time.perf_counter()
    control.run(Request(paths, write_matrix(folder, number)), Policy())
    elapsed = time.perf_counter() - before
    children_s = [_child_s(path) for path in paths.root.rglob("events-launcher.jsonl")]
    assert len(children_s) == number
    return {"seconds": (elapsed - sum(children_s)) / number}


def _child_s(launcher_events: Path) -> float:
    """Seconds from the start of a run's process until its end was seen. The stand-in's own records tell no time."""
    events = {event["e"]: event for event in map(json.loads, launcher_events.read_text().splitlines())}
    return float(events["exit"]["seen"] - events["spawn"]["t"]) / 1e9


MEASURES: dict[str, Callable[[Path, int], dict[str, float]]] = {
    f.__name__: f for f in (plan, finish, finish_last, counts, decide, change, count, overhead)
}


def main(what: str, folder: str, number: str) -> None:
    """Measure and answer."""
    told = MEASURES[what](Path(folder), int(number))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    answer = {"seconds": time.perf_counter() - BEGUN, "peak_mb": peak_mb} | told
    from ecrl.worker.reply import send_reply

    send_reply(answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
