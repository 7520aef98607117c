"""ecrl's whole program inside the test's process: most tests of messages need no interpreter of their own."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from subprocess import CompletedProcess

import pytest

from ecrl.__main__ import main
from ecrl.cli.typer_support import usage_errors


def run_inline(*arguments: str, **environment: str) -> "CompletedProcess[str]":
    """What `ecrl` with these arguments exits with and writes to stdout and stderr."""
    out, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(errors):
        patch.setattr(sys, "argv", ["ecrl", *arguments])
        patch.setattr(usage_errors, "guard_streams", lambda: None)  # it writes to the descriptors of the process
        for name, value in environment.items():
            patch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main()
    assert isinstance(ended.value.code, int)
    return CompletedProcess(sys.argv, ended.value.code, out.getvalue(), errors.getvalue())
