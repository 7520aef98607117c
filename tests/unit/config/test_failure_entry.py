"""What a schedule may say of a kind of failure is what the kind's file declares; nothing else knows the kind."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ecrl.config.hashing import identity
from ecrl.config.load import load
from ecrl.config.suite import expand_matrix
from tests.errors import has_error
from tests.failure_kinds import EVERYWHERE, FACTOR
from tests.plugin_folder import added_member
from tests.unit.config.test_failure_schedule import written
from tests.unit.config.test_matrix import problems


@pytest.fixture(autouse=True)
def kinds(tmp_path: Path) -> Iterator[None]:
    folder = tmp_path / "kinds"
    with (
        added_member(folder, "failure kind", "everywhere", EVERYWHERE),
        added_member(folder, "failure kind", "factor", FACTOR),
    ):
        yield


def test_a_plan_holds_the_kinds_phase_and_the_options_that_differ_from_their_legacy_values(tmp_path: Path) -> None:
    schedule = '[{ at = 7, kind = "factor" }, { at = 9, kind = "factor", rank = 3, factor = 4, wait_s = 1 }, 400]'
    suite = expand_matrix(load(written(tmp_path, schedule)))[0]
    lasting = {"phase": "loss", "kind": "factor", "ends_attempt": False}
    assert suite.failures == (
        {"index": 0, "at": 7, "rank": 0, "options": {"factor": 2.0}, **lasting},
        {"index": 1, "at": 9, "rank": 3, "options": {"wait_s": 1.0}, **lasting},
        {"index": 2, "at": 400, "kind": "kill", "rank": 2},
    )
    assert suite.failure_steps == ("7@factor", "9@factor", 400)


def test_an_option_is_in_no_identity_while_it_is_at_its_legacy_value(tmp_path: Path) -> None:
    told, plain, legacy = (
        identity(load(written(tmp_path, f"[{{ at = 7, kind = 'factor'{options} }}]")))["failures"]["base"][0]
        for options in (", factor = 3", "", ", factor = 4")
    )
    assert (told["factor"], plain["factor"]) == (3.0, 2.0)
    assert legacy == {name: value for name, value in plain.items() if name != "factor"}


def test_the_frozen_file_holds_every_option_and_an_older_one_lacks_what_it_did_not_know(tmp_path: Path) -> None:
    path = written(tmp_path, '[{ at = 7, kind = "factor", wait_s = 2 }]')
    matrix = load(path)
    text = matrix.to_toml("frozen")
    path.write_text(text)
    assert load(path, frozen=True).experiment == matrix.experiment
    assert "factor = 2.0, " in text
    path.write_text(text.replace("factor = 2.0, ", ""))
    assert load(path, frozen=True).failures["base"][0].model_dump()["factor"] == 4.0


def test_beside_a_frozen_campaign_an_absent_option_is_that_campaigns(tmp_path: Path) -> None:
    frozen = load(written(tmp_path, '[{ at = 7, kind = "factor", factor = 8 }]'))
    again = load(written(tmp_path, '[{ at = 7, kind = "factor" }]'), existing=frozen)
    assert again.experiment == frozen.experiment
    other = load(written(tmp_path, "[{ at = 7 }]"), existing=frozen)  # another kind has none of its options
    assert identity(other)["failures"]["base"][0]["kind"] == "kill"


@pytest.mark.parametrize(
    ("schedule", "code", "facts"),
    [
        ('[{ at = 7, kind = "factr" }]', "ECRL-211", ("base #1.kind", "'factr'", "'factor'")),
        ('[{ at = 7, kind = "factor", factor = 0 }]', "ECRL-211", ("base #1.factor: found 0", "> 0")),
        ('[{ at = 7, kind = "factor", factor = "x" }]', "ECRL-211", ("base #1.factor: found 'x'", "> 0")),
        ('[{ at = 7, kind = "factor", facto = 2 }]', "ECRL-210", ("base #1.facto", "'facto'", "'factor'")),
        ("[{ at = 7, factor = 2 }]", "ECRL-210", ("base #1.factor", "'factor'")),
        ('[{ at = 7, kind = "factor", phase = "step" }]', "ECRL-211", ("base #1.phase", "'step'", "loss")),
        ('[{ at = 7, phase = "loss" }]', "ECRL-211", ("base #1.phase", "'loss'")),
        ('[{ at = 7, kind = "factor", ranks = "all" }]', "ECRL-211", ("base #1: found ranks", "'loss'")),
        ('[{ mtbf_s = 7, seed = 1, kind = "factor" }]', "ECRL-211", ("base #1: found mtbf_s", "'loss'")),
        ('[{ at = 9, kind = "factor" }, { phase = "init" }]', "ECRL-212", ("found phase = 'init'", "factor")),
        ('[{ at = 9, kind = "factor" }, 8]', "ECRL-212", ("found step 8", "failure at 9")),
        ('[{ at = 9, kind = "factor" }, { at = 8, kind = "factor" }]', "ECRL-212", ("found step 8", "failure at 9")),
        ('[{ at = 1601, kind = "factor" }]', "ECRL-212", ("step 1601", "(1600)")),
    ],
)
def test_what_a_kind_does_not_take_is_told_where_it_stands(
    tmp_path: Path, schedule: str, code: str, facts: tuple[str, ...]
) -> None:
    told = problems(written(tmp_path, schedule))
    assert has_error(told, code, f"{tmp_path / 'm.toml'}:7: failures.", *facts)


@pytest.mark.parametrize(
    "schedule",
    [
        '[{ at = 9, kind = "factor" }, { at = 9, kind = "factor" }, 9]',
        '[{ at = 120, kind = "factor" }, 140, { at = 110, kind = "factor" }]',  # struck while 101 to 140 are run again
        '[{ interval = 2, seed = 1, kind = "factor" }]',
        '[{ mtbf_s = 7, seed = 1, kind = "everywhere" }]',
    ],
)
def test_what_a_run_meets_is_accepted(tmp_path: Path, schedule: str) -> None:
    load(written(tmp_path, schedule))
