"""One suite and its runs as their folders show them, and the search for the suite that a user names."""

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecrl.errors import EcrlError, did_you_mean
from ecrl.launch.campaign.selection import resolve_suite_name
from ecrl.launch.system.process_identity import Liveness, check_owner
from ecrl.launch.views.follower import LiveFollower, LiveRun, find_live_run
from ecrl.records.manifest import store as manifest
from ecrl.records.manifest.store import RUNNING, Row
from ecrl.records.paths import CampaignPaths, RunPaths
from ecrl.records.reader import read_result
from ecrl.records.result import Result

SCHEMA = 1
NO_SPEC = "no run.json"


@dataclass(frozen=True)
class RunView:
    """One run.

    state: pending, running, completed, failed, left (started by an ecrl that is gone), or no run.json (a result exists
    without its specification). position: its place in its block's order, None until it is recorded. aside: how many
    earlier attempts were set aside.
    """

    variant: str
    seed: int
    state: str
    paths: RunPaths
    position: int | None
    result: Result | None
    live: LiveRun | None
    aside: int

    def to_json(self) -> dict[str, Any]:
        """One entry of `runs`."""
        result = self.result
        return {
            "variant": self.variant, "seed": self.seed, "state": self.state, "folder": str(self.paths.folder),
            "position": self.position, "set_aside": self.aside,
            "wall_s": None if result is None else result["wall_s"],
            "restarts": None if result is None else result["restarts"],
            "reason": None if result is None else result["reason"] or None,
            "log": None if result is None else str(self.paths.folder / result["log"]),
            "gates": None if result is None else {name: gate["passed"] for name, gate in result["gates"].items()},
            "live": None if self.live is None else self.live.to_json(),
        }  # fmt: skip


@dataclass(frozen=True)
class SuiteView:
    """One suite of a campaign."""

    paths: CampaignPaths
    row: Row
    runs: list[RunView]

    def to_json(self) -> dict[str, Any]:
        """The object that `matrix show --json` prints."""
        runs = [run.to_json() for run in self.runs]
        return {"schema": SCHEMA, "prefix": self.paths.prefix, "suite": self.row.to_json(), "runs": runs}


def inspect_suite(
    results: Path, prefix: str | None, name: str, warn: Callable[[str], None] = lambda _text: None
) -> SuiteView:
    """The suite that `name` means, with its runs in run order. warn: see `locate_suite`.

    Raises:
        EcrlError: no suite matches the name, or several do.
    """
    paths, row = locate_suite(results, prefix, name, warn)
    live = find_live_run(row, paths) if row.status == RUNNING else None
    runs = [_run(row, paths, *of, live) for of in _list_runs(row, paths)]
    order = {seed: number for number, seed in enumerate(dict.fromkeys([*row.seeds, *(run.seed for run in runs)]))}
    unknown = len(row.variants)
    runs.sort(key=lambda run: (order[run.seed], unknown if run.position is None else run.position))
    return SuiteView(paths, row, runs)


def locate_suite(
    results: Path, prefix: str | None, name: str, warn: Callable[[str], None] = lambda _text: None
) -> tuple[CampaignPaths, Row]:
    """The campaign and the row of the suite that `name` means. Without a prefix, all campaigns are searched.

    warn: called with a text for each campaign that could not be searched.

    Raises:
        EcrlError: no suite matches the name, or several do.
    """
    if prefix is not None:
        paths = CampaignPaths(results, prefix)
        rows = manifest.read(paths).rows
        return paths, rows[resolve_suite_name(name, rows, paths.options)]
    there, known = [], list[str]()
    for paths, view in manifest.read_all(results, warn):
        known += view.rows
        if any(name.lower() in suite_id for suite_id in view.rows):
            there.append((paths, view.rows))
    if len(there) == 1:
        paths, rows = there[0]
        return paths, rows[resolve_suite_name(name, rows, paths.options)]
    if there:
        prefixes = ", ".join(paths.prefix for paths, _ in there)
        raise EcrlError("ECRL-323", f"SUITE: {name!r} is in several campaigns: {prefixes}.\nName one with --prefix.")
    of = "" if str(results) == "results" else f" --results {shlex.quote(str(results))}"
    raise EcrlError(
        "ECRL-322",
        f"SUITE: no campaign in {results}/ has a suite {name!r}.{did_you_mean(name, known)}\n"
        f"List the campaigns: ecrl matrix list{of}",
    )


def _list_runs(row: Row, paths: CampaignPaths) -> list[tuple[str, int]]:
    """(variant, seed) of every planned run and of every other folder of a run: the A/A repeat of the reference."""
    more = {path.parent for path in (paths.suites / row.suite_id).glob("*/seed*/run.json")}
    found = {(path.parent.name, int(path.name[4:])) for path in more if path.name[4:].isdigit()}
    planned = [(variant, seed) for seed in row.seeds for variant in row.variants]
    return planned + sorted(found - set(planned))


def _run(row: Row, paths: CampaignPaths, variant: str, seed: int, live: tuple[str, int, RunPaths] | None) -> RunView:
    run = paths.run(row.suite_id, variant, seed)
    aside = len(list(run.folder.parent.glob(f"{run.folder.name}.aside-*")))
    spec = read_spec(run)
    if spec is None:
        state = NO_SPEC if run.result.exists() else "pending"
        return RunView(variant, seed, state, run, None, None, None, aside)
    result = read_result(run, spec.get("run_hash", ""))
    position = spec.get("block_position")
    if result is not None:
        return RunView(variant, seed, result["outcome"], run, position, result, None, aside)
    if live is not None and live[2] == run and check_owner(row.owner) is not Liveness.DEAD:
        follower = LiveFollower(row.suite_id, variant, seed, row.steps, run)
        try:
            return RunView(variant, seed, "running", run, position, None, follower.poll(), aside)
        finally:
            follower.close()
    return RunView(variant, seed, "left", run, position, None, None, aside)


def read_spec(run: RunPaths) -> dict[str, Any] | None:
    """The content of run.json. None: the run has not started, or the file is gone or damaged."""
    try:
        spec = json.loads(run.spec.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return spec if isinstance(spec, dict) else None
