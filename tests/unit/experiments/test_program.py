"""A kind of experiment without torch, probe or checkpoints: the example of docs/extending.md."""

import signal
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from ecrl.analysis.campaign.load import load_campaign
from ecrl.analysis.evidence import build_evidence
from ecrl.config.run import RunSpec
from ecrl.errors import InvalidMatrixError
from ecrl.launch.campaign.control import Control
from ecrl.launch.campaign.recover import Policy
from ecrl.launch.campaign.request import Request
from ecrl.launch.runs.progress import SilentObserver, Totals
from ecrl.launch.system.signals import StoppedError, StopRequest
from ecrl.launch.views.snapshot import CampaignWatch
from ecrl.records.manifest import store as manifest
from ecrl.report.pages.render import render
from tests.doc_examples import read_examples
from tests.plugin_folder import added_member
from tests.unit.launch.stand_in import MATRIX, request

CLAIM = """
[[claims]]
name = "prints"
of = "overlapped"
metric = "output_bytes"
expect = "value > 1"
"""
HOME = "ecrl/experiments/program"


class Starts(SilentObserver):
    """Counts the runs that start; asks ecrl to stop when the last one of `most` does."""

    def __init__(self, stop: StopRequest, most: int = 1000) -> None:
        self.stop, self.most, self.started = stop, most, list[str]()
        self.notes = list[str]()

    def note(self, text: str) -> None:
        self.notes.append(text)

    def run_started(self, spec: RunSpec, totals: Totals) -> None:
        self.started.append(f"{spec.failure_label}/{spec.variant}")
        if len(self.started) == self.most:
            self.stop.request(signal.SIGTERM)


@pytest.fixture(autouse=True)
def _kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ECRL_LEASES", str(tmp_path / "leases"))
    files = {PurePosixPath(name).name: text for name, text in read_examples().items() if name.startswith(f"{HOME}/")}
    assert sorted(files) == ["__init__.py", "config.py", "metrics.py", "report.py", "run.py"]
    with added_member(tmp_path / "copy", "experiment", "program", files):
        yield


def test_a_claim_names_a_metric_of_its_kind(asked: Request) -> None:
    assert asked.source is not None
    asked.source.write_text(asked.source.read_text().replace("output_bytes", "ettr"))
    with pytest.raises(InvalidMatrixError, match=r"metric 'ettr'.*output_bytes"):
        Control(SilentObserver(), StopRequest()).plan(asked)


@pytest.fixture
def asked(tmp_path: Path) -> Request:
    return request(tmp_path / "results", text=f'[experiment]\nkind = "program"\n{MATRIX}{CLAIM}')


def test_a_campaign_is_planned_stopped_and_resumed_and_repeats_nothing(asked: Request) -> None:
    observer = Starts(StopRequest(), most=3)
    way_in = Control(observer, observer.stop)
    preview = way_in.preview(asked)
    assert preview.estimate.to_json()["runs_todo"] == 6
    assert preview.campaign.matrix.run.device == "cpu"
    way_in.plan(asked)
    with pytest.raises(StoppedError):
        way_in.run(asked, Policy())
    kept = len(list(asked.paths.suites.rglob("result.json")))
    again = Starts(StopRequest())
    assert Control(again, again.stop).resume(asked.paths, Policy()) == 0
    assert len(observer.started) == 3
    assert kept in (2, 3), "a program that ended before the stop reached it keeps its result"
    assert len(again.started) == 6 - kept
    assert manifest.read(asked.paths).counts["completed"] == 2
    assert not any(note.startswith("checking") for note in observer.notes + again.notes)
    once_more = Starts(StopRequest())
    assert Control(once_more, once_more.stop).run(asked, Policy()) == 0
    assert once_more.started == []
    assert not asked.paths.probe.exists()


def test_its_runs_have_its_metrics_and_its_report_has_its_sections(asked: Request, tmp_path: Path) -> None:
    assert Control(SilentObserver(), StopRequest()).run(asked, Policy()) == 0
    assert CampaignWatch(asked.paths).take_snapshot().runs_measured == 6
    found = load_campaign(asked.paths)
    assert {run.row["outcome"] for run in found.runs} == {"completed"}
    assert all(0 < run.row["wall_s"] < 60 for run in found.runs)
    assert {run.row["output_bytes"] for run in found.runs} == {5}
    assert found.dropped == {}
    evidence = build_evidence(found)
    assert [(judged.claim.name, judged.estimate) for judged in evidence.claims] == [("prints", 5.0)]
    assert evidence.frame["output_bytes"].dtype == "Int64"
    render(evidence, tmp_path / "report", ["md", "csv"])
    report = (tmp_path / "report" / "exp_report.md").read_text()
    assert "exp: how long programs take" in report
    assert [line for line in report.splitlines() if line.startswith("## ")] == ["## 1. Times", "## 2. Claims"]
