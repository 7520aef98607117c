"""`ecrl matrix ...` inside the test's process."""

import os
import subprocess
import sys

from typer.testing import CliRunner, Result

from ecrl.cli.app import app
from ecrl.errors import EcrlError


def ecrl(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(app, ["matrix", *arguments], env=environment)


def failed(*arguments: str, **environment: str) -> EcrlError:
    error = ecrl(*arguments, **environment).exception
    assert isinstance(error, EcrlError), error
    return error


def message(*arguments: str, **environment: str) -> str:
    return failed(*arguments, **environment).format_message()


def program(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "ecrl", *arguments]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=50)
