"""Scope and setup."""

from ecrl.analysis.evidence import Evidence
from ecrl.records.columns import get_axis_column
from ecrl.report.text.document import Block, Bullets, Figures, Paragraph, Section, Table
from ecrl.report.text.names import AXIS_HEADERS, WORDS, axis_cells, axis_headers, suite_names
from ecrl.report.text.numbers import UNKNOWN, count, join_names
from ecrl.units import format_bytes

_MACHINE = (
    "host", "cpu", "cores", "memory_bytes", "gpus", "driver", "kernel", "filesystem", "checkpoint_disk",
    "python", "torch", "cuda", "nccl",
    "ecrl", "git",
)  # fmt: skip

_TRAINING = (
    "optimizer", "batch_size", "accumulate", "lr", "schedule", "clip_grad_norm", "precision", "parallel",
    "deterministic", "threads", "nproc", "backend",
)  # fmt: skip
_SCRIPT = ("deterministic", "threads", "nproc")  # what a script of the user's does not decide itself


def _blocks(evidence: Evidence, _figures: Figures) -> list[Block]:
    suites = evidence.suites
    if not suites:
        return [Paragraph("The matrix holds no suite.")]
    rows = evidence.rows
    noun = "seed" if len(evidence.seeds) == 1 else "seeds"
    known = [f"{noun} {join_names(map(str, evidence.seeds))}"] if evidence.seeds else []
    done = len(evidence.completed)
    said = f"{done:,} of {count(len(rows), 'run')} completed"
    if evidence.source == "table":
        said = f"{done:,} of {count(len(rows), 'goodput')} known, however many runs stand behind them"
    text = (
        f"Variants {join_names(map(evidence.describe, evidence.variants))} over {count(len(suites), 'suite')}"
        f"{', ' + known[0] if known else ''}: {said}."
    )
    blocks: list[Block] = [Paragraph(text), Bullets(tuple(_facts(evidence)))]
    axes = tuple(dict.fromkeys((*AXIS_HEADERS, *evidence.axes)))
    names = suite_names(suites)
    table = tuple(
        (names[suite_id], *axis_cells(row, axes), evidence.statuses.get(suite_id, UNKNOWN), f"`{suite_id}`")
        for suite_id, row in suites.items()
    )
    headers = ("suite", *axis_headers(axes), "status", "id")
    blocks.append(Table(headers, table, WORDS | {"suite", "status", "id"}))
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
        is_script = all(row["dataset"] == "" for row in evidence.suites.values())
        names = _SCRIPT if is_script else _TRAINING
        told = (f"{name} {_describe_setting(evidence, name)}" for name in names if name in evidence.train)
        facts.append(f"Training{' by a script of its user' if is_script else ''}: {', '.join(told)}.")
    machine = [_fact(name, evidence.machine[name]) for name in _MACHINE if evidence.machine.get(name)]
    facts.append(f"Machine of the first run: {', '.join(machine)}." if machine else "The machine was not recorded.")
    devices = sorted({row["device"] for row in evidence.rows if row["device"]})
    if devices:
        facts.append(f"Device: {join_names(devices)}.")
    return facts


def _describe_setting(evidence: Evidence, name: str) -> str:
    """The value of a key of `[train]`; of one that is an axis, all of them."""
    axis = get_axis_column(f"train.{name}")
    values = evidence.factors[axis] if axis in evidence.axes else (evidence.train[name],)
    return " or ".join(map(str, values))


def _fact(name: str, value: object) -> str:
    """'memory 25.3 GB', 'gpus H100 and H100'."""
    if name.endswith("_bytes") and isinstance(value, int):
        return f"{name.removesuffix('_bytes')} {format_bytes(value)}"
    return f"{name.replace('_', ' ')} {join_names(map(str, value)) if isinstance(value, list) else value}"


PLUGIN = Section(10, "Scope and setup", _blocks)
