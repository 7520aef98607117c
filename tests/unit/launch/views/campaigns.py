"""A suite that an ecrl runs, as its records show it."""

import dataclasses
import json
from pathlib import Path

from ecrl.launch.system.process_identity import get_current_owner
from ecrl.records.clock import now_ns
from ecrl.records.manifest.store import RUNNING, Manifest
from ecrl.records.paths import CampaignPaths, RunPaths
from ecrl.records.recorder import Recorder


def under_way(paths: CampaignPaths, *, alive: bool = True) -> RunPaths:
    """Mark the first suite running and begin its first run, as an ecrl would."""
    written = Manifest.open(paths)
    suite_id = next(iter(written.rows))
    owner = get_current_owner() if alive else dataclasses.replace(get_current_owner(), start_ticks=1)
    written.record(suite_id, status=RUNNING, attempts=1, owner=owner)
    written.close()
    run = paths.run(suite_id, "blocking", 1337)
    run.logs.mkdir(parents=True)
    plan = [{"index": 0, "kind": "kill", "rank": 1, "at": 3}]
    run.spec.write_text(json.dumps({"run_hash": "h", "device": "cpu", "block_position": 1, "failures": plan}))
    Recorder(run.launcher_events).event("prepared", t0=now_ns())  # as before the first run of a warm agent
    Recorder(run.launcher_events).event("spawn", t=now_ns() - 3 * 10**9, pid=1)
    return run


def train(run: RunPaths, steps: int, *, attempt: int = 0, since: int = 0) -> None:
    """Events of rank 0, two steps a second up to now."""
    recorder = Recorder(run.events(attempt, 0))
    begin = now_ns() - (steps - since) * 5 * 10**8
    recorder.event("ready", t=begin)
    recorder.event("restored", t=begin, step=since)
    for step in range(since + 1, steps + 1):
        recorder.event("step", t=begin + (step - since) * 5 * 10**8, s=step, loss=1.0 / step)
    recorder.close()


def rank_log(run: RunPaths, attempt: int, rank: int, text: str) -> Path:
    path = run.logs / "abc" / f"attempt_{attempt}" / str(rank) / "stderr.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path
