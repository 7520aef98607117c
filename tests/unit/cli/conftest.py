"""A folder with a matrix."""

from pathlib import Path

import pytest

from tests.matrices import without_warm_up
from tests.unit.launch.stand_in import MATRIX

_NAMES = ("MATRIX_PREFIX", "PROFILE", "SEEDS_CSV", "CHECKPOINT_EVERY_CSV", "DATASETS_CSV", "MODELS_CSV", "NPROC")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own with a matrix, and no name in the environment that stands in for a flag."""
    for name in _NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.toml").write_text(without_warm_up(MATRIX))
    return tmp_path
