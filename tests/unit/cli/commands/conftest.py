"""A folder with a matrix, and stand-ins for probe and torchrun."""

from pathlib import Path
from typing import Any

import pytest

from ecrl.launch.campaign import control as control_module
from ecrl.launch.campaign.control import Control
from tests.matrices import without_warm_up
from tests.unit.launch import stand_in
from tests.unit.launch.stand_in import MATRIX, StandIn


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own, no environment names, and stand-ins for probe and torchrun."""
    for name in (
        "MATRIX_PREFIX",
        "PROFILE",
        "SEEDS_CSV",
        "CHECKPOINT_EVERY_CSV",
        "DATASETS_CSV",
        "MODELS_CSV",
        "NPROC",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.toml").write_text(without_warm_up(MATRIX))
    return tmp_path


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    launcher = StandIn()

    class WithStandIns(Control):
        def __init__(self, observer: Any, stop: Any, confirm: Any = lambda _: None) -> None:
            super().__init__(observer, stop, confirm, lambda _name: stand_in.training(launcher))

    monkeypatch.setattr(control_module, "Control", WithStandIns)
    return launcher
