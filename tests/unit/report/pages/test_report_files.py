"""The files of a report: they name what is there, fetch nothing, hold no foreign markup, and are the same again."""

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ecrl.analysis.evidence import Evidence
from ecrl.analysis.external_table.table import load_table_evidence
from ecrl.report.pages.render import render
from tests.unit.analysis.external_table.test_table import ROWS, table
from tests.unit.report.pages.reports import WRITES, contents


def test_no_document_holds_an_absolute_path_or_a_not_a_number(written: Path) -> None:
    for path in (path for path in contents(written) if path.suffix != ".pdf"):
        text = (written / path).read_text()
        assert str(written.parent) not in text
        assert "/tmp" not in text
        assert not re.search(r"\b(nan|None)\b", re.sub(r"fill=.none.|none;", "", text)), path


def test_every_picture_and_artifact_that_is_named_exists(written: Path) -> None:
    pictures = re.findall(r"!\[[^]]*\]\(([^)]*)\)", (written / "exp_report.md").read_text())
    assert len(pictures) == 10
    assert all((written / picture).is_file() for picture in pictures)


def test_plots_hold_real_text_and_no_date(written: Path) -> None:
    for path in (written / "plots").glob("*.svg"):
        svg = path.read_text()
        assert "<text" in svg
        assert "<dc:date>" not in svg


def test_plots_of_an_earlier_report_go_when_their_data_are_gone(
    small: Evidence, empty: Evidence, tmp_path: Path
) -> None:
    render(small, tmp_path, ["md"])
    (tmp_path / "plots" / "mine.svg").write_text("kept")
    render(empty, tmp_path, ["md"])
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["mine.svg"]


class _Page(HTMLParser):
    """What a page refers to, and whether its tags are closed."""

    VOID = frozenset({"meta", "br", "img", "link", "hr", "input", "path", "use", "rect"})

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.tables = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.links += [v for k, v in attrs if k in ("src", "href", "xlink:href") and v]
        self.ids += [values["id"]] if values.get("id") else []  # type: ignore[list-item]
        self.tables += tag == "table"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_page_is_one_file_that_fetches_nothing(written: Path) -> None:
    text = (written / "exp_report.html").read_text()
    found = _Page()
    found.feed(text)
    assert found.open == []
    assert all(link.startswith("#") for link in found.links)
    assert {link[1:] for link in found.links} <= set(found.ids)
    assert len(found.ids) == len(set(found.ids))
    assert "url(http" not in text
    assert "@import" not in text
    assert text.count("<svg") == 10
    assert found.tables > 10
    assert "color-scheme" in text


def test_text_from_records_cannot_become_markup(tmp_path: Path) -> None:
    rows = [row.replace("cifar100", "<script>alert(1)</script>") for row in ROWS]
    render(load_table_evidence(table(tmp_path, rows)), tmp_path / "out")
    assert "<script>alert" not in (tmp_path / "out" / "old_report.html").read_text()


@pytest.mark.process
@pytest.mark.timeout(180)
def test_the_same_evidence_gives_the_same_bytes_also_where_two_write_them_at_once(home: Path, written: Path) -> None:
    places = ({"PYTHONHASHSEED": "77", "TZ": "Asia/Tokyo", "LC_ALL": "C"}, {"PYTHONHASHSEED": "5", "TZ": "UTC"})
    command = [sys.executable, "-m", "ecrl", *WRITES, "again"]
    both = [
        subprocess.Popen(command, cwd=home, env=os.environ | place, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for place in places
    ]
    for process in both:
        _, errors = process.communicate(timeout=160)
        assert process.returncode == 0, errors
    assert contents(home / "again") == contents(written)
    assert len(contents(written)) > 20
    assert "2023-11-14 22:13 UTC" in (written / "exp_report.md").read_text()


def test_tex_holds_every_table_and_a_pdf_for_every_figure(written: Path) -> None:
    text = (written / "exp_tables.tex").read_text()
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == text.count(r"\begin{tabular}") > 10
    assert len(re.findall(r"\\label{([^}]*)}", text)) == len(set(re.findall(r"\\label{([^}]*)}", text)))
    captions = re.findall(r"\\caption{(.*)}$", text, re.MULTILINE)
    assert len(captions) == len(set(captions))
    figures = re.findall(r"\\includegraphics{([^}]*)}", text)
    assert len(figures) == 10
    for figure in figures:
        assert (written / figure).read_bytes().startswith(b"%PDF")
    assert not re.search(
        r"(?<!\\)[%&#_](?![^\n]*\.pdf)", re.sub(r"^%.*$|^\\providecommand.*$|\\label.*| & ", "", text, flags=re.M)
    )


PAPER = r"""\documentclass[twocolumn]{article}
\usepackage{array,booktabs,graphicx}
\begin{document}
\input{exp_tables}
\end{document}
"""


@pytest.mark.process
@pytest.mark.timeout(180)
def test_tex_compiles_and_nothing_sticks_out_of_the_page(written: Path, tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed (Debian: apt-get install texlive-latex-recommended)")
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    (tmp_path / "paper.tex").write_text(PAPER)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 10_000
    assert "Overfull" not in done.stdout
