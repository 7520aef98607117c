"""A campaign that is killed between any two writes, and again, and resumed: nothing of it looks tampered with."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ecrl.analysis.campaign import registration
from ecrl.launch.campaign import recover, suite_runner
from ecrl.launch.campaign.control import Control
from ecrl.launch.campaign.recover import Policy
from ecrl.launch.runs import supervisor
from ecrl.launch.runs.experiment import Executor, ExperimentKind, Lane
from ecrl.launch.runs.progress import SilentObserver
from ecrl.launch.runs.run import Run
from ecrl.launch.system.process_identity import Liveness
from ecrl.launch.system.signals import StopRequest
from ecrl.records.manifest import store
from ecrl.records.manifest.journal import Journal
from ecrl.records.paths import CampaignPaths
from ecrl.records.reader import read_token
from ecrl.records.result import RESULT_SCHEMA, Result
from ecrl.storage import atomic
from tests.unit.launch.stand_in import MATRIX, request

TEXT = MATRIX + "[run]\nretries = 1\naa = ['reference']\n"


class Killed(BaseException):
    """Stands for SIGKILL: from then on, nothing can be written."""


class Life:
    """The writes of one ecrl. It is killed at write number `last`, which may be torn."""

    def __init__(self, last: int) -> None:
        self.last, self.count = last, 0

    def tick(self) -> None:
        self.count += 1
        if self.count >= self.last:
            raise Killed


class Writer(Executor):
    """Writes a run's files as the supervisor does. The first attempt at an engine's run fails."""

    def __init__(self, life: Life) -> None:
        self._life = life

    def execute(self, run: Run) -> Result | None:
        paths = run.paths
        self._life.tick()
        paths.folder.mkdir(parents=True)
        self._life.tick()
        run.spec.write(paths.spec)
        self._life.tick()
        aside = list(paths.folder.parent.glob(f"{paths.folder.name}.aside-*"))
        outcome = "completed" if aside or run.spec.variant == "reference" else "failed"
        result: Any = {
            "schema": RESULT_SCHEMA, "run_hash": run.spec.hash, "outcome": outcome, "reason": "" if aside else "boom",
            "log": "logs", "wall_s": 1.0, "gates": dict.fromkeys(("C1", "C2", "C3", "C5")), "token": run.spec.token,
        }  # fmt: skip
        atomic.write_atomic(paths.result, json.dumps(result).encode())
        self._life.tick()
        return result  # type: ignore[no-any-return]


class Kind(ExperimentKind):
    def __init__(self, life: Life) -> None:
        self._life = life

    def make_executor(self, lane: Lane) -> Executor:
        return Writer(self._life)


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Callable[[CampaignPaths | None, Life, Any], None]:
    """Let one ecrl live: it runs or resumes a campaign until it is done or killed."""
    append, write_atomic, set_aside = Journal.append, atomic.write_atomic, supervisor.set_aside

    def once(paths: CampaignPaths | None, life: Life, asked: Any) -> None:
        def append_or_die(self: Journal, line: bytes) -> int:
            try:
                life.tick()
            except Killed:
                if life.count == life.last:
                    append(self, line[: len(line) // 2])
                raise
            size = append(self, line)
            life.tick()
            return size

        def write_or_die(path: Path, data: bytes) -> None:
            life.tick()
            write_atomic(path, data)
            life.tick()

        def set_aside_or_die(paths: Any) -> Any:
            life.tick()
            aside = set_aside(paths)
            life.tick()
            return aside

        monkeypatch.setattr(Journal, "append", append_or_die)
        monkeypatch.setattr(store, "write_atomic", write_or_die)
        monkeypatch.setattr(suite_runner, "set_aside", set_aside_or_die)
        monkeypatch.setattr(recover, "check_owner", lambda _owner: Liveness.DEAD)  # every life is this process
        control = Control(SilentObserver(), StopRequest(), load_kind=lambda _: Kind(life), examine=lambda *_: [])
        try:
            if paths is None or not paths.manifest.exists():
                control.run(asked, Policy())
            else:
                control.resume(paths, Policy(retry_failed=True))
        except Killed:
            pass
        finally:
            monkeypatch.setattr(Journal, "append", append)
            monkeypatch.setattr(store, "write_atomic", write_atomic)

    return once


def find_complaints(paths: CampaignPaths) -> Iterator[object]:
    histories = store.read_histories(paths)
    rows = store.read(paths).rows
    folders = [paths.suites / place for place in paths.suites.glob("*/*/seed*")]
    specs = {
        folder: json.loads((folder / "run.json").read_text()) for folder in folders if (folder / "run.json").exists()
    }
    own = [folder for folder in specs if ".aside-" not in folder.name]
    runs: Any = [SimpleNamespace(facts={"token": specs[folder]["token"]}) for folder in own]
    asides = [
        registration.Aside((folder.parents[1].name, folder.parent.name, int(match[1])), int(match[2]), "failed", None)
        for folder in specs
        if (match := registration.SET_ASIDE.fullmatch(folder.name)) and (folder / "result.json").exists()
    ]
    keys = {(folder.parents[1].name, folder.parent.name, int(folder.name.removeprefix("seed"))) for folder in own}
    yield from registration._find_lost_attempts(runs, [], histories)
    yield from registration._find_lost_repeats(paths, rows, histories)
    yield from registration._find_untraced(histories, keys, asides)
    tokens = [read_token(paths.run(*key)) for key in keys]
    yield from (token for token in tokens if tokens.count(token) > 1)


def test_kills_at_any_two_writes_leave_no_trace_of_tampering(
    tmp_path: Path, live: Callable[[CampaignPaths | None, Life, Any], None], sampler: random.Random
) -> None:
    whole = Life(10**9)
    asked = request(tmp_path / "whole", text=TEXT)
    live(None, whole, asked)
    assert list(find_complaints(asked.paths)) == []
    assert whole.count > 100
    firsts = sampler.sample(range(2, whole.count), 12)
    for number, first in enumerate(firsts):
        asked = request(tmp_path / f"r{number}", text=TEXT)
        live(None, Life(first), asked)
        live(asked.paths, Life(sampler.randrange(1, whole.count)), asked)
        live(asked.paths, Life(10**9), asked)
        assert {row.status for row in store.read(asked.paths).rows.values()} == {"completed"}, first
        assert list(find_complaints(asked.paths)) == [], first
