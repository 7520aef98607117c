"""Stand-ins for probe and torchrun."""

from typing import Any

import pytest

from ecrl.launch.campaign import control as control_module
from ecrl.launch.campaign.control import Control
from tests.unit.launch import stand_in
from tests.unit.launch.stand_in import StandIn


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """The launcher of all campaigns that `ecrl` starts here."""
    launcher = StandIn()

    class WithStandIns(Control):
        def __init__(self, observer: Any, stop: Any, confirm: Any = lambda _: None) -> None:
            super().__init__(observer, stop, confirm, lambda _name: stand_in.training(launcher))

    monkeypatch.setattr(control_module, "Control", WithStandIns)
    return launcher
