"""A planned campaign in a folder of its own."""

from pathlib import Path

import pytest

from tests.unit.launch.stand_in import StandIn, control, request


@pytest.fixture
def here(here: Path) -> Path:
    """The folder, with a planned campaign `exp`."""
    control(StandIn()).plan(request(here / "results"))
    return here
