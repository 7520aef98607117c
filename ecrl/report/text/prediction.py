"""Predicted and measured goodput: whether the models behind the interval advice describe these runs."""

from ecrl.analysis.advice.goodput_model import compute_mean_errors, median_error, predictions
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
    signed = ", ".join(f"{variant} {percent(1 + mean)}" for variant, mean in compute_mean_errors(found).items())
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
        "Predicted: startup, shutdown and first warm-up + steps x step time (all of the suite's reference)"
        f" + checkpoints x cost{' + failures x (restart + lost work)' if fails else ''}, the costs being means"
        " over these very runs: what is small here is the error of the model's form, not that of a prediction."
        " The cost of a checkpoint is its stall plus the mean interference, also where that is not told from 0; a"
        " negative one counts as 0, and without a reference the stall is charged alone."
    )
    if fails:
        text += " `failures anywhere` is the complete model that `ecrl advise` uses, with as many failures."
    text += f" Median absolute error: {share(error)}. Mean error, with its sign: {signed}."
    return [
        Subheading("Predicted against measured goodput"),
        Paragraph(text),
        Table(headers, rows, frozenset({"suite", "variant"})),
    ]
