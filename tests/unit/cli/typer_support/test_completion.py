"""Completion in the shell, and what commands load and how fast they start."""

import time
from pathlib import Path

import pytest

from tests.test_arrows import HEAVY, loaded
from tests.unit.cli.inline import run_inline
from tests.unit.cli.typer_support.program import program

pytestmark = pytest.mark.usefixtures("here")


def completed(words: str) -> list[str]:
    environment = {"_ECRL_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    return run_inline(**environment).stdout.split()


def test_the_shell_completes_commands_prefixes_and_suite_ids() -> None:
    assert completed("ecrl matr") == ["matrix"]
    whole = program(_ECRL_COMPLETE="complete_bash", COMP_WORDS="ecrl matr", COMP_CWORD="1")
    assert whole.stdout.split() == ["matrix"]
    assert completed("ecrl matrix status --prefix e") == ["exp"]
    assert [name[:15] for name in completed("ecrl logs noise-cnn-e")] == ["noise-cnn-early"]
    assert len(completed("ecrl matrix resume --prefix exp --rerun noise")) == 2
    assert completed("ecrl matrix show --prefix none noise") == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("ecrl report --prefix e", {"exp"}),
        ("ecrl advise --prefix ", {"exp"}),
        ("ecrl compare e", {"exp"}),
        ("ecrl bundle e", {"exp"}),
        ("ecrl selftest --prefix e", {"exp"}),
        ("ecrl report --format html,p", {"html,parquet"}),
        ("ecrl matrix run --models cnn,re", {"cnn,resnet18", "cnn,resnet50"}),
        ("ecrl matrix run --datasets cifar100,cifar10", {"cifar100,cifar10"}),
        ("ecrl matrix run --variants re", {"reference"}),
        ("ecrl matrix run --variants blocking,o", {"blocking,overlapped"}),
        ("ecrl matrix run m.toml --failures e", {"early"}),
        ("ecrl matrix run absent.toml --failures e", set()),
        ("ecrl matrix run p.toml --profile sm", {"small"}),
        ("ecrl matrix run p.toml --variants tun", {"tuned"}),
        ("ecrl matrix run --device c", {"cpu", "cuda"}),
        ("ecrl matrix clean --kinds temporary,ch", {"temporary,checkpoints"}),
        ("ecrl compare --metric stall_s", {"stall_s"}),
        ("ecrl logs --variant over", {"overlapped"}),
        ("ecrl bench engines --engines blocking,over", {"blocking,overlapped"}),
    ],
)
def test_the_shell_completes_values(here: Path, words: str, expected: set[str]) -> None:
    (here / "p.toml").write_text("[profiles.small]\n[variants.tuned]\nengine = 'overlapped'\n")
    found = completed(words)
    assert set(found) == expected, found


def test_completion_and_the_commands_that_look_load_nothing_heavy(monkeypatch: pytest.MonkeyPatch) -> None:
    unwanted = HEAVY | {"psutil", "rich"}
    for arguments in (["matrix", "status", "--prefix", "exp"], ["matrix", "show", "early"], ["matrix", "list"]):
        assert not loaded(*arguments) & unwanted, arguments
    monkeypatch.setenv("_ECRL_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "ecrl matrix show noise")
    monkeypatch.setenv("COMP_CWORD", "3")
    modules = loaded("matrix")
    assert "ecrl.cli.typer_support.complete" in modules
    assert not modules & unwanted


@pytest.mark.timing
def test_help_and_status_start_fast() -> None:
    def fastest(*arguments: str) -> float:
        seconds = []
        for _ in range(5):
            begun = time.monotonic()
            assert program(*arguments).returncode == 0
            seconds.append(time.monotonic() - begun)
        return min(seconds)

    assert fastest("--help") < 0.6  # 0.1 s where nobody else computes; torch or pandas alone would take longer
    assert fastest("matrix", "status", "--prefix", "exp") < 0.9
