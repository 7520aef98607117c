"""`ecrl init` writes matrices that ecrl takes, and replaces no file."""

from pathlib import Path

import pytest

from ecrl.config.examples import list_examples
from ecrl.config.load import load
from tests.errors import has_error
from tests.unit.cli.inline import run_inline


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_matrix_that_it_writes_is_valid_commented_and_can_confirm() -> None:
    done = run_inline("init")
    assert (done.returncode, done.stdout) == (0, "mine.toml\n")
    assert all(name in done.stderr for name in list_examples())
    matrix = load(Path("mine.toml"))
    assert matrix.warnings == ()
    pairs, claims = len(matrix.matrix.seeds), len(matrix.claims)
    assert claims * 2 ** (1 - pairs) < 0.05, "Holm's first p, if all pairs agree"
    assert "ecrl matrix run --prefix mine mine.toml\n" in Path("mine.toml").read_text()


@pytest.mark.parametrize("name", list_examples())
def test_every_example_is_valid_and_names_the_new_file_in_its_commands(name: str) -> None:
    assert run_inline("init", "a b.toml", "--example", name).returncode == 0
    Path("train.py").write_text("import ecrl\necrl.attach\n")
    assert load(Path("a b.toml")).warnings == ()
    text = Path("a b.toml").read_text()
    assert "'a b.toml'" in text
    assert f"matrices/{name}.toml" not in text


def test_a_file_that_is_there_is_kept(here: Path) -> None:
    (here / "mine.toml").write_text("my work")
    done = run_inline("init")
    assert done.returncode == 2
    assert has_error(done.stderr[len("ecrl: ") :], "ECRL-106", "mine.toml", "ecrl init FILE")
    assert (here / "mine.toml").read_text() == "my work"


@pytest.mark.parametrize(
    ("arguments", "code", "fact"),
    [
        (["absent/m.toml"], "ECRL-106", "absent/m.toml"),
        (["m.toml", "--example", "dem"], "ECRL-102", "'demo'"),
        (["m.toml", "--example", "../demo"], "ECRL-102", "start"),
    ],
)
def test_what_cannot_be_written_is_said_and_nothing_is(here: Path, arguments: list[str], code: str, fact: str) -> None:
    done = run_inline("init", *arguments)
    assert done.returncode == 2
    assert has_error(done.stderr[len("ecrl: ") :], code, fact)
    assert list(here.iterdir()) == []


def test_who_has_no_matrix_is_told_how_to_write_one() -> None:
    for arguments in (["matrix", "run", "--prefix", "x"], ["matrix", "run", "--prefix", "x", "absent.toml"]):
        assert "ecrl init" in run_inline(*arguments).stderr
