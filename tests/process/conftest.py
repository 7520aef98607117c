"""Fixtures of the process tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.program import Ecrl


@pytest.fixture
def ecrl(tmp_path: Path) -> Iterator[Ecrl]:
    """ecrl with a results folder of its own; whatever a test leaves going is ended."""
    ecrl = Ecrl(tmp_path)
    yield ecrl
    ecrl.close()
