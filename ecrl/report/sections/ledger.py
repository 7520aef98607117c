"""Where the time went."""

from collections.abc import Mapping

from ecrl.analysis.campaign.tables import mean
from ecrl.analysis.evidence import Arm, Evidence
from ecrl.analysis.run.buckets import WASTE_PARTS
from ecrl.analysis.run.restarts import PHASES
from ecrl.records.columns import LEDGER_BUCKETS
from ecrl.report.text.document import Block, Figures, Paragraph, Section, Subheading, Table
from ecrl.report.text.names import format_part
from ecrl.report.text.numbers import UNKNOWN, format_fixed, share
from ecrl.report.text.prediction import prediction_blocks

MOST_SHARES = 4  # arms up to which each has a column of shares too; more columns fit neither page nor phone
MOST_COLUMNS = 6  # arms up to which each arm is a column; with more, each arm is a row
STEPS = ("interval", "in flight")  # costs of a failure in steps; the other costs are in seconds


def _blocks(evidence: Evidence, figures: Figures) -> list[Block]:
    if all(row["compute_s"] is None for row in evidence.completed):
        return [Paragraph("No ledger: the time of the runs was not recorded by phase.")]
    known = [row for row in evidence.whole if row["compute_s"] is not None]
    if not known:
        return [Paragraph("No block is whole, so the variants' ledgers cannot stand beside each other.")]
    by_arm = {arm: own for arm in evidence.arms if (own := [row for row in known if arm.holds(row)])}
    seconds = {
        arm: {bucket: mean([row[f"{bucket}_s"] for row in own]) for bucket in (*LEDGER_BUCKETS, "residual")}
        | {"wall": mean([row["wall_s"] for row in own])}
        for arm, own in by_arm.items()
    }
    line = "column" if len(seconds) <= MOST_COLUMNS else "line"
    text = (
        f"Mean seconds per run {evidence.whole_basis}. At any instant the job is in one bucket, so a {line} adds up to"
        " its wall-clock."
    )
    if empty := [bucket for bucket in LEDGER_BUCKETS if not any(own[bucket] for own in seconds.values())]:
        text += " Buckets that are 0 in all of them are left out."
    shown = {arm: {name: own[name] for name in own if name not in empty} for arm, own in seconds.items()}
    blocks: list[Block] = [Paragraph(text), _list_arms(shown) if line == "line" else _list_buckets(shown)]
    blocks += [figures[name] for name in ("ledger", "ledger_steps") if name in figures]
    blocks += _failures(evidence)
    blocks += restart_blocks(evidence, figures)
    blocks += prediction_blocks(evidence)
    timelines = [figure for name, figure in figures.items() if name.startswith("timeline")]
    if timelines:
        blocks += [Subheading("Timelines"), *timelines]
    return blocks


def _list_buckets(seconds: Mapping[Arm, Mapping[str, float | None]]) -> Table:
    """A table with a row per bucket and a column per arm."""
    shares = len(seconds) <= MOST_SHARES
    rows = []
    for bucket in next(iter(seconds.values())):
        cells = []
        for own in seconds.values():
            value, wall_s = own[bucket], own["wall"]
            cells.append(format_fixed(value, 3))
            cells += [share(value / wall_s) if value is not None and wall_s else UNKNOWN] if shares else []
        rows.append((format_part(bucket), *cells))
    headers = ("bucket", *(text for arm in seconds for text in (f"{arm} (s)", f"{arm} (%)")[: 1 + shares]))
    return Table(headers, tuple(rows), frozenset({"bucket"}))


def _list_arms(seconds: Mapping[Arm, Mapping[str, float | None]]) -> Table:
    """A table with a row per arm and a column per bucket."""
    headers = ("variant", *(f"{format_part(bucket)} (s)" for bucket in next(iter(seconds.values()))))
    rows = tuple((str(arm), *(format_fixed(value, 3) for value in own.values())) for arm, own in seconds.items())
    return Table(headers, rows, frozenset({"variant"}))


def _failures(evidence: Evidence) -> list[Block]:
    """The cost of one failure, by arm: means over the failures in whole blocks."""
    if not evidence.plans_failures:
        return []
    costs: dict[str, list[dict[str, float | None]]] = {}
    arms = evidence.arms
    for run in evidence.whole_runs:
        for cost in run.failures:
            known: dict[str, float | None] = dict(cost.seconds)
            if not cost.detect_known:
                known["detect"] = None
            known |= {
                "wasted": cost.wasted_s,
                "interval": cost.lost_interval_steps,
                "in flight": cost.lost_in_flight_steps,
            }
            arm = next(arm for arm in arms if arm.holds(run.row))
            costs.setdefault(str(arm), []).append(known)
    if not costs:
        return [Subheading("Failures"), Paragraph("No failure struck.")]
    columns = (*WASTE_PARTS, "wasted", *STEPS)
    rows = tuple(
        (
            variant,
            str(len(own)),
            *(format_fixed(mean([cost[column] for cost in own]), 1 if column in STEPS else 3) for column in columns),
        )
        for variant, own in costs.items()
    )
    units = (
        *(f"{format_part(bucket)} (s)" for bucket in (*WASTE_PARTS, "wasted")),
        "lost to interval (steps)",
        "lost in flight (steps)",
    )
    text = (
        f"Mean cost of one failure {evidence.whole_basis}: detect + restart + restore + lost step + replay + rewarm ="
        " wasted. Rewarm is what the first step after a restart takes beyond a steady one; replay is without it."
    )
    return [
        Subheading("Failures"),
        Paragraph(text),
        Table(("variant", "failures", *units), rows, frozenset({"variant"})),
    ]


def restart_blocks(evidence: Evidence, figures: Figures) -> list[Block]:
    """The duration of each phase of a restart, by arm: medians over restarts."""
    found = evidence.restarts
    if not found:
        return []
    rows = tuple(
        (
            str(arm),
            str(own.n),
            *(format_fixed(own.seconds[phase], 3) for phase in PHASES),
            format_fixed(own.total_s, 3),
        )
        for arm, own in found.items()
    )
    headers = ("variant", "restarts", *(f"{phase} (s)" for phase in PHASES), "kill to first step (s)")
    meaning = "; ".join(f"{phase}: {end}" for phase, end in PHASES.items())
    text = f"Medians over the restarts of runs {evidence.whole_basis}. A phase ends when the last rank has passed it."
    text += f" {meaning}."
    table = Table(headers, rows, frozenset({"variant"}))
    plot = [figures["restarts"]] if "restarts" in figures else []
    return [Subheading("Restarts"), Paragraph(text), table, *plot]


PLUGIN = Section(40, "Where the time went", _blocks)
