"""The gain of the main comparison by cause, as a table."""

from ecrl.analysis.evidence import Evidence
from ecrl.analysis.statistics.compare import Comparison
from ecrl.analysis.statistics.gain_by_cause import SLOWER_STEPS, WALL
from ecrl.report.text.document import Block, Figures, Paragraph, Subheading, Table
from ecrl.report.text.names import format_part
from ecrl.report.text.numbers import UNKNOWN, align, basis, bounds, format_signed, has_interval, number

_LEAST = 5e-5  # a part that is below this share of wall-clock in every block is left out: it would read 0.00 %


def list_causes(evidence: Evidence) -> dict[str, Comparison]:
    """The parts that differ in some block, the largest first; empty without a split."""
    found = evidence.gain_by_cause
    parts = {part: c for part, c in found.items() if part != WALL and any(abs(p.d) > _LEAST for p in c.pairs)}
    return dict(sorted(parts.items(), key=lambda item: -abs(_center(item[1]))))


def describe_causes(evidence: Evidence) -> str:
    """The caption of the plot."""
    has_any = any(has_interval(c) for c in list_causes(evidence).values())
    return f"Gain by cause: the difference in wall-clock by part of the ledger{', 95 % intervals' if has_any else ''}"


def cause_blocks(evidence: Evidence, figures: Figures) -> list[Block]:
    """The split of the wall-clock ratio of the main comparison; empty without ledgers of both variants."""
    parts, whole = list_causes(evidence), evidence.gain_by_cause.get(WALL)
    if not parts or whole is None:
        return []
    told = _excludes_0(whole)
    rows = tuple(
        (format_part(part), _share(c, whole) if told else UNKNOWN, *_percents(c))
        for part, c in (*parts.items(), (WALL, whole))
    )
    ratio = number(_center(whole), 4 if has_interval(whole) else 3)
    text = (
        f"ln(wall-clock of {whole.a} / wall-clock of {whole.b}) = {ratio}, split exactly over the"
        f" parts of the time ledger ({basis(whole)}); below 0, {whole.a} spends less. Warm-up is that of the"
        " first step of every attempt, and in no other part."
    )
    if SLOWER_STEPS in evidence.gain_by_cause:
        text += " Slower steps are the interference; the others take as long as the reference's."
    text += "" if told else " The whole is not told from 0, so no part is given a share of it."
    headers = ("part", "share of the difference", "% of wall-clock", "95 % interval")
    table = Table(headers, rows, frozenset({"part"}))
    title = Subheading(f"Gain by cause: {whole.a} against {whole.b}")
    return [title, Paragraph(text), *([figures["causes"]] if "causes" in figures else []), table]


def _center(c: Comparison) -> float:
    return c.overall.center if c.overall is not None else 0.0


def _excludes_0(c: Comparison) -> bool:
    one = c.overall
    known = has_interval(c) and one is not None and one.low is not None and one.high is not None
    return known and one is not None and (one.low or 0) * (one.high or 0) > 0


def _share(c: Comparison, whole: Comparison) -> str:
    return f"{round(100 * _center(c) / _center(whole)) + 0:.0f} %"


def _percents(c: Comparison) -> tuple[str, str]:
    """The part in percent of the logarithmic mean of both wall-clocks, and its interval."""
    one, center = c.overall, 100 * _center(c)
    if one is None or one.low is None or one.high is None or not has_interval(c):
        return format_signed(center), bounds(c)
    low, high = 100 * one.low, 100 * one.high
    # without spread `align` has no digits to go by
    points = [format_signed(center)] * 3
    texts = align((center, low, high), low, high, 0.0, "+") if high - low > 2 * _LEAST else points
    return texts[0], f"[{texts[1]}, {texts[2]}]"
