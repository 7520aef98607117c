"""Finished suites whose results are gone are found, by one process or several."""

import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from ecrl.launch.campaign import missing_results

RESULTS = ["reference/seed1/result.json", "blocking/seed1/result.json"]
IDS = [f"suite-{number:02}" for number in range(40)]


@pytest.fixture
def suites(tmp_path: Path) -> Path:
    """Forty suites; of some a result is gone, each in another way."""
    folder = tmp_path / "suites"
    for suite_id in IDS:
        for name in RESULTS:
            path = folder / suite_id / name
            path.parent.mkdir(parents=True)
            path.write_text("{}")
    (folder / IDS[0] / RESULTS[1]).unlink()
    (folder / IDS[11] / RESULTS[0]).write_text("")
    (folder / IDS[25] / RESULTS[0]).unlink()
    (folder / IDS[25] / RESULTS[0]).mkdir()
    (folder / IDS[39]).rename(folder / "moved")
    return folder


GONE = [IDS[0], IDS[11], IDS[25], IDS[39]]


@pytest.fixture(params=[1, 2, 3, 4])
def processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    number: int = request.param
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(number)))
    monkeypatch.setattr(missing_results, "_FILES_PER_PROCESS", 20)
    return number


@pytest.mark.usefixtures("processes")
def test_each_way_for_a_result_to_be_gone_is_found_in_order(suites: Path) -> None:
    assert missing_results.find_missing_results(suites, IDS, RESULTS) == GONE


def test_as_many_helpers_as_cores_can_run_are_started(
    suites: Path, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[int] = []
    real = missing_results._start_helper

    def counted(folder: Path, part: Sequence[str], results: Sequence[str]) -> "subprocess.Popen[str]":
        parts.append(len(part))
        return real(folder, part, results)

    monkeypatch.setattr(missing_results, "_start_helper", counted)
    missing_results.find_missing_results(suites, IDS, RESULTS)
    assert len(parts) == processes - 1
    assert sum(parts) == len(IDS) - math.ceil(len(IDS) / processes)


@pytest.mark.usefixtures("processes")
def test_what_a_helper_that_died_was_to_ask_is_asked_here(suites: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert missing_results.find_missing_results(suites, IDS, RESULTS) == GONE


@pytest.mark.usefixtures("processes")
def test_without_a_folder_everything_is_gone(tmp_path: Path) -> None:
    assert missing_results.find_missing_results(tmp_path / "suites", IDS, RESULTS) == IDS


def test_few_suites_start_no_process(suites: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere")
    assert missing_results.find_missing_results(suites, IDS, RESULTS) == GONE
