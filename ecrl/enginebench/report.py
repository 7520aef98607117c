"""A bench of checkpoint engines as text tables and as a plot. Only `plot` loads matplotlib."""

from typing import Any

from ecrl.errors import RecordError
from ecrl.units import format_bytes, format_count

_MS = 1e3
_MISSING = "-"

_STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "ecrl", "font.size": 9.0, "axes.spines.top": False}
Table = tuple[str, list[str], list[list[str]]]
LEGEND = (
    "stall: training waits; true cost: the stall and what the steps beside it lose; /copy: stall over a plain copy of"
    " the state; /dcp-async: true cost over that of dcp-async"
)


def summary_lines(document: dict[str, Any]) -> list[str]:
    """A few short lines: what was measured, and on which machine."""
    ranks = format_count(document["nproc"], "rank")
    copy, step = document["copy_floor_s"]["median"] * _MS, document["step_s"]["median"] * _MS
    lines = [
        f"{document['model']}, {document['optimizer']}, {ranks} on {document['device']},"
        f" batch {document['batch_size']}, a checkpoint every {document['checkpoint_every']} steps",
        f"state {format_bytes(document['state_bytes'])}, plain copy of it {copy:.1f} ms, step {step:.0f} ms;"
        f" {document['rounds']} rounds of {document['checkpoints_per_round']}",
    ]
    if not document["order_is_balanced"]:
        lines.append("The order is not balanced with this number of rounds.")
    return [*lines, *document["notes"]]


def tables(document: dict[str, Any]) -> list[Table]:
    """(title, header, rows) of each table that has rows. No table is wider than 80 columns."""
    engines = document["engines"]
    found = [
        (
            "Time of training per checkpoint, ms",
            ["engine", "stall", "first", "max", "/copy", "true cost", "(range)", "/dcp-async"],
            [_cost_row(engine) for engine in engines],
        ),
        (
            "The rest",
            ["engine", "drain", "restore", "written", "memory", "fsyncs", "durable", "verified", "failed"],
            [_rest_row(engine) for engine in engines],
        ),
        (
            "What an engine leaves to its user",
            ["engine", "limits"],
            [[e["engine"], limits] for e in engines if (limits := e["promises"].get("limits"))],
        ),
    ]
    return [table for table in found if table[2]]


def build_target_table(document: dict[str, Any]) -> Table:
    """What ecrl itself wants to reach, and whether it does here."""
    rows = [
        [t["target"], f"{t['at_most']:g}", _ratio(t["found"]), _interval(t["interval"]), t["verdict"]]
        for t in document["targets"]
    ]
    return "Targets", ["target", "at most", "found", "95 % over rounds", ""], rows


def summarize(document: dict[str, Any]) -> str:
    """One sentence: which engine costs least, by how much, and whether the rounds agree on it."""
    ranked = sorted(document["engines"], key=lambda engine: float(engine["true_cost_s"]["median"]))
    if not ranked:
        return "No engine was measured."
    best, *others = ranked
    own = best["true_cost_s"]
    told = f"{best['engine']} costs the training least: {_ms(own['median'])} ms a checkpoint"
    if not others:
        return f"{told}; no other engine was measured."
    second = others[0]["true_cost_s"]
    wins = sum(a < b for a, b in zip(own["samples"], second["samples"], strict=True))
    rounds = f"in {wins} of {format_count(len(own['samples']), 'round')}"
    told += f", {others[0]['engine']} {_ms(second['median'])} ms, and less {rounds}"
    return f"{told}." if wins == len(own["samples"]) else f"{told}: no difference is shown."


def _cost_row(engine: dict[str, Any]) -> list[str]:
    stall, cost = engine["stall_s"], engine["true_cost_s"]
    return [
        engine["engine"],
        _ms(stall["median"]),
        _ms(engine["first_stall_s"]["median"]),
        _ms(stall["max"]),
        _ratio(engine["stall_vs_floor_ratio"]),
        _ms(cost["median"]),
        f"{_ms(cost['min'])}..{_ms(cost['max'])}",
        _ratio(engine["cost_vs_peer_ratio"]),
    ]


def _rest_row(engine: dict[str, Any]) -> list[str]:
    restore = engine["restore_s"]
    return [
        engine["engine"],
        f"{_ms(engine['drain_s']['median'])} ms",
        _MISSING if restore is None else f"{_ms(restore['median'])} ms",
        _bytes(engine["written_bytes"]),
        _bytes(engine["memory_growth_bytes"]),
        f"{engine['fsyncs_per_checkpoint']:.1f}",
        *("yes" if engine["promises"][promise] else "no" for promise in ("durable", "verified")),
        f"{engine['checkpoints_failed']}/{engine['checkpoints_requested']}",
    ]


def _ms(seconds: float) -> str:
    milliseconds = seconds * _MS
    return f"{milliseconds:.2f}" if abs(milliseconds) < 10 else f"{milliseconds:.0f}"


def _ratio(value: float | None) -> str:
    return _MISSING if value is None else f"{value:.3f}" if abs(value) < 1 else f"{value:.3g}"


def _bytes(count: float | None) -> str:
    return _MISSING if count is None else format_bytes(count)


def _interval(bounds: list[float | None] | None) -> str:
    if bounds is None:
        return _MISSING
    low, high = bounds
    return f"{_ratio(low)} to {'any' if high is None else _ratio(high)}"


def plot(document: dict[str, Any]) -> bytes:
    """An SVG plot: every engine's stall, in ascending order, with the plain copy; and its true cost in every round."""
    from matplotlib.figure import Figure

    from ecrl.report.plots.style import COLORS, svg, use_style

    engines = sorted(document["engines"], key=lambda e: e["stall_s"]["median"], reverse=True)
    if not engines:
        raise RecordError("ECRL-802", "the bench measured no engine")
    names, rows = [e["engine"] for e in engines], range(len(engines))
    with use_style(_STYLE):
        figure = Figure(figsize=(9.0, 1.2 + 0.45 * len(engines)), layout="constrained")
        stall, cost = figure.subplots(1, 2, sharey=True)
        for row, engine in zip(rows, engines, strict=True):  # no bars: a logarithmic axis has no zero
            spread = engine["stall_s"]
            stall.plot([spread["min"] * _MS, spread["max"] * _MS], [row, row], color=COLORS["compute"])
            stall.plot([spread["median"] * _MS], [row], marker="o", color=COLORS["compute"])
        floor_ms = document["copy_floor_s"]["median"] * _MS
        stall.axvline(floor_ms, linestyle="--", color=COLORS["detect"], label=f"plain copy, {floor_ms:.1f} ms")
        stall.set(xscale="log", yticks=rows, yticklabels=names, xlabel="stall per checkpoint, ms (median, range)")
        stall.legend(loc="upper right", fontsize=8)
        cost.barh(rows, [e["true_cost_s"]["median"] * _MS for e in engines], color=COLORS["compute"], height=0.6)
        for row, engine in zip(rows, engines, strict=True):
            samples = [s * _MS for s in engine["true_cost_s"]["samples"]]
            cost.plot(samples, [row] * len(samples), linestyle="", marker="|", markersize=9, color=COLORS["restart"])
        cost.set(xlabel="true cost per checkpoint, ms (median; marks: rounds)")
        return svg(figure)
