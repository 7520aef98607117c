"""Elsewhere than on Linux, what starts processes says what is missing; help, and what only reads and writes, go on."""

import sys
from pathlib import Path

import pytest

from tests.errors import has_error
from tests.unit.cli.inline import run_inline


@pytest.mark.parametrize(("platform", "name"), [("darwin", "macOS"), ("win32", "Windows"), ("freebsd14", "freebsd14")])
@pytest.mark.parametrize(
    "command",
    [
        ("matrix", "run", "--prefix", "x", "mine.toml"),
        ("matrix", "plan", "--prefix", "x", "mine.toml"),
        ("matrix", "resume", "--prefix", "x"),
        ("doctor",),
        ("selftest",),
        ("bench", "engines"),
    ],
    ids=" ".join,
)
def test_what_starts_processes_is_refused_in_one_sentence(
    command: tuple[str, ...], platform: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_inline("init")
    monkeypatch.setattr(sys, "platform", platform)
    done = run_inline(*command)
    assert done.returncode == 6
    assert has_error(done.stderr.removeprefix("ecrl: "), "ECRL-520", name, "/proc", "WSL 2")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]


def test_help_and_a_new_matrix_are_had_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert run_inline("init", str(tmp_path / "mine.toml")).returncode == 0
    assert "Usage" in run_inline("matrix", "run", "--help").stdout
