"""Honest tables made elsewhere, to be changed cell by cell."""

import csv
import io
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ecrl.analysis.evidence import Evidence
from ecrl.analysis.external_table.table import load_table_evidence
from ecrl.records.columns import DETAILED_COLUMNS

Cells = dict[str, Any]
GAINS = [0.021, 0.034, 0.012, 0.027, 0.018, 0.041, 0.009, 0.030]


def make_rows(**changes: Callable[..., Any]) -> list[Cells]:
    """Rows of an honest table: two data sets, two models, two schedules. changes: by column, from the row's place."""
    places = itertools.product(("cifar10", "cifar100"), ("resnet18", "resnet50"), ("base:400,1200", "late:800,1400"))
    rows = []
    for i, (dataset, model, failure) in enumerate(places):
        blk = (9.1 if model == "resnet18" else 4.02) + 0.0137 * i
        ovl = round(blk * (1 + GAINS[i]), 4)
        stall_s = (11.2 if model == "resnet18" else 24.9) + 0.113 * i
        cells: Cells = dict(
            zip(
                DETAILED_COLUMNS,
                (dataset, model, failure, f"{blk:.4f}", f"{ovl:.4f}", f"{ovl / blk - 1:.4f}", f"{stall_s:.3f}",
                 f"{stall_s / 2.3 + 0.07 * (i % 3):.3f}", f"{0.00178 * (i % 2):.5f}"),
                strict=True,
            )
        )  # fmt: skip
        rows.append(cells | {column: change(i) for column, change in changes.items()})
    return rows


def write(folder: Path, rows: list[Cells], name: str = "x_detailed_table.csv") -> Path:
    held = io.StringIO()
    writer = csv.DictWriter(held, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path = folder / name
    path.write_text(held.getvalue())
    return path


def load(folder: Path, rows: list[Cells], manifest: list[Cells] | None = None) -> Evidence:
    beside = write(folder, manifest, "m.csv") if manifest is not None else None
    return load_table_evidence(write(folder, rows), beside)


def make_manifest(**changes: Callable[..., Any]) -> list[Cells]:
    """The manifest of `make_rows`."""
    return [
        {
            "dataset": row["dataset"], "model": row["model"], "failure_label": row["failure"].partition(":")[0],
            "checkpoint_every": 50, "max_inflight": 4, "steps": 1600, "seeds": "1337", "status": "completed",
        }
        | {column: change(i) for column, change in changes.items()}
        for i, row in enumerate(make_rows())
    ]  # fmt: skip


def evidence_of(found: Evidence, code: str, *, blocking: bool = True) -> str:
    [threat] = [threat for threat in found.threats.found if threat.code == code]
    assert threat.blocking is blocking
    return threat.evidence


def goodput(i: int, which: str) -> float:
    return float(make_rows()[i][which])
