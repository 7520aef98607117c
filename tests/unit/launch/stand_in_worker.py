"""A worker group without torch: `python stand_in_worker.py BEHAVIOUR RUN_FOLDER` writes the records of a whole run.

Behaviours: ok; crash (rank 1 ends with an exception at step 3); flaky (crash, unless a run was set aside); died
(a rank vanishes, the next attempt refuses); skips-failure (no planned failure fires); hang (leaves steps, then
waits for ever, with a helper in a session of its own); silent (exit code 3 and no records); collateral (a
survivor's error after a planned failure, then a good end); lingers (a launcher that waits for ever after its ranks'
end).
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ecrl.records.paths import RunPaths
from ecrl.records.recorder import Recorder


def main(behaviour: str, folder: Path) -> int:
    paths = RunPaths(folder)
    spec = json.loads(paths.spec.read_text())
    nproc, steps, failures = spec["train"]["nproc"], spec["train"]["steps"], spec["failures"]
    if behaviour == "flaky":
        behaviour = "ok" if list(folder.parent.glob("*.aside-*")) else "crash"
    if behaviour == "silent":
        print("ImportError: something is missing")
        return 3
    if behaviour == "died":
        report_failure(0, -11)
        ranks(paths, 1, nproc)[0].event("refused", reason="attempt 1 follows 0 planned failures")
        time.sleep(60)
    if behaviour == "skips-failure":
        failures = []
    begin = 1
    for attempt in range(len(failures) + 1):
        group = ranks(paths, attempt, nproc)
        ready(group, begin - 1, restored=attempt > 0)
        until = failures[attempt]["at"] if attempt < len(failures) else steps
        for step in range(begin, until + 1):
            for rank, recorder in enumerate(group):
                recorder.event("step", s=step, t0=0, loss=1.0 / step, ids="x")
                if behaviour == "crash" and rank == 1 and step == 3:
                    recorder.event("error", type="RuntimeError", message="boom", trace="Traceback ...")
                    time.sleep(60)
            if behaviour == "hang" and step == 3:
                hang()
        if attempt < len(failures):
            victim = failures[attempt]
            group[victim["rank"]].event("failure", index=victim["index"], at=until, kind="kill")
            if behaviour == "collateral":
                group[1 - victim["rank"]].event("error", type="RuntimeError", message="peer lost", trace="...")
            report_failure(victim["rank"], -9)
            begin = until - until % spec["checkpoint_every"] + 1
    for recorder in group:
        recorder.event("final", s=steps, digest="d", params_digest="p", rng_digest="r")
        recorder.event("end")
    if behaviour == "lingers":
        time.sleep(300)
    return 0


def ranks(paths: RunPaths, attempt: int, nproc: int) -> list[Recorder]:
    group = [Recorder(paths.events(attempt, rank)) for rank in range(nproc)]
    for rank, recorder in enumerate(group):
        recorder.event("start", rank=rank, attempt=attempt, world_size=nproc, pid=os.getpid())
    return group


def ready(group: list[Recorder], step: int, *, restored: bool) -> None:
    told: dict[str, Any] = {"digest_recorded": "d", "digest_live": "d"} if restored else {}
    for recorder in group:
        recorder.event("ready")
        recorder.event("restored", t0=0, step=step, passed_over=[], **told)


def report_failure(rank: int, exitcode: int) -> None:
    stamp = time.strftime("%m%d %H:%M:%S")
    print(f"E{stamp}.123000 1 api.py:1002] failed (exitcode: {exitcode}) local_rank: {rank} (pid: 7) of binary: x")
    sys.stdout.flush()


def hang() -> None:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
    time.sleep(300)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
