"""Engines whose extra is not installed: their tests skip and say so; under CI they fail."""

import os

import pytest

from ecrl import plugins


def need(engine: str) -> None:
    """Skip, or under CI fail, the test of an engine that cannot be used here."""
    for name, extra in plugins.find_missing("engine", [engine]).items():
        reason = f"{name} needs the extra `{extra}`: pip install 'ecrl[{extra}]'"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
