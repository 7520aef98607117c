"""The registration file beside a matrix file is kept with the campaign that is frozen from it."""

import dataclasses
from pathlib import Path

import pytest

from ecrl.config.load import Override
from ecrl.config.registration import get_kept_path, get_registration_path, read_registration, write_registration
from ecrl.launch.campaign.request import Request
from ecrl.launch.runs.progress import SilentObserver
from tests.errors import raises
from tests.unit.launch.stand_in import StandIn, control, request


class Listener(SilentObserver):
    """Remembers the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def asked(tmp_path: Path) -> Request:
    """A request for a matrix whose registration lies beside it."""
    found = request(tmp_path / "results")
    assert found.source is not None
    write_registration(found.source, get_registration_path(found.source))
    return found


def plan(asked: Request, *overrides: Override) -> list[str]:
    """Freeze the matrix; returns the notes."""
    listener = Listener()
    control(StandIn(), listener).plan(dataclasses.replace(asked, overrides=overrides))
    return listener.notes


def test_the_registration_of_the_matrix_is_kept_without_a_word(asked: Request) -> None:
    assert not [note for note in plan(asked) if "registers" in note]
    assert asked.source is not None
    assert read_registration(get_kept_path(asked.paths)) == read_registration(get_registration_path(asked.source))


def test_one_of_other_seeds_is_kept_with_a_warning(asked: Request) -> None:
    notes = plan(asked, Override(("matrix", "seeds"), [1, 2], "--seeds"))
    assert any("matrix.registration.json registers another matrix" in note for note in notes)
    assert get_kept_path(asked.paths).is_file()


def test_one_of_other_suites_is_not_kept(asked: Request) -> None:
    notes = plan(asked, Override(("train", "steps"), 8, "--set"))
    assert any("registers another matrix" in note for note in notes)
    assert not get_kept_path(asked.paths).exists()


def test_one_that_was_written_after_the_start_is_not_kept(tmp_path: Path) -> None:
    asked = request(tmp_path / "results")
    plan(asked)
    assert asked.source is not None
    write_registration(asked.source, get_registration_path(asked.source))
    plan(asked)
    assert not get_kept_path(asked.paths).exists()


def test_an_extension_keeps_the_first_registration(asked: Request) -> None:
    plan(asked)
    before = get_kept_path(asked.paths).read_bytes()
    plan(dataclasses.replace(asked, extend=True), Override(("matrix", "seeds"), [1337, 2], "--seeds"))
    assert get_kept_path(asked.paths).read_bytes() == before


def test_a_changed_registration_starts_nothing(asked: Request) -> None:
    assert asked.source is not None
    path = get_registration_path(asked.source)
    path.write_text(path.read_text().replace('"seed": 1337', '"seed": 1'))
    with raises("ECRL-721", str(path)):
        plan(asked)
    assert not asked.paths.matrix.exists()
