"""Campaigns with their reports, each made once a session, and the command `ecrl report`."""

from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from ecrl.analysis.evidence import Evidence
from ecrl.analysis.external_table.table import load_table_evidence
from ecrl.cli.commands.report import register
from ecrl.errors import EcrlError
from ecrl.records.paths import CampaignPaths
from tests.unit.analysis.campaign_builder import campaign
from tests.unit.analysis.external_table.test_table import ROWS, table
from tests.unit.cli.inline import run_inline
from tests.unit.report.pages.reports import EPOCH, WRITES, evidence, list_files


@pytest.fixture(autouse=True)
def _fixed_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH)
    monkeypatch.delenv("MATRIX_PREFIX", raising=False)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder above `results` with a campaign of 2 suites, 3 variants and 3 seeds in which everything went well."""
    folder = tmp_path_factory.mktemp("home")
    campaign(folder / "results")
    return folder


@pytest.fixture(scope="session")
def whole(home: Path) -> Evidence:
    """That campaign."""
    return evidence(CampaignPaths(home / "results", "exp"))


@pytest.fixture(scope="session")
def written(home: Path) -> Path:
    """The folder of its report in every text format, as the command writes it."""
    folder = home / "report"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", EPOCH)
        patch.delenv("MATRIX_PREFIX", raising=False)
        patch.chdir(home)
        done = run_inline(*WRITES, folder.name)
    assert done.returncode == 0, done.stderr
    named = [home / name for name in list_files(done.stdout)]
    assert sorted(named) == sorted(path for path in folder.rglob("*") if path.is_file())
    return folder


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """A campaign of which nothing ever ran."""
    return evidence(campaign(tmp_path_factory.mktemp("results"), change=lambda _run, _found: None))


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """Somebody else's table of four suites."""
    return load_table_evidence(table(tmp_path_factory.mktemp("table"), ROWS))


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """Two suites with one seed."""
    return evidence(campaign(tmp_path_factory.mktemp("results"), seeds=[1337]))


@pytest.fixture
def call() -> Callable[..., "tuple[int, str, str]"]:
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)

    def run(*arguments: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, ["report", *arguments], catch_exceptions=True)
        if isinstance(result.exception, EcrlError):
            return result.exception.exit_code, "", str(result.exception)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.stdout, result.stderr

    return run
