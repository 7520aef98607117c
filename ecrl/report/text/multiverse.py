"""The multiverse of a claim in words."""

from ecrl.analysis.claims.result import CONFIRMED, INCONCLUSIVE, REFUTED
from ecrl.analysis.evidence import Evidence
from ecrl.analysis.multiverse import ABOUT, CENTER, IN, LEFT_OUT, OUTLYING, SCALE, STARTUP, WARM_UP, Multiverse
from ecrl.report.text.names import suite_names
from ecrl.report.text.numbers import count, join_names

# Without a registered claim nothing is confirmed.
_UNCLAIMED = {CONFIRMED: "a gain", REFUTED: "a loss", INCONCLUSIVE: "nothing shown"}


def name_verdict(m: Multiverse, verdict: str) -> str:
    """'CONFIRMED'; of a comparison that nobody claimed 'a gain'."""
    return verdict if m.judged is not None else _UNCLAIMED[verdict]


def name_option(dimension: str, option: str, evidence: Evidence) -> str:
    """'without startup and shutdown', 'linear scale', 'without noise, cnn'."""
    if dimension == LEFT_OUT:
        return f"without {suite_names(evidence.suites).get(option, option)}" if option else "nothing left out"
    if dimension in (STARTUP, WARM_UP, OUTLYING):
        return f"{'with' if option == IN else 'without'} {dimension}"
    return {SCALE: f"{option} scale", CENTER: option, ABOUT: f"about {option}"}[dimension]


def describe(m: Multiverse, evidence: Evidence) -> str:
    """'overlapped pays: CONFIRMED in 46 of 48 defensible analyses, as registered; INCONCLUSIVE in 2: without f7.'"""
    if m.few is not None:
        return f"{m.claim.name}: no analysis of these runs decides ({m.few})."
    first = m.registered.verdict
    n, total = m.counts[first], len(m.analyses)
    every = count(total, "defensible analysis", "defensible analyses")
    parts = [f"{m.claim.name}: {name_verdict(m, first)} in {n} of {every}, that of the report among them"]
    for verdict, times in m.counts.most_common():
        if verdict != first:
            parts.append(f"{name_verdict(m, verdict)} in {times}{_describe_common(m, verdict, times, evidence)}")
    return f"{'; '.join(parts)}.{_describe_report(m)}{_describe_cap(m)}"


def _describe_common(m: Multiverse, verdict: str, times: int, evidence: Evidence) -> str:
    """What these analyses have in common."""
    pairs, often = m.find_common(verdict)
    if not pairs:
        return ""
    named = join_names(name_option(name, option, evidence) for name, option in pairs)
    who = "it is" if times == 1 else "both are" if times == 2 else "all are"
    return f" ({often} of them: {named})" if often else f" ({who}: {named})"


def _describe_report(m: Multiverse) -> str:
    """What the report says instead, where it knows more than the numbers."""
    if m.judged is None or m.judged.verdict == m.registered.verdict:
        return ""
    return f" The report's verdict is {m.judged.verdict}, for the reasons that stand with the claims."


def _describe_cap(m: Multiverse) -> str:
    crossed = len(m.dimensions.get(LEFT_OUT, ("",))) - 1
    if crossed == m.left_out_of:
        return ""
    return f" Left out were the {crossed} of {m.left_out_of} that move the effect most."
