"""Engines and trackers as parameters of tests: those whose extra is not installed, and those that are dear to try."""

import os
from collections.abc import Sequence
from typing import Any

import pytest

from ecrl import plugins

_HEAVY = {"mlflow", "wandb"}  # no test installs these: together they take as long as all others
_DEAR = {"torch-checkpointing"}  # each instance starts an interpreter that imports torch


def need(member: str, family: str = "engine") -> None:
    """Skip, or under CI fail, the test of an engine or another member that cannot be used here."""
    for name, extra in plugins.find_missing(family, [member]).items():
        reason = f"{name} needs the extra `{extra}`: pip install 'ecrl[{extra}]'"
        if os.environ.get("CI") and extra not in _HEAVY:
            pytest.fail(reason)
        pytest.skip(reason)


def list_cases(engines: Sequence[str], *more: Any) -> list[Any]:
    """The engines as parameters of a test, each followed by `more`; those that are dear are sampled."""
    return [
        pytest.param(engine, *more, marks=[pytest.mark.sampled(engine)] if engine in _DEAR else [])
        for engine in engines
    ]
