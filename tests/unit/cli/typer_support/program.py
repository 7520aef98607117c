"""ecrl as a program of its own."""

import os
import subprocess
import sys

ECRL = [sys.executable, "-m", "ecrl"]


def program(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*ECRL, *arguments], env=os.environ | environment, capture_output=True, text=True, timeout=50)


def patched(code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """The program after some code has changed it."""
    whole = f"import sys; sys.argv = ['ecrl', *{arguments!r}]\n{code}\nfrom ecrl.__main__ import main\nmain()"
    return subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, timeout=50)
