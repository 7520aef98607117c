"""Artifact index: every file on which the report is based, by its path relative to the report."""

import posixpath

from ecrl.analysis.evidence import Evidence
from ecrl.report.text.document import Block, Figures, Section, Table


def _blocks(evidence: Evidence, figures: Figures) -> list[Block]:
    name = evidence.prefix
    rows = [
        (f"`{name}_analysis.md`", "every number behind this report"),
        (f"`{name}_report.json`", "the main numbers, each with its formula, blocks and digests of event files"),
        (f"`{name}_claims.csv`", "one row a claim, with its verdict"),
        (f"`{name}_threats.csv`", "the threats to validity, found or not"),
    ]
    if evidence.source == "campaign":
        rows += [
            (f"`{name}_runs.csv`", "one row a run, every metric and ledger bucket"),
            (f"`{name}_summary.csv`", "one row per suite and variant"),
            (f"`{name}_detailed_table.csv`", "one row a suite, blocking against overlapped"),
        ]
    for prefix, home in evidence.folders.items():
        rows += [
            (f"`{posixpath.normpath(f'{home}/{file}')}`", what)
            for file, what in (
                (f"{prefix}_matrix.toml", "the frozen matrix"),
                (f"{prefix}_manifest.csv", "one row a suite, with status"),
                ("suites/<suite_id>/<variant>/seed<seed>", "run.json, events, result.json and logs of every run"),
            )
        ]
    rows += [(f"`{figure.path}`", figure.caption) for figure in figures.values()]
    return [Table(("file", "what it holds"), tuple(rows), frozenset({"file", "what it holds"}))]


PLUGIN = Section(90, "Artifact index", _blocks)
