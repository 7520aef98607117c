"""Interval advice as tables, one JSON document and a curve."""

import itertools
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from ecrl.analysis.advice.advise import MIN_SEEDS, Advice
from ecrl.analysis.advice.interval import FLAT_LOSS
from ecrl.report.plots.style import INK, STYLE, VARIANT_COLORS, svg, use_style
from ecrl.report.text.numbers import UNKNOWN, count, format_fixed, join_names, number, share
from ecrl.units import format_duration

MAX_PANELS = 8
_STEP_DIGITS = 2
SCHEMA = 2


def group_by_workload(advice: Sequence[Advice]) -> list[tuple[str, list[Advice]]]:
    """Group consecutive advice by workload. Keeps the order."""
    return [(place.name, list(own)) for place, own in itertools.groupby(advice, key=lambda a: a.costs.workload)]


def tables(advice: Sequence[Advice]) -> list[tuple[str, list[str], list[list[str]]]]:
    """(title, header, rows) of each workload: a row per quantity and a column per engine, the best engine first."""
    return [
        (name, ["", *(one.costs.name for one in own)], [list(row) for row in zip(*_lines(own), strict=True)])
        for name, own in group_by_workload(advice)
    ]


def _lines(own: Sequence[Advice]) -> list[list[str]]:
    """The columns of one workload's table."""
    titles = [
        "step t", "stall per checkpoint", "slower steps per checkpoint", "cost per checkpoint s", "s, 95 % interval",
        "durable after p", "restart R", "Young", "Daly", "Saxena et al.", "floor", "checkpoint every",
        "as good as that", "over costs and MTBF", "expected ETTR", "expected goodput", "ETTR at intervals run",
    ]  # fmt: skip
    return [titles, *([*_format_measured(one), *_format_advised(one)] for one in own)]


def _format_measured(one: Advice) -> list[str]:
    c = one.costs
    slower = UNKNOWN if c.interference_s is None else _seconds(c.interference_s)
    return [
        _seconds(c.step_s), _seconds(c.stall_s), slower, _seconds(c.cost_s),
        _seconds_between(c.cost_range_s), _seconds(c.persist_s), _seconds(one.restart_s),
    ]  # fmt: skip


def _format_advised(one: Advice) -> list[str]:
    optima = [f"{format_duration(tau)} = {number(tau / one.costs.step_s, 3)} steps" for tau in _optima(one)]
    return [
        *optima,
        f"{_seconds(one.floor_s)} = {count(one.floor_steps, 'step')}",
        f"{one.every:,} steps ({format_duration(one.every * one.costs.step_s)})",
        _steps_between(one.band),
        _steps_between(one.range),
        share(one.ettr),
        f"{number(one.goodput_steps_per_s)} steps/s",
        ", ".join(f"{every:,}: {share(one.ettr_at(every))}" for every in one.costs.intervals),
    ]


def _optima(one: Advice) -> tuple[float, float, float]:
    return one.young_s, one.daly_s, one.availability_s


def _seconds(value: float) -> str:
    return f"{format_fixed(value * 1000, 1)} ms" if abs(value) < 1 else f"{format_fixed(value)} s"


def _seconds_between(ends: tuple[float, float]) -> str:
    return f"{_seconds(ends[0])} to {_seconds(ends[1])}"


def _steps_between(ends: tuple[int, int]) -> str:
    # The ends are worked out from uncertain costs: more digits would say nothing.
    short, long = (int(float(f"{end:.{_STEP_DIGITS}g}")) for end in ends)
    return f"{short:,} to {long:,} steps"


def sentences(advice: Sequence[Advice]) -> list[str]:
    """Sentences with the advice, its basis, and every reservation."""
    first = advice[0]
    found = [
        f"MTBF of the job: {format_duration(first.mtbf_s)}. Costs are those measured here; on another machine, or with"
        " more ranks, they differ."
    ]
    for name, own in group_by_workload(advice):
        best = own[0]
        loss = f"checkpoints and the work lost between them take about {share(best.overhead)}"
        few = min(one.costs.seeds for one in own)
        lead = ""
        if few < MIN_SEEDS:
            lead = f"too few runs to advise ({count(few, 'seed')}, {MIN_SEEDS} are needed); the model alone says: "
        found.append(
            f"{name}: {lead}{best.costs.name} every {best.every:,} steps, expected ETTR {share(best.ettr)}"
            f" ({number(best.goodput_steps_per_s)} steps/s); {loss}. Within {FLAT_LOSS * 100:g} points of it:"
            f" {_steps_between(best.band)}."
        )
        found.append(f"{name}: {_describe_range(best, own[1:])}")
        found += [f"{name}, {one.costs.name}: {note}." for one in own for note in one.notes]
    return found


def _describe_range(best: Advice, others: Sequence[Advice]) -> str:
    """The range of the interval, and what would change the advice."""
    short_s, long_s = best.mtbf_range_s
    mtbf = f"an MTBF of {format_duration(short_s)} to {format_duration(long_s)}"
    charged = "stall + interference" if best.costs.interference_s is not None else "stall alone"
    cost = f"a checkpoint's cost ({charged}) of {_seconds_between(best.costs.cost_range_s)}"
    text = f"{_steps_between(best.range)} over {cost} and {mtbf}."
    pairs = ((cost, best.by_cost), (mtbf, best.by_mtbf))
    moves = [f"{what}: {_steps_between(ends)}" for what, ends in pairs if best.is_outside_band(ends)]
    # an engine that is not told from the best one may be the better
    rivals = [o.costs.name for o in others if _rate(o, o.ettr_range[1]) > _rate(best, best.ettr_range[0])]
    moves += [f"costs as uncertain as these: {join_names(rivals)} may be better"] if rivals else []
    said = "; ".join(moves) or f"neither, by more than {FLAT_LOSS * 100:g} points"
    return f"{text} What would change the advice: {said}."


def _rate(one: Advice, ettr: float) -> float:
    return ettr / one.costs.step_s


def document(prefix: str, advice: Sequence[Advice]) -> dict[str, Any]:
    """The advice as one JSON document. Keys in seconds end in _s; intervals are in steps."""
    return {
        "schema": SCHEMA,
        "prefix": prefix,
        "mtbf_s": advice[0].mtbf_s,
        "advice": [_entry(one) for one in advice],
    }


def _entry(one: Advice) -> dict[str, Any]:
    c = one.costs
    return {
        **c.workload._asdict() | {"axes": dict(c.workload.axes)},
        "variant": c.variant,
        "engine": c.engine,
        "runs": c.runs,
        "seeds": c.seeds,
        "checkpoints": c.checkpoints,
        "failures": c.failures,
        "step_s": c.step_s,
        "stall_s": c.stall_s,
        "interference_s": c.interference_s,
        "interference_ci_s": list(c.interference_ci_s),
        "cost_s": c.cost_s,
        "cost_range_s": list(c.cost_range_s),
        "mtbf_range_s": list(one.mtbf_range_s),
        "persist_s": c.persist_s,
        "persist_alone_s": c.persist_alone_s,
        "restart_s": one.restart_s,
        "young_s": one.young_s,
        "daly_s": one.daly_s,
        "availability_s": one.availability_s,
        "floor_s": one.floor_s,
        "floor_steps": one.floor_steps,
        "checkpoint_every": one.every,
        "checkpoint_every_range": list(one.range),
        "checkpoint_every_by_cost": list(one.by_cost),
        "checkpoint_every_by_mtbf": list(one.by_mtbf),
        "has_enough_runs": one.has_enough_runs,
        "checkpoint_every_band": list(one.band),
        "ettr": one.ettr,
        "goodput_steps_per_s": one.goodput_steps_per_s,
        "overhead_ratio": one.overhead,
        "expected_at": {str(every): one.ettr_at(every) for every in c.intervals},
        "curve": [{"checkpoint_every": every, "ettr": ettr} for every, ettr in one.curve],
        "notes": list(one.notes),
    }


def plot(advice: Sequence[Advice]) -> bytes:
    """An SVG of the expected loss, 1 - ETTR, against the checkpoint interval, one panel per workload.

    Dot: the advised interval. Thick line: intervals that are as good. Dotted line: intervals below the floor.
    """
    groups = group_by_workload(advice)[:MAX_PANELS]
    columns = min(2, len(groups))
    lines = -(-len(groups) // columns)
    names = list(dict.fromkeys(one.costs.name for _, own in groups for one in own))
    with use_style(STYLE):
        canvas = Canvas(figsize=(4.6 * columns + 0.6, 3.2 * lines + 0.5), layout="constrained")
        grid = canvas.subplots(lines, columns, squeeze=False)
        for axes, (name, own) in zip(grid.flat, groups, strict=False):
            _panel(axes, name, own, names)
        for axes in grid.flat[len(groups) :]:
            axes.set_visible(False)
        handles, labels = grid.flat[0].get_legend_handles_labels()
        canvas.legend(handles, labels, loc="outside upper center", ncols=min(4, len(labels)), fontsize=8)
        return svg(canvas)


def _panel(axes: Axes, name: str, own: Sequence[Advice], names: Sequence[str]) -> None:
    for one in own:
        color = VARIANT_COLORS[names.index(one.costs.name) % len(VARIANT_COLORS)]
        below = [(k, 100 * (1 - e)) for k, e in one.curve if k <= one.floor_steps]
        above = [(k, 100 * (1 - e)) for k, e in one.curve if k >= one.floor_steps]
        good = [(k, e) for k, e in above if one.band[0] <= k <= one.band[1]]
        if len(below) > 1:
            axes.plot(*zip(*below, strict=True), ":", color=color, linewidth=1.2)
        axes.plot(*zip(*above, strict=True), color=color, linewidth=1.3, label=one.costs.name)
        axes.plot(*zip(*good, strict=True), color=color, linewidth=4, alpha=0.45, solid_capstyle="butt")
        axes.plot([one.every], [100 * (1 - one.ettr)], "o", color=color, markeredgecolor=INK, markersize=6)
    axes.set_xscale("log")
    axes.set_title(name, fontsize=8)
    axes.set_xlabel("checkpoint every (steps)")
    axes.set_ylabel("expected loss, 1 - ETTR (%)")
    axes.set_yscale("log")
