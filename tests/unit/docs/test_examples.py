"""What the pages show is what ecrl takes: matrices are valid, and the examples of new parts keep the house's rules."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import tomli_w

from docs.generate.pages import DOCS
from ecrl import plugins
from ecrl.config.load import load
from tests.doc_examples import EXTENDING, read_examples

_TOML = re.compile(r"^```toml[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_BASE: dict[str, Any] = {
    "matrix": {"datasets": ["noise"], "models": ["cnn"], "checkpoint_every": [50]},
    "train": {"steps": 1600, "nproc": 2},
}
# They come with the models and states that need them.
_NO_FILE_OF_THEIR_OWN = {"task", "parallelism"}
SHOWN = [
    (page, text)
    for page in [DOCS.parent / "README.md", *sorted(DOCS.glob("*.md"))]
    for text in _TOML.findall(page.read_text(encoding="utf-8"))
    if page != EXTENDING  # its matrices name parts that are not there; tests/process/test_extending.py has one that is
]


@pytest.mark.parametrize(("page", "text"), SHOWN, ids=[f"{page.name}-{n}" for n, (page, _) in enumerate(SHOWN)])
def test_a_matrix_that_a_page_shows_is_valid(page: Path, text: str, tmp_path: Path) -> None:
    tables = tomllib.loads(text)
    path = tmp_path / "shown.toml"
    path.write_text(tomli_w.dumps(_BASE | tables), encoding="utf-8")
    assert load(path).warnings == (), page


def test_every_family_has_a_complete_example() -> None:
    shown = {PurePosixPath(name).parent for name in read_examples()}
    families = {PurePosixPath("ecrl", *at.split(".")): name for name, at in plugins.FAMILIES.items()}
    found = {families[at if at in families else at.parent] for at in shown}  # a kind of experiment is a folder
    assert found == plugins.FAMILIES.keys() - _NO_FILE_OF_THEIR_OWN


@pytest.mark.parametrize(("name", "text"), read_examples().items(), ids=lambda value: value.split("\n")[0][:60])
def test_an_example_is_linted_and_formatted_as_the_code_is(name: str, text: str) -> None:
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--stdin-filename", name, "-"],
            input=text,
            capture_output=True,
            text=True,
            cwd=DOCS.parent,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
