"""Orders of the variants of blocks: every variant equally often at every place, whatever was added when."""

import itertools
import random
from collections import Counter
from pathlib import Path

import pytest

from ecrl.config.block_order import BALANCED, SHUFFLED, BalancedDealer, Order, draw_squares, extend_block_orders
from ecrl.config.load import Override, load
from ecrl.config.suite import Suites, expand_matrix

NAMES = tuple("abcdefgh")


def deal(variants: Order, number: int, seed: str) -> list[Order]:
    dealer = BalancedDealer()
    dealer.begin(seed)
    return [dealer.next_order(variants) for _ in range(number)]


@pytest.mark.parametrize("size", range(2, 9))
def test_after_any_number_of_blocks_no_variant_has_been_at_a_place_twice_more_than_another(size: int) -> None:
    variants = NAMES[:size]
    for seed in range(5):
        orders = deal(variants, 4 * size + 3, str(seed))
        for number in range(1, len(orders) + 1):
            seen = Counter((place, name) for order in orders[:number] for place, name in enumerate(order))
            counts = [seen[place, name] for place in range(size) for name in variants]
            assert max(counts) - min(counts) <= 1
            sums = [sum(order.index(name) for order in orders[:number]) for name in variants]
            assert max(sums) - min(sums) <= size - 1  # what `not_interleaved` allows


@pytest.mark.parametrize("size", range(2, 9))
def test_in_whole_squares_every_variant_follows_every_other_one_equally_often(size: int) -> None:
    rows = [row for square in draw_squares(NAMES[:size], random.Random(size)) for row in square]
    followed = Counter(pair for row in rows for pair in itertools.pairwise(row))
    assert followed.keys() == set(itertools.permutations(NAMES[:size], 2))
    assert set(followed.values()) == {1 + size % 2}


def suites(tmp_path: Path, *seeds: int) -> Suites:
    path = tmp_path / "m.toml"
    path.write_text(
        '[matrix]\ndatasets = ["noise"]\nmodels = ["cnn"]\ncheckpoint_every = [2]\nseeds = [1]\n[train]\nsteps = 4\n'
    )
    return expand_matrix(load(path, overrides=[Override(("matrix", "seeds"), list(seeds), "test")]))


def test_six_extensions_by_a_seed_are_as_balanced_as_six_seeds_at_once(tmp_path: Path) -> None:
    generations = [(suites(tmp_path, *range(1, last + 1)), f"hash {last}") for last in range(1, 7)]
    for number in range(1, 7):
        before, after = extend_block_orders(generations[:number]), extend_block_orders(generations)
        assert {block: after[block] for block in before} == before
    assert len(set(after.values())) == 6, "each of the six orders once"
    shuffled = extend_block_orders(generations, SHUFFLED)
    assert len(set(shuffled.values())) < 6, "a new deck each time"


def test_orders_stay_what_they_are(tmp_path: Path) -> None:
    # A change of these makes every campaign that was frozen since look as if it had been forged.
    orders = extend_block_orders([(suites(tmp_path, 1, 2, 3, 4), "a")], BALANCED)
    assert ["".join(name[0] for name in order) for order in orders.values()] == ["rob", "bro", "obr", "bor"]
