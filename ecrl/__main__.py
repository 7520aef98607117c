"""`ecrl` and `python -m ecrl`: run a command, turn errors into messages and exit codes."""

import sys

from ecrl.errors import EcrlError


def main() -> None:
    """Run the command line. Errors of the user are one message on stderr; everything else is a traceback."""
    try:
        from ecrl.cli.app import app
        from ecrl.cli.typer_support.usage_errors import run

        run(app)
    except EcrlError as error:
        from ecrl.cli.ui.messages import print_message

        print_message(f"ecrl: {error.format_message()}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:  # while the imports went on; commands have handlers of their own
        sys.exit(130)


if __name__ == "__main__":
    main()
