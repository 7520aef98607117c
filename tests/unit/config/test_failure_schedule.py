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
    ("schedule", "expected"),
    [
        ('[{ at = 9, phase = "persit" }]', "base.0.phase: unknown phase 'persit'. Did you mean 'persist'?"),
        ("[{ kind = 'kill' }]", "base.0: found none of them, expected one of at, interval and mtbf_s"),
        ("[{ at = 9, interval = 1, seed = 1 }]", "base.0: found at and interval, expected one of at, interval"),
        ("[{ interval = 8 }]", "base.0: found no seed, expected one"),
        ("[{ mtbf_s = 0, seed = 1 }]", "base.0.mtbf_s: found 0, expected greater than 0"),
        ("[{ at = 9, seed = 1 }]", "base.0: found seed without interval or mtbf_s"),
        ("[{ at = 9, count = 2 }]", "base.0: found count without mtbf_s"),
        ('[{ at = 9, phase = "init" }]', "base.0: found at with phase = 'init', expected none"),
        ('[{ phase = "restore" }]', "base: found phase = 'restore' first, expected a failure before it"),
        ('[{ at = 9, phase = "commit", rank = 1 }]', "base.0: found rank = 1 with phase = 'commit', expected rank 0"),
        ('[{ at = 9, rank = 1, ranks = "all" }]', "base.0: found rank and ranks, expected one of them"),
        ('[{ at = 9, ranks = "both" }]', "base.0.ranks: found 'both', expected 'all' or a list"),
        ("[{ at = 9, ranks = [1] }]", "base.0.ranks: found [1], expected 'all' or a list of at least two ranks"),
        ("[{ at = 9, ranks = [1, 4] }]", "base: found rank 4, expected a rank below nproc = 4"),
        ('[{ at = 50, phase = "commit", ranks = [1, 2] }]', "found rank = 1 with phase = 'commit', expected rank 0"),
        ('[{ interval = 2, seed = 1, phase = "commit" }]', "base.0: found phase = 'commit' with interval"),
        ("[9, { mtbf_s = 60, seed = 1 }]", "base: found mtbf_s beside other failures, expected it alone"),
        ("[{ interval = 32, seed = 1 }]", "(checkpoint_every = 50), past the last step (1600)"),
        ('[{ at = 1700, phase = "persist" }]', "found a failure at step 1700 (checkpoint_every = 50), past the last"),
        ('[{ at = 60, phase = "retention" }]', "found retention at step 100: with checkpoint_every = 50 and keep = 2"),
        ('[400, { at = 400, phase = "persist" }]', "found step 400 after a failure at 400"),
        ('[{ at = 400, phase = "retention" }, 380]', "the run goes on from step 400, and would never meet it"),
        ("[{ att = 9 }]", "base.0.att: unknown key 'att'. Did you mean 'at'?"),
    ],
)
def test_what_cannot_be_planned_is_told_where_it_stands(tmp_path: Path, schedule: str, expected: str) -> None:
    path = written(tmp_path, schedule)
    assert f"{path}:7: failures." in problems(path)
    assert expected in problems(path)


def test_a_checkpoint_that_was_struck_is_taken_again_and_may_be_struck_again(tmp_path: Path) -> None:
    load(written(tmp_path, '[{ at = 400, phase = "persist" }, { at = 400, phase = "commit" }, 380, 401]'))


def test_an_interval_of_one_step_has_no_inside(tmp_path: Path) -> None:
    path = written(tmp_path, "[{ interval = 8, seed = 3 }]")
    told = problems(path, Override(("matrix", "checkpoint_every"), [1, 50], "--checkpoint-every"))
    assert "found interval = 8 with checkpoint_every = 1: nothing lies inside one step" in told
