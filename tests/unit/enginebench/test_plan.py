"""The order of a bench favours nobody, and its segments never share a step."""

import itertools
from collections import Counter
from pathlib import Path

import pytest

from ecrl.enginebench.plan import BENCH_FILE, BenchPlan, build_balanced_rows, count_balanced_rounds
from tests.errors import raises


@pytest.mark.parametrize("num_variants", range(2, 9))
def test_each_variant_stands_equally_often_in_every_place_and_after_every_other(num_variants: int) -> None:
    variants = tuple(f"v{i}" for i in range(num_variants))
    rows = build_balanced_rows(variants)
    repeats = 1 if num_variants % 2 == 0 else 2
    places = Counter((place, name) for row in rows for place, name in enumerate(row))
    assert places == {(place, name): repeats for place in range(num_variants) for name in variants}
    neighbours = Counter(pair for row in rows for pair in itertools.pairwise(row))
    assert neighbours == dict.fromkeys(itertools.permutations(variants, 2), repeats)
    assert count_balanced_rounds(variants) >= 5
    assert count_balanced_rounds(variants) % len(rows) == 0


def test_a_plan_begins_with_a_warm_up_round_and_says_whether_it_is_balanced() -> None:
    plan = BenchPlan.make_balanced(("a", "b", "c"), rounds=None, saves=2)
    assert plan.order[0] == ("reference", "a", "b", "c")
    assert len(plan.order) == 1 + 8
    assert plan.is_balanced
    assert not BenchPlan.make_balanced(("a", "b", "c"), rounds=3, saves=2).is_balanced


@pytest.mark.parametrize("every", [1, 2, 5])
@pytest.mark.parametrize("saves", [1, 3])
def test_segments_hold_their_checkpoints_and_never_overlap(every: int, saves: int) -> None:
    segments = BenchPlan.make_balanced(("a",), rounds=2, saves=saves).segments(every)
    assert [s.round for s in segments] == [0, 0, 1, 1, 2, 2]
    assert [s.index for s in segments] == list(range(6))
    taken: set[int] = {0}
    for segment in segments:
        timed = range(segment.begin + 1, segment.begin + saves * every + 1)
        assert sum(step % every == 0 for step in timed) == saves
        assert timed[0] % every == 0  # the last one is followed by as many steps as the others, less one
        warm_up = {segment.begin}
        assert not taken & (warm_up | set(timed))
        taken |= warm_up | set(timed)


def test_a_plan_comes_back_from_its_file(tmp_path: Path) -> None:
    plan = BenchPlan.make_balanced(("a", "b"), rounds=None, saves=3)
    plan.write(tmp_path)
    assert BenchPlan.read(tmp_path) == plan
    (tmp_path / BENCH_FILE).write_text('{"schema": 2}')
    with raises("ECRL-802", BENCH_FILE, "schema 1"):
        BenchPlan.read(tmp_path)
