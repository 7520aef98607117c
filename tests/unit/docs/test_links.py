"""Links of README and docs/ lead somewhere, and the files and make targets that they name are there. No network."""

import re
from pathlib import Path

import pytest

from docs.generate.pages import DOCS

ROOT = DOCS.parent
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^()\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_FILE = re.compile(r"`((?:ecrl|tests|bench|docs|matrices)/[\w./-]+)`")
_MODULE = re.compile(r"python -m\s+((?:tests|bench|docs)[\w.]*)")


def read_prose(page: Path) -> str:
    """A page without its fenced blocks, in which brackets are no links."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def list_anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as Markdown's `toc` makes them."""
    plain = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in _HEADING.findall(read_prose(page)))
    return {re.sub(r"[-\s]+", "-", heading) for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_to_a_file_and_a_heading_that_are_there(page: Path) -> None:
    for target in _LINK.findall(read_prose(page)):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        found = page.parent / name if name else page
        assert found.is_file(), f"{page.name} links to {target}"
        assert not anchor or anchor in list_anchors(found), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_files_and_programs_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in _FILE.findall(text):
        assert (ROOT / name).exists(), f"{page.name} names {name}"
    for module in _MODULE.findall(text):
        path = ROOT.joinpath(*module.split("."))
        assert path.is_dir() or path.with_suffix(".py").is_file(), f"{page.name} names {module}"


def test_pages_of_docs_stand_in_the_navigation() -> None:
    listed = re.findall(r": ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in DOCS.glob("*.md"))


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 130
