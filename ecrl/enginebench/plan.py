"""The plan of a bench of checkpoint engines: its variants and their order in each round. Standard library only."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from ecrl.errors import RecordError
from ecrl.storage.atomic import write_atomic

BENCH_SCHEMA = 1
BENCH_FILE = "bench.json"
REFERENCE = "reference"
MIN_ROUNDS = 5  # medians of fewer say little


def build_balanced_rows(variants: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Orders of `variants` that are balanced for position and for predecessor (Williams, Aust. J. Sci. Res. A 2, 1949).

    Each variant has every position once. It follows every other variant once; twice if the number of variants is odd.
    """
    # Neither a drift nor the effects of the preceding variant then favour one variant.
    n = len(variants)
    first = [0] + [(i + 1) // 2 if i % 2 else n - i // 2 for i in range(1, n)]
    rows = [tuple(variants[(place + shift) % n] for place in first) for shift in range(n)]
    return rows if n % 2 == 0 else [*rows, *(row[::-1] for row in rows)]


def count_balanced_rounds(variants: tuple[str, ...]) -> int:
    """The smallest number of rounds, at least five, in which the order is balanced."""
    rows = len(build_balanced_rows(variants))
    return rows * -(-MIN_ROUNDS // rows)


@dataclass(frozen=True)
class Segment:
    """One variant's turn. round: 0 is for warming up and for memory. begin: the step after which it starts."""

    index: int
    round: int
    variant: str
    begin: int


@dataclass(frozen=True)
class BenchPlan:
    """The whole bench, decided before it starts. `run.json` in the same folder has the model, ranks and interval.

    saves: checkpoints per segment. order: the variants of each round, round 0 first.
    """

    variants: tuple[str, ...]
    order: tuple[tuple[str, ...], ...]
    saves: int
    schema: int = BENCH_SCHEMA

    @classmethod
    def make_balanced(cls, engines: tuple[str, ...], rounds: int | None, saves: int) -> "BenchPlan":
        """A plan with a warm-up round and `rounds` more. None: the fewest (at least 5) that balance the order."""
        variants = (REFERENCE, *engines)
        rows = build_balanced_rows(variants)
        wanted = count_balanced_rounds(variants) if rounds is None else rounds
        return cls(variants, (variants, *(rows[i % len(rows)] for i in range(wanted))), saves)

    @property
    def is_balanced(self) -> bool:
        """Whether the measured rounds are whole blocks of the balanced order."""
        return (len(self.order) - 1) % len(build_balanced_rows(self.variants)) == 0

    def segments(self, checkpoint_every: int) -> list[Segment]:
        """The segments in order. Each starts one step before a checkpoint boundary."""
        # Steps then follow the last checkpoint too, and a warm-up step fits between two segments.
        stride = (self.saves + 2) * checkpoint_every
        turns = [(number, variant) for number, row in enumerate(self.order) for variant in row]
        return [
            Segment(index, number, variant, (index + 1) * stride - 1) for index, (number, variant) in enumerate(turns)
        ]

    def write(self, folder: Path) -> None:
        """Write `bench.json`."""
        write_atomic(folder / BENCH_FILE, json.dumps(dataclasses.asdict(self), indent=1).encode())

    @classmethod
    def read(cls, folder: Path) -> "BenchPlan":
        """Read `bench.json`.

        Raises:
            RecordError: the file is missing or has another schema.
        """
        path = folder / BENCH_FILE
        try:
            raw = json.loads(path.read_text())
            raw |= {"variants": tuple(raw["variants"]), "order": tuple(tuple(row) for row in raw["order"])}
            plan = cls(**raw)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise RecordError("ECRL-802", f"{path}: not a bench of schema {BENCH_SCHEMA} ({error}).") from error
        if plan.schema != BENCH_SCHEMA:
            raise RecordError("ECRL-802", f"{path}: found schema {plan.schema}, expected {BENCH_SCHEMA}.")
        return plan
