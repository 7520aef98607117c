"""Which runs a tracker is fed with, and when: a run of the campaign is one run of the tracker for ever."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ecrl.records.manifest import journal
from ecrl.records.paths import CampaignPaths, RunPaths
from ecrl.trackers.campaign_feed import CampaignFeed
from ecrl.trackers.fed import Fed
from ecrl.trackers.tracker import Point, RunLog, TrackedRun, Tracker
from tests.errors import raises
from tests.unit.analysis.campaign_builder import campaign


@dataclass
class Listing(Tracker):
    """A tracker that lists what it is told. opened: (run, its mark), campaign_ids: of all of these, ended: run ->
    completed."""

    where: str = "here"
    address: str = ""
    opened: list[tuple[str, Any]] = field(default_factory=list)
    campaign_ids: set[str] = field(default_factory=set)
    steps: dict[str, list[int]] = field(default_factory=dict)
    ended: dict[str, bool] = field(default_factory=dict)
    closed: list[str] = field(default_factory=list)

    def open_run(self, run: TrackedRun) -> RunLog:
        self.opened.append((run.name.partition("/")[2], run.mark))
        self.campaign_ids.add(run.campaign_id)
        return _Lines(self, run.name.partition("/")[2])


class _Lines(RunLog):
    def __init__(self, listing: Listing, name: str) -> None:
        self._listing, self._name = listing, name

    def log(self, points: Sequence[Point]) -> None:
        found = [point.step for point in points if "loss" in point.values]
        self._listing.steps.setdefault(self._name, []).extend(found)

    def commit(self) -> int:
        return len(self._listing.steps.get(self._name, ()))

    def end(self, *, completed: bool) -> None:
        self._listing.ended[self._name] = completed

    def close(self) -> None:
        self._listing.closed.append(self._name)


@pytest.fixture
def paths(tmp_path: Path) -> CampaignPaths:
    return campaign(
        tmp_path,
        variants=["reference", "blocking"],
        datasets=["fashion-mini"],
        seeds=[1],
        claims="",
        failures="no = []",
    )


def make_feed(paths: CampaignPaths, listing: Listing) -> CampaignFeed:
    own = paths.trackers / "listing"
    own.mkdir(parents=True, exist_ok=True)
    return CampaignFeed(paths, listing, Fed(own / "fed.jsonl"))


def take(paths: CampaignPaths, variant: str, token: int) -> RunPaths:
    """The run's folder, as if the attempt with this token had made it."""
    [folder] = paths.suites.glob(f"*/{variant}/seed1")
    run = RunPaths(folder)
    for path in (run.spec, run.result):
        if path.is_file():
            path.write_text(json.dumps({**json.loads(path.read_text()), "token": token}))
    return run


def begin(paths: CampaignPaths, run: RunPaths, token: int) -> None:
    """What the journal says when an attempt begins."""
    suite, variant, seed = run.folder.parts[-3:]
    with paths.journal.open("ab") as file:
        file.write(journal.frame({"suite_id": suite, "run": f"{variant}/{seed}", "token": token}))


ALL = list(range(1, 13))


def test_a_finished_campaign_is_fed_once(paths: CampaignPaths) -> None:
    listing = Listing()
    feed = make_feed(paths, listing)
    feed.close()
    assert listing.steps == {"reference/seed1": ALL, "blocking/seed1": ALL}
    assert listing.ended == {"reference/seed1": True, "blocking/seed1": True}
    assert len(feed.runs) == 2
    again = Listing()
    feed = make_feed(paths, again)
    feed.close()
    assert (again.opened, feed.runs, feed.points) == ([], set(), 0)


def test_a_run_that_begins_is_found_by_the_journal_once_its_folder_is_its_own(paths: CampaignPaths) -> None:
    listing, run = Listing(), take(paths, "blocking", 1)
    paths.journal.write_bytes(journal.frame({"experiment": "x"}))
    shutil.rmtree(run.folder.parents[1] / "reference")
    feed = make_feed(paths, listing)
    feed.feed()
    assert [name for name, _ in listing.opened] == ["blocking/seed1"]
    begin(paths, run, 2)  # a retry: the folder is still that of the first attempt
    feed.feed()
    assert len(listing.opened) == 1
    run.folder.rename(run.folder.with_name("seed1.aside-1"))
    shutil.copytree(run.folder.with_name("seed1.aside-1"), run.folder)
    take(paths, "blocking", 2)
    feed.feed()
    assert listing.opened == [("blocking/seed1", None), ("blocking/seed1", len(ALL))]
    assert listing.steps == {"blocking/seed1": ALL + ALL}, "the same run of the tracker goes on"
    feed.close()
    assert len(listing.opened) == 2, "what was set aside is no run"


def test_a_journal_that_was_written_into_the_table_hides_no_run(paths: CampaignPaths) -> None:
    listing, run = Listing(), take(paths, "blocking", 1)
    hidden = run.folder.rename(paths.root / "later")
    paths.journal.write_bytes(journal.frame({"experiment": "x" * 500}))
    feed = make_feed(paths, listing)
    feed.feed()
    hidden.rename(run.folder)
    paths.journal.write_bytes(journal.frame({"experiment": "x"}))  # in place: the inode is the same
    feed.feed()
    assert [name for name, _ in listing.opened] == ["reference/seed1", "blocking/seed1"]
    feed.close()


def test_an_interrupted_run_is_closed_and_goes_on_in_its_next_attempt(paths: CampaignPaths) -> None:
    listing, run = Listing(), take(paths, "blocking", 1)
    result = run.result.read_text()
    run.result.unlink()
    make_feed(paths, listing).close()
    assert (listing.closed, list(listing.ended)) == (["blocking/seed1"], ["reference/seed1"])
    shutil.copytree(run.folder, run.folder.with_name("seed1.aside-1"))
    run.result.write_text(result)
    take(paths, "blocking", 3)
    again = Listing()
    make_feed(paths, again).close()
    assert again.opened == [("blocking/seed1", len(ALL))]
    assert again.ended == {"blocking/seed1": True}


def test_runs_in_a_folder_that_is_rewritten_while_it_is_fed_begin_again(paths: CampaignPaths) -> None:
    listing, run = Listing(), take(paths, "blocking", 1)
    run.result.unlink()
    feed = make_feed(paths, listing)
    feed.feed()
    run.spec.unlink()  # set aside, and not there again yet
    feed.feed()
    assert listing.closed == ["blocking/seed1"]
    feed.feed()
    assert len(listing.opened) == 2, "not without a run.json"
    feed.close()


def test_a_line_that_a_full_disk_has_torn_costs_nothing_but_its_own_progress(paths: CampaignPaths) -> None:
    make_feed(paths, Listing()).close()
    file = paths.trackers / "listing" / "fed.jsonl"
    *_, last = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(file.read_bytes()[: -len(last) // 2])
    again = Listing()
    make_feed(paths, again).close()
    [(name, _)] = again.opened
    assert again.steps == {name: ALL}
    last_one = Listing()
    make_feed(paths, last_one).close()
    assert last_one.opened == []


def test_what_one_server_was_fed_another_one_was_not(paths: CampaignPaths) -> None:
    make_feed(paths, Listing()).close()
    other = Listing(address="http://other")
    make_feed(paths, other).close()
    assert len(other.ended) == 2


def test_a_campaign_is_no_other_campaign_of_its_name(paths: CampaignPaths, tmp_path: Path) -> None:
    shutil.copytree(paths.root, tmp_path / "elsewhere" / paths.prefix)
    other = CampaignPaths(tmp_path / "elsewhere", paths.prefix)
    listings = [Listing(), Listing(address="http://other"), Listing()]
    for fed, listing in zip((paths, paths, other), listings, strict=True):
        make_feed(fed, listing).close()
    first, again, elsewhere = (listing.campaign_ids for listing in listings)
    assert len(first) == 1
    assert first == again
    assert first != elsewhere


def test_one_process_at_a_time_feeds_a_tracker(paths: CampaignPaths) -> None:
    held = make_feed(paths, Listing())
    with raises("ECRL-581") as told:
        make_feed(paths, Listing())
    assert told.value.exit_code == 5
    held.close()
    make_feed(paths, Listing()).close()
