"""Scope and setup."""

from ecrl.analysis.campaign.tables import failure_text
from ecrl.analysis.evidence import Evidence
from ecrl.report.text.document import Block, Bullets, Figures, Paragraph, Section, Table
from ecrl.report.text.names import suite_names
from ecrl.report.text.numbers import UNKNOWN, count, join_names
from ecrl.units import format_bytes

_MACHINE = (
    "host", "cpu", "cores", "memory_bytes", "gpus", "driver", "kernel", "filesystem", "python", "torch", "cuda", "nccl",
    "ecrl", "git",
)  # fmt: skip


def _blocks(evidence: Evidence, _figures: Figures) -> list[Block]:
    suites = evidence.suites
    if not suites:
        return [Paragraph("The matrix holds no suite.")]
    rows = evidence.rows
    known = [f"seeds {join_names(map(str, evidence.seeds))}"] if evidence.seeds else []
    done = len(evidence.completed)
    text = (
        f"Variants {join_names(evidence.variants)} over {count(len(suites), 'suite')}"
        f"{', ' + known[0] if known else ''}: {done:,} of {count(len(rows), 'run')} completed."
    )
    blocks: list[Block] = [Paragraph(text), Bullets(tuple(_facts(evidence)))]
    headers = (
        "suite",
        "dataset",
        "model",
        "failures",
        "every",
        "in flight",
        "ranks",
        "steps",
        "launcher",
        "status",
        "id",
    )
    names = suite_names(suites)
    table = tuple(
        (
            names[suite_id],
            row["dataset"],
            row["model"],
            failure_text(row["failure_label"], row["failure_steps"] or ""),
            *(
                UNKNOWN if row[c] is None else str(row[c])
                for c in ("checkpoint_every", "max_inflight", "nproc", "steps", "launcher")
            ),
            evidence.statuses.get(suite_id, UNKNOWN),
            f"`{suite_id}`",
        )
        for suite_id, row in suites.items()
    )
    blocks.append(
        Table(headers, table, frozenset({"suite", "dataset", "model", "failures", "launcher", "status", "id"}))
    )
    return blocks


def _facts(evidence: Evidence) -> list[str]:
    facts = []
    if evidence.source == "table":
        facts.append(f"Source: a detailed table with the columns {', '.join(f'`{c}`' for c in evidence.columns)}.")
    if len(evidence.folders) > 1:
        facts.append(f"Pooled: the campaigns {join_names(evidence.folders)}. Blocks that two of them hold count once.")
    if evidence.mixed:
        facts.append(f"**Mixed**: these campaigns differ, and were pooled all the same. {'; '.join(evidence.mixed)}.")
    if evidence.train:
        names = ("optimizer", "batch_size", "lr", "schedule", "deterministic", "threads", "nproc", "backend")
        facts.append("Training: " + ", ".join(f"{n} {evidence.train[n]}" for n in names if n in evidence.train) + ".")
    machine = [_fact(name, evidence.machine[name]) for name in _MACHINE if evidence.machine.get(name)]
    facts.append(f"Machine of the first run: {', '.join(machine)}." if machine else "The machine was not recorded.")
    devices = sorted({row["device"] for row in evidence.rows if row["device"]})
    if devices:
        facts.append(f"Device: {join_names(devices)}.")
    return facts


def _fact(name: str, value: object) -> str:
    """'memory 25.3 GB', 'gpus H100 and H100'."""
    if name.endswith("_bytes") and isinstance(value, int):
        return f"{name.removesuffix('_bytes')} {format_bytes(value)}"
    return f"{name} {join_names(map(str, value)) if isinstance(value, list) else value}"


PLUGIN = Section(10, "Scope and setup", _blocks)
