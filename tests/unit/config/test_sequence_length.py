"""A sequence longer than a model's context is refused where a suite has it, and nowhere else."""

from pathlib import Path

import pytest

from ecrl.config.load import load
from ecrl.errors import InvalidMatrixError

MATRIX = """
[matrix]
datasets = ["python-source"]
models = ["gpt2-nano", "gpt2"]
checkpoint_every = [2]
[axes]
"train.sequence_length" = [256, 512]
[failures]
none = []
[train]
steps = 4
"""
EXCLUDE = '[[exclude]]\nmodel = "gpt2-nano"\n"train.sequence_length" = 512\n'


def test_only_the_suites_of_the_model_that_it_is_too_long_for_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text(MATRIX)
    with pytest.raises(
        InvalidMatrixError, match="found 512, expected at most 256, the context of the model 'gpt2-n"
    ) as e:
        load(path)
    assert e.value.codes == ("ECRL-620",)
    path.write_text(MATRIX + EXCLUDE)
    assert load(path).train_settings.sequence_length == 128
