"""Fixtures of the process tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.crashes import ENGINES, Campaign, finished
from tests.process.program import Ecrl

# Cold: whatever a launcher has a part in. Both ranks are struck, and once the whole group.
CRASHES = """
crashes = [
  3,                                # before the first checkpoint: begin again at step 0
  9,                                # inside an interval: 6 to 9 are lost
  { at = 7, rank = 0 },             # while 6 to 9 are run again
  { phase = "init", rank = 1 },     # while the group starts again
  { at = 17, ranks = "all" },
]
"""


@pytest.fixture
def ecrl(tmp_path: Path) -> Iterator[Ecrl]:
    """ecrl with a results folder of its own; whatever a test leaves going is ended."""
    ecrl = Ecrl(tmp_path)
    yield ecrl
    ecrl.close()


@pytest.fixture(scope="session")
def crashes(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """The training uninterrupted, and through every crash that a launcher has a part in, under cold torchrun."""
    return finished(tmp_path_factory.mktemp("crashes"), ("reference", *ENGINES), CRASHES, "cold")
