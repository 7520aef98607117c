"""The command `ecrl advise`. Its imports are inside the function, so that other commands do not load them."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecrl.cli.typer_support import options as opt
from ecrl.cli.ui.messages import plain_table, print_json, print_message
from ecrl.errors import EcrlError
from ecrl.launch.system.wait import keep_saying

if TYPE_CHECKING:
    from ecrl.analysis.advice.advise import Advice

_MTBF = typer.Option(
    "--mtbf", metavar="TIME", help="Mean time between failures of the job, e.g. 3h; of one node with --nodes."
)
_NODES = typer.Option("--nodes", min=1, metavar="N", help="Nodes that fail independently: the job's MTBF is MTBF / N.")
_RESTART = typer.Option(
    "--restart", metavar="TIME", help="Detect + restart + restore + rewarm, e.g. 90s, instead of the measured one."
)
_OUT = typer.Option("--out", metavar="FILE", help="Draw the curve of the loss into this SVG file.")


@keep_saying("the advice", print_message)
def advise(
    mtbf: Annotated[str, _MTBF],
    prefix: opt.OnlyPrefix = None,
    nodes: Annotated[int | None, _NODES] = None,
    restart: Annotated[str | None, _RESTART] = None,
    results: opt.Results = Path("results"),
    out: Annotated[Path | None, _OUT] = None,
    as_json: opt.AsJson = False,
) -> None:
    """Advise how often to checkpoint, from measured costs.

    The costs are the stall, persist latency and restart of a campaign. Shows the intervals of Young, Daly and Saxena et
    al. and the one that ecrl advises: sqrt(2 s M), but never so short that checkpoints do not drain. Also shows the
    range of equally good intervals, the range over the measured costs and half to twice the MTBF, and the expected
    goodput. Needs three seeds; with fewer, the model's numbers are no advice.
    """
    from ecrl.analysis.advice.advise import advise as advice_of
    from ecrl.analysis.campaign.load import load_campaign
    from ecrl.records.paths import CampaignPaths
    from ecrl.report.pages import advice as shown

    mtbf_s = _duration_s("--mtbf", mtbf)
    restart_s = None if restart is None else _duration_s("--restart", restart)
    paths = CampaignPaths(results, opt.choose_prefix(prefix, results))
    found = advice_of(load_campaign(paths).runs, mtbf_s, nodes=nodes, restart_s=restart_s)
    if out is not None:
        _write_curve(out, shown.plot(found))
    if as_json:
        print_json(shown.document(paths.prefix, found))
    else:
        _show(found)
    if out is not None:
        print_message(f"written: {out}")


def _write_curve(path: Path, curve: bytes) -> None:
    from ecrl.storage.atomic import write_atomic

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, curve)
    except OSError as error:
        raise EcrlError(
            "ECRL-106", f"{path}: the curve cannot be written: {error.strerror}.\nName another file with --out."
        ) from error


def _duration_s(flag: str, text: str) -> float:
    from ecrl.units import parse_duration_s

    try:
        seconds = parse_duration_s(text)
    except ValueError as error:
        raise EcrlError("ECRL-102", f"{flag}: {error}") from None
    if seconds <= 0:
        raise EcrlError("ECRL-102", f"{flag}: found {text!r}, expected more than 0")
    return seconds


def _show(found: "list[Advice]") -> None:
    from ecrl.report.pages.advice import sentences, tables

    for title, header, rows in tables(found):
        if sys.stdout.isatty():
            from ecrl.cli.ui.tables import print_table

            print_table(title, header, rows)
        else:
            typer.echo(f"{title}\n{plain_table(header, rows)}\n")
    typer.echo("\n".join(sentences(found)))


def register(app: typer.Typer) -> None:
    """Add the command to the main application."""
    app.command("advise", epilog="Example: ecrl advise --prefix mine --mtbf 3h --nodes 16")(advise)
