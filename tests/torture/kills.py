"""Kill sweep: SIGKILL of one of two real processes at instants inside staging, persist, commit, retention and
restore; half of them at the engine's own point in the phase, half at a drawn time after the phase began.

All attempts of an engine share one folder. After each kill: no checkpoint that was ever committed is lost but to
retention, every committed one verifies, its state is of one step on both ranks, and the next attempt goes on from it.
"""

import multiprocessing
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import product
from multiprocessing.connection import wait
from pathlib import Path
from statistics import median

from safetensors.torch import load_file
from torch._C._distributed_c10d import TCPStore

from ecrl.records.reader import Event, read_events
from ecrl.storage import commit
from ecrl.storage.commit import step_folder
from tests.torture.verdict import Verdict, told
from tests.torture.victim import WORLD_SIZE, Life, holds, live

PHASES = ("staging", "persist", "commit", "retention", "restore")
_RANK_0_ALONE = ("commit", "retention")
_PATIENCE_S = 60.0


class Sweep:
    """All lives of both engines, and what was found after each."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.rng = folder, random.Random(seed)
        self.faults: list[str] = []
        self.struck: Counter[str] = Counter()  # 'phase, how' -> kills
        self.inside: Counter[str] = Counter()  # phase that the victim of a timed kill was in
        self.durations: dict[str, list[float]] = defaultdict(list)
        self.store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        self.processes = multiprocessing.get_context("forkserver")
        self.processes.set_forkserver_preload(["tests.torture.victim"])
        self.restores = 0

    def life(self, engine: str, attempt: int, phase: str, *, timed: bool) -> Life:
        usual_s = median(self.durations[phase]) if self.durations[phase] else 0.004
        return Life(
            folder=self.folder / engine,
            engine=engine,
            attempt=attempt,
            port=self.store.port,
            victim=0 if phase in _RANK_0_ALONE else self.rng.randrange(WORLD_SIZE),
            phase=phase,
            nth=1 if phase == "restore" else self.rng.randint(1, 4),
            delay_s=self.rng.uniform(0, 1.1 * usual_s) if timed else None,
        )

    def run(self, life: Life) -> None:
        """Live, die, and look at what is left."""
        root = life.folder / "checkpoints"
        expected = max((s for s in commit.list_committed_steps(root)), default=0)
        ranks = [self.processes.Process(target=live, args=(life, rank)) for rank in range(WORLD_SIZE)]
        for process in ranks:
            process.start()
        died = wait([process.sentinel for process in ranks], _PATIENCE_S)
        how = f"{life.engine} attempt {life.attempt}, {life.phase} {life.nth}, after {life.delay_s} s"
        if not died:
            self.faults.append(f"{how}: nobody died")
        elif self.rng.random() < 0.5:  # the survivor goes on alone for a while, as under torchrun
            time.sleep(self.rng.uniform(0, 0.03))
        victim_code = ranks[life.victim].exitcode
        for process in ranks:
            process.kill()
            process.join()
        if victim_code != -9:
            self.faults.append(f"{how}: the victim ended with {victim_code}")
        self.struck[f"{life.phase}, {'at its point' if life.delay_s is None else 'timed'}"] += 1
        self.look(life, how, expected)

    def look(self, life: Life, how: str, expected: int) -> None:
        root = life.folder / "checkpoints"
        events = {rank: self.events(life, rank) for rank in range(WORLD_SIZE)}
        for rank, own in events.items():
            self.faults += [f"{how}: rank {rank} got a torn state of {e['s']}" for e in own if e["e"] == "torn"]
            for event in (e for e in own if e["e"] == "restored"):
                self.restores += 1
                if event["step"] != expected or event["digest_live"] != event["digest_recorded"]:
                    self.faults.append(f"{how}: rank {rank} restored {event['step']}, expected {expected}")
        ever = max([expected, *(e["s"] for e in events[0] if e["e"] == "committed")])
        steps = commit.list_committed_steps(root)
        if max(steps, default=0) < ever:
            self.faults.append(f"{how}: checkpoint {ever} was committed, {steps} are there")
        for step in steps:
            if (verdict := commit.verify(root, step, run="run", world_size=WORLD_SIZE)).state != "valid":
                self.faults.append(f"{how}: checkpoint {step} is {verdict.state}: {verdict.reason}")
            elif not _of_one_step(step_folder(root, step), step):
                self.faults.append(f"{how}: checkpoint {step} mixes steps")
        self.learn(life)

    def events(self, life: Life, rank: int) -> list[Event]:
        warnings: list[str] = []
        return read_events(life.folder / f"events-{life.attempt}-{rank}.jsonl", warnings)

    def learn(self, life: Life) -> None:
        """How long phases take, and which one the victim of a timed kill was in."""
        for rank in range(WORLD_SIZE):
            path = life.folder / f"marks-{life.attempt}-{rank}"
            open_since: dict[str, int] = {}
            for phase, sign, stamp in (line.split() for line in _lines(path)):
                if sign == "+":
                    open_since[phase] = int(stamp)
                elif phase in open_since:
                    self.durations[phase].append((int(stamp) - open_since.pop(phase)) / 1e9)
            if rank == life.victim and life.delay_s is not None:
                self.inside["+".join(sorted(open_since)) or "between"] += 1


def _lines(path: Path) -> Iterable[str]:
    return path.read_text().splitlines() if path.exists() else ()


def _of_one_step(folder: Path, step: int) -> bool:
    for rank in range(WORLD_SIZE):
        tensors = load_file(folder / f"shard-{rank}.safetensors")
        tensors.pop("own/rng")
        buffers = {name: tensors.pop(name) for name in list(tensors) if name.startswith("own/buffers/")}
        if not holds(tensors, step) or not holds(buffers, 100 * rank + step):
            return False
    return True


def sweep(kills: int = 200, seed: int = 1) -> Verdict:
    """So many kills, evenly over engines, phases and the two ways."""
    ways = list(product(("overlapped", "blocking"), PHASES, (False, True)))
    with tempfile.TemporaryDirectory() as temporary:
        made = Sweep(Path(temporary), seed)
        attempts: Counter[str] = Counter()
        for engine in ("overlapped", "blocking"):
            (made.folder / engine).mkdir()
        for number in range(kills):
            engine, phase, timed = ways[number % len(ways)]
            if number % len(ways) == 0:
                made.rng.shuffle(ways)
                engine, phase, timed = ways[0]
            made.run(made.life(engine, attempts[engine], phase, timed=timed))
            attempts[engine] += 1
    lost = sum("is torn" in f or "mixes" in f or "torn state" in f for f in made.faults)
    text = (
        f"{kills} x SIGKILL: {len(made.faults) - lost} without a loadable checkpoint, {lost} of mixed steps,"
        f" {made.restores} exact restores"
    )
    facts = {
        "struck": dict(sorted(made.struck.items())),
        "timed_kills_were_in": dict(sorted(made.inside.items())),
        "median_ms": {phase: round(1e3 * median(found), 2) for phase, found in made.durations.items()},
    }
    return Verdict("kills", text, made.faults, facts)


if __name__ == "__main__":
    sys.exit(told(sweep, __doc__, {"kills": 200, "seed": 1}))
