"""Integrity and recovery correctness: which runs are valid, and whether recovery restored the lost state."""

import itertools

from ecrl import plugins
from ecrl.analysis.evidence import Evidence
from ecrl.analysis.run.buckets import residual_allowed_s
from ecrl.analysis.run.metrics import REFERENCE
from ecrl.analysis.statistics.intervals import clopper_pearson, wilson
from ecrl.analysis.statistics.rates import compare_recovery, find_restarted_from_zero, recoveries
from ecrl.analysis.threats.base import join_some
from ecrl.report.text.document import Block, Bullets, Figures, Paragraph, Section, Subheading, Table
from ecrl.report.text.names import label_suite
from ecrl.report.text.numbers import UNKNOWN, count, format_fixed, join_names, p_equals, share
from ecrl.report.text.variant_rows import describe_fsync

GATES = {
    "c1": "C1 finished, failures = restarts = planned",
    "c2": "C2 restored state = snapshot",
    "c3": "C3 ranks agree at the end",
    "c4": "C4 same data as the reference",
    "c5": "C5 loss finite",
    "c6": "C6 final state = reference's",
}
_MOST_WARNINGS = 40


def _blocks(evidence: Evidence, _figures: Figures) -> list[Block]:
    blocks = [
        *_promises(evidence),
        *gate_blocks(evidence),
        *_ledger(evidence),
        *_checkpoints(evidence),
        *_recovery(evidence),
        *_recount(evidence),
    ]
    missing = [row for row in evidence.rows if row["outcome"] != "completed"]
    if missing:
        blocks += [Subheading("Runs that are missing or failed"), Bullets(tuple(_reasons(evidence)))]
    if evidence.dropped and evidence.source == "campaign":
        items = tuple(
            f"{label_suite(evidence, suite)} seed {seed}: {reason}."
            for (suite, seed), reason in evidence.dropped.items()
        )
        blocks += [Subheading("Blocks that no comparison uses"), Bullets(items)]
    if evidence.shortfalls:
        blocks += [
            Subheading("What these runs are too few to show"),
            Bullets(tuple(f"{text}." for text in evidence.shortfalls)),
        ]
    if evidence.warnings:
        items = evidence.warnings[:_MOST_WARNINGS]
        rest = len(evidence.warnings) - len(items)
        more = (f"and {rest:,} more, all in the analysis file",) if rest else ()
        blocks += [Subheading("Warnings about the records"), Bullets((*items, *more))]
    return blocks


def _promises(evidence: Evidence) -> list[Block]:
    """A table of the guarantees that each engine declares."""
    # Numbers of engines with different guarantees do not measure the same thing.
    rows = []
    for recipe in evidence.recipes.values():
        said = plugins.declared("engine", recipe.engine)
        marks = ("yes" if said.get(promise) else "no" for promise in ("verified", "exact"))
        rows.append((str(recipe), describe_fsync(recipe), *marks, str(said.get("limits", "")) or "nothing"))
    named = any(recipe.engine != variant for variant, recipe in evidence.recipes.items())
    first = "variant (engine)" if named else "engine"
    headers = (first, "durable", "verified", "RNG and buffers", "leaves to its user")
    return [Table(headers, tuple(rows), frozenset({first, "leaves to its user"}))] if rows else []


def gate_blocks(evidence: Evidence) -> list[Block]:
    """The number of runs that pass each correctness gate (docs/metrics.md, "Correctness gates")."""
    if not any(row[gate] is not None for row in evidence.rows for gate in GATES):
        known = [row["correct"] for row in evidence.completed if row["correct"] is not None]
        if not known:
            return [Paragraph("No correctness gate is recorded: nothing shows that recovery gave back the lost state.")]
        marked = f"{sum(known)} of {count(len(known), 'run')} are marked correct by the table"
        return [Paragraph(f"{marked}; how that was checked it does not say.")]
    rows = []
    for gate, title in GATES.items():
        values = [row[gate] for row in evidence.completed]
        counts = [values.count(v) for v in ("pass", "fail", None, "not_applicable", "not_measured")]
        rows.append((title, *map(str, counts)))
    headers = ("gate", "pass", "fail", "undecided", "does not apply", "not measured")
    return [Table(headers, tuple(rows), frozenset({"gate"}))]


def _ledger(evidence: Evidence) -> list[Block]:
    known = [row for row in evidence.rows if row["residual_s"] is not None]
    if not known and evidence.source == "table":
        return [Paragraph("No time ledger: a table does not say where the time of a run went.")]
    if not known:
        return [Paragraph("No time ledger: the records hold no wall-clock per run.")]
    over = [row for row in known if abs(row["residual_s"]) > residual_allowed_s(row["wall_s"])]
    worst = max(known, key=lambda row: abs(row["residual_s"]) / row["wall_s"])
    gap_s = abs(worst["residual_s"])
    text = (
        f"The time ledger explains wall-clock within max(0.5 %, 50 ms) in {len(known) - len(over)} of"
        f" {count(len(known), 'run')}; the largest unexplained share is {format_fixed(gap_s * 1000, 1)} ms of"
        f" {format_fixed(worst['wall_s'])} s ({share(gap_s / worst['wall_s'])})."
    )
    return [Paragraph(text)]


def _checkpoints(evidence: Evidence) -> list[Block]:
    """The requested checkpoints as a sum: committed, failed, in flight when an attempt ended, and vanished."""
    columns = ("checkpoints_requested", "checkpoints_committed", "persist_failures", "checkpoints_vanished")
    known = [[row[column] for column in columns] for row in evidence.rows if row["checkpoints_requested"]]
    if not known or any(None in numbers for numbers in known):
        return []
    asked, committed, failed, vanished = map(sum, zip(*known, strict=True))
    rest = asked - committed - failed - vanished
    text = f"{count(asked, 'checkpoint')} asked for = {committed} committed + {failed} that could not be kept"
    if rest or evidence.plans_failures:
        cause = "a failure or a stop of the run" if evidence.plans_failures else "a stop of the run"
        text += f" + {rest} that {cause} found in flight"
    if not vanished:
        return [Paragraph(f"{text}.")]
    lost = [row["variant"] for row in evidence.rows if row["checkpoints_vanished"]]
    why = "neither committed nor reported as lost, and no failure explains it"
    return [Paragraph(f"{text} + **{vanished} that vanished** ({join_names(list(dict.fromkeys(lost)))}): {why}.")]


def _recovery(evidence: Evidence) -> list[Block]:
    """The share of correct recoveries among runs with failures, with its exact interval. Failed runs count."""
    sentences = []
    for variant in (v for v in evidence.variants if v != REFERENCE):
        struck = recoveries(evidence.rows, variant)
        again = len(find_restarted_from_zero(evidence.rows, variant))
        if again:
            sentences.append(
                f"**{variant}** began again at step 0 in {count(again, 'run')} with failures: no restart found a"
                " checkpoint, so nothing was recovered. These runs are in no rate of recovery."
            )
        decided = [known for known in struck.values() if known is not None]
        left = f"{count(len(struck) - len(decided), 'run')} with failures undecided"
        if not decided:
            sentences += [f"**{variant}**: {left}, so there is no rate of recovery."] if struck else []
            continue
        good, n = sum(decided), len(decided)
        low, high = clopper_pearson(good, n)
        sentences.append(
            f"**{variant}** recovered correctly in {good} of {count(n, 'run')} with failures, failed runs counted"
            f" (95 % interval of the rate: {share(low)} to {share(high)}, Clopper-Pearson [Wilson:"
            f" {share(wilson(good, n)[0])} to {share(wilson(good, n)[1])}])"
            f"{f'; {left}' if len(struck) > n else ''}."
        )
    engines = [v for v in evidence.variants if v != REFERENCE]
    sentences += [text for a, b in itertools.combinations(engines, 2) if (text := _rates(evidence, a, b)) is not None]
    if any("Clopper-Pearson" in text for text in sentences):
        sentences.append(
            "Correctly means that the gates above passed. The intervals are those of independent trials; runs of one"
            " deterministic code path are not, so they say nothing about other code, states or failures."
        )
    fired = sum(row["failures_fired"] or 0 for row in evidence.rows)
    if fired:
        restarts = sum(row["restarts"] or 0 for row in evidence.rows)
        sentences.append(f"Planned failures that struck: {fired}; restarts: {restarts}.")
    return [Bullets(tuple(sentences))] if sentences else []


def _recount(evidence: Evidence) -> list[Block]:
    if evidence.recount is None:
        return []
    text = "Counted a second time, by SQL over the files of events (`ecrl report --check`):"
    return [Paragraph(text), Bullets(tuple(f"{said}." for said in evidence.recount.sentences))]


def _rates(evidence: Evidence, a: str, b: str) -> str | None:
    """A comparison of the recovery rates of two engines. None if the rates are equal or cannot be compared."""
    found = compare_recovery(evidence.rows, a, b)
    if found is None or found.correct_a * found.runs_b == found.correct_b * found.runs_a:
        return None
    text = (
        f"Recovery of {a} ({found.correct_a} of {found.runs_a}) against {b} ({found.correct_b} of {found.runs_b}),"
        f" failed runs counted: exact {found.test} {p_equals(found.p)}"
    )
    if found.discordant is not None:
        text += f" ({found.discordant[0]} blocks in which {a} alone recovered, {found.discordant[1]} {b} alone)"
    return f"{text}."


def _reasons(evidence: Evidence) -> list[str]:
    found = []
    for run in evidence.runs:
        if run.row["outcome"] != "completed":
            log = run.facts.get("log")
            where = f" Log: `{evidence.folder_of(run)}/{log}`." if log and not str(log).startswith("/") else ""
            reason = str(run.facts.get("reason", "")).rstrip(".") or "no reason recorded"
            axes = run.label.removeprefix(run.name)
            found.append(f"`{run.name}`{axes} is {run.row['outcome']}: {reason}.{where}")
    if not evidence.runs:
        absent = [f"{row['suite_id']} {row['variant']}" for row in evidence.rows if row["outcome"] == "missing"]
        found.append(f"No goodput in the table for {join_some(absent)}." if absent else UNKNOWN)
    return found


PLUGIN = Section(20, "Integrity and recovery correctness", _blocks)
