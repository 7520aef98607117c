"""The pages in docs/ fit the code: what they define is there, and what the code refers to stands in them."""

import re
from pathlib import Path

import pytest

from docs.generate.pages import DOCS, PAGES
from ecrl.analysis.threats.detect import CHECKS
from ecrl.records.columns import LEDGER_BUCKETS

ROOT = Path(__file__).parents[3]
SOURCES = [path for folder in ("ecrl", "tests", "bench") for path in sorted((ROOT / folder).rglob("*.py"))]
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_REFERENCE = re.compile(r'docs/([\w-]+\.md)(?:, "([^"\n]+)")?')


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_what_the_code_says(name: str) -> None:
    stale = "it is stale: type `python -m docs.generate`"
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), stale


def test_references_in_the_code_name_a_page_and_a_heading_that_are_there() -> None:
    found = [
        (path.relative_to(ROOT), page, heading)
        for path in SOURCES
        for page, heading in _REFERENCE.findall(path.read_text(encoding="utf-8"))
    ]
    assert found
    for path, page, heading in found:
        assert (DOCS / page).is_file(), f"{path}: docs/{page} is not there"
        headings = _HEADING.findall((DOCS / page).read_text(encoding="utf-8"))
        assert not heading or heading in headings, f"{path}: docs/{page} has no heading {heading!r}"


def test_metrics_define_every_threat_and_every_ledger_bucket() -> None:
    defined = set(re.findall(r"`([a-z0-9_]+)`", (DOCS / "metrics.md").read_text(encoding="utf-8")))
    assert {*CHECKS, *LEDGER_BUCKETS} <= defined


def test_the_map_names_every_folder_of_the_house() -> None:
    tree = (DOCS / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^ +([a-z_]+)/", tree, re.MULTILINE))
    there = {p.parent.relative_to(ROOT / "ecrl") for p in (ROOT / "ecrl").rglob("__init__.py")} - {Path()}
    assert {folder.name for folder in there} == named
