"""A planned campaign."""

from pathlib import Path

import pytest

from ecrl.records.paths import CampaignPaths
from tests.unit.launch.stand_in import StandIn, control, request


@pytest.fixture
def paths(tmp_path: Path) -> CampaignPaths:
    """A planned campaign of two suites."""
    asked = request(tmp_path / "results")
    control(StandIn()).plan(asked)
    return asked.paths
