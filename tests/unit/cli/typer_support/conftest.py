"""A planned campaign in a folder of its own."""

from pathlib import Path

import pytest

from tests.matrices import without_warm_up
from tests.unit.launch.stand_in import MATRIX, StandIn, control, request


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own with a planned campaign `exp`."""
    for name in (
        "MATRIX_PREFIX",
        "NPROC",
        "PROFILE",
        "SEEDS_CSV",
        "CHECKPOINT_EVERY_CSV",
        "DATASETS_CSV",
        "MODELS_CSV",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.toml").write_text(without_warm_up(MATRIX))
    control(StandIn()).plan(request(tmp_path / "results"))
    return tmp_path
