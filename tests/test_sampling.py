"""What of the tests is left out: dear ones are drawn, and some run on request alone."""

import os
from pathlib import Path

import pytest

from tests import conftest

TESTS = """
import pytest

@pytest.mark.sampled("dear")
@pytest.mark.parametrize("n", range(8))
def test_dear(n): pass

@pytest.mark.torture
def test_torture(): pass

@pytest.mark.timing
def test_timing(): pass

@pytest.mark.process
def test_process(): pass

def test_plain(): pass
"""


class Names:
    """The names of the tests that would run."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.found = [item.name for item in session.items]


def collect(folder: Path, *arguments: str, test: str = "") -> list[str]:
    """The names of the tests that pytest would run with these arguments."""
    path, names = folder / "test_some.py", Names()
    path.write_text(TESTS)
    options = ["--collect-only", "-q", "-c", os.devnull, "--rootdir", str(folder), "--import-mode", "importlib"]
    # At its end this plugin looks for garbage five times, among all that the tests of this process have made.
    options += ["-W", "ignore", "-p", "no:unraisableexception"]
    pytest.main([f"{path}{test}", *options, *arguments], plugins=[names, conftest])
    return names.found


def test_a_few_of_a_group_are_drawn_by_the_seed_and_the_others_are_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    for seed in (1, 2, 3, 1):
        monkeypatch.setattr(conftest, "_SEED", seed)
        drawn.append(collect(tmp_path))
        assert [name for name in drawn[-1] if not name.startswith("test_dear")] == ["test_process", "test_plain"]
        assert len(drawn[-1]) == conftest._SAMPLE + 2
    assert len(set(map(tuple, drawn))) > 1, "another seed draws others"
    assert drawn[-1] == drawn[0]
    left_out = next(n for n in range(8) if f"test_dear[{n}]" not in drawn[-1])
    assert collect(tmp_path, test=f"::test_dear[{left_out}]") == [f"test_dear[{left_out}]"], "one that is named runs"


@pytest.mark.parametrize(
    ("expression", "number", "others"),
    [
        ("torture", 8, ["test_torture"]),
        ("timing", 0, ["test_timing"]),
        ("process", 0, ["test_process"]),
        ("not process", conftest._SAMPLE, ["test_plain"]),
        ("not torture", conftest._SAMPLE, ["test_process", "test_plain"]),
    ],
)
def test_what_runs_on_request_runs_only_where_its_mark_is_named(
    tmp_path: Path, expression: str, number: int, others: list[str]
) -> None:
    names = collect(tmp_path, "-m", expression)
    dear = [name for name in names if name.startswith("test_dear")]
    assert (len(dear), [name for name in names if name not in dear]) == (number, others)
