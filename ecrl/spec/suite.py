"""Suites: the cells of a matrix, their identity, and the runs they hold."""

import dataclasses
import itertools
import random
from dataclasses import dataclass
from typing import Any

from ecrl.records import strikes
from ecrl.spec import failures
from ecrl.spec.identity import content_hash, slug
from ecrl.spec.matrix import Matrix
from ecrl.spec.run import CheckpointSettings, RunSpec, TrainSettings

REFERENCE = "reference"


@dataclass(frozen=True, kw_only=True)
class Suite:
    """One cell: dataset x model x failure schedule x checkpoint interval x max in-flight. One manifest row."""

    dataset: str
    model: str
    failure_label: str
    failures: tuple[dict[str, Any], ...]
    checkpoint_every: int
    max_inflight: int
    train: TrainSettings
    checkpoint: CheckpointSettings
    seeds: tuple[int, ...]
    variants: tuple[str, ...]

    @property
    def content(self) -> dict[str, Any]:
        """What the suite is. Seeds and variants are not part of it: adding one adds runs, it reruns nothing."""
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in {"seeds", "variants"}}

    @property
    def suite_id(self) -> str:
        """Readable slug + 8 hex of the SHA-256 of the content; never the position in the matrix."""
        parts = (self.dataset, self.model, self.failure_label)
        name = "-".join(map(slug, parts)) + f"-k{self.checkpoint_every}-q{self.max_inflight}"
        if self.train.launcher != "cold":
            name += f"-{self.train.launcher}"
        return f"{name}-{content_hash(self.content)[:8]}"

    @property
    def failure_steps(self) -> tuple[int | str, ...]:
        """Where the failures are planned, in order: a step, or e.g. '900@persist', '412.5s'."""
        return tuple(strikes.place(f) for f in self.failures)


def expand(matrix: Matrix) -> list[Suite]:
    """Every suite of the matrix, in file order, the last axis varying fastest."""
    axes, train = matrix.matrix, matrix.train_settings
    cells = itertools.product(
        axes.datasets,
        axes.models,
        matrix.failures.items(),
        axes.checkpoint_every,
        axes.max_inflight,
        axes.launchers or (train.launcher,),
    )
    return [
        Suite(
            dataset=dataset,
            model=model,
            failure_label=label,
            failures=failures.plan(entries, train.nproc, checkpoint_every),
            checkpoint_every=checkpoint_every,
            max_inflight=max_inflight,
            train=dataclasses.replace(train, launcher=launcher),
            checkpoint=matrix.checkpoint_settings,
            seeds=tuple(axes.seeds),
            variants=tuple(axes.variants),
        )
        for dataset, model, (label, entries), checkpoint_every, max_inflight, launcher in cells
    ]


def block_orders(suites: list[Suite], seed_text: str) -> dict[tuple[str, int], tuple[str, ...]]:
    """For every block (suite_id, seed) the order in which its variants run.

    Orders are dealt from shuffled decks of all permutations, so that each order comes equally often and a
    drift of the machine cannot favour a variant; the shuffle depends on `seed_text` alone.
    """
    rng = random.Random(seed_text)
    orders: dict[tuple[str, int], tuple[str, ...]] = {}
    deck: list[tuple[str, ...]] = []
    for suite in suites:
        for seed in suite.seeds:
            if len(suite.variants) > 6:  # 5,040 orders and more: a fair deck would never be used up
                order = tuple(rng.sample(suite.variants, len(suite.variants)))
            else:
                if not deck:
                    deck = list(itertools.permutations(suite.variants))
                    rng.shuffle(deck)
                order = deck.pop()
            orders[suite.suite_id, seed] = order
    return orders


def run_specs(
    suite: Suite,
    seed: int,
    order: tuple[str, ...],
    *,
    prefix: str,
    device: str,
    data_root: str | None,
    claims_hash: str,
) -> list[RunSpec]:
    """The runs of one block, in the order they run. `reference` has neither checkpoints nor failures."""
    return [
        RunSpec(
            prefix=prefix,
            suite_id=suite.suite_id,
            dataset=suite.dataset,
            model=suite.model,
            failure_label=suite.failure_label,
            checkpoint_every=suite.checkpoint_every,
            max_inflight=suite.max_inflight,
            variant=variant,
            seed=seed,
            device=device,
            train=suite.train,
            checkpoint=suite.checkpoint,
            failures=() if variant == REFERENCE else suite.failures,
            data_root=data_root,
            block_order=order,
            block_position=position,
            claims_hash=claims_hash,
        )
        for position, variant in enumerate(order)
    ]
