"""Scope and setup."""

from ecrl.analysis.evidence import Evidence
from ecrl.analysis.tables import failure_text
from ecrl.report.blocks import Block, Bullets, Figures, Paragraph, Section, Table
from ecrl.report.names import suite_names
from ecrl.report.wording import UNKNOWN, count, listed

_MACHINE = ("host", "cpu", "cores", "memory_bytes", "kernel", "python", "torch", "ecrl")


def _blocks(evidence: Evidence, _figures: Figures) -> list[Block]:
    suites = evidence.suites
    if not suites:
        return [Paragraph("The matrix holds no suite.")]
    rows = evidence.rows
    known = [f"seeds {listed(map(str, evidence.seeds))}"] if evidence.seeds else []
    done = len(evidence.completed)
    text = (
        f"Variants {listed(evidence.variants)} over {count(len(suites), 'suite')}"
        f"{', ' + known[0] if known else ''}: {done:,} of {count(len(rows), 'run')} completed."
    )
    blocks: list[Block] = [Paragraph(text), Bullets(tuple(_facts(evidence)))]
    headers = ("suite", "dataset", "model", "failures", "every", "in flight", "ranks", "steps", "status", "id")
    names = suite_names(suites)
    table = tuple(
        (
            names[suite_id],
            row["dataset"],
            row["model"],
            failure_text(row["failure_label"], row["failure_steps"] or ""),
            *(
                UNKNOWN if row[c] is None else str(row[c])
                for c in ("checkpoint_every", "max_inflight", "nproc", "steps")
            ),
            evidence.statuses.get(suite_id, UNKNOWN),
            f"`{suite_id}`",
        )
        for suite_id, row in suites.items()
    )
    blocks.append(Table(headers, table, frozenset({"suite", "dataset", "model", "failures", "status", "id"})))
    return blocks


def _facts(evidence: Evidence) -> list[str]:
    facts = []
    if evidence.source == "table":
        facts.append(f"Source: a detailed table with the columns {', '.join(f'`{c}`' for c in evidence.columns)}.")
    if len(evidence.folders) > 1:
        facts.append(f"Pooled: the campaigns {listed(evidence.folders)}. Blocks that two of them hold count once.")
    if evidence.mixed:
        facts.append(f"**Mixed**: these campaigns differ, and were pooled all the same. {'; '.join(evidence.mixed)}.")
    if evidence.train:
        names = ("optimizer", "batch_size", "lr", "schedule", "deterministic", "threads", "nproc")
        facts.append("Training: " + ", ".join(f"{n} {evidence.train[n]}" for n in names if n in evidence.train) + ".")
    machine = [f"{name} {evidence.machine[name]}" for name in _MACHINE if name in evidence.machine]
    facts.append(f"Machine of the first run: {', '.join(machine)}." if machine else "The machine was not recorded.")
    devices = sorted({row["device"] for row in evidence.rows if row["device"]})
    if devices:
        facts.append(f"Device: {listed(devices)}.")
    return facts


PLUGIN = Section(10, "Scope and setup", _blocks)
