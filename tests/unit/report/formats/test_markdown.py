"""Markdown: aligned tables, and text of others as text."""

from ecrl.report.formats.markdown import markdown
from ecrl.report.text.document import Block, Bullets, Paragraph, Table


def test_markdown_holds_no_html_and_no_link_of_somebody_elses_label() -> None:
    label = "<img src=x onerror=alert(1)> [a](http://b) p < 0.1 `<suite_id>`"
    safe = "\\<img src=x onerror=alert(1)> [a\\](http://b) p < 0.1 `<suite_id>`"
    blocks: list[Block] = [Paragraph(label), Bullets((label,)), Table(("name",), ((label,),), frozenset({"name"}))]
    assert markdown(blocks).count(safe) == 3
    assert markdown([Paragraph("\\`<img>` ``<img>")]) == "\\`\\<img>` ``\\<img>"  # no code spans


def test_markdown_tables_are_aligned_and_escaped() -> None:
    text = markdown([Table(("name", "n"), (("a|b", "1,234"), ("c", "5")), frozenset({"name"}))])
    assert text.splitlines() == ["| name |     n |", "| ---- | ----: |", "| a\\|b | 1,234 |", "| c    |     5 |"]
