"""The `ecrl` command. Importing this module loads Typer and nothing heavier; commands import the rest when they run."""

from typing import Annotated

import typer

from ecrl import __version__
from ecrl.cli.commands import (
    advise,
    bench,
    bundle,
    checkpoint,
    compare,
    doctor,
    init,
    logs,
    matrix,
    register,
    report,
    selftest,
)
from ecrl.cli.typer_support.usage_errors import EcrlGroup, EcrlTyper

app = EcrlTyper(
    name="ecrl",
    cls=EcrlGroup,
    help="ecrl measures what checkpointing and failures really cost a distributed training job, and proves that"
    " recovery gives back exactly the state that was lost.",
    epilog="Exit codes: 0 all done; 1 a bug of ecrl; 2 wrong usage or an invalid matrix; 4 something failed; 5 another"
    " ecrl holds the prefix; 6 this machine is unfit; 129, 130, 131, 138, 140, 143, 152 stopped by SIGHUP,"
    " SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGTERM, SIGXCPU after a clean hand-over; 141 the reader of stdout has gone.",
    no_args_is_help=True,
    rich_markup_mode=None,  # rich alone would cost more than the rest of --help
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
init.register(app)
app.add_typer(matrix.app, name="matrix")
register.register(app)
checkpoint.register(app)
report.register(app)
advise.register(app)
bundle.register(app)
compare.register(app)
bench.register(app)
selftest.register(app)
logs.register(app)
doctor.register(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ecrl {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None: ...
