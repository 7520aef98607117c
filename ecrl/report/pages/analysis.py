"""`<prefix>_analysis.md`: the tables and numbers behind the report, without prose."""

import itertools

from ecrl.analysis.campaign.tables import SUMMARY_COLUMNS, build_detailed_frame, build_summary_frame
from ecrl.analysis.evidence import Evidence
from ecrl.analysis.frames.columns import to_rows
from ecrl.analysis.statistics.intervals import Kind
from ecrl.records.columns import DETAILED_COLUMNS, LEDGER_BUCKETS
from ecrl.report.sections import claims, integrity, ledger, threats
from ecrl.report.text.document import Block, Bullets, Figures, Paragraph, Section, Table
from ecrl.report.text.inference import describe_interval, describe_test
from ecrl.report.text.numbers import UNKNOWN, basis, estimate, number, p_value

_MOST_RUNS = 500  # rows of a Markdown table that a person may still read; the CSV has all rows
_RUN = (
    "goodput_steps_per_s", "rel_goodput", "ettr", "ettr_ref", "wall_s", "stall_s", "interference_s", "rewarm_s",
    "replayed_steps", "lost_interval_steps", "lost_in_flight_steps", "final_loss", "d_end", "d_max",
    "first_divergent_step", "correct",
)  # fmt: skip
_MEASURES: tuple[tuple[str, Kind], ...] = (
    ("goodput_steps_per_s", "ratio"), ("ettr_ref", "ratio"), ("wall_s", "ratio"), ("stall_s", "difference"),
    ("interference_s", "difference"), ("wasted_s", "difference"), ("replayed_steps", "difference"),
    ("final_loss", "difference"),
)  # fmt: skip


def sections() -> list[Section]:
    """The sections of the analysis file, in order."""
    return [
        Section(1, "Runs", _runs),
        Section(2, "Ledger per run (s)", _ledger),
        Section(3, "Gates", _gates),
        Section(4, "Summary per suite and variant", _summary),
        Section(5, "Blocking against overlapped", _detail_table),
        Section(6, "Comparisons of every pair of variants", _comparisons),
        Section(7, claims.PLUGIN.title, claims.PLUGIN.blocks),
        Section(8, threats.PLUGIN.title, threats.PLUGIN.blocks),
        Section(9, "Warnings", _warnings),
    ]


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, int | float) else UNKNOWN if value is None else str(value)


def _name(row: dict[str, object]) -> tuple[str, str, str]:
    return str(row["suite_id"]), str(row["variant"]), UNKNOWN if row["seed"] is None else str(row["seed"])


def _run_table(evidence: Evidence, columns: tuple[str, ...]) -> list[Block]:
    cells = (*evidence.axes, *columns)
    rows = tuple((*_name(row), *(_cell(row[c]) for c in cells)) for row in evidence.rows[:_MOST_RUNS])
    titles = (c if c.endswith("_per_s") else c.removesuffix("_s") for c in columns)
    headers = ("suite", "variant", "seed", *evidence.axes, *titles)
    table: list[Block] = [Table(headers, rows, frozenset({"suite", "variant", "outcome"}))]
    rest = len(evidence.rows) - len(rows)
    return [*table, Paragraph(f"{rest:,} more runs stand in the runs table.")] if rest > 0 else table


def _runs(evidence: Evidence, _figures: Figures) -> list[Block]:
    return _run_table(evidence, ("outcome", *_RUN))


def _ledger(evidence: Evidence, _figures: Figures) -> list[Block]:
    if all(row["compute_s"] is None for row in evidence.rows):
        return [Paragraph("No ledger is recorded.")]
    table = _run_table(evidence, (*(f"{bucket}_s" for bucket in LEDGER_BUCKETS), "residual_s", "wall_s"))
    return [*table, *ledger.restart_blocks(evidence, {})]


def _gates(evidence: Evidence, _figures: Figures) -> list[Block]:
    faults = [
        f"`{run.label}` {code}: {'fails' if gate['passed'] is False else 'undecided'}, {gate['evidence']}"
        for run in evidence.runs
        for code, gate in run.gates.items()
        if run.row[code.lower()] in (None, "fail")
    ]
    blocks = integrity.gate_blocks(evidence)
    return [*blocks, Bullets(tuple(faults))] if faults else blocks


def _summary(evidence: Evidence, _figures: Figures) -> list[Block]:
    columns = SUMMARY_COLUMNS[SUMMARY_COLUMNS.index("launcher") : SUMMARY_COLUMNS.index("lost_in_flight_steps") + 1]
    columns = (*evidence.axes, *columns)
    rows = to_rows(build_summary_frame(evidence.frame, evidence.axes))
    body = tuple((str(row["suite_id"]), *(_cell(row[c]) for c in columns)) for row in rows[:_MOST_RUNS])
    return [Table(("suite", *columns), body, frozenset({"suite", "launcher", "variant"}))]


def _detail_table(evidence: Evidence, _figures: Figures) -> list[Block]:
    if not {"blocking", "overlapped"} <= set(evidence.variants):
        return [Paragraph("The variants `blocking` and `overlapped` are not both there.")]
    axes = [axis for axis in evidence.varying_axes if axis not in ("dataset", "model", "failure_label")]
    columns = (*DETAILED_COLUMNS, *axes)
    rows = to_rows(build_detailed_frame(evidence.frame, evidence.dropped, evidence.axes))
    for row in rows:
        row["ovl_minus_blk_loss_diff"] = evidence.loss_differences.get(row["suite_id"])
    body = tuple(tuple(_cell(row.get(column)) for column in columns) for row in rows)
    return [Table(columns, body, frozenset({"dataset", "model", "failure"}))]


def _comparisons(evidence: Evidence, _figures: Figures) -> list[Block]:
    rows, described = [], []
    for b, a in itertools.combinations(evidence.variants, 2):
        for metric, kind in _MEASURES:
            c = evidence.compare(a, b, metric, kind)
            if c.overall is not None:
                sd = number(c.sd)
                described.append(describe_interval(c))
                rows.append(
                    (
                        f"{a}, {b}",
                        metric,
                        kind,
                        estimate(c),
                        sd,
                        p_value(c.p_value),
                        describe_test(c),
                        basis(c),
                        str(len(c.missing)),
                    )
                )
    if not rows:
        return [Paragraph("No two variants share a block.")]
    headers = ("variants", "metric", "scale", "mean [95 % CI]", "SD", "p", "test", "basis", "blocks left out")
    several = " and ".join(dict.fromkeys(described))
    text = f"95 % {several}; the SD is that of the same units, of a ratio that of its logarithm. p are unadjusted."
    return [Table(headers, tuple(rows), frozenset({"variants", "metric", "scale", "test", "basis"})), Paragraph(text)]


def _warnings(evidence: Evidence, _figures: Figures) -> list[Block]:
    return [Bullets(evidence.warnings)] if evidence.warnings else [Paragraph("None.")]
