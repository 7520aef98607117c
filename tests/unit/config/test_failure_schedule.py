"""Failure schedules: the grammar, what is drawn before launch, and what a run would never meet."""

from collections import Counter
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from ecrl.config.failure_entry import FailureEntry, draw_instants_s, draw_step
from ecrl.config.failure_schedule import build_plan
from ecrl.config.load import Override, load
from ecrl.config.suite import expand_matrix
from tests.errors import has_error
from tests.unit.config.test_matrix import GOOD, problems


def planned(*entries: dict[str, Any], nproc: int = 2, every: int = 5) -> tuple[dict[str, Any], ...]:
    return build_plan([FailureEntry(**entry) for entry in entries], nproc, every)


def written(tmp_path: Path, schedule: str) -> Path:
    path = tmp_path / "m.toml"
    path.write_text(GOOD.replace("[400, 1200]", schedule))
    return path


def test_a_phase_is_that_of_the_checkpoint_at_the_first_boundary() -> None:
    persist, commit = planned({"at": 11, "phase": "persist"}, {"at": 20, "phase": "commit"})
    assert persist == {"index": 0, "at": 15, "phase": "persist", "kind": "kill", "rank": 0}
    assert commit == {"index": 1, "at": 20, "phase": "commit", "kind": "kill", "rank": 0}  # rank 0 publishes


def test_a_restart_strikes_after_the_failure_before_it_and_a_group_is_struck_by_rank_0() -> None:
    _, restore, group = planned({"at": 8}, {"phase": "restore"}, {"at": 12, "ranks": "all"})
    assert restore == {"index": 1, "at": 8, "phase": "restore", "kind": "kill", "rank": 1}
    assert group == {"index": 2, "at": 12, "kind": "kill", "rank": 0, "ranks": "all"}
    (pair,) = planned({"at": 12, "ranks": [2, 1]}, nproc=3)
    assert pair == {"index": 0, "at": 12, "kind": "kill", "rank": 1, "ranks": [1, 2]}


def test_a_plain_failure_is_written_as_ever() -> None:
    assert planned({"at": 8}) == ({"index": 0, "at": 8, "kind": "kill", "rank": 0},)


def test_a_step_is_drawn_evenly_inside_its_interval_and_never_on_a_boundary() -> None:
    drawn = Counter(draw_step(8, 5, seed) - 40 for seed in range(4000))
    assert set(drawn) == {1, 2, 3, 4}
    assert min(drawn.values()) > 850
    assert fmean(drawn.elements()) == pytest.approx(2.5, abs=0.06)  # k/2 of docs/metrics.md


def test_a_drawn_step_lies_at_the_same_share_of_every_interval() -> None:
    for seed in range(50):
        coarse, fine = draw_step(3, 11, seed) - 33, draw_step(3, 101, seed) - 303
        assert (fine - 1) // 10 == coarse - 1


def test_instants_are_sums_of_exponential_gaps_of_that_mean() -> None:
    instants = draw_instants_s(600, 7, 3000)
    assert instants == sorted(instants) == draw_instants_s(600, 7, 3000)
    assert instants[-1] / 3000 == pytest.approx(600, rel=0.05)
    assert draw_instants_s(600, 7, 2) == instants[:2]
    failures = planned({"mtbf_s": 600, "seed": 7})
    assert [f["after_s"] for f in failures] == instants[:3]
    assert [(f["index"], f["rank"]) for f in failures] == [(0, 0), (1, 1), (2, 0)]


def test_all_variants_and_seeds_of_a_suite_share_the_draw_and_the_manifest_shows_it(tmp_path: Path) -> None:
    path = written(tmp_path, '[{ interval = 8, seed = 3 }, { at = 900, phase = "persist" }, { phase = "restore" }]')
    suite = expand_matrix(load(path))[0]
    assert suite.failures[0]["at"] == draw_step(8, 50, 3)
    assert suite.failure_steps == (draw_step(8, 50, 3), "900@persist", "900@restore")
    random = expand_matrix(load(written(tmp_path, "[{ mtbf_s = 600, seed = 7 }]")))[0]
    assert random.failure_steps == tuple(f"{s:g}s" for s in draw_instants_s(600, 7, 3))


def test_the_frozen_file_says_the_same(tmp_path: Path) -> None:
    path = written(tmp_path, '[{ at = 8, ranks = "all" }, { phase = "init", rank = 1 }, { interval = 3, seed = 1 }]')
    matrix = load(path)
    path.write_text(matrix.to_toml("frozen"))
    assert load(path, frozen=True).content == matrix.content


@pytest.mark.parametrize(
    ("schedule", "code", "facts"),
    [
        ('[{ at = 9, phase = "persit" }]', "ECRL-211", ("base #1.phase", "'persit'", "'persist'")),
        ("[{ kind = 'kill' }]", "ECRL-211", ("base #1: found none", "at, interval and mtbf_s")),
        ("[{ at = 9, interval = 1, seed = 1 }]", "ECRL-211", ("base #1: found at and interval", "mtbf_s")),
        ("[{ interval = 8 }]", "ECRL-211", ("base #1: found no seed",)),
        ("[{ mtbf_s = 0, seed = 1 }]", "ECRL-211", ("base #1.mtbf_s: found 0", "0")),
        ("[{ at = 9, seed = 1 }]", "ECRL-211", ("base #1: found seed", "interval", "mtbf_s")),
        ("[{ at = 9, count = 2 }]", "ECRL-211", ("base #1: found count", "mtbf_s")),
        ('[{ at = 9, phase = "init" }]', "ECRL-211", ("base #1: found at", "phase = 'init'")),
        ('[{ phase = "restore" }]', "ECRL-212", ("base: found phase = 'restore'",)),
        ('[{ at = 9, phase = "commit", rank = 1 }]', "ECRL-211", ("base #1: found rank = 1", "'commit'", "rank 0")),
        ('[{ at = 9, rank = 1, ranks = "all" }]', "ECRL-211", ("base #1: found rank and ranks",)),
        ('[{ at = 9, ranks = "both" }]', "ECRL-211", ("base #1.ranks: found 'both'", "'all'")),
        ("[{ at = 9, ranks = [1] }]", "ECRL-211", ("base #1.ranks: found [1]", "'all'")),
        ("[{ at = 9, ranks = [1, 4] }]", "ECRL-212", ("base: found rank 4", "nproc = 4")),
        ('[{ at = 50, phase = "commit", ranks = [1, 2] }]', "ECRL-211", ("found rank = 1", "'commit'", "rank 0")),
        ('[{ interval = 2, seed = 1, phase = "commit" }]', "ECRL-211", ("base #1: found phase = 'commit'", "interval")),
        ("[9, { mtbf_s = 60, seed = 1 }]", "ECRL-212", ("base: found mtbf_s",)),
        ("[{ interval = 32, seed = 1 }]", "ECRL-212", ("(checkpoint_every = 50)", "(1600)")),
        ('[{ at = 1700, phase = "persist" }]', "ECRL-212", ("step 1700 (checkpoint_every = 50)", "(1600)")),
        ('[{ at = 60, phase = "retention" }]', "ECRL-212", ("step 100", "checkpoint_every = 50", "keep = 2")),
        ('[400, { at = 400, phase = "persist" }]', "ECRL-212", ("found step 400", "failure at 400")),
        ('[{ at = 400, phase = "retention" }, 380]', "ECRL-212", ("found step 380", "from step 400")),
        ("[{ att = 9 }]", "ECRL-210", ("base #1.att", "'att'", "'at'")),
    ],
)
def test_what_cannot_be_planned_is_told_where_it_stands(
    tmp_path: Path, schedule: str, code: str, facts: tuple[str, ...]
) -> None:
    path = written(tmp_path, schedule)
    assert has_error(problems(path), code, f"{path}:7: failures.", *facts)


def test_a_checkpoint_that_was_struck_is_taken_again_and_may_be_struck_again(tmp_path: Path) -> None:
    load(written(tmp_path, '[{ at = 400, phase = "persist" }, { at = 400, phase = "commit" }, 380, 401]'))


def test_an_interval_of_one_step_has_no_inside(tmp_path: Path) -> None:
    path = written(tmp_path, "[{ interval = 8, seed = 3 }]")
    told = problems(path, Override(("matrix", "checkpoint_every"), [1, 50], "--checkpoint-every"))
    assert has_error(told, "ECRL-212", "interval = 8", "checkpoint_every = 1")


def test_a_step_past_the_end_is_told_beside_a_checkpoint_every_that_is_wrong(tmp_path: Path) -> None:
    path = written(tmp_path, "[400, 1700]")
    path.write_text(path.read_text().replace("checkpoint_every", "checkpoint_evry"))
    told = problems(path)
    assert has_error(told, "ECRL-210", "checkpoint_evry")
    assert has_error(told, "ECRL-212", "failures.base", "step 1700", "(1600)")
