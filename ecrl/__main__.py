"""`ecrl` and `python -m ecrl`: runs a command and turns errors into messages and exit codes."""

import sys

from ecrl.errors import EcrlError, explain_os_error


def main() -> None:
    """Run the command line. An `EcrlError` and an `OSError` become one message on stderr.

    Any other error becomes a traceback.
    """
    try:
        from ecrl.cli.app import app
        from ecrl.cli.typer_support.usage_errors import run

        run(app)
    except EcrlError as error:
        from ecrl.cli.ui.messages import print_message

        print_message(f"ecrl: {error.format_message()}")
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno is None:
            raise
        from ecrl.cli.ui.messages import print_message

        told = explain_os_error(error)
        print_message(f"ecrl: {told.format_message()}")
        sys.exit(told.exit_code)
    except KeyboardInterrupt:  # during the imports; commands handle it themselves
        sys.exit(130)


if __name__ == "__main__":
    main()
