"""The order in which the variants of a block run."""

import itertools
import random
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Protocol

from ecrl.config.suite import Suite, name_repeat

BALANCED = "balanced"
SHUFFLED = "shuffled"  # of campaigns whose frozen matrix names no rule

Order = tuple[str, ...]


class _Dealer(Protocol):
    def begin(self, seed_text: str) -> None:
        """Deal for the next generation of the matrix. What is drawn depends only on the seed texts."""

    def next_order(self, variants: Order) -> Order:
        """The next order of these variants."""


class BalancedDealer:
    """Deals the rows of Williams squares: in each square every variant stands once at every place.

    Two squares for an odd number of variants, or one for an even number, have every variant once or twice right after
    every other one.
    """

    # A square that one generation has begun is finished by the next, so that small extensions are balanced too.
    def __init__(self) -> None:
        self._squares: dict[Order, list[list[Order]]] = {}
        self._places: dict[Order, Counter[str]] = {}  # sums of places, by variant

    def begin(self, seed_text: str) -> None:
        self._rng = random.Random(seed_text)

    def next_order(self, variants: Order) -> Order:
        squares = self._squares.setdefault(key := tuple(sorted(variants)), [])
        if not squares:
            squares += draw_squares(variants, self._rng)
        places = self._places.setdefault(key, Counter())
        # In a square that is never finished, the mean places lie as close together as they can.
        order = min(squares[0], key=lambda row: _measure_spread(places, row))
        squares[0].remove(order)
        if not squares[0]:
            del squares[0]
        places.update({variant: place for place, variant in enumerate(order)})
        return order


def _measure_spread(places: Counter[str], order: Order) -> float:
    sums = [places[variant] + place for place, variant in enumerate(order)]
    mean = sum(sums) / len(sums)
    return sum((one - mean) ** 2 for one in sums)


def draw_squares(variants: Order, rng: random.Random) -> list[list[Order]]:
    """The rows of a Williams square, whose labels and rows are shuffled, and of its mirror if their number is odd."""
    n, names = len(variants), rng.sample(variants, len(variants))
    first = [(place + 1) // 2 if place % 2 else (n - place // 2) % n for place in range(n)]  # 0, 1, n-1, 2, n-2, ...
    rows = [tuple(names[(label + shift) % n] for label in first) for shift in range(n)]
    rng.shuffle(rows)
    return [rows, [row[::-1] for row in rows]] if n % 2 and n > 1 else [rows]


class ShuffledDealer:
    """Deals orders from shuffled decks of all permutations, a new deck for every generation."""

    def begin(self, seed_text: str) -> None:
        self._rng = random.Random(seed_text)
        self._decks: dict[Order, list[Order]] = {}

    def next_order(self, variants: Order) -> Order:
        if len(variants) == 1:
            return variants
        if len(variants) > 6:  # 5,040 orders and more: a fair deck would never be used up
            return tuple(self._rng.sample(variants, len(variants)))
        if not (cards := self._decks.get(variants)):
            cards = self._decks[variants] = list(itertools.permutations(variants))
            self._rng.shuffle(cards)
        return cards.pop()


def _make_dealer(rule: str) -> _Dealer:
    return BalancedDealer() if rule == BALANCED else ShuffledDealer()


class BlockOrders:
    """The variant orders of blocks that all have the same variants. Orders are dealt on demand. Thread-safe."""

    def __init__(self, seed_text: str, variants: Order, rule: str) -> None:
        self._dealer = _make_dealer(rule)
        self._dealer.begin(seed_text)
        self._variants = variants
        self._orders: list[Order] = []
        self._lock = threading.Lock()

    def get_order(self, block: int) -> Order:
        """The variant order of block number `block` (0-based)."""
        with self._lock:
            while len(self._orders) <= block:
                self._orders.append(self._dealer.next_order(self._variants))
            return self._orders[block]


def build_block_orders(suites: Iterable[Suite], seed_text: str, rule: str = BALANCED) -> dict[tuple[str, int], Order]:
    """The variant order of every block, by (suite_id, seed)."""
    return extend_block_orders([(suites, seed_text)], rule)


def extend_block_orders(
    generations: Sequence[tuple[Iterable[Suite], str]], rule: str = BALANCED
) -> dict[tuple[str, int], Order]:
    """The variant order of every block of an extended campaign, by (suite_id, seed).

    generations: the suites of each of the campaign's matrices with its seed text, oldest first. Orders dealt for an
    older generation do not change; variants that a newer one adds to a block run after the others.
    """
    orders: dict[tuple[str, int], Order] = {}
    dealer = _make_dealer(rule)
    for suites, seed_text in generations:
        dealer.begin(seed_text)
        for suite in suites:
            for seed in suite.seeds:
                dealt = orders.get((suite.suite_id, seed), ())
                new = tuple(v for v in suite.variants if v not in dealt)
                orders[suite.suite_id, seed] = dealt + dealer.next_order(new) if new else dealt
    return orders


def insert_repeat(order: Order, variant: str, suite_id: str, seed_text: str) -> Order:
    """Insert the A/A repeat of a variant at a random place in `order`. The place depends only on the arguments."""
    repeat = name_repeat(variant)
    place = random.Random(f"{seed_text}/{suite_id}/{repeat}").randrange(len(order) + 1)
    return (*order[:place], repeat, *order[place:])
