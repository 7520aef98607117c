"""The `ecrl` command. Importing this module loads Typer and nothing heavier; commands import the rest when they run."""

from typing import Annotated, Any

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
    track,
)
from ecrl.cli.typer_support.usage_errors import EcrlGroup, EcrlTyper

_ORDER = (  # of use: Typer lists commands before groups
    "init", "doctor", "bench", "register", "matrix", "logs", "checkpoint", "track", "report", "compare", "advise",
    "bundle", "selftest",
)  # fmt: skip


class _Root(EcrlGroup):
    """All commands, in the order of use."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names in the order of `_ORDER`."""
        return sorted(super().list_commands(ctx), key=_ORDER.index)


app = EcrlTyper(
    name="ecrl",
    cls=_Root,
    help="ecrl measures what checkpointing and failures really cost a distributed training job, and proves that"
    " recovery gives back exactly the state that was lost.",
    epilog="Example: ecrl matrix run --prefix mine mine.toml --dry-run\n\n"
    "Exit codes: 0 all done; 1 a bug of ecrl; 2 wrong usage or an invalid matrix; 4 something failed; 5 another"
    " ecrl holds the prefix; 6 this machine is unfit; 129, 130, 131, 138, 140, 143, 152 stopped by SIGHUP,"
    " SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGTERM, SIGXCPU after a clean hand-over; 141 the reader of stdout has gone.",
    no_args_is_help=True,
    rich_markup_mode=None,  # rich alone would cost more than the rest of --help
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(matrix.app, name="matrix")
for command in (init, doctor, bench, register, logs, checkpoint, report, compare, advise, bundle, selftest, track):
    command.register(app)


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
