"""Predicted and measured goodput: whether the models behind the interval advice describe these runs."""

from ecrl.analysis.advice.goodput_model import median_error, predictions
from ecrl.analysis.evidence import Evidence
from ecrl.report.text.document import Block, Paragraph, Subheading, Table
from ecrl.report.text.names import suite_names
from ecrl.report.text.numbers import number, percent, share


def prediction_blocks(evidence: Evidence) -> list[Block]:
    """The blocks of the subsection; empty if no engine's costs are known."""
    found = predictions(evidence.runs, evidence.dropped)
    error = median_error(found)
    if error is None:
        return []
    names = suite_names(evidence.suites)
    fails = evidence.plans_failures
    rows = tuple(
        (
            names[one.suite_id],
            one.variant,
            *(number(value) for value in (one.measured, one.planned)),
            *([number(one.anywhere)] if fails else []),
            number(one.pccheck),
            percent(one.error + 1),
        )
        for one in found
    )
    anywhere = ["failures anywhere"] if fails else []
    headers = (
        "suite", "variant", "measured (steps/s)", "predicted", *anywhere, "PCcheck's model", "predicted / measured",
    )  # fmt: skip
    text = (
        "Predicted: startup and shutdown + steps x step time (both of the suite's reference) + checkpoints x (stall +"
    )
    text += f" interference){' + failures x (restart + lost work)' if fails else ''}, the costs being means over the"
    text += " workload's runs"
    text += "; `failures anywhere` puts each failure at a random place of its interval" if fails else ""
    text += ". This tests the form of the model that `ecrl advise` uses, not how well costs carry over to other runs."
    text += f" Median absolute error: {share(error)}."
    return [
        Subheading("Predicted against measured goodput"),
        Paragraph(text),
        Table(headers, rows, frozenset({"suite", "variant"})),
    ]
