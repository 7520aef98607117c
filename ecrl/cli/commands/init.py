"""The command `ecrl init`: writes a commented matrix to edit."""

from pathlib import Path
from typing import Annotated

import typer

from ecrl.cli.typer_support import complete
from ecrl.cli.typer_support.usage_errors import check_choice
from ecrl.cli.ui.messages import print_message
from ecrl.config.examples import list_examples, read_example
from ecrl.errors import EcrlError

_FILE = typer.Argument(metavar="FILE", help="The new file.", show_default=True)
_EXAMPLE = typer.Option(
    metavar="NAME",
    help=f"The shipped matrix to copy: {', '.join(list_examples())}.",
    autocompletion=complete.examples,
    show_default=True,
)


def init(
    file: Annotated[Path, _FILE] = Path("mine.toml"),
    example: Annotated[str, _EXAMPLE] = "start",
) -> None:
    """Write a commented matrix to edit.

    It is a copy of one that ships with ecrl. A file that is there is never replaced.
    """
    text = read_example(check_choice("--example", example, list_examples()), file)
    try:
        with file.open("x", encoding="utf-8") as new:
            new.write(text)
    except FileExistsError:
        raise EcrlError(
            "ECRL-106", f"{file}: exists already, expected a new file.\nName another one: ecrl init FILE"
        ) from None
    except OSError as error:
        raise EcrlError(
            "ECRL-106", f"{file}: cannot be written: {error.strerror}.\nName another one: ecrl init FILE"
        ) from None
    typer.echo(str(file))
    others = ", ".join(name for name in list_examples() if name != example)
    print_message(f"This is the example {example!r}; others: {others}. Its first lines say what to type next.")


def register(app: typer.Typer) -> None:
    """Add the command to the main application."""
    app.command("init", epilog="Example: ecrl init mine.toml --example demo")(init)
