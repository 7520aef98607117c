"""The sample report is made from the records beside it, and shows what it is there for."""

import re
from pathlib import Path

import pytest

from docs.sample_report import ARCHIVE, FOLDER, REPORT, write_report

_VERDICT = re.compile(r"^\| ([^|]+?) +\| [^|]+ \| \*\*([^*]+)\*\*", re.MULTILINE)
_LINK = re.compile(r"\]\(([^()\s#]+)\)")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    write_report(folder)
    return folder


def read_verdicts(folder: Path) -> dict[str, str]:
    """The verdict of each claim, from the table of claims."""
    return dict(_VERDICT.findall((folder / REPORT).read_text(encoding="utf-8")))


def test_the_present_code_gives_the_verdicts_that_the_page_shows(made: Path) -> None:
    # Not every byte: each change of the report would fail here, and so would another release of matplotlib.
    stale = "it is stale: type `python -m docs.sample_report`"
    shown = read_verdicts(FOLDER)
    assert read_verdicts(made) == shown, stale
    assert any(verdict.startswith("CONFIRMED") for verdict in shown.values())


@pytest.mark.parametrize("of", ["made", "shown"])
def test_what_the_page_links_to_is_there(of: str, made: Path) -> None:
    folder = made if of == "made" else FOLDER
    links = {
        link for link in _LINK.findall((folder / REPORT).read_text(encoding="utf-8")) if not link.startswith("http")
    }
    assert ARCHIVE.name in links
    assert all((folder / link).is_file() for link in links - {ARCHIVE.name})
    assert ARCHIVE.is_file()
