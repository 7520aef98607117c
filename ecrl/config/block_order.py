"""The order in which the variants of a block run."""

import itertools
import random
import threading
from collections.abc import Iterable, Sequence

from ecrl.config.suite import REPEAT, Suite


class OrderShuffler:
    """Deals variant orders from shuffled decks of all permutations. The shuffle depends only on `seed_text`."""

    # A deck holds each order once, so all orders are equally frequent and a drift of the machine favours no variant.
    def __init__(self, seed_text: str) -> None:
        self._rng = random.Random(seed_text)
        self._decks: dict[tuple[str, ...], list[tuple[str, ...]]] = {}

    def next_order(self, variants: tuple[str, ...]) -> tuple[str, ...]:
        """The next variant order."""
        if len(variants) == 1:
            return variants
        if len(variants) > 6:  # 5,040 orders and more: a fair deck would never be used up
            return tuple(self._rng.sample(variants, len(variants)))
        if not (cards := self._decks.get(variants)):
            cards = self._decks[variants] = list(itertools.permutations(variants))
            self._rng.shuffle(cards)
        return cards.pop()


class BlockOrders:
    """The variant orders of blocks that all have the same variants. Orders are dealt on demand. Thread-safe."""

    def __init__(self, seed_text: str, variants: tuple[str, ...]) -> None:
        self._shuffler = OrderShuffler(seed_text)
        self._variants = variants
        self._orders: list[tuple[str, ...]] = []
        self._lock = threading.Lock()

    def get_order(self, block: int) -> tuple[str, ...]:
        """The variant order of block number `block` (0-based)."""
        with self._lock:
            while len(self._orders) <= block:
                self._orders.append(self._shuffler.next_order(self._variants))
            return self._orders[block]


def build_block_orders(suites: Iterable[Suite], seed_text: str) -> dict[tuple[str, int], tuple[str, ...]]:
    """The variant order of every block, by (suite_id, seed)."""
    return extend_block_orders([(suites, seed_text)])


def extend_block_orders(generations: Sequence[tuple[Iterable[Suite], str]]) -> dict[tuple[str, int], tuple[str, ...]]:
    """The variant order of every block of an extended campaign, by (suite_id, seed).

    generations: the suites of each of the campaign's matrices with its seed text, oldest first. Orders dealt for an
    older generation do not change; variants that a newer one adds to a block run after the others.
    """
    orders: dict[tuple[str, int], tuple[str, ...]] = {}
    for suites, seed_text in generations:
        deck = OrderShuffler(seed_text)
        for suite in suites:
            for seed in suite.seeds:
                dealt = orders.get((suite.suite_id, seed), ())
                new = tuple(v for v in suite.variants if v not in dealt)
                orders[suite.suite_id, seed] = dealt + deck.next_order(new) if new else dealt
    return orders


def insert_repeat(order: tuple[str, ...], suite_id: str, seed_text: str) -> tuple[str, ...]:
    """Insert the reference's A/A repeat at a random place in `order`. The place depends only on the arguments."""
    place = random.Random(f"{seed_text}/{suite_id}/{REPEAT}").randrange(len(order) + 1)
    return (*order[:place], REPEAT, *order[place:])
